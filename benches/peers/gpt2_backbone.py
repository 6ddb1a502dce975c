#!/usr/bin/env python3
"""A small GPT-2 that knows nothing yet: a tokenizer counted in the given texts, and random weights.

    python gpt2_backbone.py --text movie_reviews.txt.gz product_reviews.txt.gz speeches.txt.gz --out small-gpt2
    engraft train --task causal-lm --adapter full --model small-gpt2 --train small-gpt2/text.txt --max-length 128 \
        --epochs 1 --lr 1e-3 --batch-size 16 --out small-gpt2-trained

Any text will do, one document or sentence a line; all of it is written to `text.txt`, decompressed, in an order drawn from the
seed. What `engraft` trains is a model directory like any other, to graft adapters onto.
"""
import argparse
import gzip
import json
import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GPT2Config, GPT2LMHeadModel

END = "<|endoftext|>"


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--text", nargs="+", required=True, type=Path)
    p.add_argument("--out", required=True, type=Path)
    p.add_argument("--vocabulary", type=int, default=8192)
    p.add_argument("--channels", type=int, default=256)
    p.add_argument("--layers", type=int, default=4)
    p.add_argument("--heads", type=int, default=4)
    p.add_argument("--positions", type=int, default=256)
    p.add_argument("--seed", type=int, default=0)
    a = p.parse_args()

    lines = []
    for path in a.text:
        opened = gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")
        with opened as f:
            lines += [line.strip() for line in f if line.strip()]
    random.Random(a.seed).shuffle(lines)
    a.out.mkdir(parents=True, exist_ok=True)
    (a.out / "text.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")

    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.post_processor = processors.ByteLevel(trim_offsets=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=a.vocabulary, special_tokens=[END], initial_alphabet=alphabet)
    t.train_from_iterator(lines, trainer)
    t.save(str(a.out / "tokenizer.json"))
    end = t.token_to_id(END)
    names = {"tokenizer_class": "GPT2Tokenizer", "model_max_length": a.positions, "add_prefix_space": False}
    names |= {"bos_token": END, "eos_token": END, "unk_token": END}
    (a.out / "tokenizer_config.json").write_text(json.dumps(names, indent=2) + "\n")

    torch.manual_seed(a.seed)
    config = GPT2Config(
        vocab_size=t.get_vocab_size(), n_positions=a.positions, n_embd=a.channels, n_layer=a.layers,
        n_head=a.heads, bos_token_id=end, eos_token_id=end,
    )
    GPT2LMHeadModel(config).save_pretrained(a.out)
    tokens = sum(len(e.ids) for e in t.encode_batch(lines))
    print(f"{len(lines)} texts, {tokens} tokens, {t.get_vocab_size()} of them different; {a.out}")


if __name__ == "__main__":
    main()
