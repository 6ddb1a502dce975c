"""Writes tests/fixtures/bert: what a tiny random BERT does with every kind of bottleneck adapter.

The oracle is AdapterHub's `adapters`. Each case holds an adapter as that library saves it, the inputs,
and the outputs, the loss, the gradients and ten losses of training. Three choices make the numbers a
definition rather than a sample: all weights are random, so nothing hides behind a zero or an identity;
everything is computed in float64 from float32 weights; sequences run one by one, so there is no padding
(a packed batch must give each sequence what it gets alone). Dropout is off.
"""

import json
import logging
import shutil
import warnings
import zlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch.optim import AdamW
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    get_linear_schedule_with_warmup,
)
from transformers.activations import ACT2CLS

import adapters
from adapters import (
    AdapterPlusConfig,
    BertAdapterModel,
    BnConfig,
    DoubleSeqBnConfig,
    ParBnConfig,
    SeqBnConfig,
)
from adapters.methods.modeling import Activation_Function_Class

warnings.filterwarnings("ignore")
logging.getLogger("adapters").setLevel(logging.ERROR)
logging.getLogger("transformers").setLevel(logging.ERROR)
torch.set_num_threads(1)

OUT = Path(__file__).resolve().parents[1] / "fixtures" / "bert"
VOCAB, POSITIONS = 61, 24
NAME = "task"  # of every adapter and of its head
CURVE = dict(optimizer="AdamW", lr=1e-2, betas=[0.9, 0.999], eps=1e-8, weight_decay=0.1,
             schedule="linear", warmup_steps=2, steps=10, clip_norm=1.0)


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
}


def config(**more):
    """A new one for each model: `adapters` writes into the config it is given."""
    return BertConfig(
        architectures=["BertModel"], hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=40, vocab_size=VOCAB, max_position_embeddings=POSITIONS, type_vocab_size=2,
        hidden_act="gelu", attn_implementation="eager", **more,
    )


def rng(*key):
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


def randomize(module, seed, only=""):
    """Random values that keep activations of order 1: norms and scales around 1, the rest around 0."""
    kinds = {id(p): kind for kind in module.modules() for p in kind.parameters(recurse=False)}
    for name, p in module.named_parameters():
        if only not in name:
            continue
        x = rng(seed, name).standard_normal(tuple(p.shape))
        if name.endswith("scaling") or (isinstance(kinds[id(p)], torch.nn.LayerNorm) and name.endswith("weight")):
            x = 1 + 0.2 * x
        elif p.dim() == 1:
            x = 0.2 * x
        elif "embeddings" in name:
            x = 0.5 * x
        else:
            x = x / p.shape[1] ** 0.5
        p.data = torch.tensor(x, dtype=torch.float32)


def inputs(seed, labels):
    """Ragged sequences from 1 token to the longest the model takes; no token is the padding token 0."""
    r = rng(seed, "inputs")
    lengths = [int(n) for n in r.permutation([1, POSITIONS, 2, *r.integers(3, 20, 3)])]
    return dict(
        input_ids=[r.integers(1, VOCAB, n).tolist() for n in lengths],
        token_type_ids=[sorted(r.integers(0, 2, n).tolist()) for n in lengths],
        labels=r.integers(0, labels, len(lengths)).tolist(),
    )


def forward(model, batch):
    """(last hidden states, logits, mean loss): one sequence at a time."""
    hidden, logits = [], []
    handle = model.bert.encoder.register_forward_hook(lambda _m, _i, out: hidden.append(out[0][0]))
    for ids, types in zip(batch["input_ids"], batch["token_type_ids"]):
        out = model(input_ids=torch.tensor([ids]), token_type_ids=torch.tensor([types]))
        logits.append(out.logits[0])
    handle.remove()
    logits = torch.stack(logits)
    return torch.cat(hidden), logits, F.cross_entropy(logits, torch.tensor(batch["labels"]))


