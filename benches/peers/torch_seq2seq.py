"""PyTorch's side of families_step.py on T5: trains adapters for sequence to sequence with `adapters` on `torch`.

A row of the file is a source and its target, below a header. Houlsby adapters on the frozen model and its own tied head. The last
line printed is a JSON object. The recipe is torch_common.py's.
"""

import os

import adapters
import torch
from tokenizers import Tokenizer
from transformers import T5Config, T5ForConditionalGeneration

from torch_common import houlsby, options, parsed, report, train


def rows(args):
    """Sources and targets as tokens, cut to their lengths with the token behind them."""
    tokenizer = Tokenizer.from_file(os.path.join(args.model, "tokenizer.json"))

    def tokens(text, most):
        ids = tokenizer.encode(text).ids
        return ids if len(ids) <= most else [*ids[: most - 1], ids[-1]]

    with open(args.train, encoding="utf-8") as f:
        next(f)
        pairs = [line.rstrip("\n").split("\t") for line in f]
    return [dict(input_ids=tokens(s, args.max_length), labels=tokens(t, args.max_target_length)) for s, t in pairs]


def build(args):
    config = T5Config.from_pretrained(args.model)
    if args.dropout is not None:
        config.dropout_rate = args.dropout
    model = T5ForConditionalGeneration.from_pretrained(args.model, config=config)
    adapters.init(model)
    model.add_adapter("task", config=houlsby(config.d_model, args.bottleneck))
    model.train_adapter("task")
    return model.train()


def collate(items):
    """Padded to the longest, labels with what counts for nothing."""
    def padded(key, value):
        longest = max(len(item[key]) for item in items)
        return torch.tensor([item[key] + [value] * (longest - len(item[key])) for item in items])

    ids, labels = padded("input_ids", 0), padded("labels", -100)
    mask = padded("input_ids", -1) >= 0
    return dict(input_ids=ids, attention_mask=mask.long(), labels=labels, use_cache=False)


def main():
    p = options(__doc__, batch_size=8)
    p.add_argument("--max-target-length", type=int, default=128)
    args = parsed(p)
    report(args, train(build(args), args, rows(args), collate))


if __name__ == "__main__":
    main()
