"""Writes tests/fixtures/files: files as the libraries write them by default, or wrote them years ago.

`torch` holds tensors as `torch.save` writes them, in both of its layouts. Every other folder is a model directory or an adapter on
tests/fixtures/{bert,gpt2}/model, with what the library makes of it; common.py says how numbers are computed.
"""

import json
from collections import OrderedDict

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig, BertForSequenceClassification, BertForTokenClassification, BertModel, GPT2ForSequenceClassification,
    GPT2LMHeadModel,
)

import adapters
from adapters import BertAdapterModel, DoubleSeqBnConfig, GPT2AdapterModel, SeqBnConfig
from peft import LoraConfig, get_peft_model

import bert
import gpt2
from common import FIXTURES, NAME, cu_seqlens, fresh, load, randomize, rng, save_peft, sizes, write

OUT = FIXTURES / "files"
CONFIG, HEAD = "adapter_config.json", "head_config.json"
LABELS = {0: "x", 1: " y"}


def small(inputs, *seed):
    """Three of the sequences, without labels."""
    batch = inputs(*seed)
    del batch["labels"]
    return {k: v[:3] for k, v in batch.items()}


def answer(folder, family, model, batch):
    """What a model with a head gives, in float64."""
    model.double().eval()
    with torch.no_grad():
        hidden, out = family.run(model, batch)
    logits = torch.cat([o.logits.reshape(-1, o.logits.shape[-1]) for o in out])
    write(folder, batch, dict(last_hidden_state=hidden, logits=logits, cu_seqlens=cu_seqlens(batch)))


def torch_files():
    """Views, shared storages, every type: `contiguous` says what each tensor is."""
    folder, r = fresh(OUT / "torch"), rng("torch")
    base = torch.tensor(r.standard_normal((6, 8)), dtype=torch.float32)
    cube = torch.tensor(r.standard_normal((2, 3, 4)), dtype=torch.float32)
    flat = torch.arange(10, dtype=torch.float32)
    tensors = OrderedDict(
        plain=base.clone(), transposed=base.t(), rows=base[2:5], columns=base[:, 1::3], one=base[3:4, 2:3], row=base[4],
        permuted=cube.permute(2, 0, 1), inner=cube[:, 1, 1:3], first=flat[:6], overlapping=flat[4:],
        scalar=torch.tensor(1.5), empty=torch.zeros(0, 3), parameter=torch.nn.Parameter(base[:2] * 2),
        half=base[:3].half().t(), bfloat16=base[:3].bfloat16(), double=base[:1].double(), long=torch.arange(-3, 3),
        int=torch.arange(4, dtype=torch.int32), short=torch.arange(4, dtype=torch.int16),
        char=torch.arange(-2, 2, dtype=torch.int8), byte=torch.arange(4, dtype=torch.uint8),
        bool=torch.tensor([True, False]),
    )
    tensors._metadata = OrderedDict({"": {"version": 1}, "module": {"version": 2}})  # as a module's state has
    tensors["ключ.weight"] = torch.ones(2)
    torch.save(tensors, folder / "zip.bin")
    torch.save(tensors, folder / "legacy.bin", _use_new_zipfile_serialization=False)
    torch.save(tensors, folder / "protocol4.bin", pickle_protocol=4)
    save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, folder / "contiguous.safetensors")
    # what is no dictionary of tensors
    torch.save(dict(weight=torch.ones(1), epoch=3), folder / "more.bin")
    torch.save([torch.ones(1)], folder / "list.bin")
    torch.save(dict(weight=torch.ones(1).expand(1000, 1000)), folder / "expanded.bin")
    torch.save(dict(weight=torch.complex(torch.ones(2), torch.ones(2)).conj().imag), folder / "negated.bin")
    torch.save(torch.nn.Linear(1, 1), folder / "module.bin")
    torch.save(dict(weight=torch.ones(2).to_sparse()), folder / "sparse.bin")


def adapted(seed, config, head=None):
    """A BERT with an adapter and a head of two layers."""
    model = load(BertAdapterModel(bert.config()), load_file(bert.OUT / "model" / "model.safetensors"))
    model.add_adapter(NAME, config=config)
    model.add_classification_head(NAME, **(head or dict(num_labels=2, id2label=LABELS)))
    model.set_active_adapters(NAME)
    model.active_head = NAME
    randomize(model, seed, [f"adapters.{NAME}.", f"loras.{NAME}.", f"heads.{NAME}."])
    return model


