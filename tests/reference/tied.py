"""Writes tests/fixtures/tied.json: which copy counts where a file holds a tied tensor under several names with different values.

For every model among the fixtures whose class ties tensors: each set of names that stand for one tensor, in the order in which
`transformers` lists them, and which of them counts for all if a file has the names at the key, all with values of their own.
"""

import itertools
import json
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file

from common import FIXTURES


def sets(model):
    """The names of the parameters that are one tensor."""
    found = {}
    for name, t in model.state_dict(keep_vars=True).items():
        found.setdefault(id(t), []).append(name)
    return [names for names in found.values() if len(names) > 1]


def counts(of, model_dir, tensors, names):
    """The name whose values all have that a model loads of a file with these names; None if it is left without any."""
    own = next(tensors[n] for n in of if n in tensors)
    rest = {n: t for n, t in tensors.items() if n not in of}
    values = {n: own + i + 1 for i, n in enumerate(names)}
    with tempfile.TemporaryDirectory() as at:
        (Path(at) / "config.json").write_text((model_dir / "config.json").read_text())
        save_file({n: t.contiguous() for n, t in (rest | values).items()}, f"{at}/model.safetensors", metadata={"format": "pt"})
        config = json.loads((model_dir / "config.json").read_text())
        state = getattr(transformers, config["architectures"][0]).from_pretrained(at).state_dict()
    if any(state[n].is_meta for n in of):
        return None
    won = [n for n, v in values.items() if all(torch.equal(state[o], v) for o in of)]
    return won[0] if won else None


def main():
    transformers.logging.set_verbosity_error()
    written = {}
    for path in sorted(FIXTURES.rglob("model/config.json")):
        model_dir = path.parent
        if "generation" in model_dir.parts:
            continue
        config = json.loads(path.read_text())
        model = getattr(transformers, config["architectures"][0]).from_pretrained(model_dir)
        tensors = load_file(model_dir / "model.safetensors")
        family = str(model_dir.parent.relative_to(FIXTURES))
        for of in sets(model):
            some = [s for n in range(1, len(of) + 1) for s in itertools.combinations(of, n)]
            found = [[list(s), counts(of, model_dir, tensors, s)] for s in some]
            written.setdefault(family, []).append({"names": of, "counts": found})
    (FIXTURES / "tied.json").write_text(json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    main()
