"""Writes tests/fixtures/bert: what a tiny random BERT does with every kind of bottleneck adapter.

The oracle is AdapterHub's `adapters`. Each case holds an adapter as that library saves it, the inputs, and the outputs, the
loss, the gradients and ten losses of training; common.py says how they are computed.
"""

import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertForSequenceClassification
from transformers.activations import ACT2CLS
from transformers.models.bert.modeling_bert import BertEncoder

import adapters
from adapters import (
    AdapterPlusConfig,
    BertAdapterModel,
    BnConfig,
    CompacterConfig,
    CompacterPlusPlusConfig,
    DoubleSeqBnConfig,
    ParBnConfig,
    SeqBnConfig,
)
from adapters.methods.modeling import Activation_Function_Class

from common import FIXTURES, NAME, class_loss, cu_seqlens, fresh, keep_rules, lengths, load, of_tokens, randomize, record, sizes, write

OUT = FIXTURES / "bert"
VOCAB, POSITIONS = 61, 24


def linear_head(labels, **options):
    """One linear layer (the library's default is two with a tanh between)."""
    return dict(num_labels=labels, layers=1, **options)


# name: (adapter, head)
CASES = {
    "houlsby": (DoubleSeqBnConfig(reduction_factor=4), dict(num_labels=2)),
    "pfeiffer": (SeqBnConfig(reduction_factor=2), linear_head(3, use_pooler=True)),
    "parallel": (ParBnConfig(reduction_factor=3), linear_head(5)),
    "scaled-parallel": (
        ParBnConfig(reduction_factor=5, scaling="learned"),
        dict(num_labels=3, activation_function="gelu_new"),
    ),
    "adapter-plus": (
        AdapterPlusConfig(reduction_factor=8, stochastic_depth=0.0),
        dict(num_labels=2, use_pooler=True),
    ),
    # "Add & Norm, then an adapter with its own residual", after attention and after the feed-forward part.
    "s0": (
        BnConfig(mh_adapter=True, output_adapter=True, reduction_factor=6, non_linearity="gelu",
                 original_ln_before=True, original_ln_after=False, residual_before_ln=False),
        linear_head(5, use_pooler=True),
    ),
    "post-add": (
        BnConfig(mh_adapter=True, output_adapter=True, reduction_factor=4, non_linearity="tanh",
                 original_ln_before=True, residual_before_ln="post_add", ln_before=True, ln_after=True),
        dict(num_labels=3, id2label={0: "entailment", 1: "neutral", 2: "contradiction"}),
    ),
    "res-before-ln": (
        BnConfig(mh_adapter=False, output_adapter=True, reduction_factor=32, non_linearity="leakyrelu",
                 adapter_residual_before_ln=True, ln_after=True),
        linear_head(2, id2label={0: "neg", 1: "pos"}),
    ),
    "leave-out": (
        DoubleSeqBnConfig(reduction_factor=4, leave_out=[1]),
        linear_head(2, use_pooler=True),
    ),
    # 32 // 2.5 = 12 by default, 32 // 4 = 8 in layer 0, and never less than 1 in layer 1.
    "per-layer": (
        DoubleSeqBnConfig(reduction_factor={"default": 2.5, "0": 4, "1": 64}),
        linear_head(5),
    ),
    # own norms around what the model's norms are around too, and a constant scale
    "norms": (
        BnConfig(mh_adapter=True, output_adapter=True, reduction_factor=5, non_linearity="relu", scaling=2.5,
                 original_ln_before=True, ln_before=True, residual_before_ln=False),
        linear_head(2),
    ),
    "parallel-norms": (
        ParBnConfig(mh_adapter=True, reduction_factor=7, scaling="channel", ln_before=True, ln_after=True),
        linear_head(3),
    ),
    "gated": (DoubleSeqBnConfig(reduction_factor=4, use_gating=True, scaling="learned"), linear_head(2)),
    "gated-parallel": (ParBnConfig(reduction_factor=6, use_gating=True, leave_out=[0]), linear_head(3)),
    "compacter": (CompacterConfig(reduction_factor=4), linear_head(2)),
    "compacter++": (
        CompacterPlusPlusConfig(reduction_factor=2, phm_rank=3, phm_bias=False, factorized_phm_rule=True),
        linear_head(3),
    ),
    # every projection has a rule of its own, which stays as it is, and matrices that are no products
    "phm-own": (
        CompacterConfig(reduction_factor=4, phm_dim=2, shared_phm_rule=False, learn_phm=False, factorized_phm_W=False,
                        ln_before=True, use_gating=True, non_linearity="tanh"),
        linear_head(2),
    ),
    # the matrices are shared instead of the rules
    "phm-shared": (
        CompacterPlusPlusConfig(reduction_factor=4, phm_rank=2, shared_phm_rule=False, shared_W_phm=True,
                                factorized_phm_rule=True, scaling=0.5),
        linear_head(5),
    ),
}