def edit(path, change):
    card = json.loads(path.read_text())
    change(card)
    path.write_text(json.dumps(card, indent=2) + "\n")


def check(folder, batch, use_safetensors, model):
    """The library reads the directory as it is and computes what the model does from which it was made."""
    again = load(BertAdapterModel(bert.config()), load_file(bert.OUT / "model" / "model.safetensors"))
    info = {}
    name = again.load_adapter(str(folder), loading_info=info, use_safetensors=use_safetensors, set_active=True)
    assert not info["missing_keys"], info
    again.active_head = name
    one = lambda m: torch.stack([o.logits[0] for o in bert.run(m.double().eval(), batch)[1]])
    with torch.no_grad():
        assert (one(again) - one(model)).abs().max() < 1e-12
    assert {int(i): label for i, label in again.get_labels_dict(name).items()} == LABELS


def case(name, config, change=None, change_head=None, use_safetensors=True, rename=None):
    folder = fresh(OUT / name)
    model = adapted(name, config)
    model.save_adapter(str(folder), NAME, use_safetensors=use_safetensors)
    if rename is not None:
        for file in ["pytorch_adapter.bin", "pytorch_model_head.bin"]:
            state = OrderedDict((rename(k), v) for k, v in torch.load(folder / file, weights_only=True).items())
            torch.save(state, folder / file, _use_new_zipfile_serialization=False)
    for file, how in [(CONFIG, change), (HEAD, change_head)]:
        if how is not None:
            edit(folder / file, how)
    batch = small(bert.inputs, name, 2)
    check(folder, batch, use_safetensors, model)
    answer(folder, bert, model, batch)


def of_2020(card):
    """`adapter_config.json` before there were versions."""
    c = card["config"]
    keep = ["adapter_residual_before_ln", "ln_after", "ln_before", "mh_adapter", "original_ln_after", "original_ln_before",
            "output_adapter", "reduction_factor", "residual_before_ln"]
    card["config"] = {k: c[k] for k in keep} | dict(
        non_linearity="gelu", attention_type="sent-lvl-dynamic", new_attention_norm=False, leave_out=[],
        invertible_adapter=dict(block_type="nice", non_linearity="relu", reduction_factor=2),
    )
    card |= dict(type="text_task", model_class="BertModelWithHeads", config_id="9076f36a74755ac4")
    del card["version"]


def head_of_2020(card):
    c = card["config"]
    card["config"] = {k: c[k] for k in ["head_type", "num_labels", "layers", "activation_function", "label2id"]}
    card["model_class"] = "BertModelWithHeads"
    del card["version"]


def names_of_2020(name):
    name = name.replace("attention.output.adapters", "attention.output.attention_text_task_adapters")
    return name.replace(".output.adapters", ".output.layer_text_task_adapters")


def cases():
    case("bin", DoubleSeqBnConfig(reduction_factor=16), use_safetensors=False)
    # `ln_before` has two names in the file, and both are one storage
    case("bin-norm", DoubleSeqBnConfig(reduction_factor=16, ln_before=True), use_safetensors=False)
    case("of-2020", DoubleSeqBnConfig(reduction_factor=16, non_linearity="gelu_new"), of_2020, head_of_2020,
         use_safetensors=False, rename=names_of_2020)

    def string(text):
        return lambda card: card.update(config=text)

    def turned(card):
        c = card["config"]
        c["id2label"] = {str(i): label for label, i in c.pop("label2id").items()}
        del c["layers"], c["activation_function"], c["use_pooler"]  # at the library's defaults

    def texts(card):
        card["config"]["label2id"] = {k: str(v) for k, v in card["config"]["label2id"].items()}

    case("string", SeqBnConfig(), string("pfeiffer"), texts)
    case("string-fields", DoubleSeqBnConfig(reduction_factor=8, non_linearity="tanh"),
         string("houlsby[reduction_factor=8, non_linearity='tanh']"), turned)
    case("no-config", SeqBnConfig(), string(None))


def built_in(name, family, model, batch):
    """A model of transformers whose head `adapters` saves as it is."""
    folder = fresh(OUT / name)
    adapters.init(model)
    model.add_adapter(NAME, config=SeqBnConfig())
    model.set_active_adapters(NAME)
    randomize(model, name, [f"adapters.{NAME}.", "classifier", "score"])
    model.save_adapter(str(folder), NAME, with_head=True, use_safetensors=True)
    answer(folder, family, model, batch)


