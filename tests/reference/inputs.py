"""Writes tests/fixtures/inputs: prefixes, prompts, invertible adapters, interventions behind layers, and unions of methods.

The oracles are `adapters` and `peft` on the tiny BERT and GPT-2 of tests/fixtures/{bert,gpt2}/model; common.py says how numbers
are computed. A case is named after its family.
"""

import json
import re
import sys

import torch
from safetensors.torch import load_file
from transformers import BertForSequenceClassification, GPT2ForSequenceClassification, GPT2LMHeadModel

import adapters
from adapters import (
    BertAdapterModel,
    ConfigUnion,
    DiReftConfig,
    DoubleSeqBnInvConfig,
    GPT2AdapterModel,
    LoReftConfig,
    LoRAConfig,
    MAMConfig,
    NoReftConfig,
    ParBnConfig,
    PrefixTuningConfig,
    PromptTuningConfig,
    SeqBnInvConfig,
)
from adapters.methods.modeling import GLOWCouplingBlock
from peft import PrefixTuningConfig as PeftPrefixConfig
from peft import PromptTuningConfig as PeftPromptConfig
from peft import get_peft_model

import bert
import gpt2
from bert import linear_head
from common import FIXTURES, NAME, fresh, load, randomize, record, save_adapter, save_peft, sizes
from gpt2 import classify, predict_next, untwice

OUT = FIXTURES / "inputs"

LAST = dict(layers=1, activation_function=None)  # the last layer alone

# name: (adapter, head). No head of a GPT-2: the model's own.
ADAPTERS = {
    "bert-prefix": (PrefixTuningConfig(prefix_length=4, bottleneck_size=6, leave_out=[1]), linear_head(3, use_pooler=True)),
    "bert-prefix-flat": (PrefixTuningConfig(prefix_length=3, flat=True), linear_head(2)),
    "bert-prefix-gates": (
        PrefixTuningConfig(prefix_length=2, bottleneck_size=5, non_linearity="relu", use_gating=True, shared_gating=False),
        dict(num_labels=2),
    ),
    "gpt2-prefix": (PrefixTuningConfig(prefix_length=3, bottleneck_size=4), None),
    "gpt2-prefix-flat": (
        PrefixTuningConfig(prefix_length=5, flat=True, use_gating=True, leave_out=[0]),
        dict(num_labels=3, layers=1),
    ),
    "bert-prompt": (PromptTuningConfig(prompt_length=3), linear_head(3, use_pooler=True)),
    "bert-prompt-after-first": (PromptTuningConfig(prompt_length=2, combine="prefix_after_bos"), dict(num_labels=2)),
    "bert-invertible": (SeqBnInvConfig(reduction_factor=8), linear_head(2)),
    # the library undoes it in front of heads of its own; in front of `GPT2LMHeadModel`'s it does not
    "gpt2-invertible": (DoubleSeqBnInvConfig(reduction_factor=8, inv_adapter_reduction_factor=3), dict(causal=LAST)),
    "gpt2-invertible-head": (SeqBnInvConfig(reduction_factor=4), dict(causal=dict())),
    "bert-glow": (SeqBnInvConfig(reduction_factor=8, inv_adapter="glow"), linear_head(3, use_pooler=True)),
    "gpt2-glow": (
        DoubleSeqBnInvConfig(reduction_factor=8, inv_adapter="glow", inv_adapter_reduction_factor=3, non_linearity="gelu"),
        dict(causal=LAST),
    ),
    "gpt2-glow-head": (SeqBnInvConfig(reduction_factor=4, inv_adapter="glow"), dict(causal=dict())),
    "bert-loreft": (LoReftConfig(r=2), linear_head(3, use_pooler=True)),
    "bert-loreft-tied": (
        LoReftConfig(prefix_positions=1, suffix_positions=1, tied_weights=True, layers=[0, 2], non_linearity="relu"),
        dict(num_labels=2),
    ),
    "bert-noreft": (NoReftConfig(r=3, prefix_positions=2), linear_head(2)),
    "gpt2-loreft": (LoReftConfig(r=3, prefix_positions=1, suffix_positions=1), None),
    "gpt2-direft": (DiReftConfig(r=2, prefix_positions=0, suffix_positions=2), dict(num_labels=3, layers=1)),
    "bert-mam": (
        MAMConfig(PrefixTuningConfig(prefix_length=3, bottleneck_size=5), ParBnConfig(reduction_factor=8)),
        linear_head(3, use_pooler=True),
    ),
    "gpt2-union": (
        ConfigUnion(PrefixTuningConfig(prefix_length=2, flat=True), LoRAConfig(r=2), SeqBnInvConfig(reduction_factor=8),
                    LoReftConfig(layers=[1])),
        dict(causal=LAST),
    ),
}
# name: (PEFT's configuration, labels; none: the model's own head)
PEFT = {
    "bert-peft-prefix": (PeftPrefixConfig(task_type="SEQ_CLS", num_virtual_tokens=4), 3),
    "gpt2-peft-prefix": (PeftPrefixConfig(task_type="CAUSAL_LM", num_virtual_tokens=3), None),
    "bert-peft-prompt": (PeftPromptConfig(task_type="SEQ_CLS", num_virtual_tokens=3), 2),
    "gpt2-peft-prompt": (PeftPromptConfig(task_type="CAUSAL_LM", num_virtual_tokens=4), None),
    "gpt2-peft-prompt-class": (PeftPromptConfig(task_type="SEQ_CLS", num_virtual_tokens=2), 3),
    "gpt2-peft-prefix-class": (PeftPrefixConfig(task_type="SEQ_CLS", num_virtual_tokens=2), 4),
}
LONGEST = dict(bert=bert.POSITIONS, gpt2=gpt2.POSITIONS)
MARKS = ["prefix_tuning", "prompt_tuning", "invertible_adapters", f"refts.{NAME}.", f"adapters.{NAME}.", f"loras.{NAME}.",
         f"heads.{NAME}."]


