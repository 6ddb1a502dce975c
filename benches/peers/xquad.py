"""Makes two data sets of XQuAD's English questions: answers in a text, and a choice among its sentences.

    xquad.py xquad.en.json OUT    # OUT/{questions,sentences}-{train,test}.jsonl

Both are divided by article, 38 to learn from and 10 to test on, so that no text is in both. `questions` has the questions as they
are. `sentences` is derived: which of four sentences of the paragraph answers the question? The right one has the answer in it, and
three others of the same paragraph are drawn; a question is left out whose paragraph has fewer sentences or whose answer does not lie
within one. The seed of the division and of what is drawn is 0.
"""

import json
import random
import re
import sys
from pathlib import Path

ARTICLES, CHOICES = 38, 4


def sentences(text):
    """[(start, end)] of the sentences of a text."""
    ends = [m.start() for m in re.finditer(r"(?<=[.!?])\s+(?=[\"“(\[]?[A-Z0-9])", text)] + [len(text)]
    starts = [0] + [m.end() for m in re.finditer(r"(?<=[.!?])\s+(?=[\"“(\[]?[A-Z0-9])", text)]
    return list(zip(starts, ends))


def choice(question, context, answer, r):
    all, start = sentences(context), answer["answer_start"]
    end = start + len(answer["text"])
    right = [i for i, (a, b) in enumerate(all) if a <= start and end <= b]
    others = [i for i in range(len(all)) if i not in right]
    if len(right) != 1 or len(others) < CHOICES - 1:
        return None
    chosen = right + r.sample(others, CHOICES - 1)
    r.shuffle(chosen)
    return dict(question=question, choices=[context[slice(*all[i])] for i in chosen], label=chosen.index(right[0]))


def main():
    source, out, r = Path(sys.argv[1]), Path(sys.argv[2]), random.Random(0)
    out.mkdir(parents=True, exist_ok=True)
    articles = json.loads(source.read_text(encoding="utf-8"))["data"]
    r.shuffle(articles)
    for part, of in (("train", articles[:ARTICLES]), ("test", articles[ARTICLES:])):
        rows = dict(questions=[], sentences=[])
        for paragraph in (p for article in of for p in article["paragraphs"]):
            context = paragraph["context"]
            for qa in paragraph["qas"]:
                rows["questions"].append(dict(id=qa["id"], question=qa["question"], context=context, answers=qa["answers"]))
                one = choice(qa["question"], context, qa["answers"][0], r)
                rows["sentences"] += [one] if one else []
        for name, lines in rows.items():
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            (out / f"{name}-{part}.jsonl").write_text(text, encoding="utf-8")
            print(f"{name}-{part}.jsonl: {len(lines)}")


if __name__ == "__main__":
    main()
