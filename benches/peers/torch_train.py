"""The PyTorch baseline of texts: trains an adapter with AdapterHub's `adapters` on a labelled TSV file.

Houlsby adapters and a linear head on the frozen pooler's output; batches are padded to their longest text. Below a header a row is a
text and its label, or two texts and the label of the pair: a class, or with --regression a number. The last line printed is a JSON
object. The recipe is torch_common.py's.
"""

import torch
from scipy.stats import pearsonr, spearmanr
from transformers import AutoTokenizer

from torch_common import bert, options, parsed, placed, report, train


def arguments():
    p = options(__doc__)
    p.add_argument("--eval", help="TSV; what is predicted of it is scored after every epoch")
    p.add_argument("--regression", action="store_true", help="labels are numbers")
    p.add_argument("--save-start", help="a directory for adapter and head as they are before the first step")
    return parsed(p)


def rows(path):
    """([text] or [text, text], label), below a header."""
    with open(path, encoding="utf-8") as f:
        next(f)
        cells = [line.rstrip("\n").split("\t") for line in f]
    return [(row[:-1], row[-1]) for row in cells]


def build(args, labels):
    model = bert(args)
    names = dict(id2label=dict(enumerate(labels))) if labels else {}
    model.add_classification_head("task", num_labels=len(labels) or 1, layers=1, use_pooler=True, **names)
    model.train_adapter("task")  # freezes the rest, and puts the backbone, but not the head, in training mode
    return model.train()


def main():
    args = arguments()
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    rows_of = dict(train=rows(args.train), held_out=rows(args.eval) if args.eval else [])
    labels = [] if args.regression else sorted({label for _, label in rows_of["train"]})
    number = float if args.regression else labels.index

    def tokens(data):
        one = lambda texts: tokenizer(*texts, truncation=True, max_length=args.max_length)
        return [dict(one(texts), labels=number(label)) for texts, label in data]

    def collate(items):
        batch = tokenizer.pad([{k: v for k, v in i.items() if k != "labels"} for i in items], return_tensors="pt")
        return dict(batch, labels=torch.tensor([i["labels"] for i in items]))

    data, held_out = tokens(rows_of["train"]), tokens(rows_of["held_out"])
    model = build(args, labels)
    if args.save_start:
        model.save_adapter(args.save_start, "task", use_safetensors=True)

    def scores():
        truth, logits = [], []
        for i in range(0, len(held_out), args.batch_size):
            batch = placed(args, collate(held_out[i : i + args.batch_size]))
            truth += batch.pop("labels").tolist()
            logits.append(model(**batch).logits.float().cpu())
        logits = torch.cat(logits)
        if args.regression:
            predicted = logits[:, 0].tolist()
            errors = [(z - y) ** 2 for z, y in zip(predicted, truth)]
            return dict(pearson=float(pearsonr(predicted, truth)[0]), spearmanr=float(spearmanr(predicted, truth)[0]),
                        mse=sum(errors) / len(errors))
        return dict(accuracy=(logits.argmax(-1) == torch.tensor(truth)).sum().item() / len(truth))

    report(args, train(model, args, data, collate, scores if held_out else None))


if __name__ == "__main__":
    main()
