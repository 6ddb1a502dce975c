"""Forward passes only, as in evaluation: engraft, PyTorch and candle side by side.

engraft (`engraft eval`) and PyTorch (torch_train.py, under `inference_mode`) compute the logits of the same model
with Houlsby adapters and a head; candle has no adapters, so there it is the last hidden states of the frozen
model alone. All read the same texts of exactly 128 tokens, in the same batches, with the same number of threads;
loading and tokenisation are not counted. They run in turn for several rounds; a ratio is taken within a round.

    forward.py --minilm DIR --engraft PATH [--candle PATH]   # PATH: what cargo builds in ./candle
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from step import HERE, LENGTH, base_directory, last_line, long_lines, processor

BATCHES = 8


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--minilm", type=Path, required=True, help="MiniLM-L6-H384 as a Hugging Face directory")
    p.add_argument("--engraft", type=Path, required=True, help="the program")
    p.add_argument("--candle", type=Path, help="the program; left out if not given")
    p.add_argument("--case", choices=["minilm", "base"], action="append")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--work", type=Path, help="keeps the random BERT-base (440 MB) between runs")
    p.add_argument("--json", type=Path, help="also write the result here")
    return p.parse_args()


def sides(args, model, batch, work):
    """name: a function that gives the seconds of one batch."""
    data, few = long_lines(model, batch * BATCHES, work / "texts.tsv"), long_lines(model, batch, work / "few.tsv")
    common = ["--model", model, "--batch-size", batch, "--max-length", LENGTH, "--threads", args.threads]
    train = [*common, "--train", few, "--bottleneck", 64, "--epochs", 1, "--seed", 0]
    adapter, engraft = work / f"adapter-{model.name}", args.engraft.resolve()
    last_line([engraft, "train", *train, "--adapter", "houlsby", "--head", "linear", "--json", "--out", adapter])

    def ours():
        line = [engraft, "eval", *common, "--adapter", adapter, "--data", data, "--json"]
        return last_line(line)["seconds"]

    def torch():
        return last_line([sys.executable, HERE / "torch_train.py", *train, "--eval", data])["evaluations"][0]["seconds"]

    def candle():
        line = [args.candle.resolve(), "--model", model, "--data", data, "--batch-size", batch, "--max-length", LENGTH]
        return last_line(line)["seconds"]

    return {"engraft": ours, "PyTorch": torch} | ({"candle": candle} if args.candle else {})


def main():
    args = arguments()
    os.environ["RAYON_NUM_THREADS"] = str(args.threads)  # candle has no option for it
    results = {}
    with tempfile.TemporaryDirectory() as scratch:
        work = args.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        for case in args.case or ["minilm", "base"]:
            model, batch = (args.minilm, 32) if case == "minilm" else (base_directory(args.minilm, work), 16)
            side, runs = sides(args, model, batch, Path(scratch)), []
            for i in range(args.rounds):
                runs.append({name: run() / BATCHES for name, run in side.items()})
                print(f"{case} round {i + 1}: {runs[-1]}", file=sys.stderr, flush=True)
            results[case] = runs
    names = list(next(iter(results.values()))[0])
    print("| case | " + " | ".join(names) + " | " + " | ".join(f"engraft / {n}" for n in names[1:]) + " |")
    print("|---|" + "---|" * (2 * len(names) - 1))
    for case, runs in results.items():
        cells = [f"{statistics.median(r[n] for r in runs):.3f} s" for n in names]
        cells += [f"{statistics.median(r['engraft'] / r[n] for r in runs):.2f}" for n in names[1:]]
        print(f"| {case} | " + " | ".join(cells) + " |")
    if args.json:
        args.json.write_text(json.dumps(dict(machine=processor(), threads=args.threads, seconds=results)) + "\n")


if __name__ == "__main__":
    main()