def train(model, batch):
    """The losses before each of ten updates, the gradient norms before clipping, and the settings."""
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    decays = set(Trainer.get_decay_parameter_names(None, model))  # the rule of Hugging Face's Trainer
    groups = [
        dict(params=[p for n, p in trained.items() if n in decays], weight_decay=CURVE["weight_decay"]),
        dict(params=[p for n, p in trained.items() if n not in decays], weight_decay=0.0),
    ]
    adamw = AdamW(groups, lr=CURVE["lr"], betas=CURVE["betas"], eps=CURVE["eps"])
    schedule = get_linear_schedule_with_warmup(adamw, CURVE["warmup_steps"], CURVE["steps"])
    losses, norms, rates = [], [], []
    for _ in range(CURVE["steps"]):
        loss = forward(model, batch)[2]
        adamw.zero_grad()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(trained.values(), CURVE["clip_norm"]))
        losses.append(loss.detach())
        rates.append(schedule.get_last_lr()[0])
        adamw.step()
        schedule.step()
    about = CURVE | dict(lr_of_step=rates, decayed=[n for n in trained if n in decays],
                         not_decayed=[n for n in trained if n not in decays])
    return torch.stack(losses), torch.stack(norms), about


def cu_seqlens(batch):
    return torch.tensor([0] + np.cumsum([len(ids) for ids in batch["input_ids"]]).tolist())


def write(folder, batch, tensors):
    (folder / "input.json").write_text(json.dumps(batch) + "\n")
    keep = {k: v.detach() if v.dtype == torch.int64 else v.detach().float() for k, v in tensors.items()}
    save_file({k: v.contiguous().clone() for k, v in keep.items()}, folder / "expected.safetensors")


def record(folder, model, batch):
    """Runs a saved case in float64 and writes input.json, expected.safetensors and curve.json."""
    model.double().eval()
    hidden, logits, loss = forward(model, batch)
    loss.backward()
    expected = dict(last_hidden_state=hidden, cu_seqlens=cu_seqlens(batch), logits=logits, loss=loss)
    for name, p in model.named_parameters(remove_duplicate=False):
        if p.requires_grad:
            expected["grad." + name] = p.grad.clone()
    curve, norms, about = train(model, batch)
    write(folder, batch, expected | dict(curve=curve, curve_norm=norms))
    (folder / "curve.json").write_text(json.dumps(about, indent=2) + "\n")


def fresh(name):
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def backbone():
    """The frozen model, as a Hugging Face directory; returns its tensors."""
    folder = fresh("model")
    model = BertForSequenceClassification(config())
    randomize(model, "backbone")
    tensors = {k: v for k, v in model.state_dict().items() if k.startswith("bert.")}
    model.config.save_pretrained(folder)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return tensors


def load(model, tensors):
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    assert not unexpected and not set(missing) & set(tensors)
    return model


def plain(tensors):
    folder, batch = fresh("plain"), inputs("plain", 2)
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
    folder, batch = fresh("full"), inputs("full", 3)
    model = BertForSequenceClassification(config(num_labels=3))
    randomize(model, "full", "classifier")
    load(model, tensors)
    copy = BertForSequenceClassification(config(num_labels=3))
    copy.load_state_dict(model.state_dict())
    adapters.init(copy)
    copy.save_head(str(folder), use_safetensors=True)
    record(folder, model, batch)


def case(name, tensors):
    folder = fresh(name)
    adapter, head = CASES[name]
    model = load(BertAdapterModel(config()), tensors)
    model.add_adapter(NAME, config=adapter)
    model.add_classification_head(NAME, **head)
    model.train_adapter(NAME)
    model.active_head = NAME
    randomize(model, name, f"adapters.{NAME}.")
    randomize(model, name, f"heads.{NAME}.")
    try:
        model.save_adapter(str(folder), NAME, use_safetensors=True)
    except RuntimeError:  # `ln_before` is saved under two names, which safetensors refuses: write both
        state = {k: v.clone() for k, v in model.state_dict().items() if f".adapters.{NAME}." in k}
        save_file(state, folder / "adapter.safetensors")
        model.save_head(str(folder), NAME, use_safetensors=True)
    record(folder, model, inputs(name, head["num_labels"]))


def acts():
    """Every activation without parameters: x, y and dy/dx in float64, under the names of both libraries."""
    folder = fresh("acts")
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
    for path in sorted(OUT.iterdir()):
        print(f"{path.name:16} {sum(f.stat().st_size for f in path.iterdir()):8,} bytes")


if __name__ == "__main__":
    main()
