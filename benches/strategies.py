"""Routing and continual learning over real data sets, with MiniLM.

`route`: which of five data sets a text is of. What says what a set is like are its training texts; it is asked of a tenth of these that
is held out, and of the texts of the official test sets. Two of the sets have no test set: a tenth of each is one here. For sentence polarity
and subjectivity together it also says how many sentences stand in both, of which no router can be right.

`continual`: one set after the other with an adapter of its own, with one for all, and with one that is held (EWC), learns some examples
again (replay), or both: the scores behind each, and what is forgotten.

    strategies.py route|continual --minilm DIR --data DIR --engraft PATH --work DIR

DIR of --data holds banking77, nltk_sentence_polarity, nltk_subjectivity, sick2014, wnut17 and e2e_nlg.
"""

import argparse
import csv
import json
import random
import subprocess
from pathlib import Path

FAIR = ["banking77", "polarity", "sick", "wnut17", "e2e"]
HARD = ["banking77", "polarity", "subjectivity", "sick", "wnut17"]
TASKS = {"wnut17": "tagging"}
LEARNED = ["banking77", "polarity", "subjectivity", "sick", "wnut17"]


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=["route", "continual"])
    p.add_argument("--minilm", type=Path, required=True, help="MiniLM-L6-H384 as a Hugging Face directory")
    p.add_argument("--data", type=Path, required=True)
    p.add_argument("--engraft", type=Path, required=True, help="the program")
    p.add_argument("--work", type=Path, required=True, help="where files and runs go")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--steps", type=int, default=150, help="of each task (continual)")
    p.add_argument("--texts", type=int, help="of each test set, at most; all if not given")
    p.add_argument("--max-texts", type=int, help="to say what a set is like, at most; all if not given (route)")
    p.add_argument("--orders", type=int, default=3, help="so many orders of the tasks (continual)")
    return p.parse_args()


def lines(path):
    return [line.strip() for line in path.read_text(encoding="latin-1").split("\n") if line.strip()]


def rows_of(data, name):
    """(text, label or several columns) of what is learned from and of the test set, None if that is to be held out."""
    if name in ("polarity", "subjectivity"):
        folder, files = {
            "polarity": ("nltk_sentence_polarity", ["rt-polarity.neg", "rt-polarity.pos"]),
            "subjectivity": ("nltk_subjectivity", ["plot.tok.gt9.5000", "quote.tok.gt9.5000"]),
        }[name]
        return [[text, str(label)] for label, file in enumerate(files) for text in lines(data / folder / file)], None
    if name == "sick":
        both = []
        for file in ("SICK_train.txt", "SICK_test_annotated.txt"):
            rows = [line.rstrip("\r\n").split("\t") for line in open(data / "sick2014" / file, encoding="utf-8", newline="\n")]
            both.append([[r[1], r[2], r[4].lower()] for r in rows[1:] if len(r) > 4])
        return both
    folder, files, text, label = {
        "banking77": ("banking77", ["train.csv", "test.csv"], "text", "category"),
        "e2e": ("e2e_nlg", ["devset.csv", "testset_w_refs.csv"], "ref", "mr"),
    }[name]
    both = []
    for file in files:
        with open(data / folder / file, encoding="utf-8", newline="") as f:
            both.append([[" ".join(row[text].split()), row[label].strip()] for row in csv.DictReader(f)])
    return both


def prepare(data, work, name, most=None):
    """The files of a data set, training and test, as TSV; of words as they are."""
    if name == "wnut17":
        train, test = data / "wnut17/wnut17train.conll", data / "wnut17/emerging.test.annotated"
        links = [work / "wnut17-train.conll", work / "wnut17-test.conll"]
        for link, file in zip(links, (train, test)):
            link.write_bytes(file.read_bytes())
        return links
    train, test = rows_of(data, name)
    if test is None:
        random.Random(0).shuffle(train)
        n = len(train) // 10
        train, test = train[n:], train[:n]
    if most is not None:
        random.Random(1).shuffle(test)
        test = test[:most]
    files = [work / f"{name}-train.tsv", work / f"{name}-test.tsv"]
    heads = ["sentence1", "sentence2", "label"] if name == "sick" else ["text", "label"]
    for file, rows in zip(files, (train, test)):
        file.write_text("".join("\t".join(row) + "\n" for row in [heads, *rows]), encoding="utf-8")
    return files


