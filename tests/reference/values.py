"""Writes tests/fixtures/values: heads that say a number for each text, or any number of labels.

The oracles are the heads of `adapters` and the sequence classifications of `transformers`, on tests/fixtures/{bert,gpt2,t5}/model; their
losses are the libraries' own: mean squared errors, and `BCEWithLogitsLoss`. common.py says how numbers are computed.
"""

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import BertForSequenceClassification

import adapters
from adapters import BertAdapterModel, DoubleSeqBnConfig, GPT2AdapterModel, SeqBnConfig, T5AdapterModel
from peft import LoraConfig, get_peft_model

import bert
import gpt2
import t5
from common import FIXTURES, NAME, fresh, load, randomize, record, rng, save_peft, sizes

OUT = FIXTURES / "values"
NUMBER, LABELS = dict(num_labels=1), dict(num_labels=4, multilabel=True, id2label={0: "a", 1: "b", 2: "c d", 3: "e"})

# name: the head
CASES = {
    "bert-regression": NUMBER,
    "bert-regression-linear": NUMBER | dict(layers=1, use_pooler=True),
    "bert-multi-label": LABELS,
    "bert-multi-label-linear": LABELS | dict(layers=1, use_pooler=True),
    "gpt2-regression": NUMBER,
    "gpt2-multi-label": LABELS | dict(layers=1),
    "t5-regression": NUMBER,
    "t5-multi-label": LABELS,
}


def labelled(name, batch, labels):
    """Numbers that are not scaled, or ones and zeros, among them a text with no label."""
    r, n = rng("values", name), len(batch["input_ids"])
    batch["labels"] = [round(4 * float(x)) / 4 for x in 1 + 4 * r.random(n)]  # exact in every precision
    if labels > 1:
        batch["labels"] = r.integers(0, 2, (n, labels)).tolist()
        batch["labels"][1] = [0] * labels
    return batch


def loss(logits, labels):
    y = torch.tensor(labels, dtype=logits.dtype)
    return F.mse_loss(logits[:, 0], y) if y.dim() == 1 else F.binary_cross_entropy_with_logits(logits, y)


def of_t5(model, batch):
    """The decoder reads what the encoder reads, one to the right."""
    hidden, out = [], []
    handle = model.transformer.decoder.register_forward_hook(lambda _m, _i, y: hidden.append(y[0][0]))
    with t5.in_full_precision():
        for ids in batch["input_ids"]:
            out.append(model(input_ids=torch.tensor([ids])))
    handle.remove()
    return torch.cat(hidden), out


def forward(run):
    def one(model, batch):
        hidden, out = run(model, batch)
        logits = torch.stack([o.logits[0] for o in out])
        return hidden, logits, loss(logits, batch["labels"])

    return one


def as_the_library(run, model, batch):
    """The library's own loss of one sequence is the loss computed here."""
    i = max(range(len(batch["labels"])), key=lambda i: len(batch["input_ids"][i]))
    one = {k: [v[i]] for k, v in batch.items()}
    with t5.in_full_precision():
        given = {k: torch.tensor(v) for k, v in one.items()}
        theirs = model(**given | dict(labels=given["labels"].double())).loss
    assert abs(theirs - forward(run)(model, one)[2]) < 1e-9, (theirs, batch)


def model_of(name):
    """A model of `adapters`, how it runs, and sequences for it."""
    family = name.split("-")[0]
    frozen = load_file(FIXTURES / family / "model" / "model.safetensors")
    if family == "bert":
        return load(BertAdapterModel(bert.config()), frozen), bert.run, bert.inputs(name, 2)
    if family == "gpt2":
        return load(GPT2AdapterModel(gpt2.config()), frozen), gpt2.run, gpt2.inputs(name, 2)
    model = T5AdapterModel(t5.config(eos_token_id=1))
    t5.take(model, frozen)
    return model, of_t5, dict(input_ids=[ids + [1] for ids in t5.inputs(name)["input_ids"]])


def case(name):
    folder, head = fresh(OUT / name), CASES[name]
    model, run, batch = model_of(name)
    model.add_classification_head(NAME, **head)
    model.add_adapter(NAME, config=DoubleSeqBnConfig(reduction_factor=4))
    model.train_adapter(NAME)
    model.active_head = NAME
    randomize(model, name, [f".adapters.{NAME}.", f"heads.{NAME}."])
    model.save_adapter(str(folder), NAME, use_safetensors=True)
    batch = labelled(name, batch, head["num_labels"])
    record(folder, model, batch, forward(run), curve=False)
    as_the_library(run, model, batch)


def number_of_transformers():
    """`BertForSequenceClassification` of one label, as `adapters` saves it, and with an adapter of PEFT's."""
    frozen = load_file(bert.OUT / "model" / "model.safetensors")
    config = bert.config(num_labels=1, problem_type="regression")
    for name in ["bert-class", "bert-peft"]:
        folder = fresh(OUT / name)
        batch = labelled(name, bert.inputs(name, 2), 1)
        model = load(BertForSequenceClassification(config), frozen)
        if name == "bert-class":
            adapters.init(model)
            model.add_adapter(NAME, config=SeqBnConfig())
            model.train_adapter(NAME)
            randomize(model, name, [f"adapters.{NAME}.", "classifier"])
            model.save_adapter(str(folder), NAME, with_head=True, use_safetensors=True)
            rename = lambda name: name
        else:
            lora = LoraConfig(task_type="SEQ_CLS", r=2, lora_alpha=4, target_modules=["query", "value"])
            model = get_peft_model(model, lora)
            randomize(model, name, ["lora_", "modules_to_save"])
            rename = save_peft(model, folder)
        record(folder, model, batch, forward(bert.run), rename, curve=False)
        as_the_library(bert.run, model, batch)


def main():
    for name in CASES:
        case(name)
    number_of_transformers()
    sizes(OUT)


if __name__ == "__main__":
    main()
