"""Writes tests/fixtures/encoders: what tiny random RoBERTas, DistilBERTs, ELECTRAs, ALBERTs and ModernBERTs do.

The oracles are `transformers`, `adapters` and `peft`. A family is an entry of
FAMILIES; its variants are models of their own for the branches of its configuration. common.py says how numbers are computed.
"""

import json
import sys
from dataclasses import dataclass, field

import torch
import transformers
from safetensors.torch import load_file, save_file

from transformers.models.distilbert.modeling_distilbert import create_sinusoidal_embeddings

import adapters
from adapters import AdapterModelInterface, DoubleSeqBnConfig, LoRAConfig, ParBnConfig, PrefixTuningConfig, SeqBnConfig, SeqBnInvConfig

from peft import LoraConfig, get_peft_model

import compose
from common import (FIXTURES, IGNORED, NAME, class_loss, cu_seqlens, fresh, lengths, load, of_tokens, randomize, record, save_peft,
                    sizes, write)

OUT = FIXTURES / "encoders"
VOCAB, LONGEST, LABELS = 43, 18, 3
# C is 4 heads of 5 channels: an odd width
COMMON = dict(vocab_size=VOCAB, attn_implementation="eager")
BERT = COMMON | dict(hidden_size=20, num_hidden_layers=2, num_attention_heads=4, intermediate_size=28,
                     max_position_embeddings=LONGEST, type_vocab_size=2)
SMALL = dict(hidden_size=12, num_hidden_layers=1, num_attention_heads=4, intermediate_size=9)

CASES = ("houlsby", "pfeiffer", "parallel", "lora", "prefix", "invertible", "fusion")


@dataclass
class Family:
    """`classes` begin with `name`, the model without heads is called `root` in them, and `options` are of its configuration."""

    name: str
    root: str
    options: dict
    variants: dict = field(default_factory=dict)
    types: bool = True
    pooler: bool = True
    cases: tuple = CASES
    peft: dict = None  # where its LoRA stands, and what else of the head it saves
    interface: AdapterModelInterface = None  # what `adapters` is told of a model for which it has no class

    def config(self, **more):
        """A new one for each model: `adapters` writes into the config it is given."""
        return getattr(transformers, self.name + "Config")(**self.options | more)

    def model(self, task, **more):
        return getattr(transformers, self.name + task)(self.config(**more))

    def adapter_model(self):
        if self.interface is None:
            return getattr(adapters, self.name + "AdapterModel")(self.config())
        model = self.model("ForMaskedLM")
        own = {name for name, _ in model.named_parameters()}
        adapters.init(model, interface=self.interface)
        for name, p in model.named_parameters():
            if name not in own:  # the library gives the projection of queries, keys and values a random bias
                p.data.zero_()
        return model


