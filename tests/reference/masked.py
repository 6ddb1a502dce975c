"""Writes tests/fixtures/masked: hidden tokens on tests/fixtures/bert/model, by the heads of AdapterHub's `adapters`.

    houlsby     `double_seq_bn`, `add_masked_lm_head` with its defaults: two layers, gelu, a norm, tied embeddings
    invertible  `seq_bn_inv`, whose change of the embeddings the head undoes in front of the last layer
    one-layer   `seq_bn` without layer 0; the last layer alone
    built-in    an adapter on `BertForMaskedLM` (encoders/bert/model), whose head has `config: null`: no gradients

Labels stand at the tokens themselves; about a third of the tokens have one. common.py says how numbers are computed.
"""

import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertForMaskedLM

import adapters
from adapters import BertAdapterModel, DoubleSeqBnConfig, SeqBnConfig, SeqBnInvConfig

import bert
from common import FIXTURES, IGNORED, NAME, class_loss, fresh, load, randomize, record, rng, sizes, write, cu_seqlens

OUT = FIXTURES / "masked"
CASES = {
    "houlsby": (DoubleSeqBnConfig(reduction_factor=4), {}),
    "invertible": (SeqBnInvConfig(reduction_factor=8), {}),
    "one-layer": (SeqBnConfig(reduction_factor=4, leave_out=[0]), dict(layers=1)),
}


def inputs(seed, vocabulary=bert.VOCAB, longest=bert.POSITIONS):
    batch, r = bert.inputs(seed, 2, longest), rng(seed, "labels")
    batch["input_ids"] = [[i % vocabulary or 1 for i in ids] for ids in batch["input_ids"]]
    hide = lambda ids: [int(r.integers(1, vocabulary)) if r.integers(0, 3) == 0 else IGNORED for _ in ids]
    batch["labels"] = [hide(ids) for ids in batch["input_ids"]]
    return batch


def forward(model, batch):
    hidden, out = bert.run(model, batch)
    logits = torch.cat([o.logits[0] for o in out])
    return hidden, logits, class_loss(logits, sum(batch["labels"], []))


def case(name):
    folder, (adapter, head) = fresh(OUT / name), CASES[name]
    model = load(BertAdapterModel(bert.config()), load_file(bert.OUT / "model" / "model.safetensors"))
    model.add_adapter(NAME, config=adapter)
    model.add_masked_lm_head(NAME, **head)
    model.train_adapter(NAME)
    model.active_head = NAME
    last = [n for n, _ in model.named_parameters() if n.startswith(f"heads.{NAME}.")]
    parts = [f".adapters.{NAME}.", f"invertible_adapters.{NAME}.", *[n for n in last if "weight" not in n or int(n.split(".")[2]) < len(model.heads[NAME]) - 1]]
    randomize(model, name, parts)
    assert model.heads[NAME].get_output_embeddings().weight is model.get_input_embeddings().weight
    model.save_adapter(str(folder), NAME, use_safetensors=False)
    record(folder, model, inputs(name), forward, curve=False)


def built_in():
    folder, base = fresh(OUT / "built-in"), FIXTURES / "encoders" / "bert" / "model"
    config = BertConfig.from_pretrained(base, attn_implementation="eager")
    weights = load_file(base / "model.safetensors")
    model = load(BertForMaskedLM(config), {k: v for k, v in weights.items() if ".pooler." not in k})
    model.tie_weights()
    adapters.init(model)
    model.add_adapter(NAME, config=SeqBnConfig(reduction_factor=2))
    model.set_active_adapters(NAME)
    randomize(model, "built-in", [f".adapters.{NAME}.", "cls.predictions.transform", "cls.predictions.bias"])
    model.save_adapter(str(folder), NAME, with_head=True, use_safetensors=False)
    batch = inputs("built-in", config.vocab_size, config.max_position_embeddings)
    model.double().eval()
    with torch.no_grad():
        hidden, logits, loss = forward(model, batch)
    write(folder, batch, dict(last_hidden_state=hidden, logits=logits, loss=loss, cu_seqlens=cu_seqlens(batch)))


if __name__ == "__main__":
    for name in CASES:
        case(name)
    built_in()
    sizes(OUT)
