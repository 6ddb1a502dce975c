"""What the PyTorch peers share: options, the optimiser, the training loop and what is reported.

It is the plain recipe with nothing left out and nothing in the way: Houlsby adapters (`double_seq_bn`), AdamW with Hugging Face's
weight-decay groups, linear warm-up and decay, clipping. Tokenisation, start-up and evaluation are not in the training time. The
options mirror `engraft train`, so that one can be run against the other.
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
from adapters import AutoAdapterModel, DoubleSeqBnConfig
from transformers import AutoConfig, Trainer, get_linear_schedule_with_warmup
from transformers.trainer_pt_utils import get_length_grouped_indices

for name in ("adapters", "transformers"):
    logging.getLogger(name).setLevel(logging.ERROR)


def options(doc, batch_size=32, max_length=128):
    p = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True, help="a Hugging Face directory")
    p.add_argument("--train", required=True)
    p.add_argument("--bottleneck", type=int, default=64)
    p.add_argument("--epochs", type=int, default=3)
    p.add_argument("--max-steps", type=int, help="stop after so many steps instead")
    p.add_argument("--batch-size", type=int, default=batch_size)
    p.add_argument("--max-length", type=int, default=max_length)
    p.add_argument("--lr", type=float, default=5e-4)
    p.add_argument("--warmup-ratio", type=float, default=0.06, help="share of the steps")
    p.add_argument("--weight-decay", type=float, default=0.01)
    p.add_argument("--clip", type=float, default=1.0)
    p.add_argument("--dropout", type=float, help="of the backbone; default: what its config says")
    p.add_argument("--no-shuffle", action="store_true")
    p.add_argument("--group-by-length", action="store_true", help="batches of texts of like lengths, as transformers' Trainer has it")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    p.add_argument("--dtype", choices=["f32", "bf16"], default="f32", help="bf16: autocast")
    return p


def parsed(p):
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    return args


def placed(args, batch):
    """A batch where the model is."""
    return {name: x.to(args.device) for name, x in batch.items()}


def autocast(args):
    return torch.autocast(args.device, torch.bfloat16, enabled=args.dtype == "bf16")


def houlsby(hidden, bottleneck):
    """`adapters` takes hidden // factor, which is one too small for some rounded factors: then the float below."""
    factor = hidden / bottleneck
    return DoubleSeqBnConfig(reduction_factor=factor if hidden // factor == bottleneck else math.nextafter(factor, 0))


def backbone(args):
    """A BERT or one of its kin, without adapters."""
    config = AutoConfig.from_pretrained(args.model)
    if args.dropout is not None:
        config.hidden_dropout_prob = config.attention_probs_dropout_prob = args.dropout
    return AutoAdapterModel.from_pretrained(args.model, config=config)


def bert(args):
    """A frozen BERT with adapters, without a head yet."""
    model = backbone(args)
    model.add_adapter("task", config=houlsby(model.config.hidden_size, args.bottleneck))
    return model


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
    schedule = get_linear_schedule_with_warmup(adamw, math.ceil(args.warmup_ratio * steps), steps)
    return list(trained.values()), adamw, schedule


def order_of(args, data, generator):
    if args.group_by_length:
        lengths = [len(item["input_ids"]) for item in data]
        return get_length_grouped_indices(lengths, args.batch_size, generator=generator)
    return range(len(data)) if args.no_shuffle else torch.randperm(len(data), generator=generator).tolist()


def train(model, args, data, collate, evaluate=None):
    """Trains on `data`, a list; `collate` makes a batch's arguments of some of its items. `evaluate` gives scores after an epoch."""
    model.to(args.device)
    starts = range(0, len(data), args.batch_size)
    steps = args.max_steps or args.epochs * len(starts)
    params, adamw, schedule = optimizer(model, args, steps)
    order = torch.Generator().manual_seed(args.seed)
    epochs, losses, scores, evaluations, cpu, tokens = [], [], [], [], 0.0, 0
    while len(losses) < steps:
        where = order_of(args, data, order)
        start, start_cpu = time.perf_counter(), time.process_time()
        for i in starts[: steps - len(losses)]:
            batch = placed(args, collate([data[j] for j in where[i : i + args.batch_size]]))
            with autocast(args):
                loss = model(**batch).loss
            adamw.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(params, args.clip)
            adamw.step()
            schedule.step()
            losses.append(loss.item())
            tokens += int(batch["attention_mask"].sum()) if "attention_mask" in batch else batch["input_ids"].numel()
        epochs.append(dict(seconds=time.perf_counter() - start))
        cpu += time.process_time() - start_cpu
        if evaluate:
            start = time.perf_counter()
            model.eval()
            with torch.inference_mode(), autocast(args):
                scores.append(evaluate())
            model.train()
            evaluations.append(dict(seconds=time.perf_counter() - start))
            print(f"step {len(losses)}: loss {losses[-1]:.4f}, {scores[-1]}", flush=True)
    seconds = sum(e["seconds"] for e in epochs)
    return dict(
        epochs=epochs,
        scores=scores,
        evaluations=evaluations,
        train_seconds=seconds,
        cpu_seconds=cpu,
        steps=len(losses),
        tokens=tokens,
        tokens_per_second=tokens / seconds,
        trained=sum(p.numel() for p in params),
        last_loss=losses[-1],
    )


def report(args, said):
    """The last line a peer prints."""
    versions = dict(torch=torch.__version__, transformers=transformers.__version__, adapters=adapters.__version__)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if args.device == "cuda":
        said = said | dict(card=torch.cuda.get_device_name(), peak_card_bytes=torch.cuda.max_memory_allocated())
    print(json.dumps(said | dict(peak_rss_bytes=peak, seed=args.seed, threads=args.threads, versions=versions)))
