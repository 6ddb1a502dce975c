"""PyTorch's side of gpt2_step.py: trains adapters for causal language modelling with `adapters` on `torch`.

A line of the file is a document; documents, each with the end-of-text token behind it, are one stream that is cut into blocks
of `--max-length` tokens. Houlsby adapters (`double_seq_bn`) on the frozen model and its own tied head, AdamW, linear warm-up and
decay, clipping. Tokenisation and start-up are not in the time. The last line printed is a JSON object.
"""

import argparse
import json
import os
import resource
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import adapters
import torch
import transformers
from adapters import DoubleSeqBnConfig
from tokenizers import Tokenizer
from transformers import GPT2Config, GPT2LMHeadModel

from torch_train import optimizer, reduction_factor


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True, help="a GPT-2 as a Hugging Face directory")
    p.add_argument("--train", required=True, help="text, one document a line")
    p.add_argument("--bottleneck", type=int, default=64)
    p.add_argument("--epochs", type=int, default=3)
    p.add_argument("--max-steps", type=int, help="stop after so many steps instead")
    p.add_argument("--batch-size", type=int, default=4)
    p.add_argument("--max-length", type=int, default=256)
    p.add_argument("--lr", type=float, default=5e-4)
    p.add_argument("--warmup", type=float, default=0.06, help="share of the steps")
    p.add_argument("--weight-decay", type=float, default=0.01)
    p.add_argument("--clip", type=float, default=1.0)
    p.add_argument("--dropout", type=float, help="of the backbone; default: what its config says")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--threads", type=int, default=2)
    return p.parse_args()


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
    model.add_adapter("task", config=DoubleSeqBnConfig(reduction_factor=reduction_factor(config.n_embd, args.bottleneck)))
    model.train_adapter("task")
    return model.train()


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    config = GPT2Config.from_pretrained(args.model)
    data = blocks(args, config)
    batches = [torch.tensor(data[i : i + args.batch_size]) for i in range(0, len(data), args.batch_size)]
    model = build(args, config)
    steps = args.max_steps or args.epochs * len(batches)
    params, adamw, schedule = optimizer(model, args, steps)

    epochs, losses = [], []
    while len(losses) < steps:
        start = time.perf_counter()
        for ids in batches[: steps - len(losses)]:
            loss = model(input_ids=ids, labels=ids, use_cache=False).loss
            adamw.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(params, args.clip)
            adamw.step()
            schedule.step()
            losses.append(loss.item())
        epochs.append(dict(seconds=time.perf_counter() - start))

    print(json.dumps(dict(
        epochs=epochs,
        steps=len(losses),
        tokens=sum(len(b) for b in data),
        peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        trained=sum(p.numel() for p in params),
        losses=losses,
        threads=args.threads,
        versions=dict(torch=torch.__version__, transformers=transformers.__version__, adapters=adapters.__version__),
    )))


if __name__ == "__main__":
    main()
