"""engraft and PyTorch side by side on what is learned: scores on a test set, mean of several seeds.

Both train Houlsby adapters (bottleneck 64) and a head on the same frozen weights, with the same settings (those below are given to
both), and take the scores after the last epoch. A seed decides the initial weights, which PyTorch draws and engraft starts from, and
the order of the training data; nothing is dropped out: what is left between the two is arithmetic. With --apart each draws weights,
orders and dropout itself: then a seed moves the F1 of wnut17 by some points, and only means over many seeds would compare.
TASKS says what there is: PyTorch's side of each is a script beside this file, whose scores are those of `seqeval` and `scipy`.

    tasks.py --minilm DIR --data DIR --engraft PATH          # --only torch, --apart needs no --engraft
    tasks.py ... --task sick-entailment --task sick-relatedness

DIR holds the data sets as they are published, each in a folder: sick2014/SICK_train.txt, wnut17/wnut17train.conll,
ud_en_ewt/en_ewt-ud-train-subset.conllu and what they are tested on.
"""

import argparse
import csv
import json
import random
import re
import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from step import HERE, last_line, processor

BOTTLENECK = 64
SETTINGS = ["--batch-size", 32, "--lr", 1e-3, "--weight-decay", 0.01, "--warmup-ratio", 0.06, "--clip", 1.0]


def blocks(source, seed, out):
    """A file whose sentences are apart by blank lines, these in another order."""
    all = re.split(r"\n[ \t]*\n", source.read_text(encoding="utf-8").strip("\n"))
    if seed is not None:
        random.Random(seed).shuffle(all)
    out.write_text("\n\n".join(all) + "\n", encoding="utf-8")


def pairs_with(label):
    """The pairs of SICK with one of its labels, below the usual names of the columns."""

    def write(source, seed, out):
        with open(source, encoding="utf-8", newline="") as f:
            rows = [(r["sentence_A"], r["sentence_B"], r[label]) for r in csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE)]
        if seed is not None:
            random.Random(seed).shuffle(rows)
        lines = ["sentence1\tsentence2\tlabel", *("\t".join(row) for row in rows)]
        out.write_text("\n".join(lines) + "\n", encoding="utf-8")

    return write


@dataclass
class Task:
    """What is learned from a file and tested on another."""

    train: str
    test: str
    engraft: str  # engraft's name of the task
    torch: str  # PyTorch's side
    write: Callable  # makes a file that both sides read of one of these, in the order of a seed
    suffix: str
    epochs: int
    max_length: int
    flags: list = field(default_factory=list)  # of PyTorch's side alone


def sick(label, engraft, *flags):
    return Task("sick2014/SICK_train.txt", "sick2014/SICK_test_annotated.txt", engraft, "torch_train.py", pairs_with(label),
                ".tsv", 3, 64, list(flags))


TASKS = {
    "sick-entailment": sick("entailment_judgment", "classification"),
    "sick-relatedness": sick("relatedness_score", "regression", "--regression"),
    "wnut17": Task("wnut17/wnut17train.conll", "wnut17/emerging.test.annotated", "tagging", "torch_tagging.py", blocks, ".conll",
                   3, 128),
    "ud-pos": Task("ud_en_ewt/en_ewt-ud-train-subset.conllu", "ud_en_ewt/en_ewt-ud-test.conllu", "tagging", "torch_tagging.py",
                   blocks, ".conllu", 1, 128),
}
# of what both sides say, those that are shares
SHARES = ("accuracy", "precision", "recall", "f1")
NUMBERS = ("pearson", "spearmanr", "mse")


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--minilm", type=Path, required=True, help="MiniLM-L6-H384 as a Hugging Face directory")
    p.add_argument("--data", type=Path, required=True, help="the folder of the data sets")
    p.add_argument("--task", action="append", choices=TASKS, help="only these")
    p.add_argument("--engraft", type=Path, help="the program")
    p.add_argument("--only", choices=["torch", "engraft"], help="one side, --apart")
    p.add_argument("--apart", action="store_true", help="each side draws for itself")
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    p.add_argument("--epochs", type=int, help="instead of the task's own")
    p.add_argument("--max-steps", type=int, help="stop after so many steps instead")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--json", type=Path, help="also write every reading here")
    args = p.parse_args()
    if args.only != "torch" and not args.engraft:
        p.error("--engraft PATH is needed, or --only torch")
    if args.only and not args.apart:
        p.error("--only needs --apart: engraft starts from PyTorch's weights")
    return args


