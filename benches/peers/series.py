"""Runs that follow each other on one backbone beside the same runs as processes of their own, all of them engraft.

Adapters in the upper 2 of MiniLM's 6 layers, without dropout. A search of some trials beside a run of `engraft train` for each of them
with the values that it drew; a cross-validation of five folds beside one run on all of the data. The time is that of the whole process.
Every trial must have learned the same bits as its own run.

    series.py --minilm DIR --train TSV --eval TSV --engraft PATH
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from step import head, last_line, processor

SAVED = ("adapter.safetensors", "model_head.safetensors")
SPACE = 'lr = { low = 1e-4, high = 1e-2, log = true }\nbottleneck = { choices = [16, 32, 64] }\nweight-decay = { low = 0.0, high = 0.1 }\n'


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--minilm", type=Path, required=True, help="MiniLM-L6-H384 as a Hugging Face directory")
    p.add_argument("--train", type=Path, required=True, help="TSV of real sentences: text, label")
    p.add_argument("--eval", type=Path, required=True, help="the same, to evaluate on after each epoch")
    p.add_argument("--engraft", type=Path, required=True, help="the program")
    p.add_argument("--method", default="pfeiffer")
    p.add_argument("--layers", default="4-5")
    p.add_argument("--epochs", type=int, default=2)
    p.add_argument("--texts", type=int, default=1280)
    p.add_argument("--trials", type=int, default=16)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--threads", type=int, default=2)
    return p.parse_args()


def timed(command):
    """(seconds of the process, what it said)"""
    began = time.monotonic()
    said = last_line(command)
    return time.monotonic() - began, said


def search(args, shared, evaluated, scratch):
    """The seconds of a search and of its trials by themselves."""
    space = scratch / "space.toml"
    space.write_text(SPACE)
    out = scratch / "search"
    flags = ["search", "--space", space, "--trials", args.trials, "--sampler", "random"]
    seconds, _ = timed([args.engraft.resolve(), *flags, *shared, *evaluated, "--out", out])
    alone = 0.0
    for line in (out / "trials.jsonl").read_text().splitlines():
        trial = json.loads(line)
        own = [x for key, value in trial["params"].items() for x in (f"--{key}", repr(value))]
        here = scratch / "alone"
        took, _ = timed([args.engraft.resolve(), "train", *shared, *evaluated, *own, "--out", here])
        alone += took
        same = [(here / f).read_bytes() == (out / f"trial-{trial['number']}" / f).read_bytes() for f in SAVED]
        assert all(same), f"trial {trial['number']} differs"
    return seconds, alone


def folds(args, shared, evaluated, scratch):
    """The seconds of five folds and of one run on all."""
    five, _ = timed([args.engraft.resolve(), "train", *shared, "--folds", 5, "--out", scratch / "folds"])
    one, _ = timed([args.engraft.resolve(), "train", *shared, *evaluated, "--out", scratch / "one"])
    return five, one


def main():
    args = arguments()
    print(f"{processor()}; {args.method} in layers {args.layers} of 6, {args.texts} sentences, {args.epochs} epochs, no dropout")
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        train = head(args.train, args.texts, scratch / "train.tsv")
        shared = ["--model", args.minilm, "--train", train, "--adapter", args.method, "--layers", args.layers, "--dropout", 0,
                  "--epochs", args.epochs, "--threads", args.threads, "--json", "--quiet"]
        evaluated = ["--eval", args.eval]
        for name, what, run in (("search", f"{args.trials} runs", search), ("folds", "one run", folds)):
            rounds = [run(args, shared, evaluated, scratch) for _ in range(args.rounds)]
            ratios = [a / b for a, b in rounds]
            a, b = (statistics.median(r[i] for r in rounds) for i in (0, 1))
            print(f"{name}: {a:.1f} s, {what}: {b:.1f} s, ratio {statistics.median(ratios):.2f} ({' '.join(f'{r:.2f}' for r in ratios)})")


if __name__ == "__main__":
    main()
