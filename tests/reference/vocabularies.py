"""Writes tests/fixtures/vocabularies/: the token ids that transformers' fast tokenizers give to the hard strings of
`tokenizer_fields.py` where there is no `tokenizer.json`, but the vocabulary of a slow tokenizer.

The vocabularies are small ones made here: `vocab.txt`, `vocab.json` and `merges.txt` hold what the tokenizers of
`tokenizer_fields.py` hold, the SentencePiece models are trained on their words, one unigram with the normaliser of T5 and one BPE
with bytes for what is unknown. Each class is there once with all strings and what it makes of its parts (`parts`: the normaliser
and so on, as `tokenizer.json` would have them), and with a quarter of the strings for other fields in the files beside it.
Variants that transformers refuses have the field or file that is at fault.

With `--all FILE` it writes three times as many variants with all strings, which are not committed; `ENGRAFT_VOCABULARIES=FILE` makes
the test read that one.
"""

import argparse
import gzip
import io
import json
import random
import tempfile
from pathlib import Path

import sentencepiece
import transformers
from transformers import AutoTokenizer

from common import FIXTURES
from tokenizer_fields import ABSENT, CJK, HARMLESS, WORDS, bases, expect, hard_strings, listed, token, variant

transformers.logging.set_verbosity_error()

SPECIALS = ["[CLS]", "[SEP]", "[MASK]", "<mask>"]


def spm(kind, **options):
    """A SentencePiece model of a few hundred pieces."""
    r = random.Random(3)
    corpus = [" ".join(r.choices(WORDS, k=r.randint(3, 9))) for _ in range(400)]
    corpus += ["".join(r.choices(CJK, k=6)) for _ in range(40)] + [f"{r.randint(0, 999)},{r.randint(0, 999)} it's 9, 8,7" for _ in range(40)]
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus), model_writer=out, model_type=kind, num_threads=1, minloglevel=2,
        character_coverage=1.0, **options)
    return out.getvalue()


def vocabularies():
    tokenizers = bases()
    pieces = tokenizers["bert"]["model"]["vocab"]
    made = {"bert": {"vocab.txt": "".join(f"{piece}\n" for piece in pieces)}}
    for name in ("gpt2", "roberta"):
        model = tokenizers[name]["model"]
        merges = "".join(f"{a} {b}\n" for a, b in model["merges"])
        made[name] = {"vocab.json": json.dumps(model["vocab"]), "merges.txt": "#version: 0.2\n" + merges}
    models = dict(
        unigram=spm("unigram", vocab_size=200, normalization_rule_name="nmt_nfkc", pad_id=0, eos_id=1, unk_id=2, bos_id=3,
                    control_symbols=SPECIALS[:2], user_defined_symbols=["<new>", *SPECIALS[2:]]),
        bpe=spm("bpe", vocab_size=480, normalization_rule_name="identity", byte_fallback=True, unk_id=0, bos_id=1, eos_id=2,
                remove_extra_whitespaces=False, split_digits=True, user_defined_symbols=["<img>"]),
    )
    return made, models


# class, model type, vocabulary, the file that it reads
CLASSES = [
    ("BertTokenizer", "bert", "bert", "vocab.txt"),
    ("DistilBertTokenizer", "distilbert", "bert", "vocab.txt"),
    ("ElectraTokenizer", "electra", "bert", "vocab.txt"),
    ("GPT2Tokenizer", "gpt2", "gpt2", "vocab.json"),
    ("GPT2Tokenizer", "gpt_neo", "gpt2", "vocab.json"),
    ("GPT2Tokenizer", "gptj", "gpt2", "vocab.json"),
    ("RobertaTokenizer", "roberta", "roberta", "vocab.json"),
    ("Qwen2Tokenizer", "qwen2", "gpt2", "vocab.json"),
    ("Qwen2Tokenizer", "qwen3", "gpt2", "vocab.json"),
    ("T5Tokenizer", "t5", "unigram", "spiece.model"),
    ("MT5Tokenizer", "mt5", "unigram", "spiece.model"),
    ("AlbertTokenizer", "albert", "unigram", "spiece.model"),
    ("XLMRobertaTokenizer", "xlm-roberta", "unigram", "sentencepiece.bpe.model"),
    ("LlamaTokenizer", "llama", "bpe", "tokenizer.model"),
    ("LlamaTokenizer", "mistral", "bpe", "tokenizer.model"),
    ("LlamaTokenizer", "llama", "unigram", "tokenizer.model"),
    ("T5Tokenizer", "t5", "bpe", "spiece.model"),
    ("AlbertTokenizer", "albert", "bpe", "spiece.model"),
    ("XLMRobertaTokenizer", "xlm-roberta", "bpe", "sentencepiece.bpe.model"),
]


def plain(name, kind, vocabulary, file, config=None, **files):
    beside = {"config.json": {"model_type": kind}, **({} if config is None else {"tokenizer_config.json": config}), **files}
    read = {"vocab.json": ["vocab.json", "merges.txt"]}.get(file, [file])
    return dict(vocabulary=vocabulary, read=read, files=beside)


