"""engraft and PyTorch side by side on tagging: scores on a test set, mean of several seeds.

Both train Houlsby adapters (bottleneck 64) and a tagging head on the same frozen weights, with the same settings (those below are
given to both), and take the scores after the last epoch. A seed decides the initial weights, which PyTorch draws and engraft starts
from, and the order of the sentences; nothing is dropped out: what is left between the two is arithmetic. With --apart each draws
weights, orders and dropout itself: then a seed moves the F1 of wnut17 by some points, and only means over many seeds would compare.
PyTorch is torch_tagging.py, beside this file, whose scores are the package `seqeval`'s.

    tagging.py --minilm DIR --data wnut17train.conll emerging.test.annotated \\
        --data en_ewt-ud-train-subset.conllu en_ewt-ud-test.conllu --engraft PATH     # --only torch needs no --engraft
"""

import argparse
import json
import random
import re
import statistics
import sys
import tempfile
from pathlib import Path

from step import HERE, last_line, processor

BOTTLENECK = 64
SETTINGS = ["--batch-size", 32, "--max-length", 128, "--lr", 1e-3, "--weight-decay", 0.01, "--warmup-ratio", 0.06, "--clip", 1.0]


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--minilm", type=Path, required=True, help="MiniLM-L6-H384 as a Hugging Face directory")
    p.add_argument("--data", type=Path, nargs=2, action="append", required=True, metavar=("TRAIN", "TEST"),
                   help="columns (word first, tag last), or CoNLL-U if the names end in .conllu (UPOS)")
    p.add_argument("--engraft", type=Path, help="the program")
    p.add_argument("--only", choices=["torch", "engraft"], help="one side, --apart")
    p.add_argument("--apart", action="store_true", help="each side draws for itself")
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    p.add_argument("--epochs", type=int, default=3)
    p.add_argument("--max-steps", type=int, help="stop after so many steps instead")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--json", type=Path, help="also write every reading here")
    args = p.parse_args()
    if args.only != "torch" and not args.engraft:
        p.error("--engraft PATH is needed, or --only torch")
    if args.only and not args.apart:
        p.error("--only needs --apart: engraft starts from PyTorch's weights")
    return args


def shuffled(train, seed, out):
    """The file with its sentences, which blank lines separate, in another order."""
    blocks = re.split(r"\n[ \t]*\n", train.read_text(encoding="utf-8").strip("\n"))
    random.Random(seed).shuffle(blocks)
    out.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")
    return out


def common(args, train, seed):
    limit = ["--max-steps", args.max_steps] if args.max_steps else ["--epochs", args.epochs]
    return ["--model", args.minilm, "--train", train, "--seed", seed, "--threads", args.threads, *limit, *SETTINGS]


def together(args, start):
    """What makes both sides one run, apart from their arithmetic."""
    return [] if args.apart else ["--no-shuffle", "--dropout", 0, *start]


def torch_scores(args, train, test, seed, scratch):
    more = together(args, ["--save-start", scratch / "start"])
    line = [sys.executable, HERE / "torch_tagging.py", *common(args, train, seed), "--eval", test,
            "--bottleneck", BOTTLENECK, *more]
    said = last_line(line)
    return said["scores"][-1] | dict(seconds=sum(e["seconds"] for e in said["epochs"]), peak_rss_bytes=said["peak_rss_bytes"])


def engraft_scores(args, train, test, seed, scratch):
    engraft, out = args.engraft.resolve(), scratch / f"{train.name}-{seed}"
    new = ["--adapter", "houlsby", "--bottleneck", BOTTLENECK] if args.apart else []
    said = last_line([engraft, "train", "--task", "tagging", "--json", "--out", out, *new, *common(args, train, seed),
                      *together(args, ["--init", scratch / "start"])])
    scored = last_line([engraft, "eval", "--model", args.minilm, "--adapter", out, "--data", test, "--json",
                        "--max-length", 128, "--threads", args.threads])
    scores = {k: scored[k] for k in ("accuracy", "precision", "recall", "f1") if k in scored}
    return scores | dict(seconds=sum(e["seconds"] for e in said["epochs"]), peak_rss_bytes=said["peak_rss_bytes"])


def rows(readings):
    """A line for each data set and score, in percent; the difference is engraft's mean less PyTorch's."""
    sides = list(next(iter(readings.values())))
    yield "| trained on | score | " + " | ".join(f"{side}: seeds, **mean**" for side in sides) + " | difference |"
    yield "|---|---|" + "---|" * (len(sides) + 1)
    for train, of in readings.items():
        for name in [k for k in of[sides[0]][0] if k not in ("seconds", "peak_rss_bytes")]:
            values = [[100 * run[name] for run in of[side]] for side in sides]
            means = [statistics.mean(v) for v in values]
            cells = [", ".join(f"{x:.2f}" for x in v) + f": **{m:.2f}**" for v, m in zip(values, means)]
            difference = f"{means[1] - means[0]:+.2f}" if len(means) == 2 else ""
            yield f"| {train} | {name} | " + " | ".join(cells) + f" | {difference} |"


def main():
    args = arguments()
    sides = {} if args.only == "engraft" else {"PyTorch": torch_scores}
    if args.only != "torch":
        sides["engraft"] = engraft_scores
    readings = {}
    with tempfile.TemporaryDirectory() as scratch:
        for train, test in args.data:
            runs = readings.setdefault(train.name, {side: [] for side in sides})
            for seed in args.seeds:
                data = train if args.apart else shuffled(train, seed, Path(scratch) / train.name)
                for side, scores in sides.items():
                    runs[side].append(scores(args, data, test, seed, Path(scratch)))
                    print(f"{train.name} seed {seed} {side}: {runs[side][-1]}", file=sys.stderr, flush=True)
    print("\n".join(rows(readings)))
    if args.json:
        args.json.write_text(json.dumps(dict(machine=processor(), threads=args.threads, readings=readings)) + "\n")


if __name__ == "__main__":
    main()