ADAPTERS = {
    "houlsby": (DoubleSeqBnConfig(reduction_factor=4), {}),
    "pfeiffer": (SeqBnConfig(reduction_factor=5), dict(layers=1)),
    "parallel": (ParBnConfig(mh_adapter=True, reduction_factor=4), dict(layers=1)),
    "lora": (LoRAConfig(r=2, alpha=3, attn_matrices=["q", "k", "v"], intermediate_lora=True, output_lora=True), dict(layers=1)),
    "prefix": (PrefixTuningConfig(prefix_length=3, bottleneck_size=4), dict(layers=1)),
    "invertible": (SeqBnInvConfig(reduction_factor=10), dict(layers=1)),
}
DISTILBERT = COMMON | dict(dim=20, n_layers=2, n_heads=4, hidden_dim=28, max_position_embeddings=LONGEST)
ALBERT = BERT | dict(embedding_size=8, num_hidden_layers=3)
MODERNBERT = COMMON | dict(
    hidden_size=16, intermediate_size=20, num_hidden_layers=3, num_attention_heads=4, max_position_embeddings=LONGEST, pad_token_id=0,
    local_attention=4, reference_compile=False, classifier_pooling="cls", attn_implementation="sdpa",
)
NARROW = dict(hidden_size=12, num_hidden_layers=2, num_attention_heads=2, intermediate_size=9)
MODERNBERT_INTERFACE = AdapterModelInterface(
    adapter_methods=["bottleneck", "lora", "reft", "invertible"], model_embeddings="embeddings", model_layers="layers",
    layer_self_attn="attn", layer_cross_attn=None, attn_qkv_proj="Wqkv", attn_o_proj="Wo", layer_intermediate_proj="mlp.Wi",
    layer_output_proj="mlp.Wo", layer_pre_self_attn="attn_norm", layer_pre_ffn="mlp_norm",
)
# positions begin behind the padding token
ROBERTA = BERT | dict(pad_token_id=1, max_position_embeddings=LONGEST + 2, type_vocab_size=1)
FAMILIES = {
    "bert": Family("Bert", "bert", BERT, cases=(), variants={  # bert.py has the rest
        "untied": dict(tie_word_embeddings=False, hidden_act="relu", layer_norm_eps=1e-3, **SMALL),
    }),
    "roberta": Family("Roberta", "roberta", ROBERTA, cases=(*CASES, "peft"), peft=dict(target_modules=["query", "value"]), variants={
        "types": dict(type_vocab_size=3, hidden_act="relu", layer_norm_eps=1e-3, **SMALL),
        "padding-0": dict(pad_token_id=0, max_position_embeddings=LONGEST + 1, hidden_act="gelu_new", **SMALL),
        "padding-7": dict(pad_token_id=7, max_position_embeddings=LONGEST + 8, tie_word_embeddings=False, **SMALL),
    }),
    "xlm-roberta": Family("XLMRoberta", "roberta", ROBERTA, cases=("houlsby",), variants={  # the same code as RoBERTa's
        "types": dict(type_vocab_size=2, tie_word_embeddings=False, **SMALL),
    }),
    "distilbert": Family("DistilBert", "distilbert", DISTILBERT, types=False, pooler=False, cases=(*CASES, "peft"), peft=dict(
        target_modules=["q_lin", "lin1"], modules_to_save=["pre_classifier"],
    ), variants={
        "sinusoidal": dict(dim=12, n_layers=1, hidden_dim=9, sinusoidal_pos_embds=True),
        "untied": dict(dim=12, n_layers=1, hidden_dim=9, activation="relu", tie_word_embeddings=False),
    }),
    "electra": Family("Electra", "electra", BERT | dict(embedding_size=8), pooler=False, cases=(*CASES, "peft"), peft=dict(
        target_modules=["value", "attention.output.dense"],
    ), variants={
        "same-width": SMALL | dict(embedding_size=12, hidden_act="gelu_new", layer_norm_eps=1e-3),
        "untied": SMALL | dict(embedding_size=16, type_vocab_size=1, tie_word_embeddings=False),
    }),
    "albert": Family("Albert", "albert", ALBERT, variants={
        "groups": SMALL | dict(embedding_size=6, num_hidden_layers=4, num_hidden_groups=2, hidden_act="gelu"),
        "inner": SMALL | dict(embedding_size=12, num_hidden_layers=2, inner_group_num=2, layer_norm_eps=1e-3),
        "uneven": SMALL | dict(embedding_size=6, num_hidden_layers=3, num_hidden_groups=2,
                               tie_word_embeddings=False),
    }),
    "modernbert": Family(
        "ModernBert", "model", MODERNBERT, types=False, pooler=False, interface=MODERNBERT_INTERFACE, variants={
            "biases": NARROW | dict(attention_bias=True, mlp_bias=True, norm_bias=True, classifier_bias=True, decoder_bias=False,
                                    hidden_activation="silu", classifier_activation="relu", norm_eps=1e-3),
            "wide-window": NARROW | dict(global_attn_every_n_layers=2, local_attention=7, local_rope_theta=None,
                                         global_rope_theta=500.0, classifier_pooling="mean", tie_word_embeddings=False),
            "scaled": NARROW | dict(global_attn_every_n_layers=2, global_rope_theta=500.0, local_rope_theta=100.0, rope_scaling=dict(
                rope_type="yarn", factor=3.0, original_max_position_embeddings=6)),
            "global": NARROW | dict(global_attn_every_n_layers=1, hidden_activation="gelu_new"),
        }, cases=("houlsby", "pfeiffer", "parallel", "lora", "invertible", "fusion", "peft"),
        peft=dict(target_modules=["Wqkv", "Wi", "Wo"]),
    ),
}
BODIES = {family.name + "Model" for family in FAMILIES.values()}
MARKS = ["prefix_tuning", "invertible_adapters", f"adapters.{NAME}.", f"loras.{NAME}.", f"heads.{NAME}."]