def built_ins():
    frozen = load_file(bert.OUT / "model" / "model.safetensors")
    decoder = load_file(gpt2.OUT / "model" / "model.safetensors")
    named = dict(id2label=LABELS, label2id={v: k for k, v in LABELS.items()})
    without_pooler = {k: v for k, v in frozen.items() if ".pooler." not in k}
    built_in("bert-class", bert, load(BertForSequenceClassification(bert.config(**named)), frozen),
             small(bert.inputs, "bert-class", 2))
    built_in("bert-tags", bert, load(BertForTokenClassification(bert.config(num_labels=5)), without_pooler),
             small(bert.inputs, "bert-tags", 2))
    built_in("gpt2-class", gpt2, load(GPT2ForSequenceClassification(gpt2.config(num_labels=3)), decoder),
             small(gpt2.inputs, "gpt2-class", 2))
    built_in("gpt2-lm", gpt2, load(GPT2LMHeadModel(gpt2.config()), decoder), small(gpt2.inputs, "gpt2-lm"))


def without_head():
    """An adapter on `BertModel` has no head beside it."""
    folder, batch = fresh(OUT / "no-head"), small(bert.inputs, "no-head", 2)
    frozen = load_file(bert.OUT / "model" / "model.safetensors")
    model = load(BertModel(bert.config()), {k.removeprefix("bert."): v for k, v in frozen.items()})
    adapters.init(model)
    model.add_adapter(NAME, config=SeqBnConfig())
    model.set_active_adapters(NAME)
    randomize(model, "no-head", [f"adapters.{NAME}."])
    model.save_adapter(str(folder), NAME)
    with torch.no_grad():
        hidden = bert.run(model.double().eval(), batch)[0]
    write(folder, batch, dict(last_hidden_state=hidden, cu_seqlens=cu_seqlens(batch)))


def peft():
    """PEFT's own default before safetensors."""
    folder = fresh(OUT / "peft-bin")
    frozen = load_file(bert.OUT / "model" / "model.safetensors")
    model = load(BertForSequenceClassification(bert.config()), frozen)
    model = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", r=2, lora_alpha=4, target_modules=["query", "value"]))
    randomize(model, "peft-bin", ["lora_", "modules_to_save"])
    save_peft(model, folder)
    model.save_pretrained(folder, safe_serialization=False)
    for left in ["README.md", "adapter_model.safetensors"]:
        (folder / left).unlink()
    edit(folder / CONFIG, lambda card: [v.sort() for v in card.values() if isinstance(v, list)])
    answer(folder, bert, model, small(bert.inputs, "peft-bin", 2))


def models():
    """Model directories before safetensors: one file, and shards. Norms are called as in TensorFlow, fields are those of 2019."""
    config = BertConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12, vocab_size=13,
                        max_position_embeddings=8, attn_implementation="eager")
    model = BertForSequenceClassification(config)
    randomize(model, "models")
    batch = dict(input_ids=[[1, 2, 3], [12, 0, 4, 5, 11, 6, 7, 8]], token_type_ids=[[0, 0, 1], [0] * 4 + [1] * 4])
    old = lambda k: k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
    for name, shard in [("model-bin", "1GB"), ("model-shards", "8KB")]:
        folder = fresh(OUT / name)
        model.float().save_pretrained(folder, safe_serialization=False, max_shard_size=shard)
        fields = ["attention_probs_dropout_prob", "hidden_act", "hidden_dropout_prob", "hidden_size", "initializer_range",
                  "intermediate_size", "max_position_embeddings", "num_attention_heads", "num_hidden_layers", "vocab_size"]
        known = config.to_dict()
        card = {k: known[k] for k in fields} | dict(
            architectures=["BertForSequenceClassification"], eos_token_ids=0, output_past=True, pruned_heads={},
            xla_device=None, finetuning_task=None, do_sample=False, torchscript=False)
        (folder / "config.json").write_text(json.dumps(card, indent=2, sort_keys=True) + "\n")
        if name == "model-bin":
            state = torch.load(folder / "pytorch_model.bin", weights_only=True)
            torch.save(OrderedDict((old(k), v) for k, v in state.items()), folder / "pytorch_model.bin",
                       _use_new_zipfile_serialization=False)
        again = BertModel.from_pretrained(folder).double().eval()
        with torch.no_grad():
            hidden = bert.run(again, batch)[0]
        write(folder, batch, dict(last_hidden_state=hidden, cu_seqlens=cu_seqlens(batch)))


def main():
    torch_files()
    cases()
    built_ins()
    without_head()
    peft()
    models()
    sizes(OUT)


if __name__ == "__main__":
    main()
