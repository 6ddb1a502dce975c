"""The PyTorch baseline: trains an adapter with AdapterHub's `adapters` on a labelled TSV file.

It is the plain recipe with nothing left out and nothing in the way: Houlsby adapters (`double_seq_bn`) and a
linear head on the frozen pooler's output, AdamW with Hugging Face's weight-decay groups, linear warm-up and
decay, clipping, batches padded to their longest sentence. Tokenisation, start-up and evaluation are not in
the training time. The options mirror `engraft train`, so that step.py can run one against the other. The
last line printed is a JSON object.
"""

import argparse
import json
import logging
import math
import os
import resource
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import adapters
import torch
import transformers
from adapters import BertAdapterModel, DoubleSeqBnConfig
from transformers import AutoConfig, AutoTokenizer, Trainer, get_linear_schedule_with_warmup

for name in ("adapters", "transformers"):
    logging.getLogger(name).setLevel(logging.ERROR)


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True, help="a BERT as a Hugging Face directory")
    p.add_argument("--train", required=True, help="TSV with a header, text and label")
    p.add_argument("--eval", help="TSV; its accuracy is measured after every epoch")
    p.add_argument("--bottleneck", type=int, default=64)
    p.add_argument("--epochs", type=int, default=3)
    p.add_argument("--max-steps", type=int, help="stop after so many steps instead")
    p.add_argument("--batch-size", type=int, default=32)
    p.add_argument("--max-length", type=int, default=128)
    p.add_argument("--lr", type=float, default=5e-4)
    p.add_argument("--warmup", type=float, default=0.06, help="share of the steps")
    p.add_argument("--weight-decay", type=float, default=0.01)
    p.add_argument("--clip", type=float, default=1.0)
    p.add_argument("--dropout", type=float, help="of the backbone; default: what its config says")
    p.add_argument("--no-shuffle", action="store_true")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--threads", type=int, default=2)
    return p.parse_args()


def rows(path):
    with open(path, encoding="utf-8") as f:
        next(f)
        return [line.rstrip("\n").split("\t") for line in f]


def reduction_factor(hidden, bottleneck):
    """`adapters` takes hidden // factor, which is one too small for some rounded factors: then the float below."""
    factor = hidden / bottleneck
    return factor if hidden // factor == bottleneck else math.nextafter(factor, 0)


def build(args, labels):
    config = AutoConfig.from_pretrained(args.model)
    if args.dropout is not None:
        config.hidden_dropout_prob = config.attention_probs_dropout_prob = args.dropout
    model = BertAdapterModel.from_pretrained(args.model, config=config)
    factor = reduction_factor(config.hidden_size, args.bottleneck)
    model.add_adapter("task", config=DoubleSeqBnConfig(reduction_factor=factor))
    model.add_classification_head("task", num_labels=len(labels), layers=1, use_pooler=True)
    model.train_adapter("task")  # freezes the rest, and puts the backbone, but not the head, in training mode
    return model.train()


def optimizer(model, args, steps):
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    decays = set(Trainer.get_decay_parameter_names(None, model))
    adamw = torch.optim.AdamW(
        [
            dict(params=[p for n, p in trained.items() if n in decays], weight_decay=args.weight_decay),
            dict(params=[p for n, p in trained.items() if n not in decays], weight_decay=0.0),
        ],
        lr=args.lr,
    )
    schedule = get_linear_schedule_with_warmup(adamw, math.ceil(args.warmup * steps), steps)
    return list(trained.values()), adamw, schedule


def accuracy(model, encode, data, batch_size):
    model.eval()
    right = 0
    with torch.inference_mode():
        for i in range(0, len(data), batch_size):
            batch, y = encode(data[i : i + batch_size])
            right += (model(**batch).logits.argmax(-1) == y).sum().item()
    model.train()
    return right / len(data)


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    order = torch.Generator().manual_seed(args.seed)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    train, held_out = rows(args.train), rows(args.eval) if args.eval else []
    labels = sorted({label for _, label in train})

    def tokens(data):
        ids = tokenizer([text for text, _ in data], truncation=True, max_length=args.max_length)["input_ids"]
        return [dict(input_ids=x, labels=labels.index(label)) for x, (_, label) in zip(ids, data)]

    def encode(items):
        batch = tokenizer.pad([dict(input_ids=i["input_ids"]) for i in items], return_tensors="pt")
        return batch, torch.tensor([i["labels"] for i in items])

    train, held_out = tokens(train), tokens(held_out) if held_out else []
    model = build(args, labels)
    per_epoch = math.ceil(len(train) / args.batch_size)
    steps = args.max_steps or args.epochs * per_epoch
    params, adamw, schedule = optimizer(model, args, steps)

    epochs, cpu, seen, losses, accuracies, evaluations = [], 0.0, 0, [], [], []
    while len(losses) < steps:
        where = range(len(train)) if args.no_shuffle else torch.randperm(len(train), generator=order).tolist()
        starts = range(0, len(train), args.batch_size)[: steps - len(losses)]
        start, start_cpu = time.perf_counter(), time.process_time()
        for i in starts:
            batch, y = encode([train[j] for j in where[i : i + args.batch_size]])
            loss = model(**batch, labels=y).loss
            adamw.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(params, args.clip)
            adamw.step()
            schedule.step()
            losses.append(loss.item())
            seen += int(batch["attention_mask"].sum())
        epochs.append(dict(seconds=time.perf_counter() - start))
        cpu += time.process_time() - start_cpu
        if held_out:
            start = time.perf_counter()
            accuracies.append(accuracy(model, encode, held_out, args.batch_size))
            evaluations.append(dict(seconds=time.perf_counter() - start))
            print(f"step {len(losses)}: loss {losses[-1]:.4f}, accuracy {accuracies[-1]:.4f}", flush=True)

    seconds = sum(e["seconds"] for e in epochs)
    print(json.dumps(dict(
        epochs=epochs,
        accuracy=accuracies,
        evaluations=evaluations,
        train_seconds=seconds,
        cpu_seconds=cpu,
        steps=len(losses),
        tokens_per_second=seen / seconds,
        tokens=seen,
        peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        trained=sum(p.numel() for p in params),
        last_loss=losses[-1],
        seed=args.seed,
        threads=args.threads,
        versions=dict(torch=torch.__version__, transformers=transformers.__version__, adapters=adapters.__version__),
    )))


if __name__ == "__main__":
    main()
