"""Writes tests/fixtures/merging: several adapters made into one, by `average_adapter` and `average_head` of `adapters` and by
`add_weighted_adapter` of `peft`, on the tiny BERT and GPT-2.

`expected.safetensors` holds the tensors of each case by their names in files, `{case}/{tensor}`; where the libraries decompose a
matrix, whose factors have no sign, what the factors add to each module instead: `{case}/{module}.delta`, scaling included. PEFT
draws random masks for DARE: here `torch.bernoulli` is replaced by a rule (`kept`), and `functions/` has what PEFT's functions make
of three tensors.
"""

import json
from unittest import mock

import torch
from peft import LoraConfig, get_peft_model
from peft.utils import merge_utils
from safetensors.torch import load_file, save_file
from transformers import BertModel

from adapters import BertAdapterModel, BnConfig, CompacterConfig, ConfigUnion, GPT2AdapterModel, LoRAConfig, PrefixTuningConfig

import bert
import gpt2
from common import FIXTURES, fresh, load, randomize, rng, save_peft, sizes

OUT = FIXTURES / "merging"
LORA = LoRAConfig(r=3, alpha=6, output_lora=True)
BN = BnConfig(mh_adapter=True, output_adapter=True, reduction_factor=8, non_linearity="relu", ln_after=True, scaling="learned")
# kind: (family, configuration, parts of the names of its tensors)
SOURCES = {
    "bn": ("bert", BN, [".adapters."]),
    "lora": ("bert", LORA, [".loras."]),
    "compacter": ("bert", CompacterConfig(reduction_factor=8, phm_dim=2), [".adapters.", ".shared_parameters."]),
    "prefix": ("bert", PrefixTuningConfig(prefix_length=2, bottleneck_size=6), [".prefix_tunings."]),
    "union": ("bert", ConfigUnion(LoRAConfig(r=2), BnConfig(mh_adapter=False, output_adapter=True, reduction_factor=16,
                                                          non_linearity="tanh")), [".loras.", ".adapters."]),
    "gpt2": ("gpt2", LoRAConfig(r=2, alpha=6), [".loras."]),
}
WEIGHTS = {"equal": (None, True), "given": ([3.0, 1.0], True), "negative": ([0.9, -0.4], False)}
PEFT = {
    "first": dict(r=4, lora_alpha=8, target_modules=["query", "value"]),
    "second": dict(r=4, lora_alpha=2, target_modules=["query", "value"]),
    "other": dict(r=2, lora_alpha=6, target_modules=["query", "key"]),
    "rs": dict(r=4, lora_alpha=6, use_rslora=True, target_modules=["query", "value"]),
}
# name: (adapters, weights, type, what else)
WEIGHTED = {
    "peft-linear": (["first", "second"], [0.7, 0.5], "linear", {}),
    "peft-negative": (["first", "second"], [1.0, -0.6], "linear", {}),
    "cat": (["first", "second"], [0.7, -0.5], "cat", {}),
    "cat-ranks": (["first", "other"], [0.7, 0.5], "cat", {}),
    "svd": (["first", "second"], [0.7, -0.5], "svd", {}),
    "svd-ranks": (["first", "other"], [0.7, 0.5], "svd", dict(svd_rank=5)),
    "ties": (["first", "second"], [1.0, 0.8], "ties", dict(density=0.5)),
    "ties-frequency": (["first", "second", "rs"], [1.0, 0.8, 0.5], "ties", dict(density=0.7, majority_sign_method="frequency")),
    "ties-svd": (["first", "other", "second"], [1.0, 0.8, 0.6], "ties_svd", dict(density=0.3, svd_rank=6)),
    "dare-linear": (["first", "second"], [1.0, 0.8], "dare_linear", dict(density=1.0)),
    "dare-ties": (["first", "second"], [1.0, 0.8], "dare_ties", dict(density=1.0)),
    "dare-linear-svd": (["first", "other"], [1.0, 0.8], "dare_linear_svd", dict(density=1.0)),
    "dare-ties-svd": (["first", "other"], [1.0, 0.8], "dare_ties_svd", dict(density=1.0)),
    "magnitude-prune": (["first", "second"], [1.0, -0.8], "magnitude_prune", dict(density=0.4)),
    "magnitude-prune-svd": (["first", "other"], [1.0, -0.8], "magnitude_prune_svd", dict(density=0.4)),
    "of-rs": (["first", "rs"], [0.7, 0.5], "svd", {}),
}


def model_of(family):
    make, folder = {"bert": (lambda: BertAdapterModel(bert.config()), bert.OUT),
                    "gpt2": (lambda: GPT2AdapterModel(gpt2.config()), gpt2.OUT)}[family]
    return load(make(), load_file(folder / "model" / "model.safetensors"))