def model_of(family, head, tensors):
    if family == "bert":
        model = load(BertAdapterModel(bert.config()), tensors)
        model.add_classification_head(NAME, **head)
    elif head is None:
        model = load(GPT2LMHeadModel(gpt2.config()), tensors)
        adapters.init(model)
    else:
        model = load(GPT2AdapterModel(gpt2.config()), tensors)
        if "causal" in head:
            model.add_causal_lm_head(NAME, **head["causal"])
        else:
            model.add_classification_head(NAME, **head)
    return model


def glow(block, x, rev=False):
    """A GLOW coupling, as the way back of the library's block says: there it would take the halves of x for s and t, and both
    ways it cuts and joins tokens, its second dimension, where channels are the last."""
    x1, x2 = x.split([block.split_len1, block.split_len2], -1)
    if rev:
        s, t = block.s1(x1).chunk(2, -1)
        x2 = (x2 - t) / block.e(s)
        s, t = block.s2(x2).chunk(2, -1)
        x1 = (x1 - t) / block.e(s)
    else:
        s, t = block.s2(x2).chunk(2, -1)
        x1 = block.e(s) * x1 + t
        s, t = block.s1(x1).chunk(2, -1)
        x2 = block.e(s) * x2 + t
    return torch.cat([x1, x2], -1)


def mend_glow():
    """The library's block fails whichever way it goes; its networks, and how they are saved, stay its own."""
    for rev in (False, True):
        try:
            GLOWCouplingBlock([[6]])(torch.zeros(1, 4, 6), rev=rev)
        except RuntimeError:
            continue
        raise AssertionError("the library computes GLOW")
    GLOWCouplingBlock.forward = glow


def orthogonal(model):
    """A parametrisation's matrix has -1 on its diagonal, and no gradient of it: PyTorch takes the sign from there."""
    for name, p in model.named_parameters():
        if name.endswith("parametrizations.weight.original"):
            p.data.fill_diagonal_(-1)


def once(name):
    """The generator of prefixes hangs at every attention once more, where it is not what files are made of."""
    return untwice(re.sub(r"\.(encoder\.layer|h)\.\d+\.\w+(\.self)?\.prefix_tuning\.pool\.", ".prefix_tuning.", name))


def batch_of(family, name, labels, room=0):
    if family == "bert":
        return bert.inputs(name, labels, longest=LONGEST[family] - room)
    return gpt2.inputs(name, labels, longest=LONGEST[family] - room)


def forward_of(family, labels):
    if family == "bert":
        return bert.forward
    return classify if labels else predict_next


def case(name, tensors):
    folder, family = fresh(OUT / name), name.split("-")[0]
    adapter, head = ADAPTERS[name]
    model = model_of(family, head, tensors[family])
    model.add_adapter(NAME, config=adapter)
    model.train_adapter(NAME)
    if head:
        model.active_head = NAME
    randomize(model, name, MARKS)
    orthogonal(model)
    model.prompt_after_first = getattr(adapter, "combine", "prefix") == "prefix_after_bos"
    save_adapter(model, folder, head is not None)
    if not getattr(adapter, "subtract_projection", True):  # the library forgets it
        card = json.loads((folder / "adapter_config.json").read_text())
        card["config"]["subtract_projection"] = False
        (folder / "adapter_config.json").write_text(json.dumps(card, indent=2, sort_keys=True))
    labels = head and head.get("num_labels")
    room = 5 if family == "gpt2" else 0  # the causal mask of transformers has as many keys as there are positions
    torch.set_default_dtype(torch.float64)  # of the empty tensor that ReFT makes where it has no positions
    record(folder, model, batch_of(family, name, labels, room), forward_of(family, labels), once)
    torch.set_default_dtype(torch.float32)


def peft_model(family, labels, tensors, options):
    if labels is None:
        model = load(GPT2LMHeadModel(gpt2.config()), tensors[family])
    elif family == "bert":
        model = load(BertForSequenceClassification(bert.config(num_labels=labels)), tensors[family])
    else:
        model = load(GPT2ForSequenceClassification(gpt2.config(num_labels=labels)), tensors[family])
    return get_peft_model(model, options)


def peft_case(name, tensors):
    folder, family = fresh(OUT / name), name.split("-")[0]
    options, labels = PEFT[name]
    model = peft_model(family, labels, tensors, options)
    randomize(model, name, ["prompt_encoder", "modules_to_save"])
    rename = save_peft(model, folder)
    rows = "prompt_encoder.default.embedding.weight"
    batch = batch_of(family, name, labels, room=options.num_virtual_tokens)
    record(folder, model, batch, forward_of(family, labels), lambda n: "prompt_embeddings" if n == rows else rename(n))


def write(cases, out):
    """The cases that the command line names, or all: `cases` are pairs of names and what writes one of them."""
    only = sys.argv[1:]
    weights = {family: load_file(FIXTURES / family / "model" / "model.safetensors") for family in ("bert", "gpt2")}
    for names, write_one in cases:
        for name in (n for n in names if not only or n in only):
            write_one(name, weights)
    sizes(out)


if __name__ == "__main__":
    mend_glow()
    write([(ADAPTERS, case), (PEFT, peft_case)], OUT)
