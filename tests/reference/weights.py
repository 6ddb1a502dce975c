"""Writes tests/fixtures/weights: the tiny BERT and GPT-2 with some of their own small weights trained instead of added ones.

Tuned norms are PEFT's LN_TUNING. Biases (BitFit) are in no library: what trains are the biases of transformers' own models, and
the files are engraft's, as `bitfit.rs` lays them out. The names of cases begin with the model that they stand on.
"""

import json

import torch
from safetensors.torch import load_file, save_file
from transformers import BertForSequenceClassification, GPT2ForSequenceClassification, GPT2LMHeadModel

import bert
import gpt2
from adapters import BertAdapterModel
from peft import LNTuningConfig, get_peft_model

from common import FIXTURES, NAME, fresh, load, randomize, record, save_peft, sizes

OUT = FIXTURES / "weights"
ADAPTERS = "adapters.1.3.0"

# name: (options of PEFT, labels of a classification or None)
NORMS = {
    "bert-norms": (dict(task_type="SEQ_CLS", target_modules=["LayerNorm"]), 3),
    "bert-norms-some": (
        dict(task_type="SEQ_CLS", target_modules=["output.LayerNorm"], exclude_modules=["attention.output.LayerNorm"]),
        2,
    ),
    "gpt2-norms": (dict(task_type="CAUSAL_LM"), None),
    "gpt2-norms-expression": (dict(task_type="CAUSAL_LM", target_modules=r".*h\.[02]\.ln_2"), None),
    "gpt2-norms-class": (dict(task_type="SEQ_CLS", target_modules=["ln_1", "ln_f"]), 2),
}
ALL = ["q", "k", "v", "o", "intermediate", "output", "norm"]
# name: (kinds of biases, layers without, labels of a classification or None)
BIASES = {
    "bert-biases": ([k for k in ALL if k != "k"], [], 3),  # a softmax does not see the keys' biases: no gradient to compare
    "bert-biases-some": (["q", "intermediate"], [1], 2),
    "bert-biases-norms": (["norm"], [0], 2),
    "gpt2-biases": (ALL, [], None),
    "gpt2-biases-some": (["q", "v", "output"], [0], None),
}
MODULES = {  # in a layer, and of which kind their biases are
    "bert": {
        "attention.self.query": "q", "attention.self.key": "k", "attention.self.value": "v", "attention.output.dense": "o",
        "intermediate.dense": "intermediate", "output.dense": "output", "attention.output.LayerNorm": "norm",
        "output.LayerNorm": "norm",
    },
    "gpt2": {
        "attn.c_attn": "qkv", "attn.c_proj": "o", "mlp.c_fc": "intermediate", "mlp.c_proj": "output", "ln_1": "norm",
        "ln_2": "norm",
    },
}
OUTSIDE = {"bert": ["bert.embeddings.LayerNorm"], "gpt2": ["transformer.ln_f"]}
LAYER = {"bert": "bert.encoder.layer", "gpt2": "transformer.h"}


def norms(name, tensors):
    folder = fresh(OUT / name)
    options, labels = NORMS[name]
    if name.startswith("bert"):
        model = BertForSequenceClassification(bert.config(num_labels=labels))
        batch, forward = bert.inputs(name, labels), bert.forward
    elif labels is None:
        model, batch, forward = GPT2LMHeadModel(gpt2.config()), gpt2.inputs(name), gpt2.predict_next
    else:
        model = GPT2ForSequenceClassification(gpt2.config(num_labels=labels))
        batch, forward = gpt2.inputs(name, labels), gpt2.classify
    model = get_peft_model(load(model, tensors), LNTuningConfig(**options))
    randomize(model, name, ["ln_tuning_layers", "modules_to_save"])
    record(folder, model, batch, forward, save_peft(model, folder))


def columns(kinds, kind, width):
    """The part of a bias of this kind that trains."""
    if kind != "qkv":
        return list(range(width)) if kind in kinds else []
    third = width // 3
    return [i * third + j for i, part in enumerate("qkv") if part in kinds for j in range(third)]


def biases(name, tensors):
    family, (kinds, leave_out, labels) = name.split("-")[0], BIASES[name]
    folder = fresh(OUT / name)
    if family == "bert":
        model = load(BertAdapterModel(bert.config()), tensors)
        model.add_classification_head(NAME, num_labels=labels, layers=1, use_pooler=True)
        model.active_head = NAME
        batch, forward = bert.inputs(name, labels), bert.forward
    else:
        model, batch, forward = load(GPT2LMHeadModel(gpt2.config()), tensors), gpt2.inputs(name), gpt2.predict_next
    modules = dict.fromkeys(OUTSIDE[family], "norm")
    for layer in set(range(model.config.num_hidden_layers)) - set(leave_out):
        modules |= {f"{LAYER[family]}.{layer}.{m}": kind for m, kind in MODULES[family].items()}

    parts, renamed = {}, {}
    for n, p in model.named_parameters():
        p.requires_grad = n.startswith(f"heads.{NAME}.")
        module, tensor = n.rpartition(".")[::2]
        part = columns(kinds, modules[module], len(p)) if tensor == "bias" and module in modules else []
        if part:
            p.requires_grad = True
            mask = torch.zeros(len(p), dtype=torch.float64)
            mask[part] = 1
            p.register_hook(lambda grad, mask=mask: grad * mask)
            renamed[n] = f"{module}.bitfit.{NAME}.bias"
            parts[renamed[n]] = part
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    randomize(model, name, [*renamed, f"heads.{NAME}."])
    for n, p in model.named_parameters():
        if n in renamed:  # the other columns stay as they are
            changed, p.data = p.data, before[n].clone()
            p.data[parts[renamed[n]]] = changed[parts[renamed[n]]]

    own = {renamed[n]: p.detach()[parts[renamed[n]]].clone() for n, p in model.named_parameters() if n in renamed}
    save_file(own, folder / "adapter.safetensors")
    card = dict(
        config=dict(architecture="bitfit", biases=kinds, leave_out=leave_out), hidden_size=model.config.hidden_size,
        model_class="BertAdapterModel" if family == "bert" else "GPT2AdapterModel", model_name="", model_type=family,
        name=NAME, version=ADAPTERS,
    )
    (folder / "adapter_config.json").write_text(json.dumps(card, indent=2) + "\n")
    if labels:
        model.save_head(str(folder), NAME, use_safetensors=True)
    record(folder, model, batch, forward, lambda n: renamed.get(n, gpt2.untwice(n)))
    expected = load_file(folder / "expected.safetensors")
    for n, part in parts.items():
        expected[f"grad.{n}"] = expected[f"grad.{n}"][part].clone()
    save_file(expected, folder / "expected.safetensors")


def main():
    weights = {family: load_file(FIXTURES / family / "model" / "model.safetensors") for family in MODULES}
    for name in NORMS:
        norms(name, weights[name.split("-")[0]])
    for name in BIASES:
        biases(name, weights[name.split("-")[0]])
    sizes(OUT)


if __name__ == "__main__":
    main()