def fields(r, row):
    """Files with a value, or none, for each field."""
    name, kind, vocabulary, file = row
    base = {"bert": "bert", "gpt2": "gpt2", "roberta": "roberta"}.get(vocabulary, "t5")
    made = variant(r, base)["files"]
    config = made.get("tokenizer_config.json", {})
    config["tokenizer_class"] = name + r.choice(["", "Fast"])
    pick = lambda *values: r.choice([ABSENT, *values])
    more = dict(legacy=pick(True, False, False, None), add_prefix_space=pick(True, False, None), add_bos_token=pick(True, False),
                add_eos_token=pick(True, False), keep_accents=pick(True, False), do_lower_case=pick(True, False), sp_model_kwargs=pick({}))
    if name in ("LlamaTokenizer", "T5Tokenizer", "AlbertTokenizer"):
        config.update({k: v for k, v in more.items() if v is not ABSENT})
    if name == "GPT2Tokenizer":
        config.update({k: v for k, v in more.items() if v is not ABSENT and k == "add_bos_token"})
    if name == "T5Tokenizer" and r.random() < 0.5:
        config["extra_ids"] = r.choice([0, 5, 100])
    if r.random() < 0.2:
        config["tokenizer_file"] = r.choice([None, "/nowhere.json"])
    made["tokenizer_config.json"] = config
    made["config.json"] = {"model_type": kind}
    return plain(*row) | dict(files=made)


def beside_tokenizer_json():
    """A `tokenizer.json` is not read if the class reads `add_prefix_space`; otherwise the vocabulary is not."""
    for space in (True, False, None):
        for row in (CLASSES[9], CLASSES[13]):
            yield plain(*row, config={"add_prefix_space": space, "tokenizer_class": row[0]}) | dict(base="t5")
    # what stands in the place of the usual file
    yield plain(*CLASSES[9]) | dict(read=["tokenizer.model"])
    yield plain(*CLASSES[9]) | dict(read=["tokenizer.model"], files={"tokenizer_config.json": {"tokenizer_class": "T5TokenizerFast"}})


def refused():
    bert, gpt2, roberta, t5, llama = CLASSES[0], CLASSES[3], CLASSES[6], CLASSES[9], CLASSES[13]
    for row, field, value in [
        (bert, "cls_token", None), (bert, "sep_token", "a b"), (bert, "vocab_file", "/nowhere"), (gpt2, "add_prefix_space", None),
        (roberta, "sep_token", None), (roberta, "merges_file", None), (t5, "additional_special_tokens", ["<extra_id_0>"]),
    ]:
        yield field, plain(*row, config={"tokenizer_class": row[0], field: value})
    yield "bos_token", plain(*llama, config={"tokenizer_class": "LlamaTokenizer", "bos_token": None})
    yield "vocab.txt", plain(*bert) | dict(read=[])
    yield "merges.txt", plain(*gpt2) | dict(read=["vocab.json"])
    yield "spiece.model", plain(*t5) | dict(read=[])
    yield "tokenizer.json", plain(*bert, config={"tokenizer_class": "PreTrainedTokenizerFast"})


def write(directory, v, texts, models, tokenizers):
    for name, content in v["files"].items():
        (directory / name).write_text(json.dumps(content))
    for name in v["read"]:
        if v["vocabulary"] in models:
            (directory / name).write_bytes(models[v["vocabulary"]])
        else:
            (directory / name).write_text(texts[v["vocabulary"]][name])
    if "base" in v:
        (directory / "tokenizer.json").write_text(json.dumps(tokenizers[v["base"]]))


def parts(tokenizer):
    whole = json.loads(tokenizer.backend_tokenizer.to_str())
    for normalizer in (whole["normalizer"] or {}).get("normalizers", []):
        normalizer.pop("precompiled_charsmap", None)
    return {part: whole[part] for part in ("added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder")}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--all", type=Path, help="write many more variants with all strings to this file")
    args = parser.parse_args()
    (texts, models), strings, tokenizers = vocabularies(), hard_strings(), bases()
    r = random.Random(4)
    each, stride = (3, 4) if args.all is None else (10, 1)
    variants = [plain(*row) | dict(stride=1, whole=True) for row in CLASSES]
    variants += [v | dict(stride=stride) for v in beside_tokenizer_json()]
    variants += [fields(r, row) | dict(stride=stride) for row in CLASSES for _ in range(each)]
    kept, failed = [], 0
    for v in variants:
        with tempfile.TemporaryDirectory() as directory:
            write(Path(directory), v, texts, models, tokenizers)
            try:
                tokenizer = AutoTokenizer.from_pretrained(directory)
                assert tokenizer, "transformers gives False for some damaged files"
                expected = expect(tokenizer, strings, len(kept), v["stride"])
            except Exception as e:
                failed += 1
                kept.append(v | dict(error=f"{type(e).__name__}: {e}"[:100]))
                continue
        if v.pop("whole", False):
            expected["parts"] = parts(tokenizer)
        kept.append(v | expected)
    for what, v in refused():
        with tempfile.TemporaryDirectory() as directory:
            write(Path(directory), v, texts, models, tokenizers)
            try:
                if AutoTokenizer.from_pretrained(directory):
                    print(f"transformers loads {v}")
            except Exception:
                pass
        kept.append(v | dict(refused=what))
    folder = FIXTURES / "vocabularies"
    folder.mkdir(parents=True, exist_ok=True)
    out = args.all or folder / "cases.json"
    if args.all is None:
        for name, content in models.items():
            (folder / f"{name}.model.gz").write_bytes(gzip.compress(content, 9, mtime=0))
    lines = [json.dumps(v, ensure_ascii=False, separators=(",", ":")) for v in kept]
    head = dict(texts=texts)
    text = json.dumps(head, ensure_ascii=False, separators=(",", ":"))[:-1] + ',"variants":[\n' + ",\n".join(lines) + "\n]}\n"
    out.write_text(text, encoding="utf-8")
    print(f"{len(kept)} variants, {failed} of them not loaded by transformers; {out.stat().st_size} bytes")
    for v in kept:
        if "error" in v:
            print(v["vocabulary"], v["files"].get("tokenizer_config.json"), v["error"])


if __name__ == "__main__":
    main()
