"""Writes tests/fixtures/compose: what AdapterHub's composition blocks compute on the tiny BERT, GPT-2 and T5.

The loss of a case is sum(y * g) with g[s][t][c] = sin(0.7 (s + 1) + 0.3 t + 0.11 c) over the last hidden states y of sequence s,
so that every row counts. Sequences run one by one; Parallel and BatchSplit, which need a batch, run padded with a mask where the
library can compute them, and otherwise each sequence under the setup that answers for it ("alone"): the definition of a mixed
batch. `Average` is computed with the library's second division by the number of children taken out (it multiplies with weights
that add up to one and then takes a mean); `adapters-1.3.0` cases keep what the library does.
"""

import contextlib
import json
import math
import sys
from unittest import mock

import torch
from safetensors.torch import load_file, save_file

from adapters import (
    AdapterPlusConfig, BertAdapterModel, BnConfig, DoubleSeqBnConfig, DynamicAdapterFusionConfig, GPT2AdapterModel, LoRAConfig,
    ParBnConfig, SeqBnConfig, StaticAdapterFusionConfig, T5AdapterModel,
)
from adapters.composition import Average, BatchSplit, Fuse, Parallel, Split, Stack

import bert
import gpt2
import t5
from common import FIXTURES, fresh, randomize, sizes

OUT = FIXTURES / "compose"
SEQUENCES = [[3, 7, 1, 9, 4], [5, 2, 8], [11, 6, 2, 13]]
TARGETS = [[2, 9, 4, 6, 3], [1, 7, 3, 12], [8, 5]]  # what the decoder of T5 reads

ODD = dict(non_linearity="tanh", original_ln_before=True, original_ln_after=False, residual_before_ln=False)
ADAPTERS = {
    "a": SeqBnConfig(reduction_factor=8),
    "b": SeqBnConfig(reduction_factor=16),
    "c": SeqBnConfig(reduction_factor=10),
    "d": DoubleSeqBnConfig(reduction_factor=8),
    "e": DoubleSeqBnConfig(reduction_factor=16),
    "p": ParBnConfig(reduction_factor=8, scaling=1.0),
    "q": ParBnConfig(reduction_factor=16, scaling=0.5),
    "odd": BnConfig(mh_adapter=False, output_adapter=True, reduction_factor=8, **ODD),
    "plus": AdapterPlusConfig(reduction_factor=8, stochastic_depth=0.0),
    "plus2": AdapterPlusConfig(reduction_factor=16, stochastic_depth=0.0),
    "late": SeqBnConfig(reduction_factor=8, leave_out=[0]),
    "late2": SeqBnConfig(reduction_factor=16, leave_out=[0]),
    "l": LoRAConfig(r=2, alpha=6),
    "n": LoRAConfig(r=3, alpha=5),
    "m": LoRAConfig(r=3, alpha=4, attn_matrices=["k", "v"], intermediate_lora=True),
}
# name: (adapters of the fusion, configuration)
OWN = {}  # what the library does not have: name to (the `config` of our file, what it computes)


def own(**config):
    def take(kind):
        OWN[kind.__name__] = (config, kind)
        return kind
    return take


class OwnFusion(torch.nn.Module):
    """What the library's fusion is given: queries (1, T, C), outputs of n adapters (1, T, n, C), the residual (1, T, C)."""

    def forward(self, query, key, value, residual, output_attentions=False):
        return (self.shares(query, key).unsqueeze(-1) * value).sum(2) + residual


@own(method="weighted", shared=False, shares=None, start="uniform")
class Weighted(OwnFusion):
    def __init__(self, c, n):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.zeros(n))

    def shares(self, query, key):
        return self.weights.softmax(0).expand(key.shape[:3])


@own(method="gating", function="softmax", bias=True, top_k=None)
class Gate(OwnFusion):
    def __init__(self, c, n):
        super().__init__()
        self.gate = torch.nn.Linear(c, n)

    def shares(self, query, key):
        return self.gate(query).softmax(-1)