def inputs(family, seed, config, padding=False):
    """Ragged sequences, from one token to the longest; with padding tokens in the middle of texts, or none."""
    r, of = lengths((family.name, seed), LONGEST)
    others = [i for i in range(VOCAB) if i != config.pad_token_id]
    batch = dict(input_ids=[r.choice(others, n).tolist() for n in of])
    if padding:
        for ids in batch["input_ids"]:
            for at in r.integers(0, len(ids), len(ids) // 4):
                ids[at] = config.pad_token_id
    if family.types:
        batch["token_type_ids"] = [sorted(r.integers(0, config.type_vocab_size, n).tolist()) for n in of]
    return r, batch


def run(model, batch):
    """(last hidden states, what the model gives for each sequence): one sequence at a time, nothing of it masked."""
    hidden, out = [], []
    body = next(m for m in model.modules() if type(m).__name__ in BODIES)
    handle = body.register_forward_hook(lambda _m, _i, out: hidden.append(out[0][0]))
    for i, ids in enumerate(batch["input_ids"]):
        more = {"token_type_ids": torch.tensor([batch["token_type_ids"][i]])} if "token_type_ids" in batch else {}
        out.append(model(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), **more))
    handle.remove()
    return of_tokens(model, hidden, batch), out


def classify(model, batch):
    hidden, out = run(model, batch)
    logits = torch.stack([o.logits[0] for o in out])
    return hidden, logits, class_loss(logits, batch["labels"])


def fill(model, batch):
    hidden, out = run(model, batch)
    logits = torch.cat([o.logits[0] for o in out])
    return hidden, logits, class_loss(logits, [label for labels in batch["labels"] for label in labels])


def masked(family, seed, config):
    """A third of the tokens have a label, which is any token."""
    r, batch = inputs(family, seed, config)
    label = lambda: int(r.integers(0, VOCAB)) if r.random() < 0.4 else IGNORED
    return batch | dict(labels=[[label() for _ in ids] for ids in batch["input_ids"]])


def labelled(family, seed, config):
    r, batch = inputs(family, seed, config)
    return batch | dict(labels=r.integers(0, LABELS, len(batch["input_ids"])).tolist())


def once(model):
    """Names of parameters in files: a tensor that has two is saved under the first; prefixes are generated in one place."""
    first = {}
    for name, p in model.named_parameters(remove_duplicate=False):
        first.setdefault(id(p), name)
    pool = [n for n, _ in model.named_parameters(remove_duplicate=False) if ".prefix_tuning.pool." in n]
    root = model.base_model_prefix

    def rename(name):
        if name in pool:
            # `adapters` calls them `self` on DistilBERT alone; engraft does so in files
            return f"{root}.prefix_tuning." + name.split(".prefix_tuning.pool.")[1].replace(f"{NAME}.self.", f"{NAME}.self_prefix.")
        return name if first[id(dict(model.named_parameters(remove_duplicate=False))[name])] == name else None

    return rename


def save_model(model, folder):
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)


