"""What the scripts of the fixtures share: random weights, losses, ten steps of training, files.

Three choices make the numbers a definition rather than a sample: all weights are random, so nothing hides behind a zero or an
identity; everything is computed in float64 from float32 weights; sequences run one by one, so there is no padding (a packed
batch must give each sequence what it gets alone). Dropout is off.
"""

import json
import logging
import os
import shutil
import warnings
import zlib
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch.optim import AdamW
from transformers import Trainer, get_linear_schedule_with_warmup
from transformers.pytorch_utils import Conv1D

warnings.filterwarnings("ignore")
for library in ("adapters", "transformers", "peft"):
    logging.getLogger(library).setLevel(logging.ERROR)
torch.set_num_threads(1)

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
NAME = "task"  # of every adapter and of its head
IGNORED = -100  # the label of what has none
CURVE = dict(optimizer="AdamW", lr=1e-2, betas=[0.9, 0.999], eps=1e-8, weight_decay=0.1,
             schedule="linear", warmup_steps=2, steps=10, clip_norm=1.0)


def rng(*key):
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


def fresh(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def randomize(module, seed, only=("",)):
    """Random values that keep activations of order 1: norms and scales around 1, the rest around 0."""
    kinds = {id(p): kind for kind in module.modules() for p in kind.parameters(recurse=False)}
    for name, p in module.named_parameters():
        if not any(part in name for part in only):
            continue
        kind = kinds[id(p)]
        x = rng(seed, name).standard_normal(tuple(p.shape))
        if name.endswith("scaling") or (isinstance(kind, torch.nn.LayerNorm) and name.endswith("weight")):
            x = 1 + 0.2 * x
        elif p.dim() == 1:
            x = 0.2 * x
        elif isinstance(kind, torch.nn.Embedding):
            x = 0.5 * x
        else:
            x = x / p.shape[0 if isinstance(kind, Conv1D) else 1] ** 0.5
        p.data = torch.tensor(x, dtype=torch.float32)


def load(model, tensors):
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    assert not unexpected and not set(missing) & set(tensors)
    return model


def keep_rules(model, adapter):
    """A rule with `learn_phm=False` is not to train; the library's `train_adapter` lets it."""
    if adapter.get("learn_phm") is False:
        for name, p in model.named_parameters():
            if ".phm_rule" in name:
                p.requires_grad = False


def lengths(seed, longest, middle=3):
    """Ragged: one token, two, `middle` lengths between, and the longest the model takes."""
    r = rng(seed, "inputs")
    return r, [int(n) for n in r.permutation([1, longest, 2, *r.integers(3, longest - 4, middle)])]


def of_tokens(model, rows, batch):
    """The rows of tokens of each sequence, one sequence after the other: those of a prompt stand in front, or behind the first."""
    after = getattr(model, "prompt_after_first", False)
    pairs = [(x, len(ids)) for x, ids in zip(rows, batch["input_ids"])]
    return torch.cat([torch.cat([x[:1], x[len(x) - n + 1:]]) if after else x[len(x) - n:] for x, n in pairs])


def class_loss(logits, labels):
    """Mean cross-entropy; labels of IGNORED count for nothing."""
    return F.cross_entropy(logits, torch.tensor(labels), ignore_index=IGNORED)


def shifted(batch):
    """The labels that the rows of logits predict: each sequence's own, one to the left, and none for its last row."""
    return [label for labels in batch["labels"] for label in [*labels[1:], IGNORED]]


def trained(model, rename, duplicates=False):
    """The parameters that train, by their names in the files; `rename` gives None for what is left out."""
    pairs = model.named_parameters(remove_duplicate=not duplicates)
    named = ((rename(n), p) for n, p in pairs if p.requires_grad)
    return {n: p for n, p in named if n is not None}


def train(model, loss_of, rename):
    """The losses before each of ten updates, the gradient norms before clipping, and the settings."""
    params = trained(model, rename)
    # the rule of Hugging Face's Trainer, less PyTorch's orthogonal parametrisations: their diagonal is -1, is rounded towards
    # zero, and no gradient brings it back
    names = [n for n in Trainer.get_decay_parameter_names(None, model) if not n.endswith("parametrizations.weight.original")]
    decays = {rename(n) for n in names}
    groups = [
        dict(params=[p for n, p in params.items() if n in decays], weight_decay=CURVE["weight_decay"]),
        dict(params=[p for n, p in params.items() if n not in decays], weight_decay=0.0),
    ]
    adamw = AdamW(groups, lr=CURVE["lr"], betas=CURVE["betas"], eps=CURVE["eps"])
    schedule = get_linear_schedule_with_warmup(adamw, CURVE["warmup_steps"], CURVE["steps"])
    losses, norms, rates = [], [], []
    for _ in range(CURVE["steps"]):
        loss = loss_of()
        adamw.zero_grad()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(params.values(), CURVE["clip_norm"]))
        losses.append(loss.detach())
        rates.append(schedule.get_last_lr()[0])
        adamw.step()
        schedule.step()
    about = CURVE | dict(lr_of_step=rates, decayed=[n for n in params if n in decays],
                         not_decayed=[n for n in params if n not in decays])
    return torch.stack(losses), torch.stack(norms), about


