"""Writes tests/fixtures/distillation: losses and gradients of students that learn from a teacher beside their labels.

The students are adapters with heads of tests/fixtures/{bert,tagging,values}, on tests/fixtures/bert/model; a teacher is random
logits, and random hidden states of the rows that are read. Written out with PyTorch's own losses: `cross_entropy`, `kl_div`,
`mse_loss`, `binary_cross_entropy_with_logits`, `normalize`. common.py says how numbers are computed.
"""

import json

import torch
import torch.nn.functional as F
from adapters import BertAdapterModel
from safetensors.torch import load_file

import bert
from common import FIXTURES, IGNORED, NAME, fresh, load, rng, sizes, trained, write

OUT = FIXTURES / "distillation"

# name: the student, the share, the temperature, the layers whose hidden states count, and what they count
CASES = {
    "classes": ("bert/houlsby", 0.3, 2.0, [], 0.0),
    "hidden": ("bert/houlsby", 0.5, 4.0, [0, 1], 10.0),
    "tags": ("tagging/houlsby", 1.0, 3.0, [0], 100.0),
    "labels": ("values/bert-multi-label", 0.7, 2.5, [], 0.0),
    "numbers": ("values/bert-regression", 0.4, 2.0, [], 0.0),
}


def outputs_of(model, batch):
    """The logits of the rows that are read, and what stands behind each layer, sequence by sequence."""
    logits, layers = [], []
    for ids, types in zip(batch["input_ids"], batch["token_type_ids"]):
        given = dict(input_ids=torch.tensor([ids]), token_type_ids=torch.tensor([types]))
        out = model(**given, output_hidden_states=True)
        logits.append(out.logits[0])
        layers.append([h[0] for h in out.hidden_states[1:]])
    return logits, layers


def case(name):
    student, alpha, tau, chosen, weight = CASES[name]
    folder = fresh(OUT / name)
    model = load(BertAdapterModel(bert.config()), load_file(bert.OUT / "model" / "model.safetensors"))
    model.load_adapter(str(FIXTURES / student), load_as=NAME, with_head=True, use_safetensors=True)
    model.train_adapter(NAME)
    model.active_head = NAME
    model.double().eval()
    batch = json.loads((FIXTURES / student / "input.json").read_text())
    logits, layers = outputs_of(model, batch)
    if student.startswith("tagging"):
        z = torch.cat(logits)
        labels = torch.tensor([label for labels in batch["labels"] for label in labels])
        states = [torch.cat([of_one[l] for of_one in layers]) for l in chosen]
        keep = labels != IGNORED
        assert 0 < keep.sum() < len(keep)
        z, labels, states = z[keep], labels[keep], [h[keep] for h in states]
    else:
        z, labels = torch.stack(logits), torch.tensor(batch["labels"])
        states = [torch.stack([of_one[l][0] for of_one in layers]) for l in chosen]
    random = lambda shape, *key: torch.tensor(rng("distillation", name, *key).standard_normal(shape), dtype=torch.float32)
    teacher, hidden = random(tuple(z.shape), "logits") * 2, [random(tuple(h.shape), l) for l, h in zip(chosen, states)]
    t = teacher.double()
    if name == "numbers":
        y = labels.double()[:, None]
        hard, soft = F.mse_loss(z, y), F.mse_loss(z, t)
    elif name == "labels":
        hard = F.binary_cross_entropy_with_logits(z, labels.double())
        soft = tau**2 * F.binary_cross_entropy_with_logits(z / tau, (t / tau).sigmoid())
    else:
        hard = F.cross_entropy(z, labels)
        soft = tau**2 * F.kl_div((z / tau).log_softmax(-1), (t / tau).softmax(-1), reduction="batchmean")
    loss = (1 - alpha) * hard + alpha * soft
    if chosen:
        alike = [F.mse_loss(F.normalize(h, dim=-1), F.normalize(t.double(), dim=-1)) for h, t in zip(states, hidden)]
        loss = loss + weight * torch.stack(alike).mean()
    model.zero_grad()
    loss.backward()
    expected = dict(teacher=teacher, loss=loss) | {f"hidden.{l}": h for l, h in zip(chosen, hidden)}
    expected |= {"grad." + n: p.grad for n, p in trained(model, lambda name: name, duplicates=True).items()}
    about = dict(student=student, alpha=alpha, temperature=tau, layers=chosen, weight=weight)
    write(folder, about, expected)


def main():
    for name in CASES:
        case(name)
    sizes(OUT)


if __name__ == "__main__":
    main()
