"""Writes tests/fixtures/tokenizers/cases.json: the token ids that transformers' fast tokenizers give to hard strings, for every
field of the files beside a `tokenizer.json` that they apply.

A variant is a `tokenizer.json` (one of four small ones made here) with other fields in some of its parts, and the files beside it.
Of each variant the file holds digests of what a quarter of the 1,000 strings become: alone (`single`), cut at 12 tokens (`cut`),
in pairs cut at 17 (`pair`), as lists of words (`words`), and the ids of two strings in full. Variants that transformers refuses
have the field that is at fault. `sweep` holds digests of every character below U+20000 in a word.

With `--all FILE` it writes ten times as many variants with all strings, which are not committed; `ENGRAFT_TOKENIZERS=FILE` makes
the test read that one.
"""

import argparse
import hashlib
import json
import random
import tempfile
import unicodedata
from array import array
from pathlib import Path

import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer

from common import FIXTURES

transformers.logging.set_verbosity_error()

WORDS = """the a an is was not good bad bus late film movie I you he she it we they yesterday today cafe naive resume über straße
running runs ran unhappy happiness can't don't it's we'll they've I'm New York 2024 3.14 100 000""".split()
CJK = "中文字日本語漢字한국어カタカナひらがな"
ACCENTS = ["é", "e\u0301", "ü", "u\u0308", "ñ", "Å", "A\u030a", "ệ", "e\u0323\u0302", "ç", "ǖ", "İ", "ı", "ß", "ŉ", "ǰ", "Σ", "ς", "ﬁ", "Ǆ"]
SPECIALS = ["[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]", "<extra>", "<new>", "<img>", "<cls>", "<pad2>", "<|endoftext|>", "<s>",
            "</s>", "<mask>", "<pad>", "<unk>", "<extra_id_0>", "<extra_id_99>", "[mask]", "[cls]", "<EXTRA>", "Yesterday", "yesterday"]
EMOJI = ["😀", "👩‍👩‍👧", "👍🏽", "🇩🇪", "❤️", "1️⃣", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "☺"]
INVISIBLE = ["\u200b", "\u200c", "\u200d", "\u2060", "\ufeff", "\u00ad", "\u200e", "\u202e", "\ufe0f", "\ufffd", "\ue000", "\U000f0000", "\U000e0001"]
SPACES = [" ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u2003", "\u3000", "\u2028", "\u2029", "\u0085", "\u1680", "\u202f", "\u205f", "\x0b", "\x0c", "\x1c", "\x1f"]
PUNCTUATION = list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") + ["…", "—", "«", "»", "¿", "、", "。", "€", "©", "½", "²", "ⅷ", "№"]


