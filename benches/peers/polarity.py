"""Makes a fixed split of the sentence polarity data: polarity.py DIR OUT.

DIR holds rt-polarity.pos and rt-polarity.neg (Pang and Lee 2005; in NLTK's data as `sentence_polarity`, one
sentence per line, UTF-8). A sentence goes where the SHA-1 of its text sends it, so the split depends on
nothing else: exact duplicates are dropped, a tenth is test.tsv, a tenth dev.tsv, the rest train.tsv, all in
the order of that hash. A sentence found with both labels is dropped altogether.
"""

import sys
from hashlib import sha1
from pathlib import Path


def read(folder):
    """{text: set of labels}, with white space at the ends removed."""
    labels = {}
    for label in ("neg", "pos"):
        for line in (folder / f"rt-polarity.{label}").read_text(encoding="utf-8").split("\n"):
            if text := " ".join(line.split()):
                labels.setdefault(text, set()).add(label)
    return labels


def split(labels):
    parts = {"train": [], "dev": [], "test": []}
    for text, of in labels.items():
        if len(of) == 1:
            key = sha1(text.encode("utf-8")).hexdigest()
            part = {0: "test", 1: "dev"}.get(int(key, 16) % 10, "train")
            parts[part].append((key, text, *of))
    return {name: sorted(rows) for name, rows in parts.items()}


def main():
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    for name, rows in split(read(source)).items():
        lines = ["text\tlabel", *(f"{text}\t{label}" for _, text, label in rows)]
        (out / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"{name}.tsv: {len(rows)} sentences, {sum(r[2] == 'pos' for r in rows)} pos")


if __name__ == "__main__":
    main()
