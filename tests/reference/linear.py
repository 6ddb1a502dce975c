"""Writes tests/fixtures/linear: what stands at linear layers beside LoRA: IA3, DoRA, VeRA, gates, and unions with them.

The oracles are `adapters` and `peft` on the tiny BERT and GPT-2 of tests/fixtures/{bert,gpt2}/model; common.py says how numbers
are computed. A case is named after its family.
"""

import torch
from safetensors.torch import load_file, save_file

from adapters import ConfigUnion, IA3Config, LoRAConfig, PrefixTuningConfig, SeqBnConfig, VeraConfig
from peft import IA3Config as PeftIa3Config
from peft import LoraConfig as PeftLoraConfig
from peft import VeraConfig as PeftVeraConfig

from bert import linear_head
from common import FIXTURES, NAME, fresh, randomize, record, rng, save_peft
from inputs import batch_of, forward_of, model_of, once, peft_model, save, write

OUT = FIXTURES / "linear"
MARKS = [f"loras.{NAME}.", f"shared_parameters.{NAME}.", f"adapters.{NAME}.", "prefix_tuning", f"heads.{NAME}."]


def unipelt():
    """`UniPELTConfig` on a small model."""
    return ConfigUnion(
        PrefixTuningConfig(prefix_length=2, bottleneck_size=4, use_gating=True), SeqBnConfig(reduction_factor=5, use_gating=True),
        LoRAConfig(r=2, alpha=2, use_gating=True),
    )


# name: (adapter, head). No head of a GPT-2: the model's own.
ADAPTERS = {
    "bert-ia3": (IA3Config(), linear_head(3, use_pooler=True)),
    "bert-ia3-scaled": (
        IA3Config(alpha=3, attn_matrices=["q", "v"], intermediate_lora=False, output_lora=True, leave_out=[1]),
        linear_head(2),
    ),
    "bert-ia3-gated": (IA3Config(use_gating=True), linear_head(2)),
    "gpt2-ia3": (IA3Config(), None),
    "gpt2-ia3-some": (
        IA3Config(attn_matrices=["q"], intermediate_lora=False, output_lora=True, leave_out=[0]),
        dict(num_labels=3, layers=1),
    ),
    "gpt2-ia3-gated": (IA3Config(use_gating=True, attn_matrices=["q", "v"]), None),
    "bert-lora-gated": (LoRAConfig(r=3, alpha=6, use_gating=True, intermediate_lora=True), linear_head(2)),
    "gpt2-lora-gated": (LoRAConfig(r=2, alpha=4, use_gating=True, output_lora=True, leave_out=[1]), None),
    "bert-dora": (LoRAConfig(r=4, alpha=8, use_dora=True), linear_head(3, use_pooler=True)),
    "bert-dora-all": (
        LoRAConfig(r=3, alpha=3, use_dora=True, attn_matrices=["q", "k", "v"], intermediate_lora=True, output_lora=True, leave_out=[1]),
        linear_head(2),
    ),
    "bert-dora-gated": (LoRAConfig(r=2, use_dora=True, use_gating=True, output_lora=True), linear_head(2)),
    "bert-vera": (VeraConfig(r=4), linear_head(3, use_pooler=True)),
    "bert-vera-diagonal": (VeraConfig(r=3, alpha=6, attn_matrices=["k"], leave_out=[1]), linear_head(2)),
    "bert-vera-gated": (VeraConfig(r=2, use_gating=True), linear_head(2)),
    "bert-unipelt": (unipelt(), linear_head(3, use_pooler=True)),
    "gpt2-unipelt": (unipelt(), None),
}
# name: (PEFT's configuration, labels; none: the model's own head)
PEFT = {
    "bert-peft-ia3": (
        PeftIa3Config(task_type="SEQ_CLS", target_modules=["key", "value", "output.dense"], feedforward_modules=["output.dense"]),
        3,
    ),
    "bert-peft-ia3-expression": (
        PeftIa3Config(task_type="SEQ_CLS", target_modules=r".*\.layer\.[02]\..*\.(query|dense)",
                      feedforward_modules=r".*layer\.\d\.intermediate\.dense"),
        2,
    ),
    "bert-peft-dora": (
        PeftLoraConfig(task_type="SEQ_CLS", use_dora=True, r=4, lora_alpha=8, target_modules=["query", "value", "output.dense"]),
        3,
    ),
    "bert-peft-dora-patterns": (
        PeftLoraConfig(task_type="SEQ_CLS", use_dora=True, use_rslora=True, r=2, lora_alpha=3, rank_pattern={"value": 5},
                       target_modules=r".*\.layer\.[02]\..*\.(value|intermediate\.dense)"),
        2,
    ),
    "gpt2-peft-dora": (
        PeftLoraConfig(task_type="CAUSAL_LM", use_dora=True, r=3, lora_alpha=5, target_modules=["c_attn", "c_proj", "c_fc"],
                       fan_in_fan_out=True),
        None,
    ),
    "bert-peft-pissa": (
        PeftLoraConfig(task_type="SEQ_CLS", init_lora_weights="pissa", r=4, lora_alpha=6, target_modules=["query", "output.dense"]),
        2,
    ),
    "gpt2-peft-pissa": (
        PeftLoraConfig(task_type="CAUSAL_LM", init_lora_weights="pissa", use_rslora=True, r=3, lora_alpha=2, rank_pattern={"c_fc": 5},
                       alpha_pattern={"c_attn": 3}, target_modules=["c_attn", "c_fc"], fan_in_fan_out=True),
        None,
    ),
    "bert-peft-vera": (PeftVeraConfig(task_type="SEQ_CLS", r=5, target_modules=["query", "intermediate.dense"]), 3),
    "gpt2-peft-vera": (
        PeftVeraConfig(task_type="CAUSAL_LM", r=4, target_modules=["c_attn", "mlp.c_proj"], layers_to_transform=[0, 2],
                       fan_in_fan_out=True),
        None,
    ),
    "gpt2-peft-ia3": (
        PeftIa3Config(task_type="CAUSAL_LM", target_modules=["c_attn", "mlp.c_proj"], feedforward_modules=["mlp.c_proj"],
                      fan_in_fan_out=True),
        None,
    ),
    "gpt2-peft-ia3-class": (
        PeftIa3Config(task_type="SEQ_CLS", target_modules=["attn.c_proj", "c_fc"], feedforward_modules=["c_fc"], fan_in_fan_out=True),
        4,
    ),
}