@own(method="gating", function="sigmoid", bias=False, top_k=None)
class Sigmoid(OwnFusion):
    def __init__(self, c, n):
        super().__init__()
        self.gate = torch.nn.Linear(c, n, bias=False)

    def shares(self, query, key):
        return self.gate(query).sigmoid()


@own(method="gating", function="softmax", bias=True, top_k=2)
class TopTwo(Gate):
    def shares(self, query, key):
        scores = self.gate(query.mean(1, keepdim=True))
        chosen = scores.topk(2, -1).indices
        mask = torch.full_like(scores, -math.inf).scatter(-1, chosen, 0.0)
        return (scores + mask).softmax(-1).expand(key.shape[:3])


@own(heads=4, scaled=True, learned_temperature=True)
class Heads(torch.nn.Module):
    def __init__(self, c, n):
        super().__init__()
        self.query, self.key = torch.nn.Linear(c, c), torch.nn.Linear(c, c)
        self.value = torch.nn.Linear(c, c, bias=False)
        self.temperature = torch.nn.Parameter(torch.ones(1))

    def forward(self, query, key, value, residual, output_attentions=False):
        heads = lambda x: x.unflatten(-1, (4, -1))
        q, k, v = heads(self.query(query)), heads(self.key(key)), heads(self.value(value))
        scores = torch.einsum("bthd,btnhd->bthn", q, k) / q.shape[-1] ** 0.5
        p = (self.temperature * scores).softmax(-1)
        return torch.einsum("bthn,btnhd->bthd", p, v).flatten(-2) + residual


@own(residual_before=True)
class ResidualBefore(torch.nn.Module):
    """The values hold the residual; the library adds it to the keys as well, which are the same tensor."""

    def __init__(self, c, n):
        super().__init__()
        self.query, self.key = torch.nn.Linear(c, c), torch.nn.Linear(c, c)
        self.value = torch.nn.Linear(c, c, bias=False)

    def forward(self, query, key, value, residual, output_attentions=False):
        p = torch.einsum("btc,btnc->btn", self.query(query), self.key(key)).softmax(-1)
        return torch.einsum("btn,btnc->btc", p, self.value(value + residual.unsqueeze(2)))


FUSIONS = {
    "dynamic": (["a", "b", "c"], DynamicAdapterFusionConfig()),
    "static": (["a", "b", "c"], StaticAdapterFusionConfig()),
    "query-before-ln": (["a", "b"], DynamicAdapterFusionConfig(query_before_ln=True)),
    "value-after": (["a", "b"], DynamicAdapterFusionConfig(value_before_softmax=False)),
    "no-query": (["a", "b"], DynamicAdapterFusionConfig(query=False)),
    "no-key": (["a", "b"], DynamicAdapterFusionConfig(key=False)),
    "double": (["d", "e"], DynamicAdapterFusionConfig()),
    "odd": (["a", "odd"], DynamicAdapterFusionConfig()),
    "plus": (["plus", "plus2"], DynamicAdapterFusionConfig()),
    "parallel": (["p", "q"], DynamicAdapterFusionConfig()),
    "stack": (["b", "c"], DynamicAdapterFusionConfig()),
}
FUSIONS |= {name: (["a", "b", "c"], DynamicAdapterFusionConfig()) for name in OWN}


def alone(*setups):
    """Each sequence under each of the setups, all sequences of the first in front."""
    return [(i, s) for s in setups for i in range(len(SEQUENCES))]


