#!/usr/bin/env python3
"""A small T5 that knows nothing yet: a tokenizer counted in the given texts, random weights, and texts with gaps to learn from.

    python t5_backbone.py --text movie_reviews.txt.gz product_reviews.txt.gz speeches.txt.gz --more devset.csv --out small-t5
    engraft train --task seq2seq --adapter full --model small-t5 --train small-t5/gaps.tsv --max-length 96 --max-target-length 48 \
        --epochs 1 --lr 2e-3 --batch-size 32 --out small-t5-trained

Gaps are those of Raffel et al. (2020): 15 % of the tokens of a piece of text, in runs of 3 on average, each run with a token of its
own in its place; the target says behind each of these tokens what is missing. `--more` are files whose words the tokenizer is to
have too, nothing else is learnt from them. What `engraft` trains is a model directory like any other, to graft adapters onto.
"""
import argparse
import gzip
import json
import random
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import T5Config, T5ForConditionalGeneration

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
GAPS = [f"<extra_id_{i}>" for i in range(16)]


def lines(paths):
    for path in paths:
        opened = gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")
        with opened as f:
            yield from (line.strip() for line in f if line.strip())


def with_gaps(words, draw):
    """A source and its target: words of a text, of which about 15 % are missing from the source in runs of 3 on average."""
    missing = max(1, round(0.15 * len(words)))
    runs = min(len(GAPS), max(1, round(missing / 3)))
    starts = sorted(draw.sample(range(len(words)), runs))
    source, target, at = [], [], 0
    for gap, (start, following) in zip(GAPS, zip(starts, [*starts[1:], len(words)])):
        end = min(start + max(1, round(missing / runs)), following)
        source += [*words[at:start], gap]
        target += [gap, *words[start:end]]
        at = end
    return " ".join([*source, *words[at:]]), " ".join(target)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--text", nargs="+", required=True, type=Path)
    p.add_argument("--more", nargs="*", default=[], type=Path)
    p.add_argument("--out", required=True, type=Path)
    p.add_argument("--vocabulary", type=int, default=8192)
    p.add_argument("--channels", type=int, default=256)
    p.add_argument("--layers", type=int, default=4)
    p.add_argument("--heads", type=int, default=4)
    p.add_argument("--words", type=int, default=50, help="of a piece of text")
    p.add_argument("--seed", type=int, default=0)
    a = p.parse_args()

    draw = random.Random(a.seed)
    texts = list(lines(a.text))
    draw.shuffle(texts)
    a.out.mkdir(parents=True, exist_ok=True)
    words = " ".join(texts).replace("\t", " ").split(" ")
    pieces = [words[i : i + a.words] for i in range(0, len(words), a.words)]
    rows = ("\t".join(with_gaps(piece, draw)) for piece in pieces if len(piece) > 8)
    (a.out / "gaps.tsv").write_text("source\ttarget\n" + "".join(f"{row}\n" for row in rows), encoding="utf-8")

    t = Tokenizer(models.Unigram())
    t.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    t.pre_tokenizer = pre_tokenizers.Metaspace()
    t.decoder = decoders.Metaspace()
    special = [PAD, END, UNKNOWN, *GAPS]
    trainer = trainers.UnigramTrainer(vocab_size=a.vocabulary, special_tokens=special, unk_token=UNKNOWN)
    t.train_from_iterator([*texts, *lines(a.more)], trainer)
    pair = f"$A {END} $B {END}"
    t.post_processor = processors.TemplateProcessing(single=f"$A {END}", pair=pair, special_tokens=[(END, 1)])
    t.save(str(a.out / "tokenizer.json"))
    names = {"tokenizer_class": "T5Tokenizer", "model_max_length": 512, "extra_ids": 0}
    names |= {"eos_token": END, "unk_token": UNKNOWN, "pad_token": PAD, "additional_special_tokens": GAPS}
    (a.out / "tokenizer_config.json").write_text(json.dumps(names, indent=2) + "\n")

    torch.manual_seed(a.seed)
    config = T5Config(
        vocab_size=t.get_vocab_size(), d_model=a.channels, d_kv=a.channels // a.heads, d_ff=4 * a.channels, num_layers=a.layers,
        num_heads=a.heads, feed_forward_proj="gated-gelu", decoder_start_token_id=0, dropout_rate=0.0,
    )
    model = T5ForConditionalGeneration(config)
    model.save_pretrained(a.out)
    print(f"{a.out}: {model.num_parameters():,} parameters, {len(pieces):,} pieces of text")


if __name__ == "__main__":
    main()
