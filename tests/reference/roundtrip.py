"""Compares the program `engraft` with the reference libraries, both ways.

    roundtrip.py --engraft PATH                              # every fixture: hidden states, logits, loss, gradients
    roundtrip.py --engraft PATH --adapter DIR --model DIR    # an adapter engraft trained, read by `adapters`
    roundtrip.py                                             # `adapters` reads its own fixtures back (checks this file)

The first needs no more than safetensors; the others run `adapters` in float64, one sequence at a time. An
error is the largest difference in a tensor over its largest value. Exits with 1 above the tolerance.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from safetensors.numpy import load_file

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "bert"


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--engraft", type=Path, help="the program")
    p.add_argument("--case", action="append", help="only these fixtures")
    p.add_argument("--adapter", type=Path, help="a directory engraft saved")
    p.add_argument("--model", type=Path, help="the backbone it was trained on")
    p.add_argument("--ids", type=Path, default=FIXTURES / "plain" / "input.json")
    p.add_argument("--tolerance", type=float, default=1e-4)
    args = p.parse_args()
    if args.adapter and not (args.model and args.engraft):
        p.error("--adapter needs --model and --engraft")
    return args


def engraft_forward(program, model, ids, adapter=None, grad=False):
    """The tensors of `engraft forward`, by name."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out.safetensors"
        command = [program.resolve(), "forward", "--model", model, "--ids", ids, "--out", out]
        command += ["--adapter", adapter] if adapter else []
        command += ["--grad"] if grad else []
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stderr.strip()}")
        return load_file(out)


def adapters_forward(model, ids, adapter):
    """The same from `adapters`, which must find every tensor it expects and no other."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch
    from adapters import BertAdapterModel

    logging.getLogger("adapters").setLevel(logging.ERROR)
    bert = BertAdapterModel.from_pretrained(model)
    info = {}
    name = bert.load_adapter(str(adapter), use_safetensors=True, set_active=True, loading_info=info)
    if info["missing_keys"] or info["unexpected_keys"]:
        raise RuntimeError(f"adapters: {info}")
    if name not in bert.heads:
        raise RuntimeError(f"adapters: no head in {adapter}")
    bert.active_head = name
    bert.double().eval()
    batch = json.loads(Path(ids).read_text())
    logits = []
    with torch.no_grad():
        for i, row in enumerate(batch["input_ids"]):
            types = batch.get("token_type_ids", [[0] * len(r) for r in batch["input_ids"]])[i]
            logits.append(bert(input_ids=torch.tensor([row]), token_type_ids=torch.tensor([types])).logits[0])
    return {"logits": torch.stack(logits).numpy()}


def find(tensors, name):
    """A tensor, also under the other name that an adapter's first LayerNorm has."""
    for a, b in ((".adapter_norm_before.", ".adapter_down.0."), (".adapter_down.0.", ".adapter_norm_before.")):
        if name not in tensors and name.replace(a, b) in tensors:
            return tensors[name.replace(a, b)]
    return tensors.get(name)


def error(got, want):
    if got is None or got.size != want.size:
        return float("inf")
    got, want = got.reshape(-1).astype("f8"), want.reshape(-1).astype("f8")
    worst = abs(got - want).max()
    return float(worst / (abs(want).max() or 1.0)) if worst == worst else float("inf")


def compare(title, got, want, tolerance):
    """Prints the worst tensors; True if all are within the tolerance."""
    errors = {}
    for name, w in want.items():
        if name.startswith("curve"):
            continue
        errors[name] = error(find(got, name), w)
    worst = sorted(errors, key=errors.get, reverse=True)
    good = errors[worst[0]] <= tolerance
    print(f"{'ok  ' if good else 'FAIL'} {title:16} {len(errors):3} tensors, worst {errors[worst[0]]:.1e} {worst[0]}")
    for name in worst[1:6] if not good else []:
        print(f"     {errors[name]:.1e} {name}")
    return good


def fixtures(args):
    for folder in sorted(FIXTURES.iterdir()):
        adapter = folder if (folder / "adapter_config.json").exists() else None
        if not (adapter or folder.name == "plain") or (args.case and folder.name not in args.case):
            continue
        want, ids = load_file(folder / "expected.safetensors"), folder / "input.json"
        try:
            if args.engraft:
                got = engraft_forward(args.engraft, FIXTURES / "model", ids, adapter, grad=adapter is not None)
                want.pop("pooler_output", None)  # `engraft forward` has none to show
            elif adapter:
                got, want = adapters_forward(FIXTURES / "model", ids, adapter), {"logits": want["logits"]}
            else:
                continue
            yield compare(folder.name, got, want, args.tolerance)
        except RuntimeError as e:
            print(f"FAIL {folder.name:16} {e}")
            yield False


def trained(args):
    want = adapters_forward(args.model, args.ids, args.adapter)
    got = engraft_forward(args.engraft, args.model, args.ids, args.adapter)
    yield compare(args.adapter.name, got, want, args.tolerance)


def main():
    args = arguments()
    good = list(trained(args) if args.adapter else fixtures(args))
    if not good:
        sys.exit("no such fixture")
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