# name: (setup as engraft reads it, the library's setup, what else)
CASES = {
    "stack": ("Stack(a, b)", Stack("a", "b"), {}),
    "stack-double": ("Stack(d, e)", Stack("d", "e"), {}),
    "stack-mixed": ("Stack(odd, a)", Stack("odd", "a"), {}),
    "stack-of-kinds": ("Stack(l, d)", Stack("l", "d"), dict(only="bert")),
    "skip-layers": ("Stack(a, b)", Stack("a", "b"), dict(skip=[1])),
    "average": ("Average(a, b, weights=[3, 1])", Average("a", "b", weights=[3.0, 1.0]), {}),
    "average-negative": ("Average(d, e, weights=[1.5, -0.5])", Average("d", "e", weights=[1.5, -0.5]), {}),
    "average-mixed": ("Average(odd, a)", Average("odd", "a"), {}),
    "average-lora": ("Average(l, n, weights=[2, 1])", Average("l", "n", weights=[2.0, 1.0]), dict(only="bert")),
    "split": ("Split(a, b, splits=[2, 3])", Split("a", "b", splits=[2, 3]), dict(sequences=[0])),
    "split-double": ("Split(d, e, splits=[3, 2])", Split("d", "e", splits=[3, 2]), dict(sequences=[0])),
    "fuse-dynamic": ("Fuse(a, b, c)", Fuse("a", "b", "c"), dict(fusion="dynamic")),
    "fuse-static": ("Fuse(a, b, c)", Fuse("a", "b", "c"), dict(fusion="static")),
    "fuse-query-before-ln": ("Fuse(a, b)", Fuse("a", "b"), dict(fusion="query-before-ln")),
    "fuse-value-after": ("Fuse(a, b)", Fuse("a", "b"), dict(fusion="value-after", only="bert")),
    "fuse-no-query": ("Fuse(a, b)", Fuse("a", "b"), dict(fusion="no-query")),
    "fuse-no-key": ("Fuse(a, b)", Fuse("a", "b"), dict(fusion="no-key")),
    "fuse-double": ("Fuse(d, e)", Fuse("d", "e"), dict(fusion="double")),
    "fuse-odd": ("Fuse(a, odd)", Fuse("a", "odd"), dict(fusion="odd")),
    "fuse-plus": ("Fuse(plus, plus2)", Fuse("plus", "plus2"), dict(fusion="plus")),
    "fuse-parallel": ("Fuse(p, q)", Fuse("p", "q"), dict(fusion="parallel", compat=True)),
    **{f"fuse-{name}": ("Fuse(a, b, c)", Fuse("a", "b", "c"), dict(fusion=name)) for name in OWN},
    "fuse-of-stack": ("Fuse(Stack(a, b), c)", Fuse(Stack("a", "b"), "c"), dict(fusion="stack")),
    "stack-of-fuse": ("Stack(a, Fuse(b, c))", Stack("a", Fuse("b", "c")), dict(fusion="stack")),
    "parallel": ("Parallel(a, b)", Parallel("a", "b"), dict(batched=True)),
    "parallel-late": ("Parallel(late, late2)", Parallel("late", "late2"), dict(batched=True)),
    "stack-of-parallel": ("Stack(c, Parallel(a, b))", Stack("c", Parallel("a", "b")), dict(batched=True)),
    "batch-split": ("BatchSplit(a, b, batch_sizes=[2, 1])", BatchSplit("a", "b", batch_sizes=[2, 1]), dict(batched=True)),
    "batch-split-double": ("BatchSplit(d, e, batch_sizes=[1, 2])", BatchSplit("d", "e", batch_sizes=[1, 2]), dict(batched=True)),
    "stack-of-batch-split": (
        "Stack(c, BatchSplit(a, b, batch_sizes=[1, 2]))", Stack("c", BatchSplit("a", "b", batch_sizes=[1, 2])),
        dict(batched=True),
    ),
    "batch-split-lora": (
        "BatchSplit(l, n, batch_sizes=[2, 1])", BatchSplit("l", "n", batch_sizes=[2, 1]), dict(batched=True, only="bert"),
    ),
    "stack-loras": ("Stack(l, n)", Stack("l", "n"), dict(compat=True, only="bert")),
    "batch-split-unlike": ("BatchSplit(odd, a, batch_sizes=[2, 1])", BatchSplit("odd", "a", batch_sizes=[2, 1]), dict(batched=True, compat=True)),
    "parallel-unlike": ("Parallel(a, odd)", Parallel("a", "odd"), dict(batched=True, compat=True)),
    "parallel-of-stack": ("Parallel(Stack(a, b), c)", Parallel(Stack("a", "b"), "c"), dict(batched=True, compat=True)),
    "identity": ("BatchSplit(a, None, b, batch_sizes=1)", None, dict(alone=[(0, "a"), (1, None), (2, "b")])),
    "kinds": ("BatchSplit(a, plus, p, batch_sizes=1)", None, dict(alone=[(0, "a"), (1, "plus"), (2, "p")])),
    "methods": ("BatchSplit(a, l, d, batch_sizes=1)", None, dict(alone=[(0, "a"), (1, "l"), (2, "d")])),
    "loras": ("BatchSplit(l, m, batch_sizes=[2, 1])", None, dict(alone=[(0, "l"), (1, "l"), (2, "m")])),
    "stack-in-batch-split": (
        "BatchSplit(Stack(a, b), c, batch_sizes=[2, 1])", None,
        dict(alone=[(0, Stack("a", "b")), (1, Stack("a", "b")), (2, "c")]),
    ),
    "stack-in-parallel": ("Parallel(Stack(a, b), c)", None, dict(alone=alone(Stack("a", "b"), "c"))),
    "parallel-identity": ("Parallel(a, None)", None, dict(alone=alone("a", None))),
    "parallel-beside": ("Parallel(p, q)", None, dict(alone=alone("p", "q"))),
    "parallel-kinds": ("Parallel(l, a)", None, dict(alone=alone("l", "a"))),
    "fuse-in-parallel": ("Parallel(Fuse(b, c), a)", None, dict(alone=alone(Fuse("b", "c"), "a"), fusion="stack")),
    "batch-split-in-parallel": (
        "Parallel(a, BatchSplit(b, c, batch_sizes=[1, 2]))", None,
        dict(alone=alone("a") + [(0, "b"), (1, "c"), (2, "c")]),
    ),
}
FAMILIES = {
    "bert": (lambda: BertAdapterModel(bert.config()), bert.OUT, lambda m: m.bert),
    "gpt2": (lambda: GPT2AdapterModel(gpt2.config()), gpt2.OUT, lambda m: m.transformer),
    "t5": (lambda: T5AdapterModel(t5.config()), t5.OUT, lambda m: m.transformer),
}