def case(name, tensors):
    folder, family = fresh(OUT / name), name.split("-")[0]
    adapter, head = ADAPTERS[name]
    model = model_of(family, head, tensors[family])
    model.add_adapter(NAME, config=adapter)
    model.train_adapter(NAME)
    if head:
        model.active_head = NAME
    randomize(model, name, MARKS)
    masks = diagonals(model) if name.endswith("diagonal") else {}
    save(model, folder, head is not None)
    labels = head and head["num_labels"]
    room = 2 if family == "gpt2" else 0  # the causal mask of transformers has as many keys as there are positions
    record(folder, model, batch_of(family, name, labels, room), forward_of(family, labels), once)
    expected = load_file(folder / "expected.safetensors")
    for n in masks:
        expected[f"grad.{n}"] = expected[f"grad.{n}"].diagonal().clone()
    save_file(expected, folder / "expected.safetensors")


def diagonals(model):
    """The library's VeRA trains whole matrices that start as diagonals; here only the diagonals, as the paper's."""
    found = {n: p for n, p in model.named_parameters() if n.endswith((".vera_D", ".vera_B"))}
    for p in found.values():
        mask = torch.eye(len(p))
        p.data *= mask
        p.register_hook(lambda grad, mask=mask: grad * mask)
    return found


def peft_case(name, tensors):
    folder, family = fresh(OUT / name), name.split("-")[0]
    options, labels = PEFT[name]
    model = peft_model(family, labels, tensors, options)
    if getattr(options, "init_lora_weights", True) == "pissa":  # it has come some way from what it started with
        for n, p in model.named_parameters():
            if "lora_" in n:
                p.data += torch.tensor(0.1 * rng(name, n).standard_normal(tuple(p.shape)), dtype=torch.float32)
        randomize(model, name, ["modules_to_save"])
    else:
        randomize(model, name, ["lora_", "ia3_l", "vera_lambda", "modules_to_save"])
    record(folder, model, batch_of(family, name, labels), forward_of(family, labels), save_peft(model, folder))


if __name__ == "__main__":
    write([(ADAPTERS, case), (PEFT, peft_case)], OUT)
