"""engraft and PyTorch side by side on questions: scores on a test set, mean of several seeds.

    python xquad.py xquad.en.json xquad
    python questions.py --minilm DIR --data xquad --engraft PATH

Both train Houlsby adapters (bottleneck 64) and a head on the same frozen weights, with the same settings, and take the scores after
the last epoch: F1 and exact match of answers in XQuAD's texts, and the accuracy of choosing the sentence that answers a question. A
seed decides the initial weights, which PyTorch draws and engraft starts from, and the order of the questions; nothing is dropped
out. PyTorch is torch_questions.py, beside this file.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
from pathlib import Path

from step import HERE, last_line, processor

TASKS = {
    "question-answering": ("questions", ["f1", "exact_match"], ["--max-length", 384, "--doc-stride", 128]),
    "multiple-choice": ("sentences", ["accuracy"], ["--max-length", 256]),
}
SETTINGS = ["--batch-size", 16, "--lr", 1e-3, "--weight-decay", 0.01, "--warmup-ratio", 0.06, "--clip", 1.0]


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--minilm", type=Path, required=True, help="MiniLM-L6-H384 as a Hugging Face directory")
    p.add_argument("--data", type=Path, required=True, help="what xquad.py makes")
    p.add_argument("--engraft", type=Path, required=True, help="the program")
    p.add_argument("--task", choices=TASKS, action="append", help="one of them alone")
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    p.add_argument("--epochs", type=int, default=5)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--json", type=Path, help="also write every reading here")
    return p.parse_args()


def shuffled(train, seed, out):
    lines = train.read_text(encoding="utf-8").splitlines(keepends=True)
    random.Random(seed).shuffle(lines)
    out.write_text("".join(lines), encoding="utf-8")
    return out


def both(args, task, train, test, seed, scratch):
    """The scores of both sides."""
    _, scores, reading = TASKS[task]
    start, out = scratch / "start", scratch / "out"
    common = ["--task", task, "--model", args.minilm, "--train", train, "--seed", seed, "--threads", args.threads, "--epochs",
              args.epochs, "--no-shuffle", "--dropout", 0, *SETTINGS, *reading]
    said = last_line([sys.executable, HERE / "torch_questions.py", *common, "--eval", test, "--bottleneck", 64, "--save-start", start])
    torch = said["scores"][-1]
    engraft = args.engraft.resolve()
    last_line([engraft, "train", "--json", "--out", out, "--init", start, *common])
    found = last_line([engraft, "eval", "--model", args.minilm, "--adapter", out, "--data", test, "--json", "--threads", args.threads])
    share = 100 if task == "multiple-choice" else 1
    return dict(PyTorch={k: torch[k] for k in scores}, engraft={k: share * found[k] for k in scores})


def rows(readings):
    """A line for each score, in percent; the difference is engraft's mean less PyTorch's."""
    yield "| task | score | PyTorch: seeds, **mean** | engraft: seeds, **mean** | difference |"
    yield "|---|---|---|---|---|"
    for task, runs in readings.items():
        for name in TASKS[task][1]:
            values = [[run[side][name] for run in runs] for side in ("PyTorch", "engraft")]
            means = [statistics.mean(v) for v in values]
            cells = [", ".join(f"{x:.2f}" for x in v) + f": **{m:.2f}**" for v, m in zip(values, means)]
            yield f"| {task} | {name} | {cells[0]} | {cells[1]} | {means[1] - means[0]:+.2f} |"


def main():
    args = arguments()
    readings = {}
    with tempfile.TemporaryDirectory() as scratch:
        for task in args.task or TASKS:
            name = TASKS[task][0]
            for seed in args.seeds:
                train = shuffled(args.data / f"{name}-train.jsonl", seed, Path(scratch) / "train.jsonl")
                run = both(args, task, train, args.data / f"{name}-test.jsonl", seed, Path(scratch))
                readings.setdefault(task, []).append(run)
                print(f"{task} seed {seed}: {run}", file=sys.stderr, flush=True)
    print("\n".join(rows(readings)))
    if args.json:
        args.json.write_text(json.dumps(dict(machine=processor(), threads=args.threads, readings=readings)) + "\n")


if __name__ == "__main__":
    main()