def common(args, task, train, seed):
    limit = ["--max-steps", args.max_steps] if args.max_steps else ["--epochs", args.epochs or task.epochs]
    return ["--model", args.minilm, "--train", train, "--seed", seed, "--threads", args.threads, "--max-length", task.max_length,
            *limit, *SETTINGS]


def together(args, start):
    """What makes both sides one run, apart from their arithmetic."""
    return [] if args.apart else ["--no-shuffle", "--dropout", 0, *start]


def torch_scores(args, task, train, test, seed, scratch):
    more = together(args, ["--save-start", scratch / "start"])
    line = [sys.executable, HERE / task.torch, *common(args, task, train, seed), "--eval", test, "--bottleneck", BOTTLENECK,
            *task.flags, *more]
    said = last_line(line)
    return said["scores"][-1] | dict(seconds=sum(e["seconds"] for e in said["epochs"]), peak_rss_bytes=said["peak_rss_bytes"])


def engraft_scores(args, task, train, test, seed, scratch):
    engraft, out = args.engraft.resolve(), scratch / "engraft"
    new = ["--adapter", "houlsby", "--bottleneck", BOTTLENECK] if args.apart else []
    said = last_line([engraft, "train", "--task", task.engraft, "--json", "--out", out, *new, *common(args, task, train, seed),
                      *together(args, ["--init", scratch / "start"])])
    scored = last_line([engraft, "eval", "--model", args.minilm, "--adapter", out, "--data", test, "--json",
                        "--max-length", task.max_length, "--threads", args.threads])
    scores = {k: scored[k] for k in SHARES + NUMBERS if k in scored}
    return scores | dict(seconds=sum(e["seconds"] for e in said["epochs"]), peak_rss_bytes=said["peak_rss_bytes"])


def rows(readings):
    """A line for each task and score, shares in percent; the difference is engraft's mean less PyTorch's."""
    sides = list(next(iter(readings.values())))
    yield "| task | score | " + " | ".join(f"{side}: seeds, **mean**" for side in sides) + " | difference |"
    yield "|---|---|" + "---|" * (len(sides) + 1)
    for task, of in readings.items():
        for name in [k for k in of[sides[0]][0] if k in SHARES + NUMBERS]:
            by, digits = (100, 2) if name in SHARES else (1, 4)
            values = [[by * run[name] for run in of[side]] for side in sides]
            means = [statistics.mean(v) for v in values]
            cells = [", ".join(f"{x:.{digits}f}" for x in v) + f": **{m:.{digits}f}**" for v, m in zip(values, means)]
            difference = f"{means[1] - means[0]:+.{digits}f}" if len(means) == 2 else ""
            yield f"| {task} | {name} | " + " | ".join(cells) + f" | {difference} |"


def main():
    args = arguments()
    sides = {} if args.only == "engraft" else {"PyTorch": torch_scores}
    if args.only != "torch":
        sides["engraft"] = engraft_scores
    readings = {}
    for name in args.task or TASKS:
        task, runs = TASKS[name], readings.setdefault(name, {side: [] for side in sides})
        for seed in args.seeds:
            with tempfile.TemporaryDirectory() as scratch:
                scratch = Path(scratch)
                train, test = (scratch / f"{part}{task.suffix}" for part in ("train", "test"))
                task.write(args.data / task.train, None if args.apart else seed, train)
                task.write(args.data / task.test, None, test)
                for side, scores in sides.items():
                    runs[side].append(scores(args, task, train, test, seed, scratch))
                    print(f"{name} seed {seed} {side}: {runs[side][-1]}", file=sys.stderr, flush=True)
    print("\n".join(rows(readings)))
    if args.json:
        args.json.write_text(json.dumps(dict(machine=processor(), threads=args.threads, readings=readings)) + "\n")


if __name__ == "__main__":
    main()