def said(command):
    done = subprocess.run([str(x) for x in command], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.strip().split("\n")[-1])


def tasks(files, tested):
    toml = ""
    for name, (train, test) in files.items():
        toml += f"[tasks.{name}]\ntrain = '{train}'\n" + (f"eval = '{test}'\n" if tested else "")
        toml += f"task = '{TASKS[name]}'\n" if name in TASKS else ""
    return toml


def route(args):
    for names in (FAIR, HARD):
        files = {name: prepare(args.data, args.work, name, args.texts) for name in names}
        for tested in (False, True):
            config = args.work / "tasks.toml"
            config.write_text(tasks(files, tested))
            out = args.work / ("router-" + "-".join(names))
            flags = ["route", "--config", config, "--model", args.minilm, "--out", out, "--threads", args.threads, "--quiet", "--json"]
            flags += ["--max-texts", args.max_texts] if args.max_texts else []
            report = said([args.engraft, *flags])
            confusion = report["confusion"]
            print(f"{', '.join(names)}; {'test sets' if tested else 'a tenth of what is learned from'}:")
            recall = {name: f"{100 * row[i] / sum(row):.1f}" for i, (name, row) in enumerate(zip(sorted(names), confusion))}
            macro = sum(row[i] / sum(row) for i, row in enumerate(confusion)) / len(confusion)
            print(f"  accuracy {100 * report['accuracy']:.2f} % of {report['texts']}, mean of the sets {100 * macro:.2f} %, by cosine", end=" ")
            print(f"{100 * report['cosine_accuracy']:.2f} %, taken for none {100 * report['unknown']:.2f} %; {recall}", flush=True)
    plain = lambda text: "".join(c for c in text.lower() if c.isalnum())
    polarity = {plain(text) for text, _ in rows_of(args.data, "polarity")[0]}
    both = [text for text, label in rows_of(args.data, "subjectivity")[0] if plain(text) in polarity]
    print(f"{len(both)} of 10000 sentences of subjectivity stand in sentence polarity too")


def continual(args):
    files = {name: prepare(args.data, args.work, name, args.texts) for name in LEARNED}
    config = args.work / "continual.toml"
    config.write_text(tasks(files, True))
    orders = [random.Random(i).sample(LEARNED, len(LEARNED)) for i in range(args.orders)]
    ways = {
        "isolated": [],
        "shared": ["--shared"],
        "EWC 1000": ["--shared", "--ewc", "1000"],
        "replay 200": ["--shared", "--replay", "200"],
        "EWC 1000, replay 200": ["--shared", "--ewc", "1000", "--replay", "200"],
    }
    for way, flags in ways.items():
        for i, order in enumerate(orders):
            own = ["--config", config, "--model", args.minilm, "--order", ",".join(order), "--out", args.work / f"{way}-{i}".replace(" ", "")]
            how = ["--max-steps", args.steps, "--max-length", 64, "--threads", args.threads, "--report=false", "--quiet", "--json"]
            report = said([args.engraft, "continual", *own, *how, *flags])
            rows = [[f"{100 * x:.1f}" if x is not None else "-" for x in row] for row in report["matrix"]]
            print(f"{way}; {', '.join(order)}: average {report['average_accuracy']}, bwt {report['bwt']}, forgetting {report['forgetting']}")
            print("  behind the last: " + ", ".join(rows[-1]) + "; each behind itself: " + ", ".join(rows[j][j] for j in range(len(rows))), flush=True)


if __name__ == "__main__":
    arguments_ = arguments()
    arguments_.work.mkdir(parents=True, exist_ok=True)
    {"route": route, "continual": continual}[arguments_.what](arguments_)
