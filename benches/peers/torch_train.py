"""The PyTorch baseline: trains an adapter with AdapterHub's `adapters` on a labelled TSV file.

Houlsby adapters and a linear head on the frozen pooler's output; batches are padded to their longest sentence. The last line printed
is a JSON object. The recipe is torch_common.py's.
"""

import torch
from transformers import AutoTokenizer

from torch_common import bert, options, parsed, report, train


def arguments():
    p = options(__doc__)
    p.add_argument("--eval", help="TSV; its accuracy is measured after every epoch")
    return parsed(p)


def rows(path):
    """(text, label), below a header."""
    with open(path, encoding="utf-8") as f:
        next(f)
        return [line.rstrip("\n").split("\t") for line in f]


def build(args, labels):
    model = bert(args)
    model.add_classification_head("task", num_labels=len(labels), layers=1, use_pooler=True)
    model.train_adapter("task")  # freezes the rest, and puts the backbone, but not the head, in training mode
    return model.train()


def main():
    args = arguments()
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    rows_of = dict(train=rows(args.train), held_out=rows(args.eval) if args.eval else [])
    labels = sorted({label for _, label in rows_of["train"]})

    def tokens(data):
        ids = tokenizer([text for text, _ in data], truncation=True, max_length=args.max_length)["input_ids"] if data else []
        return [dict(input_ids=x, labels=labels.index(label)) for x, (_, label) in zip(ids, data)]

    def collate(items):
        batch = tokenizer.pad([dict(input_ids=i["input_ids"]) for i in items], return_tensors="pt")
        return dict(batch, labels=torch.tensor([i["labels"] for i in items]))

    data, held_out = tokens(rows_of["train"]), tokens(rows_of["held_out"])
    model = build(args, labels)

    def accuracy():
        right = 0
        for i in range(0, len(held_out), args.batch_size):
            batch = collate(held_out[i : i + args.batch_size])
            y = batch.pop("labels")
            right += (model(**batch).logits.argmax(-1) == y).sum().item()
        return dict(accuracy=right / len(held_out))

    report(args, train(model, args, data, collate, accuracy if held_out else None))


if __name__ == "__main__":
    main()