def backbone(key, family):
    """The shared model: transformers' class for masked language models, and the pooler that only others have."""
    folder = fresh(OUT / key / "model")
    model = family.model("ForMaskedLM")
    randomize(model, key)
    save_model(model, folder)
    tensors = load_file(folder / "model.safetensors")
    if family.pooler:
        body = family.model("Model")
        randomize(body, key, ["pooler"])
        tensors |= {f"{family.root}.{n}": p.data for n, p in body.named_parameters() if n.startswith("pooler")}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return tensors


def of_class(family, task, tensors, **more):
    """A model of this class with those of the tensors that it has."""
    model = family.model(task, **more)
    own = model.state_dict()
    return load(model, {n: t for n, t in tensors.items() if n in own})


def plain(key, family, tensors):
    """Padding tokens in the middle of texts; the pooler, and logits of every token."""
    folder = fresh(OUT / key / "plain")
    model = of_class(family, "ForMaskedLM", tensors).double().eval()
    _, batch = inputs(family, "plain", model.config, padding=True)
    hidden, out = run(model, batch)
    expected = dict(last_hidden_state=hidden, logits=torch.cat([o.logits[0] for o in out]), cu_seqlens=cu_seqlens(batch))
    if family.pooler:
        body = family.model("Model")
        load(body, {n.removeprefix(family.root + "."): t for n, t in tensors.items() if n.startswith(family.root + ".")})
        expected["pooler_output"] = torch.cat([o.pooler_output for o in run(body.double().eval(), batch)[1]])
    write(folder, batch, expected)


def full(key, family, tensors):
    """Full fine-tuning of transformers' classifier, whose head is saved as `adapters` saves a built-in one."""
    folder = fresh(OUT / key / "full")
    model = of_class(family, "ForSequenceClassification", tensors, num_labels=LABELS)
    randomize(model, (key, "full"), ["classifier", "pre_classifier"])
    if family.interface:  # one layer on what engraft calls the pooler
        save_head(key, family, folder, model.classifier, use_pooler=True)
        rename = lambda name: name.replace("classifier.", f"heads.{NAME}.1.")
        record(folder, model, labelled(family, "full", model.config), classify, rename, curve=False)
        return
    copy = family.model("ForSequenceClassification", num_labels=LABELS)
    copy.load_state_dict(model.state_dict())
    adapters.init(copy)
    copy.save_head(str(folder), use_safetensors=True)
    record(folder, model, labelled(family, "full", model.config), classify, curve=False)


def variant(key, family, name):
    """A model of its own, and every gradient of its loss as a masked language model."""
    folder = fresh(OUT / key / name)
    model = family.model("ForMaskedLM", **family.variants[name])
    randomize(model, (key, name))
    if family.variants[name].get("sinusoidal_pos_embds"):
        table = model.base_model.embeddings.position_embeddings.weight
        create_sinusoidal_embeddings(*table.shape, table.data)
    save_model(model, folder)
    # as it is loaded, which decides what trains
    model = type(model).from_pretrained(folder, attn_implementation=family.options["attn_implementation"], dtype=torch.float32)
    record(folder, model, masked(family, name, model.config), fill, once(model), curve=False)


def save_head(key, family, folder, linear, use_pooler):
    """A head of one layer, in the files of a library that cannot have it on this model."""
    fields = dict(head_type="classification", num_labels=LABELS, layers=1, activation_function=None, bias=True, use_pooler=use_pooler,
                  dropout_prob=None, label2id={f"LABEL_{i}": i for i in range(LABELS)})
    card = dict(config=fields, hidden_size=family.config().hidden_size, model_class=family.name + "Model", model_name="",
                model_type=key, name=NAME, version="adapters." + adapters.__version__)
    (folder / "head_config.json").write_text(json.dumps(card, indent=2, sort_keys=True))
    tensors = {f"heads.{NAME}.1.{n}": p.data.clone() for n, p in linear.named_parameters()}
    save_file(tensors, folder / "model_head.safetensors", metadata={"format": "pt"})


def on_first(model, batch):
    hidden, _ = run(model, batch)
    logits = model.heads[NAME](hidden[cu_seqlens(batch)[:-1]])
    return hidden, logits, class_loss(logits, batch["labels"])


