"""engraft and PyTorch side by side on a language model: time per training step, tokens per second and peak memory.

GPT-2 of 124 million random weights, Houlsby adapters (bottleneck 64), causal language modelling, 4 x 256 tokens a step, f32.
Both read the same file, whose documents fill one block each, in the same order. How they are run and what is
counted is step.py's; PyTorch is torch_lm.py, beside this file. Its attention is torch's fused one.

    gpt2_step.py --engraft PATH     # --only torch needs no --engraft
"""

import argparse
import json
import sys
from pathlib import Path

from step import HERE, add_common, checked, run

LENGTH, BATCH, VOCABULARY = 256, 4, 50257
CASES = ("gpt2", "gpt2-dropout")


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--steps", type=int, default=3, help="per epoch")
    add_common(p, CASES)
    return checked(p)


def model_directory(work):
    """GPT-2 with random weights, and a tokenizer that has a token for each of the words w1, w2, .. of its vocabulary."""
    out = work / "gpt2-random"
    if not (out / "model.safetensors").exists():
        import torch
        from tokenizers import Tokenizer, models, pre_tokenizers
        from transformers import GPT2Config, GPT2LMHeadModel

        torch.manual_seed(0)
        config = GPT2Config()
        GPT2LMHeadModel(config).save_pretrained(out)
        words = {f"w{i}": i for i in range(VOCABULARY)}
        words["<|endoftext|>"] = words.pop(f"w{config.eos_token_id}")
        tokenizer = Tokenizer(models.WordLevel(words, unk_token="<|endoftext|>"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        tokenizer.add_special_tokens(["<|endoftext|>"])
        tokenizer.save(str(out / "tokenizer.json"))
        about = dict(tokenizer_class="PreTrainedTokenizerFast", eos_token="<|endoftext|>", bos_token="<|endoftext|>",
                     unk_token="<|endoftext|>", model_max_length=1024)
        (out / "tokenizer_config.json").write_text(json.dumps(about, indent=2) + "\n")
    return out


def documents(n, out):
    """n lines that are a block each, with the token behind a document."""
    lines = (" ".join(f"w{(i * 7919 + j * 104729) % (VOCABULARY - 1)}" for j in range(LENGTH - 1)) for i in range(n))
    out.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return out


def cases(args, work):
    for name in args.case or CASES:
        train = documents(BATCH * args.steps, work / "documents.txt")
        yield name, dict(model=model_directory(work), train=train, steps=args.steps, tokens=BATCH * args.steps * LENGTH,
                         dropout=None if name == "gpt2-dropout" else 0)


def common(case, args):
    flags = ["--model", case["model"], "--train", case["train"], "--bottleneck", 64, "--batch-size", BATCH,
             "--epochs", args.epochs, "--seed", 0, "--threads", args.threads, "--max-length", LENGTH]
    return flags + (["--dropout", case["dropout"]] if case["dropout"] is not None else [])


def torch_command(case, args, _out):
    return [sys.executable, HERE / "torch_lm.py", *common(case, args)]


def engraft_command(flags):
    return lambda case, args, out: [args.engraft.resolve(), "train", "--task", "causal-lm", "--adapter", "houlsby",
                                    "--no-shuffle", "--json", "--out", out, *common(case, args), *flags]


if __name__ == "__main__":
    run(arguments(), cases, torch_command, engraft_command)
