"""Writes tests/fixtures/tagging and tests/fixtures/heads.

`tagging` holds cases on the tiny models of tests/fixtures/{bert,gpt2,llama}/model whose head gives every token a label. The loss is
the mean over the tokens that have one. `heads` holds nothing but files of heads, as `adapters` writes them for language models.
"""

from functools import partial
from types import SimpleNamespace

import torch
from safetensors.torch import load_file
from transformers import BertForTokenClassification, GPT2LMHeadModel, LlamaForTokenClassification

import adapters
from adapters import BertAdapterModel, DoubleSeqBnConfig, GPT2AdapterModel, LoRAConfig
from peft import LoraConfig, get_peft_model

import bert
import decoders
import gpt2
from common import FIXTURES, IGNORED, NAME, class_loss, fresh, load, randomize, record, rng, save_peft, sizes

TAGGING, HEADS = FIXTURES / "tagging", FIXTURES / "heads"
TAGS = {0: "B-LOC", 1: "B-PER", 2: "I-LOC", 3: "I-PER", 4: "O"}


def inputs(family, seed, labels):
    """About a third of the tokens, and every token of one sequence, have no label: special tokens, and later pieces of words."""
    batch = family.inputs(seed, labels)
    r = rng(seed, "tags")
    batch["labels"] = [[IGNORED if r.random() < 0.3 else int(r.integers(labels)) for _ in x] for x in batch["input_ids"]]
    shortest = min(range(len(batch["labels"])), key=lambda i: (len(batch["labels"][i]) != 2, i))
    batch["labels"][shortest] = [IGNORED] * 2
    return batch


def forwards(family):
    def forward(model, batch):
        hidden, out = family.run(model, batch)
        logits = torch.cat([o.logits[0] for o in out])
        return hidden, logits, class_loss(logits, sum(batch["labels"], []))

    return forward


def case(name, family, model, adapter, head):
    folder = fresh(TAGGING / name)
    model.add_adapter(NAME, config=adapter)
    model.add_tagging_head(NAME, **head)
    model.train_adapter(NAME)
    model.active_head = NAME
    randomize(model, name, [f"adapters.{NAME}.", f"loras.{NAME}.", f"heads.{NAME}."])
    model.save_adapter(str(folder), NAME, use_safetensors=True)
    record(folder, model, inputs(family, name, head["num_labels"]), forwards(family))


def peft_case(name, tensors):
    folder = fresh(TAGGING / name)
    named = dict(id2label=TAGS, label2id={v: k for k, v in TAGS.items()})
    without_pooler = {k: v for k, v in tensors.items() if ".pooler." not in k}
    model = load(BertForTokenClassification(bert.config(**named)), without_pooler)
    model = get_peft_model(model, LoraConfig(task_type="TOKEN_CLS", r=2, lora_alpha=4, target_modules=["query", "value"]))
    randomize(model, name, ["lora_", "modules_to_save"])
    rename = save_peft(model, folder)
    record(folder, model, inputs(bert, name, len(TAGS)), forwards(bert), rename)


def peft_llama(name, tensors):
    """The head of LLaMA's kin is called `score`."""
    folder, of = fresh(TAGGING / name), decoders.FAMILIES["llama"]
    body = {k: v for k, v in tensors.items() if not k.startswith("lm_head")}
    model = load(LlamaForTokenClassification(of["config"](num_labels=4)), body)
    model = get_peft_model(model, LoraConfig(task_type="TOKEN_CLS", r=2, lora_alpha=3, target_modules=["q_proj", "down_proj"]))
    randomize(model, name, ["lora_", "modules_to_save"])
    rename = save_peft(model, folder)

    def forward(model, batch):
        hidden, out = decoders.run(of, model, batch)
        logits = torch.cat([o.logits[0] for o in out])
        return hidden, logits, class_loss(logits, sum(batch["labels"], []))

    batch = inputs(SimpleNamespace(inputs=partial(gpt2.inputs, vocab=decoders.VOCAB)), name, 4)
    record(folder, model, batch, forward, rename)


def heads(tensors):
    """Heads of GPT-2 language models. The built-in one is the token embedding, whose weights tests/fixtures/gpt2/model holds."""
    model = load(GPT2LMHeadModel(gpt2.config()), tensors)
    adapters.init(model)
    model.save_head(str(fresh(HEADS / "built-in")), use_safetensors=True)
    # a model directory whose class has a head gives `GPT2AdapterModel` a head of the same kind
    model = GPT2AdapterModel.from_pretrained(gpt2.OUT / "model")
    model.config.name_or_path = ""  # where the directory was, which the head's file would tell
    model.save_head(str(fresh(HEADS / "converted")), "default", use_safetensors=True)
    for name, options in {"two-layers": {}, "three-layers": dict(layers=3, activation_function="gelu_new"),
                          "one-layer": dict(layers=1, activation_function=None)}.items():
        model = load(GPT2AdapterModel(gpt2.config()), tensors)
        model.add_causal_lm_head(NAME, **options)
        randomize(model, name, [f"heads.{NAME}."])
        model.save_head(str(fresh(HEADS / name)), NAME, use_safetensors=True)


def main():
    frozen = load_file(bert.OUT / "model" / "model.safetensors")
    decoder = load_file(gpt2.OUT / "model" / "model.safetensors")
    on_bert = lambda: load(BertAdapterModel(bert.config()), frozen)
    on_gpt2 = lambda: load(GPT2AdapterModel(gpt2.config()), decoder)
    case("houlsby", bert, on_bert(), DoubleSeqBnConfig(reduction_factor=4), dict(num_labels=5, id2label=TAGS))
    case("lora-two-layers", bert, on_bert(), LoRAConfig(r=2, alpha=4),
         dict(num_labels=3, layers=2, activation_function="gelu"))
    case("gpt2-houlsby", gpt2, on_gpt2(), DoubleSeqBnConfig(reduction_factor=8), dict(num_labels=4))
    peft_case("peft", frozen)
    peft_llama("llama-peft", load_file(FIXTURES / "llama" / "model" / "model.safetensors"))
    heads(decoder)
    sizes(TAGGING)
    sizes(HEADS)


if __name__ == "__main__":
    main()
