"""The PyTorch baseline of tagging in tasks.py: trains Houlsby adapters and a tagging head with `adapters` on `torch`.

A file is columns (CoNLL; the word first, the tag last) or CoNLL-U (`.conllu`; the tag is UPOS). The first piece of a word carries its
tag. A sentence longer than `--max-length` becomes windows of whole words, and each word is trained and predicted in the window in
which it has most context, so every word counts once; one without a piece is predicted as `O`, or as the most frequent tag.
Scores are those of the package `seqeval`, and accuracy over words. The last line printed is a JSON object. The recipe is
torch_common.py's.
"""

import warnings
from collections import Counter

import torch
from seqeval.metrics import f1_score, precision_score, recall_score
from transformers import AutoTokenizer

from torch_common import bert, options, parsed, report, train

IGNORED = -100


def arguments():
    p = options(__doc__)
    p.add_argument("--eval", required=True, help="scored after every epoch")
    p.add_argument("--save-start", help="a directory for adapter and head as they are before the first step")
    return parsed(p)


def sentences(path):
    """[(words, tags)]"""
    read = conllu if str(path).endswith(".conllu") else columns
    with open(path, encoding="utf-8", newline="\n") as f:
        out, words, tags = [], [], []
        for line in [*f, "\n"]:
            line = line.rstrip("\n").removesuffix("\r")
            if line.strip(" \t") == "":
                if words:
                    out.append((words, tags))
                words, tags = [], []
            elif (pair := read(line)) is not None:
                words.append(pair[0])
                tags.append(pair[1])
    return out


def columns(line):
    cells = line.split("\t") if "\t" in line else [c for c in line.split(" ") if c]
    return cells[0], cells[-1]


def conllu(line):
    cells = line.split("\t")
    return (cells[1], cells[3]) if cells[0].isdigit() else None  # no comment, no `3-4`, no `3.1`


def windows(sizes, room):
    """Ranges of words, given how many pieces each has. Neighbours share up to a quarter of the room."""
    out, start = [], 0
    while True:
        end, used = start, 0
        while end < len(sizes) and (end == start or used + sizes[end] <= room):
            used += sizes[end]
            end += 1
        out.append((start, end))
        if end == len(sizes):
            return out
        start, shared = end, 0
        while start - 1 > out[-1][0] and shared + sizes[start - 1] <= room // 4:
            start -= 1
            shared += sizes[start]


def homes(sizes, ranges):
    """For each word the number of the window where the smaller side of its context is largest."""
    best = [(-1, 0)] * len(sizes)
    for number, (start, end) in enumerate(ranges):
        left, total = 0, sum(sizes[start:end])
        for word in range(start, end):
            context = min(left, total - left - sizes[word])
            if context > best[word][0]:
                best[word] = context, number
            left += sizes[word]
    return [number for _, number in best]


def features(tokenizer, data, tags, max_length):
    """Windows: {input_ids, labels, at}, where `at` names the sentence and the word of each first piece."""
    out = []
    for number, (words, of) in enumerate(data):
        pieces = [[] for _ in words]
        encoded = tokenizer(words, is_split_into_words=True, add_special_tokens=False)
        for piece, word in zip(encoded["input_ids"], encoded.word_ids()):
            pieces[word].append(piece)
        room = max_length - 2
        pieces = [p[:room] for p in pieces]
        sizes = [len(p) for p in pieces]
        ranges = windows(sizes, room)
        home = homes(sizes, ranges)
        for w, (start, end) in enumerate(ranges):
            ids, labels, at = [tokenizer.cls_token_id], [IGNORED], {}
            for word in range(start, end):
                if pieces[word]:
                    mine = home[word] == w
                    if mine:
                        at[len(ids)] = number, word
                    ids += pieces[word]
                    labels += [tags[of[word]] if mine and of[word] in tags else IGNORED] + [IGNORED] * (sizes[word] - 1)
            out.append(dict(input_ids=[*ids, tokenizer.sep_token_id], labels=[*labels, IGNORED], at=at))
    return out


def batch_of(items, pad):
    longest = max(len(i["input_ids"]) for i in items)
    fill = lambda key, value: torch.tensor([i[key] + [value] * (longest - len(i[key])) for i in items])
    mask = torch.tensor([[1] * len(i["input_ids"]) + [0] * (longest - len(i["input_ids"])) for i in items])
    return dict(input_ids=fill("input_ids", pad), attention_mask=mask, labels=fill("labels", IGNORED))


def build(args, tags):
    model = bert(args)
    model.add_tagging_head("task", num_labels=len(tags), id2label={i: t for t, i in tags.items()})
    model.train_adapter("task")
    return model.train()


def score(model, data, items, names, other, args, pad):
    """Entity scores if tags are a prefix and a type, and accuracy over words."""
    predicted = [[other] * len(words) for words, _ in data]
    for i in range(0, len(items), args.batch_size):
        group = items[i : i + args.batch_size]
        best = model(**{k: v for k, v in batch_of(group, pad).items() if k != "labels"}).logits.argmax(-1).tolist()
        for item, row in zip(group, best):
            for position, (sentence, word) in item["at"].items():
                predicted[sentence][word] = names[row[position]]
    truth = [tags for _, tags in data]
    pairs = [(t, p) for a, b in zip(truth, predicted) for t, p in zip(a, b)]
    scores = dict(accuracy=sum(t == p for t, p in pairs) / len(pairs))
    if "O" in names:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scores |= dict(precision=float(precision_score(truth, predicted)), recall=float(recall_score(truth, predicted)),
                           f1=float(f1_score(truth, predicted)))
    return scores


def main():
    args = arguments()
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    data, held_out = sentences(args.train), sentences(args.eval)
    count = Counter(t for _, tags in data for t in tags)
    names = sorted(count)
    tags = {t: i for i, t in enumerate(names)}
    other = "O" if "O" in tags else count.most_common(1)[0][0]
    items = features(tokenizer, data, tags, args.max_length)
    scored = features(tokenizer, held_out, tags, args.max_length)

    model, pad = build(args, tags), tokenizer.pad_token_id
    if args.save_start:
        model.save_adapter(args.save_start, "task", use_safetensors=True)
    said = train(model, args, items, lambda group: batch_of(group, pad),
                 lambda: score(model, held_out, scored, names, other, args, pad))
    report(args, said | dict(sentences=len(data), windows=len(items)))


if __name__ == "__main__":
    main()
