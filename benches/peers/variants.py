"""Several adapters trained at once beside the same runs one after the other, all of them engraft.

Four learning rates of one adapter in the upper 2 of MiniLM's 6 layers. A round is one run of all four (`--variant`) and four runs by
themselves, in turn, each a process of its own; a run's time is that of its training, evaluation included, and that of its whole
process. The ratio is taken within a round, and the median over rounds is reported. Weights and scores must be the same bits.

    variants.py --minilm DIR --train TSV --eval TSV --engraft PATH
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from step import head, last_line, processor

RATES = ("1e-4", "3e-4", "1e-3", "3e-3")
SAVED = ("adapter.safetensors", "model_head.safetensors")


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--minilm", type=Path, required=True, help="MiniLM-L6-H384 as a Hugging Face directory")
    p.add_argument("--train", type=Path, required=True, help="TSV of real sentences: text, label")
    p.add_argument("--eval", type=Path, help="the same, to evaluate on after each epoch")
    p.add_argument("--engraft", type=Path, required=True, help="the program")
    p.add_argument("--method", action="append", help="default: houlsby, pfeiffer and lora")
    p.add_argument("--layers", default="4-5")
    p.add_argument("--texts", type=int, default=1280)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--flags", default="", help="further flags of all runs, as '--dropout 0'")
    p.add_argument("--threads", type=int, default=2)
    return p.parse_args()


def timed(command):
    """(seconds of training, seconds of the process, what it said)"""
    began = time.monotonic()
    said = last_line(command)
    reports = list(said["variants"].values()) if "variants" in said else [said]
    return max(r["train_seconds"] for r in reports), time.monotonic() - began, said


def round_of(method, args, train, scratch):
    """Ratios of one run of all to the sum of their own: (training, process)."""
    shared = [args.engraft.resolve(), "train", "--model", args.minilm, "--train", train, "--adapter", method, "--layers", args.layers,
              "--epochs", 2, "--threads", args.threads, "--json", "--quiet", *args.flags.split()]
    shared += ["--eval", args.eval] if args.eval else []
    variants = [x for rate in RATES for x in ("--variant", f"lr{rate}: lr={rate}")]
    together = timed([*shared, "--out", scratch / "all", *variants])
    alone = [timed([*shared, "--out", scratch / rate, "--lr", rate]) for rate in RATES]
    for rate, (_, _, report) in zip(RATES, alone):
        same = [(scratch / rate / f).read_bytes() == (scratch / "all" / f"lr{rate}" / f).read_bytes() for f in SAVED]
        assert all(same) and report["metrics"] == together[2]["variants"][f"lr{rate}"]["metrics"], f"{method} at {rate} differs"
    return [together[i] / sum(one[i] for one in alone) for i in (0, 1)] + [together[0], sum(one[0] for one in alone)]


def main():
    args = arguments()
    print(f"{processor()}, {args.threads} threads, {args.texts} texts, layers {args.layers}; four rates at once / one after the other")
    print("| method | at once | one after the other | ratio | of processes | rounds |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        train = head(args.train, args.texts, scratch / "train.tsv")
        for method in args.method or ("houlsby", "pfeiffer", "lora"):
            rounds = [round_of(method, args, train, scratch / method) for _ in range(args.rounds)]
            print(f"{json.dumps(rounds)}", file=sys.stderr)
            ratio, process, one, all_ = (statistics.median(r[i] for r in rounds) for i in range(4))
            each = ", ".join(f"{r[0]:.2f}" for r in rounds)
            print(f"| `{method}` | {one:.1f} s | {all_:.1f} s | {ratio:.2f} | {process:.2f} | {each} |", flush=True)


if __name__ == "__main__":
    main()