def cu_seqlens(batch):
    """Where the rows of hidden states of each sequence begin: those of its tokens, or of what its decoder reads."""
    rows = batch.get("decoder_input_ids", batch["input_ids"])
    return torch.tensor([0] + np.cumsum([len(ids) for ids in rows]).tolist())


def write(folder, batch, tensors):
    (folder / "input.json").write_text(json.dumps(batch) + "\n")
    keep = {k: v.detach() if v.dtype == torch.int64 else v.detach().float() for k, v in tensors.items()}
    save_file({k: v.contiguous().clone() for k, v in keep.items()}, folder / "expected.safetensors")


def record(folder, model, batch, forward, rename=lambda name: name, curve=True):
    """Runs a saved case in float64 and writes input.json, expected.safetensors and curve.json.

    `forward(model, batch)` gives the last hidden states, the logits and the loss.
    """
    model.double().eval()
    hidden, logits, loss = forward(model, batch)
    model.zero_grad()
    loss.backward()
    expected = dict(last_hidden_state=hidden, cu_seqlens=cu_seqlens(batch), logits=logits, loss=loss)
    for name, p in trained(model, rename, duplicates=True).items():
        expected["grad." + name] = p.grad.clone()
    if curve:
        losses, norms, about = train(model, lambda: forward(model, batch)[2], rename)
        expected |= dict(curve=losses, curve_norm=norms)
        (folder / "curve.json").write_text(json.dumps(about, indent=2) + "\n")
    write(folder, batch, expected)


def save_adapter(model, folder, head):
    """What the library cannot save as safetensors, because tensors are shared, it saves with torch."""
    try:
        model.save_adapter(str(folder), NAME, with_head=head, use_safetensors=True)
    except RuntimeError:
        fresh(folder)
        model.save_adapter(str(folder), NAME, with_head=head, use_safetensors=False)


def save_peft(model, folder):
    """Saves as PEFT does, less its empty model card and the accidental order of a set; returns how files name parameters."""
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    card = folder / "adapter_config.json"
    config = json.loads(card.read_text())
    for key in ("target_modules", "feedforward_modules", "modules_to_save"):
        if isinstance(config.get(key), list):
            config[key].sort()
    card.write_text(json.dumps(config, indent=2, sort_keys=True))
    written = set(load_file(folder / "adapter_model.safetensors"))

    def rename(name):
        """In memory every name holds that of the adapter."""
        short = name.replace(".modules_to_save.default.", ".").replace("_vector.default.weight", "_vector")
        short = short.replace(".default.", ".").removesuffix(".default")
        grafted = any(part in name for part in ("lora_", "ia3_l", "vera_lambda", "ln_tuning_"))
        assert short in written or "original_module" in name or not grafted, name
        return short

    return rename


def sizes(folder):
    total = 0
    for path in sorted(p for p in folder.iterdir() if p.is_dir()):
        size = sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
        total += size
        print(f"{path.name:20} {size:9,} bytes")
    print(f"{'all':20} {total:9,} bytes")
