"""Writes tests/fixtures/lora: LoRA of both libraries on the tiny BERT of tests/fixtures/bert/model.

The oracles are `adapters` and `peft`; common.py says how numbers are computed.
"""

import torch
from safetensors.torch import load_file
from transformers import BertForSequenceClassification, BertModel

from adapters import BertAdapterModel, LoRAConfig
from peft import LoraConfig, get_peft_model

from bert import OUT as BERT, config, forward, inputs, linear_head, run
from common import FIXTURES, NAME, cu_seqlens, fresh, load, randomize, record, save_peft, sizes, write

OUT = FIXTURES / "lora"

# name: (adapter, head)
ADAPTERS = {
    "qv": (LoRAConfig(r=4, alpha=8), linear_head(3, use_pooler=True)),
    "all": (
        LoRAConfig(r=3, alpha=5, attn_matrices=["q", "k", "v"], intermediate_lora=True, output_lora=True),
        linear_head(2),
    ),
    "leave-out": (LoRAConfig(r=2, alpha=1, attn_matrices=["k"], output_lora=True, leave_out=[1]), dict(num_labels=2)),
    "feed-forward": (LoRAConfig(r=5, alpha=5, selfattn_lora=False, intermediate_lora=True), linear_head(4, use_pooler=True)),
}

# name: (options of PEFT's LoRA, labels)
PEFT = {
    "peft-qv": (dict(r=4, lora_alpha=8, target_modules=["query", "value"]), 3),
    # `output.dense` is that of attention and that of the feed-forward part
    "peft-all": (
        dict(r=2, lora_alpha=1, use_rslora=True,
             target_modules=["query", "key", "value", "intermediate.dense", "output.dense"], modules_to_save=["classifier"]),
        2,
    ),
    "peft-patterns": (
        dict(r=4, lora_alpha=4, target_modules=["query", "value", "attention.output.dense"], layers_to_transform=[0, 2],
             rank_pattern={"layer.2.attention.self.query": 6, "value": 2},
             alpha_pattern={"layer.0.attention.self.query": 12, "output.dense": 1}),
        2,
    ),
    "peft-expression": (dict(r=3, lora_alpha=6, target_modules=r".*\.layer\.[12]\.attention\.self\.(key|value)"), 5),
}


def case(name, tensors):
    folder = fresh(OUT / name)
    adapter, head = ADAPTERS[name]
    model = load(BertAdapterModel(config()), tensors)
    model.add_adapter(NAME, config=adapter)
    model.add_classification_head(NAME, **head)
    model.train_adapter(NAME)
    model.active_head = NAME
    randomize(model, name, [f"loras.{NAME}.", f"heads.{NAME}."])
    model.save_adapter(str(folder), NAME, use_safetensors=True)
    record(folder, model, inputs(name, head["num_labels"]), forward)


def peft_case(name, tensors):
    folder = fresh(OUT / name)
    options, labels = PEFT[name]
    model = load(BertForSequenceClassification(config(num_labels=labels)), tensors)
    model = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", **options))
    randomize(model, name, ["lora_", "modules_to_save"])
    rename = save_peft(model, folder)
    record(folder, model, inputs(name, labels), forward, rename)


def bare(tensors):
    """PEFT on `BertModel` itself, whose modules have no `bert.` in front: hidden states only."""
    folder, batch = fresh(OUT / "peft-bare"), inputs("peft-bare", 2)
    del batch["labels"]
    model = load(BertModel(config()), {k.removeprefix("bert."): v for k, v in tensors.items()})
    model = get_peft_model(model, LoraConfig(task_type="FEATURE_EXTRACTION", r=2, lora_alpha=4, target_modules=["key"]))
    randomize(model, "peft-bare", ["lora_"])
    save_peft(model, folder)
    with torch.no_grad():
        hidden = run(model.double().eval(), batch)[0]
    write(folder, batch, dict(last_hidden_state=hidden, cu_seqlens=cu_seqlens(batch)))


def main():
    weights = load_file(BERT / "model" / "model.safetensors")
    for name in ADAPTERS:
        case(name, weights)
    for name in PEFT:
        peft_case(name, weights)
    bare(weights)
    sizes(OUT)


if __name__ == "__main__":
    main()