def given(family, which, mask):
    """What these sequences give a model to read: padded ones with a mask, or one alone."""
    def padded(rows):
        n = max(map(len, rows)) if mask else None
        return torch.tensor([s + [0] * (n - len(s)) if mask else s for s in rows])

    rows = [SEQUENCES[i] for i in which]
    n = max(map(len, rows))
    read = dict(input_ids=padded(rows), attention_mask=torch.tensor([[1] * len(s) + [0] * (n - len(s)) for s in rows]))
    return read | (dict(decoder_input_ids=padded([TARGETS[i] for i in which]), use_cache=False) if family == "t5" else {})


def base(family, names, fusion):
    make, folder, _ = FAMILIES[family]
    model = make()
    tensors = load_file(folder / "model" / "model.safetensors")
    if family == "t5":
        t5.take(model, tensors)
    else:
        model.load_state_dict(tensors, strict=False)
    for name in names:
        model.add_adapter(name, config=ADAPTERS[name])
        randomize(model, name, [f".adapters.{name}.", f".loras.{name}."])
    if fusion:
        of, config = FUSIONS[fusion]
        model.add_adapter_fusion(Fuse(*of), config)
        if fusion in OWN:
            for m in list(model.modules()):
                if ",".join(of) in getattr(m, "adapter_fusion_layer", {}):
                    m.adapter_fusion_layer[",".join(of)] = OWN[fusion][1](model.config.hidden_size, len(of))
        randomize(model, fusion, ["adapter_fusion_layer."])
    return model


def names_in(setup):
    if setup is None:
        return set()
    return {setup} if isinstance(setup, str) else setup.flatten()