def hard_strings():
    r = random.Random(1)
    strings = ["", " ", "a", "\n", "[", "\u0301", "中", "\x00", "\u200b", "😀", "'", "'s", "  a", "a  ", " a b ", "\ta\n"]
    strings += [f"a{c}b {c} c" for c in SPACES + INVISIBLE + ACCENTS + EMOJI + PUNCTUATION]
    strings += [f"a{chr(c)}b {chr(c)}" for c in [*range(1, 32), *range(127, 160)]]
    by_category = {}
    for c in range(0x30000):
        by_category.setdefault(unicodedata.category(chr(c)), []).append(chr(c))
    for kind, characters in sorted(by_category.items()):
        if kind != "Cs":
            strings += [f"the{c} {c}A {c}{c}" for c in r.sample(characters, min(7, len(characters)))]
    for s in SPECIALS:
        strings += [s, f"the {s} bus", f"the{s}bus", f" {s}  {s} ", f"{s}{s.upper()} {s.lower()}", f"é{s}\u0301"]
    for n in (50, 99, 100, 101, 200, 1000):
        strings += ["a" * n, "é" * n, "Ab" * (n // 2)]
    strings += [" ".join(r.choices(WORDS, k=n)) for n in (5, 20, 60, 150)]
    strings += ["".join(r.choices(CJK, k=n)) for n in (3, 10, 40)]
    strings += ["I'll we've they're 'S 'T don't IT'S o'clock ''", "http://a.b/c?d=e&f=%20#g", "3.14159 1,000,000 ½ ² ⅷ 10⁻³", "ΑΣ Σ ΣΑΣ ΟΔΟΣ", "a\u0300\u0301\u0302\u0303b",
                "각 각", "Việt Nam", "\u0301a", "עִבְרִית", "عَرَبِيّ", "हिन्दी", "ไทย", "ﷺ", "𝔘𝔫𝔦", "Ａｂｃ１", "a\u0000b\ufffdc"]
    pools = [WORDS, [w.upper() for w in WORDS], [w.title() for w in WORDS], list(CJK), ACCENTS, SPECIALS, EMOJI, INVISIBLE, SPACES, PUNCTUATION]
    while len(strings) < 1000:
        parts = []
        for _ in range(r.randint(1, 14)):
            parts += [r.choice(r.choice(pools)), r.choice(["", " ", " ", "  "])]
        strings.append("".join(parts))
    return strings


def bases():
    """Four tokenizers as the JSON of their files."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = "abcdefghijklmnopqrstuvwxyzABCDEINSTY0123456789éüñßσςıçå"
    pieces += list(letters) + [f"##{c}" for c in letters] + list(CJK)[:14] + ["##文", "##語"] + PUNCTUATION[:40] + ["\u0301", "😀"]
    pieces += [w for w in WORDS if w.isalpha() and len(w) > 1] + ["##ing", "##ness", "mask", "extra", "new", "cls", "中文"]
    pieces = list(dict.fromkeys(pieces))
    bert = Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    bert.normalizer = normalizers.BertNormalizer()
    bert.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    bert.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", [("[CLS]", 2), ("[SEP]", 3)])
    bert.decoder = decoders.WordPiece()
    bert.add_special_tokens(pieces[:5])

    corpus = [" ".join(WORDS)] * 3 + ["the bus was late yesterday, and it's not good"] * 3 + [CJK]
    gpt2 = Tokenizer(models.BPE())
    gpt2.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    gpt2.post_processor = processors.ByteLevel(trim_offsets=False)
    gpt2.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    gpt2.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, special_tokens=["<|endoftext|>"], show_progress=False))

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    roberta = Tokenizer(models.BPE())
    roberta.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    roberta.decoder = decoders.ByteLevel()
    roberta.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=special, show_progress=False))
    roberta.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)

    scored = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("<s>", 0.0), ("<mask>", 0.0), ("▁", -2.0)]
    scored += [(f"▁{w}", -3.0) for w in WORDS if w.isalpha()] + [(c, -5.0 - i / 100) for i, c in enumerate(letters + CJK[:10])]
    t5 = Tokenizer(models.Unigram(list(dict(scored).items()), unk_id=2))
    t5.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("  ", " ")])
    t5.pre_tokenizer = pre_tokenizers.Metaspace()
    t5.decoder = decoders.Metaspace()
    t5.post_processor = processors.TemplateProcessing("$A </s>", "$A </s> $B </s>", [("</s>", 1)])
    t5.add_special_tokens(["<pad>", "</s>", "<unk>"])
    made = dict(bert=bert, gpt2=gpt2, roberta=roberta, t5=t5)
    return {name: json.loads(t.to_str()) for name, t in made.items()}


def token(content, **flags):
    return {"__type": "AddedToken", "content": content, "lstrip": False, "rstrip": False, "normalized": True, "single_word": False, **flags}


def listed(content, **flags):
    return {"content": content, "lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True, **flags}


CLASSES = dict(
    bert=["BertTokenizer", "BertTokenizerFast", "DistilBertTokenizer", "ElectraTokenizerFast", "MobileBertTokenizer", "ConvBertTokenizer",
          "LxmertTokenizer", "SqueezeBertTokenizer", "LayoutLMTokenizer", "PreTrainedTokenizerFast", None],
    gpt2=["GPT2Tokenizer", "GPT2TokenizerFast", "PreTrainedTokenizerFast", None],
    roberta=["RobertaTokenizer", "RobertaTokenizerFast", None],
    t5=["T5Tokenizer", "T5TokenizerFast", "XLMRobertaTokenizer", "PreTrainedTokenizerFast", None],
)
HARMLESS = {"clean_up_tokenization_spaces": True, "do_basic_tokenize": False, "never_split": None, "name_or_path": "x/y", "errors": "replace",
            "special_tokens_map_file": "/nowhere.json", "chat_template": "{{ x }}", "processor_class": "P", "add_bos_token": True, "legacy": False}
ABSENT = object()


def variant(r, base):
    """Files with a value, or none, for each field."""
    pick = lambda *values: r.choice([ABSENT, *values])
    config, files, patch = {}, {}, {}
    own = {"bert": "[MASK]", "gpt2": "<|endoftext|>", "roberta": "<mask>", "t5": "<mask>"}[base]
    fields = dict(
        truncation_side=pick("left", "right", "left"),
        padding_side=pick("left", "right"),
        model_max_length=pick(6, 20, 512, 10**30, None),
        split_special_tokens=pick(ABSENT, ABSENT, True, False),
        model_input_names=pick(ABSENT, ["input_ids", "attention_mask"], ["input_ids", "token_type_ids"]),
        add_prefix_space=pick(True, False, True) if base != "t5" else ABSENT,
        additional_special_tokens=pick(ABSENT, ["<extra>"], [token("<extra>", lstrip=True)], ["<extra>", token("<extra>", rstrip=True), "the"], [], None),
        extra_special_tokens=pick(ABSENT, ABSENT, {"image_token": "<img>"}, {"image_token": token("<img>", single_word=True)}, {}),
        mask_token=pick(own, token(own, lstrip=True, normalized=False), "<cls>", None),
        cls_token=pick(ABSENT, "<cls>", "yesterday"),
        unk_token=pick(ABSENT, "<unk>", "[UNK]", token("<new>", rstrip=True, normalized=False)),
        eos_token=pick(ABSENT, "</s>", "[SEP]", token("<|endoftext|>")),
        pad_token=pick(ABSENT, "<pad>", "[PAD]"),
    )
    if base == "bert":
        fields.update(do_lower_case=pick(True, False), strip_accents=pick(None, True, False), tokenize_chinese_chars=pick(True, False))
        normalizer = {"type": "BertNormalizer", "clean_text": r.random() < 0.8, "handle_chinese_chars": r.random() < 0.5,
                      "strip_accents": r.choice([None, True, False]), "lowercase": r.random() < 0.5}
        if r.random() < 0.5:
            patch["normalizer"] = r.choice([normalizer, normalizer, {"type": "Sequence", "normalizers": [normalizer]}, {"type": "Lowercase"}])
    if base in ("gpt2", "roberta") and r.random() < 0.4:
        prefixed = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
        patch["pre_tokenizer"] = r.choice([prefixed, prefixed, {"type": "Sequence", "pretokenizers": [prefixed]}])
    if r.random() < 0.4:
        patch["truncation"] = {"direction": r.choice(["Left", "Right"]), "max_length": 9, "strategy": "OnlyFirst", "stride": 1}
    if r.random() < 0.4:
        patch["padding"] = {"strategy": r.choice(["BatchLongest", {"Fixed": 16}]), "direction": "Left", "pad_to_multiple_of": 8, "pad_id": 0,
                            "pad_type_id": 1, "pad_token": r.choice(["<pad2>", "[PAD]"])}
    if base == "t5":
        fields["extra_ids"] = pick(ABSENT, 0, 5)
    if r.random() < 0.35:
        decoder = {"4": listed(own), "5": listed("yesterday", special=False, normalized=r.random() < 0.5)}
        flags = {f: r.random() < 0.3 for f in ("lstrip", "rstrip", "normalized", "single_word")}
        decoder[str(r.choice([400, 7, 1000]))] = listed("<extra>", special=r.random() < 0.7, **flags)
        decoder["401"] = listed("the", special=False, single_word=r.random() < 0.5, normalized=True)
        if r.random() < 0.3:
            decoder["6"] = {"content": "<new>"}
        fields["added_tokens_decoder"] = decoder
    config = {k: v for k, v in fields.items() if v is not ABSENT and r.random() < 0.7}
    config.update({k: v for k, v in HARMLESS.items() if r.random() < 0.15})
    name = r.choice(CLASSES[base])
    if name:
        config["tokenizer_class"] = name
    if name or r.random() < 0.7:
        files["tokenizer_config.json"] = config
    files["config.json"] = {"model_type": base}
    if r.random() < 0.4:
        files["special_tokens_map.json"] = {k: v for k, v in dict(
            additional_special_tokens=r.choice([["<extra>"], [listed("<extra>", lstrip=True)], ["<new>", "<extra>", "<extra>"], [listed("<img>"), listed("<img>")]]),
            mask_token=r.choice([own, listed(own, lstrip=True), listed("<mask>", rstrip=True)]),
            cls_token=r.choice(["[CLS]", "<cls>"]),
            truncation_side="left",
        ).items() if r.random() < 0.5}
    if r.random() < 0.3:
        files["added_tokens.json"] = r.choice([{"<new>": 500, "<extra>": 501}, {"Yesterday": 2000, "<cls>": 7}, {"<img>": 3, "the": 9}])
    if r.random() < 0.1:
        patch["added_tokens"] = []
    return dict(base=base, patch=patch, files=files)


def one_by_one():
    """Every field by itself, and all combinations of those of BERT's normaliser."""
    plain = {"tokenizer_class": "BertTokenizer"}
    for lower in (ABSENT, True, False):
        for accents in (ABSENT, True, False):
            for chinese in (ABSENT, True, False):
                fields = dict(do_lower_case=lower, strip_accents=accents, tokenize_chinese_chars=chinese)
                yield dict(base="bert", patch={}, files={"tokenizer_config.json": plain | {k: v for k, v in fields.items() if v is not ABSENT}})
    for base, classes in CLASSES.items():
        for name in classes:
            config = {"tokenizer_config.json": {"tokenizer_class": name}} if name else {}
            yield dict(base=base, patch={}, files={"config.json": {"model_type": base}, **config})
    yield dict(base="bert", patch={}, files={"config.json": {"model_type": "bert", "tokenizer_class": "PreTrainedTokenizerFast"}})
    for config in (
        {"truncation_side": "left"}, {"split_special_tokens": True}, {"model_max_length": 8}, {"max_len": 8}, {"add_prefix_space": None},
        {"added_tokens_decoder": {"400": listed("<extra>")}, "additional_special_tokens": ["<extra>"]},
        {"additional_special_tokens": ["<extra>"]}, {"extra_special_tokens": {"image_token": "<img>"}}, {"mask_token": token("[MASK]", lstrip=True)},
        {"model_input_names": ["input_ids"]}, {"fast_tokenizer_files": ["tokenizer.json"]}, {"init_inputs": []},
    ):
        yield dict(base="bert", patch={}, files={"tokenizer_config.json": plain | config})
    for special in ({"additional_special_tokens": ["<extra>"]}, {"mask_token": listed("[MASK]", lstrip=True)}, {"cls_token": "<cls>"}):
        yield dict(base="bert", patch={}, files={"tokenizer_config.json": plain, "special_tokens_map.json": special})
    yield dict(base="bert", patch={}, files={"tokenizer_config.json": plain, "added_tokens.json": {"<new>": 400}})
    yield dict(base="bert", patch={}, files={"tokenizer_config.json": plain | {"mask_token": "<new>"}, "added_tokens.json": {"<new>": 400},
                                             "special_tokens_map.json": {"additional_special_tokens": ["<cls>", "<new>"]}})
    for space in (True, False):
        prefixed = {"type": "ByteLevel", "add_prefix_space": not space, "trim_offsets": True, "use_regex": True}
        for name in ("GPT2Tokenizer", "PreTrainedTokenizerFast"):
            yield dict(base="gpt2", patch={"pre_tokenizer": prefixed}, files={"tokenizer_config.json": {"tokenizer_class": name, "add_prefix_space": space}})
        yield dict(base="gpt2", patch={"pre_tokenizer": prefixed}, files={"tokenizer_config.json": {"tokenizer_class": "GPT2Tokenizer"}})


def refused():
    """Files that transformers does not load, or loads without `tokenizer.json`, each with the field that is at fault."""
    bert = {"tokenizer_class": "BertTokenizer"}
    for field, value in dict(do_lower_case=None, strip_accents="yes", tokenize_chinese_chars=None, truncation_side="top", padding_side="top",
                             split_special_tokens=None, extra_special_tokens=["<img>"], mask_token={"content": "[MASK]"}, cls_token=3,
                             additional_special_tokens="<extra>", added_tokens_decoder={"1": "<extra>"}).items():
        yield field, dict(base="bert", patch={}, files={"tokenizer_config.json": bert | {field: value}})
    yield "added_tokens_decoder", dict(base="bert", patch={}, files={"tokenizer_config.json": bert | {"added_tokens_decoder": {"x": listed("<extra>")}}})
    yield "tokenizer_class", dict(base="bert", patch={}, files={"tokenizer_config.json": {"tokenizer_class": "NoTokenizer"}})
    yield "tokenizer_file", dict(base="bert", patch={}, files={"tokenizer_config.json": bert | {"tokenizer_file": None}})
    yield "tokenizer_file", dict(base="bert", patch={}, files={"tokenizer_config.json": bert | {"tokenizer_file": "/nowhere.json"}})
    yield "from_slow", dict(base="bert", patch={}, files={"tokenizer_config.json": bert | {"from_slow": True}})
    yield "additional_special_tokens", dict(base="t5", patch={}, files={"tokenizer_config.json": {"tokenizer_class": "T5Tokenizer", "additional_special_tokens": ["<extra_id_0>"]}})


class Packed:
    """A digest of token ids and types."""

    def __init__(self):
        self.hash = hashlib.sha256()

    def add(self, ids, types):
        self.hash.update(array("I", [len(ids), *ids, *types]).tobytes())

    def hex(self):
        return self.hash.hexdigest()[:16]


def digest(encoded):
    packed = Packed()
    types = encoded.get("token_type_ids") or [[0] * len(ids) for ids in encoded["input_ids"]]
    for ids, kinds in zip(encoded["input_ids"], types):
        packed.add(ids, kinds)
    return packed.hex()


def words(text):
    return [w for w in text.split(" ") if w] or ["a"]


def load(tokenizers, v):
    with tempfile.TemporaryDirectory() as directory:
        for name, content in {**v["files"], "tokenizer.json": {**tokenizers[v["base"]], **v["patch"]}}.items():
            (Path(directory) / name).write_text(json.dumps(content))
        return AutoTokenizer.from_pretrained(directory)


def expect(tokenizer, strings, number, stride):
    own = [i for i in range(len(strings)) if i % stride == number % stride]
    texts = [strings[i] for i in own]
    seconds = [strings[(i + 1) % len(strings)] for i in own]
    cut = dict(truncation="longest_first", padding=False)
    out = dict(
        single=digest(tokenizer(texts)),
        cut=digest(tokenizer(texts, max_length=12, **cut)),
        pair=digest(tokenizer(texts, seconds, max_length=17, **cut)),
    )
    try:
        out["words"] = digest(tokenizer([words(t) for t in texts], is_split_into_words=True))
    except AssertionError:
        out["words"] = None  # a byte-level tokenizer whose texts do not begin as after a space
    out["sample"] = [[i, tokenizer(strings[i])["input_ids"]] for i in own[number % 40 :: 125]][:2]
    out["model_max_length"] = tokenizer.model_max_length if tokenizer.model_max_length < 1e20 else None
    out["eos"] = tokenizer.eos_token_id
    return out


def sweep(tokenizers, base, config):
    tokenizer = load(tokenizers, dict(base=base, patch={}, files={"tokenizer_config.json": config}))
    digests = []
    for block in range(0, 0x20000, 0x1000):
        texts = [f"a{chr(c)}b {chr(c)}" for c in range(block, block + 0x1000) if not 0xD800 <= c < 0xE000]
        digests.append(digest(tokenizer(texts)) if texts else None)
    return dict(base=base, config=config, blocks=digests)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--all", type=Path, help="write many more variants with all strings to this file")
    args = parser.parse_args()
    strings, tokenizers = hard_strings(), bases()
    assert len(strings) == 1000, len(strings)
    r = random.Random(2)
    count, stride = (60, 4) if args.all is None else (600, 1)
    variants = list(one_by_one())
    variants += [variant(r, base) for base, share in dict(bert=0.5, gpt2=0.2, roberta=0.15, t5=0.15).items() for _ in range(round(count * share))]
    kept, failed = [], 0
    for v in variants:
        try:
            tokenizer = load(tokenizers, v)
        except Exception as e:
            failed += 1
            kept.append(v | dict(error=type(e).__name__))
            continue
        kept.append(v | expect(tokenizer, strings, len(kept), stride))
    for field, v in refused():
        try:
            load(tokenizers, v)
            print(f"transformers loads {v['files']}")
        except Exception:
            pass
        kept.append(v | dict(refused=field))
    sweeps = [sweep(tokenizers, "bert", {"tokenizer_class": "BertTokenizer"}),
              sweep(tokenizers, "bert", {"tokenizer_class": "BertTokenizer", "do_lower_case": False}),
              sweep(tokenizers, "gpt2", {"tokenizer_class": "GPT2Tokenizer"})]
    out = args.all or FIXTURES / "tokenizers" / "cases.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(v, ensure_ascii=False, separators=(",", ":")) for v in kept]
    head = dict(strings=strings, tokenizers=tokenizers, stride=stride, sweep=sweeps)
    text = json.dumps(head, ensure_ascii=False, separators=(",", ":"))[:-1] + ',"variants":[\n' + ",\n".join(lines) + "\n]}\n"
    out.write_text(text, encoding="utf-8")
    print(f"{len(kept)} variants, {failed} of them not loaded by transformers; {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
