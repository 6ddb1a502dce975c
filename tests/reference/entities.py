"""Writes tests/fixtures/seqeval/cases.json: what the package `seqeval` says of 200 random pairs of tag sequences.

A case is a few sentences of truth and of prediction, and is scored by itself, in the package's default mode. Half of the truths
are well-formed IOB2; the others hold what files in the world hold: an `I-` that nothing began, a type that changes within an
entity, IOBES and other tags, tags without a type or without a `-`, names with a `-` in them. `together` scores all cases as one.
A score is [precision, recall, F1, entities of the truth].
"""

import json
import random
import warnings

from seqeval.metrics import accuracy_score, classification_report
from seqeval.metrics.sequence_labeling import get_entities

from common import FIXTURES, fresh

warnings.filterwarnings("ignore")
TYPES = ["PER", "LOC", "corporation", "creative-work"]


def well_formed(r, n):
    tags = []
    while len(tags) < n:
        if r.random() < 0.5:
            tags.append("O")
        else:
            kind = r.choice(TYPES)
            tags += [f"B-{kind}"] + [f"I-{kind}"] * r.choice([0, 0, 1, 2])
    return tags[:n]


def anything(r, n):
    kinds = r.sample(TYPES, r.randint(1, 3))
    letters = r.choice(["BII", "BII", "BIIES", "BIESLU"])
    odd = r.choice([["O"], ["O"], ["O", "O", "B", "I"], ["O", "B-", "I_LOC", "NOUN", "."]])
    return [r.choice(odd) if r.random() < 0.4 else f"{r.choice(letters)}-{r.choice(kinds)}" for _ in range(n)]


def disturbed(r, tags):
    """A prediction: most tags as in the truth, some replaced by others of the same sentence, some moved by one."""
    if r.random() < 0.1:
        return list(tags)
    if r.random() < 0.1:
        return ["O"] * len(tags)
    moved = [tags[max(i - 1, 0)] if r.random() < 0.1 else t for i, t in enumerate(tags)]
    return [r.choice([*tags, "O", "B-LOC", "I-PER"]) if r.random() < 0.2 else t for t in moved]


def score(truth, prediction):
    none = [0.0, 0.0, 0.0, 0]
    out = dict(accuracy=float(accuracy_score(truth, prediction)), types={}, micro=none, macro=none, weighted=none)
    if get_entities(truth) or get_entities(prediction):
        for name, row in classification_report(truth, prediction, output_dict=True, zero_division=0).items():
            values = [float(row["precision"]), float(row["recall"]), float(row["f1-score"]), int(row["support"])]
            if name.endswith(" avg"):
                out[name.removesuffix(" avg")] = values
            else:
                out["types"][name] = values
    return out


def main():
    r = random.Random(0)
    cases = []
    for i in range(200):
        make = well_formed if i % 2 == 0 else anything
        truth = [make(r, r.choice([1, 1, 2, 3, 5, 8, 13])) for _ in range(r.randint(1, 4))]
        prediction = [disturbed(r, s) for s in truth]
        cases.append(dict(truth=truth, prediction=prediction) | score(truth, prediction))
    together = score(sum((c["truth"] for c in cases), []), sum((c["prediction"] for c in cases), []))
    lines = ",\n".join(json.dumps(c) for c in cases)
    text = f'{{"cases": [\n{lines}\n],\n"together": {json.dumps(together)}}}\n'
    (fresh(FIXTURES / "seqeval") / "cases.json").write_text(text)


if __name__ == "__main__":
    main()