def own_case(key, family, tensors, name):
    """An adapter on a model that `adapters` knows by its interface, with one layer on the first token."""
    folder = fresh(OUT / key / name)
    model = load(family.adapter_model(), {n: t for n, t in tensors.items() if n != "decoder.weight"})
    model.add_adapter(NAME, config=ADAPTERS[name][0])
    model.train_adapter(NAME)
    for n, p in model.named_parameters():
        p.requires_grad = any(mark in n for mark in MARKS)
    model.heads = torch.nn.ModuleDict({NAME: torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Linear(model.config.hidden_size, LABELS))})
    randomize(model, (key, name), MARKS)
    model.save_adapter(str(folder), NAME, with_head=False, use_safetensors=True)
    save_head(key, family, folder, model.heads[NAME][1], use_pooler=False)
    record(folder, model, labelled(family, name, model.config), on_first, once(model))


def peft_case(key, family, tensors):
    folder = fresh(OUT / key / "peft")
    model = of_class(family, "ForSequenceClassification", tensors, num_labels=LABELS)
    model = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", r=3, lora_alpha=5, **family.peft))
    randomize(model, (key, "peft"), ["lora_", "modules_to_save"])
    rename = save_peft(model, folder)
    record(folder, model, labelled(family, "peft", model.config), classify, rename)


def case(key, family, tensors, name):
    folder = fresh(OUT / key / name)
    adapter, head = ADAPTERS[name]
    model = family.adapter_model()
    own = model.state_dict()
    load(model, {n: t for n, t in tensors.items() if n in own})
    model.add_adapter(NAME, config=adapter)
    use_pooler = family.pooler and name == "pfeiffer"
    model.add_classification_head(NAME, num_labels=LABELS, **head, **({"use_pooler": True} if use_pooler else {}))
    model.train_adapter(NAME)
    model.active_head = NAME
    randomize(model, (key, name), MARKS)
    try:
        model.save_adapter(str(folder), NAME, use_safetensors=True)
    except RuntimeError:  # tensors that are shared
        fresh(folder)
        model.save_adapter(str(folder), NAME, use_safetensors=False)
    record(folder, model, labelled(family, name, model.config), classify, once(model))


def fusion(key, family):
    """A fusion of two adapters at both places, as compose.py has it."""
    folder = fresh(OUT / key / "compose")
    compose.FAMILIES[key] = (family.adapter_model, OUT / key, lambda m: m.base_model)
    model = compose.base(key, ["d", "e"], "double")
    for name in ["d", "e"]:
        model.save_adapter(str(fresh(folder / "adapters" / name)), name, use_safetensors=True, with_head=False)
    model.save_adapter_fusion(str(fresh(folder / "fusions" / "double")), "d,e", use_safetensors=True)
    text, setup, options = compose.CASES["fuse-double"]
    tensors = compose.run(key, "fuse-double", setup, options)
    save_file({n: t.detach().float().contiguous() for n, t in tensors.items()}, folder / "expected.safetensors")
    sequences = list(range(len(compose.SEQUENCES)))
    one = dict(name="fuse-double", setup=text, fusion="double", sequences=sequences, skip=[], compat=False, shares=[])
    (folder / "cases.json").write_text(json.dumps(dict(sequences=compose.SEQUENCES, cases=[one]), indent=1) + "\n")


def main():
    for key in sys.argv[1:] or FAMILIES:
        family = FAMILIES[key]
        fresh(OUT / key)
        tensors = backbone(key, family)
        plain(key, family, tensors)
        full(key, family, tensors)
        for name in family.variants:
            variant(key, family, name)
        for name in family.cases:
            if name == "fusion":
                fusion(key, family)
            elif name == "peft":
                peft_case(key, family, tensors)
            else:
                (own_case if family.interface else case)(key, family, tensors, name)
        sizes(OUT / key)


if __name__ == "__main__":
    main()
