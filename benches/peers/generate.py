"""Tokens a second of generation: engraft beside transformers' `generate`, greedy, with a cache of keys and values.

A GPT-2 of 124M random weights continues prompts of 32 random tokens by 64 new ones, one prompt and 8 at a time; or, with
`--shape t5-small`, a T5 of 60M random weights makes 64 tokens of prompts of 128. No token ends a text. engraft runs with the backbone in f32, stored as int8, and with products in 8-bit integers. Each side is a process of its
own, and loading is not counted; PyTorch has generated four tokens before, engraft nothing. They run in turn for several
rounds, and a ratio is taken within a round. How many tokens of f32 are the same is printed.

    generate.py --engraft target/release/engraft --work DIR
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

# name: (tokens of a prompt, tokens of the vocabulary)
SHAPES = {"gpt2": (32, 50257), "t5-small": (128, 32128)}
SIDES = {
    "f32": [],
    "int8": ["--backbone-dtype", "int8"],
    "integers": ["--backbone-compute", "int8-forward"],
}


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--engraft", type=Path, required=True, help="the program")
    p.add_argument("--work", type=Path, required=True, help="keeps the random model (500 MB, 250 MB) between runs")
    p.add_argument("--shape", choices=list(SHAPES), default="gpt2")
    p.add_argument("--batch", type=int, action="append", help="prompts at a time; 1 and 8 if not given")
    p.add_argument("--prompt", type=int, help="tokens of a prompt; 32, of an encoder-decoder 128, if not given")
    p.add_argument("--new", type=int, default=64)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--side", choices=list(SIDES), action="append")
    p.add_argument("--torch", type=Path, help=argparse.SUPPRESS)  # what the process of the other side is told
    p.add_argument("--json", type=Path, help="also write the result here")
    return p.parse_args()


def backbone(shape, to):
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    if shape == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(eos_token_id=None, bos_token_id=None))
    else:
        # the defaults are T5-small's; the table's weights have a deviation of 1, which says the last token again and again
        model = T5ForConditionalGeneration(T5Config(eos_token_id=None, decoder_start_token_id=0))
        model.shared.weight.data *= 0.05
    model.save_pretrained(to)


def theirs(args):
    """The other side: ids in a file, tokens and seconds on stdout."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    torch.set_num_threads(args.threads)
    kind = AutoModelForCausalLM if args.shape == "gpt2" else AutoModelForSeq2SeqLM
    model = kind.from_pretrained(args.work / f"{args.shape}-random").eval()
    ids = torch.tensor(json.loads(args.torch.read_text())["input_ids"])
    how = dict(max_new_tokens=args.new, do_sample=False, pad_token_id=0, attention_mask=torch.ones_like(ids))
    with torch.inference_mode():
        model.generate(ids, **how | dict(max_new_tokens=4))
        began = time.perf_counter()
        out = model.generate(ids, **how)
        seconds = time.perf_counter() - began
    print(json.dumps(dict(seconds=seconds, ids=out[:, -args.new:].tolist())))


def run(line):
    env = os.environ | {"OMP_NUM_THREADS": "2", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run([str(x) for x in line], capture_output=True, text=True, env=env)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    args = arguments()
    if args.torch:
        return theirs(args)
    model, (prompt, vocabulary) = args.work / f"{args.shape}-random", SHAPES[args.shape]
    prompt = args.prompt or prompt
    if not (model / "config.json").exists():
        backbone(args.shape, model)
    import random

    result = {}
    for batch in args.batch or [1, 8]:
        r = random.Random(batch)
        ids = args.work / f"ids-{args.shape}-{batch}.json"
        ids.write_text(json.dumps({"input_ids": [[r.randrange(vocabulary) for _ in range(prompt)] for _ in range(batch)]}))
        common = [args.engraft.resolve(), "generate", "--model", model, "--ids", ids, "--max-new-tokens", args.new,
                  "--threads", args.threads, "--json", "--quiet"]
        other = [sys.executable, __file__, "--engraft", args.engraft, "--work", args.work, "--torch", ids, "--new", args.new,
                 "--threads", args.threads, "--shape", args.shape]
        sides, rates = args.side or list(SIDES), {}
        for _ in range(args.rounds):
            of = {"transformers": run(other)} | {side: run(common + SIDES[side]) for side in sides}
            for side, out in of.items():
                rates.setdefault(side, []).append(batch * args.new / out["seconds"])
        if "f32" in of:
            ours = [x["sequences"][0]["ids"] for x in of["f32"]["generated"]]
            same = sum(a == b for x, y in zip(ours, of["transformers"]["ids"]) for a, b in zip(x, y))
            print(f"batch {batch}: {same} of {batch * args.new} tokens of f32 are the same")
        for side, all_rates in rates.items():
            ratios = [a / b for a, b in zip(all_rates, rates["transformers"])]
            result[f"{batch} {side}"] = dict(tokens_per_second=all_rates, ratios=ratios)
            print(f"batch {batch}, {side:12} {statistics.median(all_rates):7.1f} tokens/s, "
                  f"{statistics.median(ratios):.2f} times transformers ({', '.join(f'{x:.2f}' for x in sorted(ratios))})", flush=True)
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