def config(**more):
    """A new one for each model: `adapters` writes into the config it is given."""
    return BertConfig(
        architectures=["BertModel"], hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=40, vocab_size=VOCAB, max_position_embeddings=POSITIONS, type_vocab_size=2,
        hidden_act="gelu", attn_implementation="eager", **more,
    )


def inputs(seed, labels, longest=POSITIONS):
    """Ragged sequences from 1 token to the longest the model takes; no token is the padding token 0."""
    r, of = lengths(seed, longest)
    return dict(
        input_ids=[r.integers(1, VOCAB, n).tolist() for n in of],
        token_type_ids=[sorted(r.integers(0, 2, n).tolist()) for n in of],
        labels=r.integers(0, labels, len(of)).tolist(),
    )


def run(model, batch):
    """(last hidden states, what the model gives for each sequence): one sequence at a time."""
    hidden, out = [], []
    body = next(m for m in model.modules() if isinstance(m, BertEncoder))
    handle = body.register_forward_hook(lambda _m, _i, out: hidden.append(out[0][0]))
    for ids, types in zip(batch["input_ids"], batch["token_type_ids"]):
        out.append(model(input_ids=torch.tensor([ids]), token_type_ids=torch.tensor([types])))
    handle.remove()
    return of_tokens(model, hidden, batch), out


def forward(model, batch):
    """(last hidden states, logits, mean loss) of a classification."""
    hidden, out = run(model, batch)
    logits = torch.stack([o.logits[0] for o in out])
    return hidden, logits, class_loss(logits, batch["labels"])


def backbone():
    """The frozen model, as a Hugging Face directory; returns its tensors."""
    folder = fresh(OUT / "model")
    model = BertForSequenceClassification(config())
    randomize(model, "backbone")
    tensors = {k: v for k, v in model.state_dict().items() if k.startswith("bert.")}
    model.config.save_pretrained(folder)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return tensors


def plain(tensors):
    folder, batch = fresh(OUT / "plain"), inputs("plain", 2)
    model = load(BertAdapterModel(config()), tensors).double().eval()
    hidden, pooled = [], []
    for ids, types in zip(batch["input_ids"], batch["token_type_ids"]):
        out = model.bert(input_ids=torch.tensor([ids]), token_type_ids=torch.tensor([types]))
        hidden.append(out.last_hidden_state[0])
        pooled.append(out.pooler_output[0])
    del batch["labels"]
    write(folder, batch, dict(last_hidden_state=torch.cat(hidden), pooler_output=torch.stack(pooled),
                              cu_seqlens=cu_seqlens(batch)))


def full(tensors):
    """Full fine-tuning: every weight trains. The head is saved as `adapters` saves a built-in one."""
    folder, batch = fresh(OUT / "full"), inputs("full", 3)
    model = BertForSequenceClassification(config(num_labels=3))
    randomize(model, "full", ["classifier"])
    load(model, tensors)
    copy = BertForSequenceClassification(config(num_labels=3))
    copy.load_state_dict(model.state_dict())
    adapters.init(copy)
    copy.save_head(str(folder), use_safetensors=True)
    record(folder, model, batch, forward)


def case(name, tensors):
    folder = fresh(OUT / name)
    adapter, head = CASES[name]
    model = load(BertAdapterModel(config()), tensors)
    model.add_adapter(NAME, config=adapter)
    model.add_classification_head(NAME, **head)
    model.train_adapter(NAME)
    model.active_head = NAME
    grafted = (f".adapters.{NAME}.", f".shared_parameters.{NAME}.")
    randomize(model, name, [*grafted, f"heads.{NAME}."])
    keep_rules(model, adapter)
    try:
        model.save_adapter(str(folder), NAME, use_safetensors=True)
    except RuntimeError:  # `ln_before` is saved under two names, which safetensors refuses: write both
        state = {k: v.clone() for k, v in model.state_dict().items() if any(part in k for part in grafted)}
        save_file(state, folder / "adapter.safetensors")
        model.save_head(str(folder), NAME, use_safetensors=True)
    record(folder, model, inputs(name, head["num_labels"]), forward)


def acts():
    """Every activation without parameters: x, y and dy/dx in float64, under the names of both libraries."""
    folder = fresh(OUT / "acts")
    x = torch.linspace(-6, 6, 97, dtype=torch.float64)
    out = dict(x=x)
    for name in [*ACT2CLS, "leakyrelu", None]:
        act = Activation_Function_Class(name)
        if any(True for _ in act.parameters()):
            continue
        at = x.clone().requires_grad_()
        y = act(at)
        y.sum().backward()
        out[f"{name or 'identity'}.y"], out[f"{name or 'identity'}.dy"] = y.detach().clone(), at.grad
    save_file(out, folder / "expected.safetensors")


def main():
    weights = backbone()
    plain(weights)
    full(weights)
    for name in CASES:
        case(name, weights)
    acts()
    sizes(OUT)


if __name__ == "__main__":
    main()
