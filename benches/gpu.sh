#!/usr/bin/env bash
# On a machine with an NVIDIA GPU: every GPU test, the kernels beside torch (cuBLAS), training steps beside PyTorch with
# `adapters`. Prints tables in Markdown.
#
#   benches/gpu.sh --minilm DIR --train TSV [--python PYTHON] [--out DIR]
#
# DIR is all-MiniLM-L6-v2 (see CONTRIBUTING.md), TSV a file of texts and labels. PYTHON has torch for CUDA and
# tests/reference/requirements.txt. What was measured is kept in --out (default: target/gpu).
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*"; }
fail() {
    printf 'gpu.sh: %s\n' "$*" >&2
    exit 1
}
usage() { sed -n '2,8s/^# \{0,1\}//p' benches/gpu.sh; }

minilm='' train='' python=python3 out=target/gpu
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage && exit ;;
        --minilm | --train | --python | --out)
            [ $# -ge 2 ] || fail "$1 needs a value"
            declare "${1#--}=$2"
            shift 2
            ;;
        *) fail "$1 is no option: see --help" ;;
    esac
done
[ -n "$minilm" ] && [ -n "$train" ] || fail "--minilm and --train are needed: see --help"
[ -f "$minilm/config.json" ] || fail "$minilm holds no model: there is no config.json"
[ -f "$train" ] || fail "there is no file $train"
for program in nvidia-smi cargo "$python"; do
    command -v "$program" > /dev/null || fail "$program is not to be found: this needs a machine with a GPU, its driver, Rust and Python"
done
nvidia-smi > /dev/null || fail "nvidia-smi finds no GPU"
"$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2> /dev/null \
    || fail "$python has no torch that sees the GPU"
mkdir -p "$out"
out=$(realpath "$out") minilm=$(realpath "$minilm") train=$(realpath "$train")

say "## The card"
say
nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit --format=csv | sed 's/^/    /'
say "    engraft $(git rev-parse --short HEAD), $("$python" -c 'import torch; print("torch", torch.__version__, "CUDA", torch.version.cuda)')"
say

say "## Tests"
say
if ! cargo test --release --locked -p engraft-kernels --test cuda -- --nocapture > "$out/tests.log" 2>&1; then
    tail -n 40 "$out/tests.log" >&2
    fail "the tests of the kernels fail: $out/tests.log"
fi
grep -q SKIPPED "$out/tests.log" && fail "tests were skipped, so engraft does not see the GPU: $out/tests.log"
grep -h '^cuda: .*agree' "$out/tests.log" | sed 's/^/    /'
say "    $(grep -h '^test result' "$out/tests.log")"
say

say "## Kernels"
say
for device in cuda cuda-bf16; do
    ENGRAFT_DEVICE=$device cargo bench --locked -p engraft-workspace --bench kernels -- --save-baseline "$device" \
        > "$out/bench-$device.log" 2>&1 || fail "the benches on $device fail: $out/bench-$device.log"
done
"$python" benches/peers/gpu_kernels.py --criterion target/criterion --json "$out/kernels.json"
say

say "## Training steps"
say
cargo build --release --locked
for dtype in f32 bf16; do
    say "PyTorch in $dtype (bf16: autocast); engraft's backbone is stored in $dtype."
    say
    variant=()
    [ $dtype = bf16 ] && variant=(--variant "bf16=--backbone-dtype bf16")
    "$python" benches/peers/step.py --minilm "$minilm" --train "$train" --engraft target/release/engraft --device cuda \
        --dtype "$dtype" --work "$out/work" --json "$out/step-$dtype.json" "${variant[@]}" > "$out/step-$dtype.log" \
        || fail "the comparison in $dtype fails: $out/step-$dtype.log"
    grep '^|' "$out/step-$dtype.log"
    say
done
