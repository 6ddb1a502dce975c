"""Writes tests/fixtures/rxnfp: the token ids of a reaction, and the first values of its first token's hidden states.

`rxnfp.py MODELS`: the directory `rxnfp/models/transformers` of the PyPI wheel `rxnfp==0.1.0`. Those of `bert_ft` are what the
package's description prints; the others are computed by transformers.
"""

import json
import re
import sys
from pathlib import Path

import torch
from transformers import BertConfig, BertModel

from common import FIXTURES, fresh

REACTION = ("Nc1cccc2cnccc12.O=C(O)c1cc([N+](=O)[O-])c(Sc2c(Cl)cncc2Cl)s1>>"
            "O=C(Nc1cccc2cnccc12)c1cc([N+](=O)[O-])c(Sc2c(Cl)cncc2Cl)s1")
PRINTED = [-2.0174953937530518, 1.7602033615112305, -1.3323537111282349, -1.1095019578933716, 1.2254549264907837]
ATOMS = re.compile(r"(\[[^\]]+]|Br?|Cl?|N|O|S|P|F|I|b|c|n|o|s|p|\(|\)|\.|=|#|-|\+|\\|/|:|~|@|\?|>>?|\*|\$|%[0-9]{2}|[0-9])")


def first_of(folder, ids):
    """The whole model in float64, with the names of weights as they are today."""
    model = BertModel(BertConfig.from_pretrained(folder))
    tensors = torch.load(folder / "pytorch_model.bin", map_location="cpu")
    today = {n.removeprefix("bert.").replace("gamma", "weight").replace("beta", "bias"): t for n, t in tensors.items()}
    missing = model.load_state_dict(today, strict=False).missing_keys
    assert not missing, missing
    return model.double().eval()(input_ids=torch.tensor([ids])).last_hidden_state[0, 0].tolist()


def main(models):
    vocabulary = (models / "bert_ft" / "vocab.txt").read_text().split("\n")
    tokens = ["[CLS]", *ATOMS.findall(REACTION), "[SEP]"]
    assert "".join(tokens[1:-1]) == REACTION
    ids = [vocabulary.index(t) for t in tokens]
    first = {name: first_of(models / name, ids)[:8] for name in ("bert_ft_10k_25s", "bert_pretrained")} | {"bert_ft": PRINTED}
    text = json.dumps(dict(input_ids=[ids], first=dict(sorted(first.items()))), indent=1)
    (fresh(FIXTURES / "rxnfp") / "input.json").write_text(text + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
