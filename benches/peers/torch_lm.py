"""PyTorch's side of gpt2_step.py: trains adapters for causal language modelling with `adapters` on `torch`.

A line of the file is a document; documents, each with the end-of-text token behind it, are one stream that is cut into blocks
of `--max-length` tokens. Houlsby adapters on the frozen model and its own tied head. The last line printed is a JSON object. The
recipe is torch_common.py's.
"""

import os

import adapters
import torch
from tokenizers import Tokenizer
from transformers import GPT2Config, GPT2LMHeadModel

from torch_common import houlsby, options, parsed, report, train


def blocks(args, config):
    tokenizer = Tokenizer.from_file(os.path.join(args.model, "tokenizer.json"))
    with open(args.train, encoding="utf-8") as f:
        lines = [line.rstrip("\n") for line in f]
    stream = [t for e in tokenizer.encode_batch(lines) for t in [*e.ids, config.eos_token_id]]
    return [stream[i : i + args.max_length] for i in range(0, len(stream), args.max_length)]


def build(args, config):
    if args.dropout is not None:
        config.resid_pdrop = config.embd_pdrop = config.attn_pdrop = args.dropout
    model = GPT2LMHeadModel.from_pretrained(args.model, config=config)
    adapters.init(model)
    model.add_adapter("task", config=houlsby(config.n_embd, args.bottleneck))
    model.train_adapter("task")
    return model.train()


def collate(items):
    """Blocks of one length: nothing is padded."""
    ids = torch.tensor(items)
    return dict(input_ids=ids, labels=ids, use_cache=False)


def main():
    args = parsed(options(__doc__, batch_size=4, max_length=256))
    config = GPT2Config.from_pretrained(args.model)
    report(args, train(build(args, config), args, blocks(args, config), collate))


if __name__ == "__main__":
    main()