def averaged(kind):
    family, config, parts = SOURCES[kind]
    model = model_of(family)
    names = ["one", "two"]
    for name in names:
        model.add_adapter(name, config=config)
        randomize(model, (kind, name), [f"{part}{name}." for part in parts])
        # a prefix is there under two names, which only torch.save writes
        model.save_adapter(str(fresh(OUT / f"{kind}-{name}")), name, use_safetensors=kind != "prefix")
    cases, model = {}, model.double()
    for case, (weights, normalise) in WEIGHTS.items():
        methods = ["linear"]
        if kind == "lora":
            methods += ["lora_linear_only_negate_b", "lora_delta_w_svd"]
        for method in methods:
            rank = 2 if method.endswith("svd") else None
            model.average_adapter("new", names, weights=weights, combine_strategy=method, normalize_weights=normalise,
                                  svd_rank=rank)
            label = f"{kind}-{method}-{case}"
            for n, p in model.named_parameters(remove_duplicate=True):
                if not any(f"{part}new." in n for part in parts):
                    continue
                if rank is None:
                    cases[f"{label}/{n}"] = p
                elif n.endswith("lora_A"):
                    module = model.get_submodule(n.removesuffix(".lora_A"))
                    # the library keeps alpha and changes the rank, so that its scaling is another one than before
                    assert module.scaling == 6 / 2
                    cases[f"{label}/{n.split('.loras.')[0]}.delta"] = (module.lora_B @ module.lora_A) * 6 / 3
            model.delete_adapter("new")
    return cases


def heads():
    model = model_of("bert")
    for name in ("one", "two"):
        model.add_classification_head(name, num_labels=3, id2label={0: "x", 1: "y", 2: "z"})
        randomize(model, ("head", name), [f"heads.{name}."])
        model.save_head(str(fresh(OUT / f"head-{name}")), name, use_safetensors=True)
    model.average_head("new", ["one", "two"], weights=[3.0, 1.0])
    return {f"head/heads.new.{n}": p for n, p in model.heads["new"].named_parameters()}


def weighted():
    tensors = {k.removeprefix("bert."): v for k, v in load_file(bert.OUT / "model" / "model.safetensors").items()}
    for name, options in PEFT.items():
        model = get_peft_model(load(BertModel(bert.config()), tensors), LoraConfig(**options))
        randomize(model, ("peft", name), ["lora_"])
        save_peft(model, fresh(OUT / f"peft-{name}"))
    model = None
    for name, options in PEFT.items():
        if model is None:
            model = get_peft_model(load(BertModel(bert.config()), tensors), LoraConfig(**options), adapter_name=name)
        else:
            model.add_adapter(name, LoraConfig(**options))
        model.load_adapter(str(OUT / f"peft-{name}"), adapter_name=name)
    cases, model = {}, model.double()
    for case, (names, weights, kind, options) in WEIGHTED.items():
        model.add_weighted_adapter(names, weights, case, combination_type=kind, **options)
        for path, m in model.named_modules():
            if case not in getattr(m, "lora_A", {}):
                continue
            a, b, path = m.lora_A[case].weight, m.lora_B[case].weight, path.removeprefix("base_model.model.")
            # the new scaling is 1, unless the first adapter is rsLoRA: then PEFT leaves that on, and the sum is too large
            assert m.scaling[case] == 1
            if kind.endswith("svd"):
                cases[f"{case}/bert.{path}.delta"] = b @ a
            else:
                cases[f"{case}/base_model.model.bert.{path}.lora_A.weight"] = a
                cases[f"{case}/base_model.model.bert.{path}.lora_B.weight"] = b
    return cases


def kept(tensor):
    """Every element but those whose number, times seven and counted on from the first row's width, leaves 0 or 1 modulo five."""
    i = torch.arange(tensor.numel()).reshape(tensor.shape)
    return ((7 * i + tensor.shape[-1]) % 5 > 1).to(tensor.dtype)


def functions():
    of = [torch.tensor(rng("functions", i).standard_normal((6, 7)), dtype=torch.float32) for i in range(3)]
    weights, density = torch.tensor([1.0, 0.5, -0.25]), 0.6
    with mock.patch.object(torch, "bernoulli", kept):
        made = {
            "task_arithmetic": merge_utils.task_arithmetic(of, weights),
            "magnitude_prune": merge_utils.magnitude_prune(of, weights, density),
            "ties_total": merge_utils.ties(of, weights, density, "total"),
            "ties_frequency": merge_utils.ties(of, weights, density, "frequency"),
            "dare_linear": merge_utils.dare_linear(of, weights, density),
            "dare_ties_total": merge_utils.dare_ties(of, weights, density, "total"),
            "dare_ties_frequency": merge_utils.dare_ties(of, weights, density, "frequency"),
        }
    return {f"functions/{k}": v for k, v in made.items()} | {f"functions/of.{i}": t for i, t in enumerate(of)}


def main():
    fresh(OUT)
    tensors = functions() | heads()
    for kind in SOURCES:
        tensors |= averaged(kind)
    tensors |= weighted()
    save_file({k: v.detach().float().contiguous() for k, v in tensors.items()}, OUT / "expected.safetensors")
    about = {k: dict(adapters=n, weights=w, method=m, **o) for k, (n, w, m, o) in WEIGHTED.items()}
    (OUT / "weighted.json").write_text(json.dumps(about, indent=1) + "\n")
    sizes(OUT)


if __name__ == "__main__":
    main()