def run(family, name, setup, options):
    setups = [s for _, s in options["alone"]] if "alone" in options else [setup]
    used = sorted(set().union(*map(names_in, setups)))
    model = base(family, used, options.get("fusion")).double().eval()
    inner = FAMILIES[family][2](model)
    for n, p in model.named_parameters():
        p.requires_grad = any(f".{kind}." in n for kind in ("adapters", "loras", "adapter_fusion_layer"))
    if setup is not None:
        model.set_active_adapters(setup, skip_layers=options.get("skip"))

    def pass_of(which, mask=False):
        with t5.in_full_precision():
            return inner(**given(family, which, mask)).last_hidden_state

    outputs = []
    if "alone" in options:
        for i, own in options["alone"]:
            model.set_active_adapters(own)
            outputs.append(pass_of([i])[0])
    elif options.get("batched"):
        of = TARGETS if family == "t5" else SEQUENCES
        for i, y in enumerate(pass_of(range(len(SEQUENCES)), mask=True)):
            outputs.append(y[: len(of[i % len(of)])])
    else:
        for i in options.get("sequences", range(len(SEQUENCES))):
            outputs.append(pass_of([i])[0])
    loss = 0
    for s, y in enumerate(outputs):
        g = [[math.sin(0.7 * (s + 1) + 0.3 * t + 0.11 * c) for c in range(y.shape[1])] for t in range(y.shape[0])]
        loss = loss + (y * torch.tensor(g)).sum()
    loss.backward()
    tensors = {f"{name}/hidden": torch.cat(outputs)}
    for n, p in model.named_parameters():
        if p.requires_grad and p.grad is not None:
            tensors[f"{name}/grad.{n}"] = p.grad
    return tensors


def shares(family, setup, fusion):
    """The mean share of each adapter of a fusion over all tokens: [layer, place, shares]."""
    model = base(family, sorted(names_in(setup)), fusion).double().eval()
    model.set_active_adapters(setup)
    found = {}
    for i in range(len(SEQUENCES)):
        with torch.no_grad(), t5.in_full_precision():
            y = FAMILIES[family][2](model)(**given(family, [i], False), output_adapter_fusion_attentions=True)
        for places in y.adapter_fusion_attentions.values():
            for layer, of in places.items():
                for place, p in of.items():
                    found.setdefault((layer, place), []).append(torch.as_tensor(p)[0])
    return [[layer, place, torch.cat(p).mean(0).tolist()] for (layer, place), p in sorted(found.items())]


def main():
    for family in sys.argv[1:] or FAMILIES:
        folder = fresh(OUT / family)
        model = base(family, list(ADAPTERS), None)
        for name in ADAPTERS:
            model.save_adapter(str(fresh(folder / "adapters" / name)), name, use_safetensors=True, with_head=False)
        for name, (of, _) in FUSIONS.items():
            model = base(family, of, name)
            into = fresh(folder / "fusions" / name)
            model.save_adapter_fusion(str(into), ",".join(of), use_safetensors=True)
            if name in OWN:
                file = into / "adapter_fusion_config.json"
                about = json.loads(file.read_text())
                config = OWN[name][0]
                about["config"] = config if "method" in config else about["config"] | config
                file.write_text(json.dumps(about, indent=2))
        setup = CASES["stack-of-fuse"][1]
        model = base(family, ["a", "b", "c"], "stack")
        model.save_adapter_setup(str(fresh(folder / "setup")), setup, use_safetensors=True)
        tensors, cases = {}, []
        for name, (text, setup, options) in CASES.items():
            if options.get("only", family) != family:
                continue
            # the library multiplies with weights that add up to one, and then takes a mean
            mended = mock.patch.object(torch, "mean", torch.sum) if "average" in name else contextlib.nullcontext()
            with mended:
                tensors |= run(family, name, setup, options)
            case = dict(name=name, setup=text, fusion=options.get("fusion"), skip=options.get("skip", []),
                        sequences=list(options.get("sequences", range(len(SEQUENCES)))), compat=options.get("compat", False))
            if "fuse" in name and options.get("fusion") not in OWN and setup is not None:
                case["shares"] = shares(family, setup, options["fusion"])
            cases.append(case)
        (folder / "cases.json").write_text(json.dumps(dict(sequences=SEQUENCES, cases=cases) | (dict(targets=TARGETS) if family == "t5" else {}), indent=1) + "\n")
        save_file({k: v.detach().float().contiguous() for k, v in tensors.items()}, folder / "expected.safetensors")
    sizes(OUT)


if __name__ == "__main__":
    main()
