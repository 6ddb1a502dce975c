"""Is a fusion worth it? Accuracy on little data: a head alone, one adapter, fusions of adapters of other tasks.

Three adapters are trained on other tasks (subjectivity, banking77, parts of speech of UD EWT). Sentence polarity is then
learned from 100, 500 and all training sentences, with a head alone, with a new adapter, with each kind of fusion of the
three, and with fusion and adapters trained jointly; the mean over seeds is reported. Sentences of the polarity data
that are in the subjectivity data too are left out of the latter. The learning rate of each way is the one that does best on
the development set with 500 sentences and seed 0. What is there in --work is not run again.

    fusion.py --minilm DIR --polarity DIR --subjectivity DIR --banking DIR --ewt DIR --engraft PATH --work DIR

--polarity is what peers/polarity.py makes; the others are the directories of the data as their authors publish them.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
from pathlib import Path

SIZES = {100: ["--epochs", 20, "--batch-size", 16], 500: ["--epochs", 10, "--batch-size", 32],
         None: ["--epochs", 1, "--batch-size", 32]}
RATES = (2e-4, 5e-4, 1e-3, 3e-3, 1e-2)
NEW, FUSED = ["train", "--adapter"], ["fuse", "--method"]
WAYS = {
    "head alone": [*NEW, "none"],
    "one adapter": [*NEW, "pfeiffer", "--reduction-factor", 6],
    "fusion: attention": [*FUSED, "attention"],
    "fusion: weighted": [*FUSED, "weighted"],
    "fusion: gating": [*FUSED, "gating"],
    "fusion: gating, best one": [*FUSED, "gating[top_k=1]"],
    "attention, jointly": [*FUSED, "attention", "--joint"],
}


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("minilm", "polarity", "subjectivity", "banking", "ewt", "engraft", "work"):
        p.add_argument(f"--{name}", type=Path, required=True)
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--threads", type=int, default=2)
    return p.parse_args()


class Runs:
    def __init__(self, args):
        self.args = args
        args.work.mkdir(parents=True, exist_ok=True)

    def engraft(self, *words):
        line = [str(w) for w in (self.args.engraft.resolve(), *words, "--threads", self.args.threads, "--json", "--quiet")]
        done = subprocess.run(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(line)}\n{done.stderr[-4000:]}")
        return json.loads(done.stdout.strip().splitlines()[-1])

    def train(self, name, *words):
        """A run into the directory of this name, unless it has ended before."""
        out = self.args.work / name
        if not (out / "report.json").exists():
            self.engraft(words[0], "--model", self.args.minilm, "--out", out, *words[1:])
        return out

    def accuracy(self, adapter, part):
        """On a part of the polarity data; kept beside the adapter."""
        kept = adapter.parent / f"{adapter.name}.{part}.json"
        if not kept.exists():
            data = self.args.polarity / f"{part}.tsv"
            kept.write_text(json.dumps(self.engraft("eval", "--model", self.args.minilm, "--adapter", adapter, "--data", data)))
        return json.loads(kept.read_text())["accuracy"]


def sources(runs):
    """NAME=DIR of the three adapters."""
    args = runs.args
    polarity = {line.split("\t")[0] for f in args.polarity.glob("*.tsv") for line in f.read_text(encoding="utf-8").splitlines()}
    subjectivity = args.work / "subjectivity.tsv"
    rows, left_out = ["text\tlabel"], 0
    for label, file in (("objective", "plot.tok.gt9.5000"), ("subjective", "quote.tok.gt9.5000")):
        for line in (args.subjectivity / file).read_text(encoding="latin-1").split("\n"):
            text = " ".join(line.split())
            left_out += text in polarity
            if text and text not in polarity:
                rows.append(f"{text}\t{label}")
    subjectivity.write_text("\n".join(rows) + "\n", encoding="utf-8")
    banking = args.work / "banking.tsv"
    with open(args.banking / "train.csv", encoding="utf-8", newline="") as f:
        rows = [f"{' '.join(r['text'].split())}\t{r['category']}" for r in csv.DictReader(f)]
    banking.write_text("\n".join(["text\tlabel", *rows]) + "\n", encoding="utf-8")
    print(f"{left_out} sentences of the subjectivity data are polarity's too and were left out", file=sys.stderr)
    adapter = ["--adapter", "pfeiffer", "--reduction-factor", 6, "--head", "linear", "--batch-size", 32, "--epochs", 3, "--lr", 1e-3]
    found = [
        ("subjectivity", ["--train", subjectivity]),
        ("banking", ["--train", banking]),
        ("ewt", ["--task", "tagging", "--train", next(args.ewt.glob("*train*.conllu"))]),
    ]
    return [f"{name}={runs.train(name, 'train', *data, *adapter)}" for name, data in found]


def subset(args, size):
    """The first sentences of the training data, which is in the order of a hash."""
    if size is None:
        return args.polarity / "train.tsv"
    lines = (args.polarity / "train.tsv").read_text(encoding="utf-8").splitlines()
    out = args.work / f"train-{size}.tsv"
    out.write_text("\n".join(lines[:size + 1]) + "\n", encoding="utf-8")
    return out


def learn(runs, adapters, way, size, seed, rate):
    words = [*WAYS[way], "--train", subset(runs.args, size), "--head", "linear", "--seed", seed, "--lr", rate, *SIZES[size]]
    if words[0] == "fuse":
        words += ["--adapters", *adapters]
    name = "-".join(c for c in f"{way} {size or 'all'} {seed} {rate}".replace(":", "").replace(",", "").split())
    return runs.train(name, *words)


def main():
    args = arguments()
    runs = Runs(args)
    adapters = sources(runs)
    rates = {way: max(RATES, key=lambda r: runs.accuracy(learn(runs, adapters, way, 500, 0, r), "dev")) for way in WAYS}
    print("| sentences | " + " | ".join(WAYS) + " |")
    print("|---|" + "---|" * len(WAYS))
    print("| learning rate | " + " | ".join(f"{rates[way]:g}" for way in WAYS) + " |")
    for size in SIZES:
        cells = []
        for way in WAYS:
            found = [runs.accuracy(learn(runs, adapters, way, size, seed, rates[way]), "test") for seed in range(args.seeds)]
            cells.append(f"{100 * statistics.mean(found):.1f} ({100 * min(found):.1f} to {100 * max(found):.1f})")
        print(f"| {size or 'all'} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
