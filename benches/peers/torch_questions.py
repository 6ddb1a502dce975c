"""The PyTorch baseline of questions.py: trains Houlsby adapters and a head with `adapters` on `torch`.

A file is one that xquad.py makes. Questions are read in windows as transformers' run_qa.py makes them; padding has no part in the
softmax over the rows of a window. An answer is the best pair of one of the 20 best starts and ends of a window; its scores are those
of `squad_metrics` in transformers. Choices are read as pairs of the question and a sentence. The last line printed is a JSON object.
The recipe is torch_common.py's.
"""

import json
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from transformers import AutoTokenizer
from transformers.data.metrics.squad_metrics import compute_exact, compute_f1

from torch_common import bert, options, parsed, report, train

BEST, LONGEST = 20, 30


def arguments():
    p = options(__doc__, max_length=384)
    p.add_argument("--task", choices=["question-answering", "multiple-choice"], required=True)
    p.add_argument("--doc-stride", type=int, default=128)
    p.add_argument("--eval", required=True, help="scored after every epoch")
    p.add_argument("--save-start", help="a directory for adapter and head as they are before the first step")
    return parsed(p)


def rows(path):
    return [json.loads(line) for line in open(path, encoding="utf-8")]


class Loss(torch.nn.Module):
    """A model whose loss is a function of its batch."""

    def __init__(self, model, loss):
        super().__init__()
        self.model, self.of = model, loss

    def forward(self, **batch):
        return SimpleNamespace(loss=self.of(self.model, batch))


def padded(sequences, pad):
    longest = max(len(s["input_ids"]) for s in sequences)
    fill = lambda key, value: torch.tensor([s[key] + [value] * (longest - len(s[key])) for s in sequences])
    mask = torch.tensor([[1] * len(s["input_ids"]) + [0] * (longest - len(s["input_ids"])) for s in sequences])
    return dict(input_ids=fill("input_ids", pad), token_type_ids=fill("token_type_ids", 0), attention_mask=mask)


def windows(tokenizer, data, args):
    """Windows with their labels, and the places of their tokens; `of` is the number of the question."""
    out = []
    for of, row in enumerate(data):
        e = tokenizer(row["question"].lstrip(), row["context"], truncation="only_second", max_length=args.max_length,
                      stride=args.doc_stride, return_overflowing_tokens=True, return_offsets_mapping=True)
        start = row["answers"][0]["answer_start"]
        end = start + len(row["answers"][0]["text"])
        for i, ids in enumerate(e["input_ids"]):
            places = [p if s == 1 else None for p, s in zip(e["offset_mapping"][i], e.sequence_ids(i))]
            text = [t for t, p in enumerate(places) if p is not None]
            label = (0, 0)
            if places[text[0]][0] <= start and places[text[-1]][1] >= end:
                label = (max(t for t in text if places[t][0] <= start), min(t for t in text if places[t][1] >= end))
            out.append(dict(input_ids=ids, token_type_ids=e["token_type_ids"][i], places=places, label=label, of=of))
    return out


def spans(model, batch):
    inputs = {k: batch[k] for k in ("input_ids", "token_type_ids", "attention_mask")}
    out, absent = model(**inputs), batch["attention_mask"] == 0
    return [z.masked_fill(absent, float("-inf")) for z in (out.start_logits, out.end_logits)]


def answer(items, logits, data):
    """The best answer to each question."""
    best = [(float("-inf"), "")] * len(data)
    for item, (start, end) in zip(items, logits):
        n = min(BEST, len(item["places"]))
        for s in start.topk(n).indices.tolist():
            for e in end.topk(n).indices.tolist():
                places = item["places"]
                if places[s] is None or places[e] is None or not 0 <= e - s < LONGEST:
                    continue
                score = (start[s] + end[e]).item()
                if score > best[item["of"]][0]:
                    best[item["of"]] = score, data[item["of"]]["context"][places[s][0]:places[e][1]]
    return [text for _, text in best]


def questions(args, model, tokenizer):
    model.add_qa_head("task")
    model.train_adapter("task")
    data, held_out = rows(args.train), rows(args.eval)
    items, scored = windows(tokenizer, data, args), windows(tokenizer, held_out, args)
    collate = lambda group: padded(group, tokenizer.pad_token_id) | dict(labels=torch.tensor([i["label"] for i in group]))

    def loss(model, batch):
        return sum(F.cross_entropy(z, batch["labels"][:, k]) for k, z in enumerate(spans(model, batch))) / 2

    def score():
        logits = []
        for i in range(0, len(scored), args.batch_size):
            logits += zip(*spans(model, padded(scored[i : i + args.batch_size], tokenizer.pad_token_id)))
        pairs = [(row["answers"], text) for row, text in zip(held_out, answer(scored, logits, held_out))]
        mean = lambda f: 100 * sum(max(f(a["text"], text) for a in of) for of, text in pairs) / len(pairs)
        return dict(f1=mean(compute_f1), exact_match=mean(compute_exact))

    return items, collate, loss, score


def sentences(args, model, tokenizer):
    model.add_multiple_choice_head("task", num_choices=4)
    model.train_adapter("task")

    def features(data):
        pair = lambda question, choice: tokenizer(question, choice, truncation="only_first", max_length=args.max_length)
        return [dict(input_ids=[], choices=[pair(row["question"], c) for c in row["choices"]], label=row["label"]) for row in data]

    items, scored = features(rows(args.train)), features(rows(args.eval))
    collate = lambda group: padded([c for i in group for c in i["choices"]], tokenizer.pad_token_id) | dict(
        labels=torch.tensor([i["label"] for i in group]))
    logits = lambda model, batch: model(**{k: v for k, v in batch.items() if k != "labels"}).logits

    def score():
        right = 0
        for i in range(0, len(scored), args.batch_size):
            batch = collate(scored[i : i + args.batch_size])
            right += (logits(model, batch).argmax(-1) == batch["labels"]).sum().item()
        return dict(accuracy=100 * right / len(scored))

    return items, collate, lambda model, batch: F.cross_entropy(logits(model, batch), batch["labels"]), score


def main():
    args = arguments()
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = bert(args)
    items, collate, loss, score = dict(zip(("question-answering", "multiple-choice"), (questions, sentences)))[args.task](
        args, model, tokenizer)
    model.train()
    if args.save_start:
        model.save_adapter(args.save_start, "task", use_safetensors=True)
    report(args, train(Loss(model, loss), args, items, collate, score) | dict(items=len(items)))


if __name__ == "__main__":
    main()
