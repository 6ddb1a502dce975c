"""engraft's kernels beside torch's on a GPU: matrix products, which are cuBLAS's there, and attention.

Reads what `cargo bench --bench kernels -- --save-baseline NAME` left, for the devices cuda (products in f32) and
cuda-bf16 (on tensor cores), and times torch on the same shapes in f32, without TF32, and in bf16.

    gpu_kernels.py --criterion target/criterion [--json FILE]
"""

import argparse
import json
import re
import sys
from pathlib import Path

BASELINES = {"cuda": "f32", "cuda-bf16": "bf16"}
PRODUCT = re.compile(r"^(times_transposed|times|transposed_times) m=(\d+) N=(\d+) K=(\d+) f32$")
ATTENTION = re.compile(r"^(forward|backward) (\d+) x (\d+)( causal)?, (\d+) heads of (\d+)$")


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--criterion", type=Path, required=True)
    p.add_argument("--json", type=Path, help="also write every number here")
    return p.parse_args()


def measured(folder, baseline):
    """{(kernel, label): (seconds, operations, bytes)} of a baseline."""
    found = {}
    for file in sorted(folder.glob(f"*/*/{baseline}/benchmark.json")):
        about = json.loads(file.read_text())
        seconds = json.loads(file.with_name("estimates.json").read_text())["median"]["point_estimate"] * 1e-9
        rates = about["throughput"]["ElementsAndBytes"]
        found[about["group_id"], about["function_id"]] = seconds, rates["elements"], rates["bytes"]
    return found


def seconds(torch, run):
    """The median of 20 rounds of at least a millisecond, after as many to warm up."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    times, n = [], 1
    while len(times) < 40:
        begin.record()
        for _ in range(n):
            run()
        end.record()
        end.synchronize()
        took = begin.elapsed_time(end) * 1e-3
        if took < 1e-3:
            n *= 2
        else:
            times.append(took / n)
    return sorted(times[20:])[10]


def peer(torch, kernel, label, dtype):
    """What torch runs for a case; none if there is nothing like it."""
    make = lambda *shape: torch.randn(*shape, device="cuda", dtype=dtype)
    if kernel == "matmul" and (case := PRODUCT.match(label)):
        m, n, k = (int(x) for x in case.groups()[1:])
        x, dy, w, bias = make(m, k), make(m, n), make(n, k), make(n)
        of = dict(times_transposed=lambda: torch.addmm(bias, x, w.T), times=lambda: dy @ w,
                  transposed_times=lambda: dy.T @ x)
        return of[case[1]]
    if kernel == "attention" and (case := ATTENTION.match(label)):
        batch, length, heads, width = (int(case[i]) for i in (2, 3, 5, 6))
        q, k, v, do = (make(batch, heads, length, width) for _ in range(4))
        attend = lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=bool(case[4]))
        if case[1] == "forward":
            return attend
        for x in (q, k, v):
            x.requires_grad_()
        o = attend()
        return lambda: torch.autograd.grad(o, (q, k, v), do, retain_graph=True)
    return None


def main():
    args = arguments()
    import torch

    if not torch.cuda.is_available():
        sys.exit("torch sees no GPU")
    torch.backends.cuda.matmul.allow_tf32 = False
    rows = []
    for baseline, name in BASELINES.items():
        dtype = dict(f32=torch.float32, bf16=torch.bfloat16)[name]
        found = measured(args.criterion, baseline)
        if not found:
            sys.exit(f"{args.criterion} holds no baseline {baseline}")
        for (kernel, label), (ours, operations, moved) in found.items():
            # with products on tensor cores the other kernels are the same
            if name == "bf16" and kernel != "matmul":
                continue
            run = peer(torch, kernel, label, dtype)
            theirs = seconds(torch, run) if run else None
            rows.append(dict(kernel=kernel, case=label, products=name, seconds=ours, torch_seconds=theirs,
                             tflops=operations / ours * 1e-12, gigabytes_per_second=moved / ours * 1e-9))
    print("| kernel | case | products | engraft | TFLOP/s | GB/s | torch | engraft / torch |")
    print("|---|---|---|---:|---:|---:|---:|---:|")
    for r in rows:
        theirs = r["torch_seconds"]
        cells = [f"{theirs * 1e6:.1f} µs", f"{r['seconds'] / theirs:.2f}"] if theirs else ["", ""]
        cells = [f"{r['seconds'] * 1e6:.1f} µs", f"{r['tflops']:.2f}", f"{r['gigabytes_per_second']:.0f}", *cells]
        print("| " + " | ".join([r["kernel"], r["case"], r["products"], *cells]) + " |")
    if args.json:
        args.json.write_text(json.dumps(dict(card=torch.cuda.get_device_name(), torch=torch.__version__, rows=rows)))


if __name__ == "__main__":
    main()
