"""Writes tests/fixtures/{llama,mistral,qwen2,qwen3,gpt_neo,gptj}: what tiny random decoders do, alone and with adapters.

The oracles are `transformers`, `adapters` and `peft`; a family that `adapters` does not know is described to it by an interface
(`AdapterModelInterface`). The libraries compute norms and softmax in float32 whatever the model is in: here they do so in float64,
by another name for that type. Rotary frequencies that depend on a sequence's length start afresh with each of them: the libraries
keep those of the longest sequence before. A vocabulary's matrix in a head of its own trains, which the
library's `train_adapter` does not let it. The arguments name families; without any all are written. common.py says the rest.
"""

import contextlib
import math
import re
import sys
from unittest import mock

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    GPTJConfig, GPTJForCausalLM, GPTJForSequenceClassification, GPTNeoConfig, GPTNeoForCausalLM, GPTNeoForSequenceClassification,
    LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, MistralConfig, MistralForCausalLM,
    MistralForSequenceClassification, Qwen2Config, Qwen2ForCausalLM, Qwen2ForSequenceClassification, Qwen3Config,
    Qwen3ForCausalLM, Qwen3ForSequenceClassification,
)

import adapters
from adapters import (
    AdapterModelInterface, DoubleSeqBnConfig, GPTJAdapterModel, LlamaAdapterModel, LoRAConfig, LoReftConfig, MistralAdapterModel,
    PrefixTuningConfig, SeqBnConfig, SeqBnInvConfig,
)
from adapters.composition import Fuse
from peft import LoraConfig, get_peft_model
from peft import PrefixTuningConfig as PeftPrefixConfig
from peft import PromptTuningConfig as PeftPromptConfig

from common import FIXTURES, NAME, class_loss, cu_seqlens, fresh, load, of_tokens, randomize, record, save_peft, shifted, sizes, write
from gpt2 import inputs

VOCAB, POSITIONS = 61, 24


def rotary(config_class, **own):
    """A configuration of LLaMA's kin."""
    def make(**more):
        return config_class(**dict(
            hidden_size=24, intermediate_size=20, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            vocab_size=VOCAB, max_position_embeddings=POSITIONS, bos_token_id=0, eos_token_id=0, attn_implementation="eager",
        ) | own | more)
    return make


def gptj(**more):
    return GPTJConfig(**dict(
        n_embd=24, n_layer=2, n_head=4, n_inner=20, rotary_dim=4, vocab_size=VOCAB, n_positions=POSITIONS, bos_token_id=0,
        eos_token_id=0, attn_implementation="eager",
    ) | more)


def gpt_neo(**more):
    return GPTNeoConfig(**dict(
        hidden_size=24, num_layers=2, num_heads=4, intermediate_size=20, attention_types=[[["global", "local"], 1]],
        window_size=5, vocab_size=VOCAB, max_position_embeddings=POSITIONS, bos_token_id=0, eos_token_id=0,
        attn_implementation="eager",
    ) | more)


def scaled(rope_type, **fields):
    return dict(rope_scaling=dict(rope_type=rope_type, **fields))


NEO = AdapterModelInterface(
    adapter_methods=["bottleneck", "lora", "reft", "invertible"], model_embeddings="drop", model_layers="h",
    layer_self_attn="attn.attention", layer_cross_attn=None, attn_k_proj="k_proj", attn_q_proj="q_proj", attn_v_proj="v_proj",
    attn_o_proj="out_proj", layer_intermediate_proj="mlp.c_fc", layer_output_proj="mlp.c_proj", layer_pre_self_attn="ln_1",
    layer_pre_ffn="ln_2", layer_ln_1=None, layer_ln_2=None,
)

# config; classes of the language model, of the classification, of AdapterHub's model with heads; the last norm; AdapterHub's interface
FAMILIES = {
    "llama": dict(config=rotary(LlamaConfig), lm=LlamaForCausalLM, classes=LlamaForSequenceClassification,
                  heads=LlamaAdapterModel, norm="norm", linear=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]),
    "mistral": dict(config=rotary(MistralConfig, sliding_window=7), lm=MistralForCausalLM,
                    classes=MistralForSequenceClassification, heads=MistralAdapterModel, norm="norm",
                    linear=["q_proj", "v_proj", "gate_proj"]),
    "qwen2": dict(config=rotary(Qwen2Config), lm=Qwen2ForCausalLM, classes=Qwen2ForSequenceClassification, norm="norm",
                  linear=["k_proj", "o_proj", "down_proj"]),
    "qwen3": dict(config=rotary(Qwen3Config, head_dim=10), lm=Qwen3ForCausalLM, classes=Qwen3ForSequenceClassification,
                  norm="norm", linear=["q_proj", "k_proj", "o_proj", "up_proj"]),
    "gpt_neo": dict(config=gpt_neo, lm=GPTNeoForCausalLM, classes=GPTNeoForSequenceClassification, norm="ln_f", interface=NEO,
                    linear=["q_proj", "out_proj", "c_fc"]),
    "gptj": dict(config=gptj, lm=GPTJForCausalLM, classes=GPTJForSequenceClassification, heads=GPTJAdapterModel, norm="ln_f",
                 linear=["k_proj", "out_proj", "fc_in", "fc_out"]),
}

TINY = dict(hidden_size=16, intermediate_size=12, num_attention_heads=2, num_key_value_heads=1, vocab_size=31)
LONG = [1.0, 1.5, 2.0, 4.0]
VARIANTS = {
    "llama": {
        "many-heads": dict(TINY, num_attention_heads=4, num_key_value_heads=4, head_dim=2, attention_bias=True, mlp_bias=True),
        "one-key": dict(TINY, num_attention_heads=3, head_dim=10, hidden_act="gelu", tie_word_embeddings=True, rms_norm_eps=1e-3),
        "theta": dict(TINY, rope_theta=500.0, num_hidden_layers=1),
        "linear": dict(TINY, **scaled("linear", factor=2.5)),
        "dynamic": dict(TINY, max_position_embeddings=9, **scaled("dynamic", factor=3.0)),
        "yarn": dict(TINY, **scaled("yarn", factor=4.0, original_max_position_embeddings=6)),
        "yarn-fields": dict(TINY, rope_theta=100.0, **scaled(
            "yarn", factor=2.0, beta_fast=4.0, beta_slow=0.5, mscale=0.7, mscale_all_dim=1.2, truncate=False,
            original_max_position_embeddings=12)),
        "yarn-factor": dict(TINY, **scaled("yarn", factor=3.0, attention_factor=0.8)),
        "llama3": dict(TINY, rope_theta=30.0, **scaled("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                                       original_max_position_embeddings=16)),
        "longrope": dict(TINY, max_position_embeddings=8, **scaled(
            "longrope", factor=3.0, short_factor=[1.0, 1.1, 1.2, 1.3], long_factor=LONG)),
        "longrope-original": dict(TINY, original_max_position_embeddings=6, **scaled(
            "longrope", short_factor=[1.0, 1.1, 1.2, 1.3], long_factor=LONG)),
        "longrope-factor": dict(TINY, max_position_embeddings=8, **scaled(
            "longrope", factor=3.0, attention_factor=1.3, short_factor=LONG, long_factor=[4.0, 3.0, 2.0, 1.0])),
    },
    "mistral": {
        "no-window": dict(TINY, sliding_window=None, head_dim=12),
        "window-of-one": dict(TINY, sliding_window=1, tie_word_embeddings=True, **scaled("linear", factor=2.0)),
    },
    "qwen2": {
        "windows": dict(TINY, num_hidden_layers=3, use_sliding_window=True, sliding_window=4, max_window_layers=1),
        "layer-types": dict(TINY, use_sliding_window=True, sliding_window=3, tie_word_embeddings=True,
                            layer_types=["sliding_attention", "full_attention"], **scaled("dynamic", factor=2.0)),
        "unused-window": dict(TINY, use_sliding_window=False, sliding_window=3, max_window_layers=0,
                              **scaled("yarn", factor=2.0, original_max_position_embeddings=12)),
    },
    "qwen3": {
        "biases": dict(TINY, head_dim=6, attention_bias=True, tie_word_embeddings=True),
        "windows": dict(TINY, head_dim=8, use_sliding_window=True, sliding_window=5, max_window_layers=0),
        "layer-types": dict(TINY, head_dim=14, use_sliding_window=True, sliding_window=2,
                            layer_types=["full_attention", "sliding_attention"], **scaled("linear", factor=4.0)),
    },
    "gpt_neo": {
        "all-local": dict(hidden_size=16, num_heads=2, attention_types=[[["local"], 2]], window_size=1, intermediate_size=None,
                          vocab_size=31, activation_function="relu", layer_norm_epsilon=1e-3),
        "all-global": dict(hidden_size=18, num_heads=2, attention_types=[[["global"], 1], [["global"], 1]], vocab_size=31,
                           tie_word_embeddings=False),
    },
    "gptj": {
        "whole-heads": dict(n_embd=16, n_head=2, rotary_dim=8, n_inner=None, vocab_size=31, tie_word_embeddings=True),
        "one-head": dict(n_embd=14, n_head=1, rotary_dim=2, vocab_size=31, activation_function="gelu", layer_norm_epsilon=1e-3),
    },
}
BEYOND = {"dynamic", "longrope", "longrope-factor"}  # variants whose sequences are longer than they are made for

LINEAR = dict(layers=1, activation_function=None)
# name: (adapter, head): none for the model's own
ADAPTERS = {
    "houlsby": (DoubleSeqBnConfig(reduction_factor=4), None),
    "pfeiffer": (SeqBnConfig(reduction_factor=3), dict(causal=dict())),
    "pfeiffer-class": (SeqBnConfig(reduction_factor=6, leave_out=[0]), dict(labels=dict(num_labels=3))),
    "invertible": (SeqBnInvConfig(reduction_factor=6, inv_adapter_reduction_factor=3), dict(causal=LINEAR)),
    "lora": (LoRAConfig(r=2, alpha=6), None),
    "lora-all": (LoRAConfig(r=3, alpha=5, attn_matrices=["q", "k", "v"], intermediate_lora=True, output_lora=True), None),
    "prefix": (PrefixTuningConfig(prefix_length=3, bottleneck_size=4), None),
    "prefix-gates": (PrefixTuningConfig(prefix_length=2, flat=True, use_gating=True, leave_out=[0]),
                     dict(labels=dict(num_labels=2, layers=1))),
    "loreft": (LoReftConfig(r=2, prefix_positions=1, suffix_positions=1), None),
}
PEFT = {
    "peft-lora": (lambda of: LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=5, target_modules=of["linear"]), None),
    "peft-class": (lambda of: LoraConfig(task_type="SEQ_CLS", r=2, lora_alpha=3, target_modules=of["linear"][:1],
                                         layers_to_transform=[1]), 3),
    "peft-prefix": (lambda of: PeftPrefixConfig(task_type="CAUSAL_LM", num_virtual_tokens=3), None),
    "peft-prompt": (lambda of: PeftPromptConfig(task_type="CAUSAL_LM", num_virtual_tokens=2), None),
}
FUSED = {"a": SeqBnConfig(reduction_factor=6), "b": SeqBnConfig(reduction_factor=8)}
SEQUENCES = [[3, 7, 1, 9, 4], [5, 2, 8], [11, 6, 2, 13]]
MARKS = ["prefix_tuning", "invertible_adapters", f"refts.{NAME}.", f"adapters.{NAME}.", f"loras.{NAME}.", f"heads.{NAME}."]


def float64():
    """Where the libraries say float32 they mean float64."""
    return mock.patch.object(torch, "float32", torch.float64)


def afresh(model):
    """Frequencies as they are before the first sequence."""
    for m in model.modules():
        if hasattr(m, "original_inv_freq"):
            m.register_buffer("inv_freq", m.original_inv_freq, persistent=False)
            m.max_seq_len_cached = m.original_max_seq_len


def run(of, model, batch):
    """(last hidden states, behind the last norm; what the model gives for each sequence): one sequence at a time."""
    hidden, out = [], []
    norm = next(m for n, m in model.named_modules() if n.split(".")[-1] == of["norm"])
    handle = norm.register_forward_hook(lambda _m, _i, y: hidden.append(y[0]))
    for ids in batch["input_ids"]:
        afresh(model)
        with float64():
            out.append(model(input_ids=torch.tensor([ids]), use_cache=False))
    handle.remove()
    return of_tokens(model, hidden, batch), out


def predict_next(of):
    def forward(model, batch):
        hidden, out = run(of, model, batch)
        logits = of_tokens(model, [o.logits[0] for o in out], batch)
        return hidden, logits, class_loss(logits, shifted(batch))
    return forward


def classify(of):
    def forward(model, batch):
        hidden, out = run(of, model, batch)
        logits = torch.stack([o.logits[0] for o in out])
        return hidden, logits, class_loss(logits, batch["labels"])
    return forward


def rename_tied(config):
    """A tied head is the token embedding under a second name."""
    def rename(name):
        if name == "lm_head.weight":
            return None if config.tie_word_embeddings else name
        # the generator of prefixes hangs at every attention once more, where it is not what files are made of
        return re.sub(r"\.(layers|h)\.\d+\.\w+\.prefix_tuning\.pool\.", ".prefix_tuning.", name)
    return rename


def save_model(model, folder):
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)


def backbone(of, out):
    model = of["lm"](of["config"]())
    randomize_all(model, "backbone")
    save_model(model, fresh(out / "model"))
    return load_file(out / "model" / "model.safetensors")


def randomize_all(model, seed, only=("",)):
    randomize(model, seed, only)
    for name, p in model.named_parameters():  # RMSNorm is a class of each family's own
        if "norm" in name.split(".")[-2] and name.endswith("weight") and any(part in name for part in only):
            p.data = 1 + p.data


def plain(of, out, tensors):
    folder, batch = fresh(out / "plain"), inputs("plain", vocab=VOCAB)
    del batch["labels"]
    model = load(of["lm"](of["config"]()), tensors).double().eval()
    hidden, given = run(of, model, batch)
    write(folder, batch, dict(last_hidden_state=hidden, logits=torch.cat([o.logits[0] for o in given]), cu_seqlens=cu_seqlens(batch)))


def full(of, out, tensors):
    model = load(of["lm"](of["config"]()), tensors)
    record(fresh(out / "full"), model, inputs("full", vocab=VOCAB), predict_next(of), rename_tied(model.config))


def variant(of, out, name, fields):
    folder, config = fresh(out / name), of["config"](**fields)
    longest = 20 if name in BEYOND else config.max_position_embeddings
    batch = inputs(name, longest=longest, vocab=config.vocab_size)
    model = of["lm"](config)
    randomize_all(model, name)
    save_model(model, folder)
    record(folder, model, batch, predict_next(of), rename_tied(config), curve=False)


def init(of, model):
    adapters.init(model, interface=of.get("interface"))
    return model


def orthogonal(model):
    for name, p in model.named_parameters():
        if name.endswith("parametrizations.weight.original"):
            p.data.fill_diagonal_(-1)


def adapter_case(of, out, name, tensors):
    adapter, head = ADAPTERS[name]
    if ("heads" not in of and (head or "prefix" in name)):
        return  # neither a model with heads nor prefixes
    folder = fresh(out / name)
    torch.manual_seed(0)  # of orthogonal matrices, whatever is written before them
    if head is None:
        model = init(of, load(of["lm"](of["config"]()), tensors))
    else:
        model = load(of["heads"](of["config"]()), {k: v for k, v in tensors.items() if not k.startswith("lm_head")})
        if "causal" in head:
            model.add_causal_lm_head(NAME, **head["causal"])
        else:
            model.add_classification_head(NAME, **head["labels"])
    model.add_adapter(NAME, config=adapter)
    model.train_adapter(NAME)
    if head:
        model.active_head = NAME
        for p in model.heads.parameters():  # the library freezes a vocabulary's matrix, tied or not
            p.requires_grad = True
    randomize(model, name, MARKS)
    orthogonal(model)
    with contextlib.suppress(RuntimeError):
        model.save_adapter(str(folder), NAME, with_head=head is not None, use_safetensors=True)
    if not (folder / "adapter.safetensors").exists():  # tensors are shared
        fresh(folder)
        model.save_adapter(str(folder), NAME, with_head=head is not None, use_safetensors=False)
    labels = head and head.get("labels")
    # the causal mask of some of transformers' models has as many keys as there are positions
    batch = inputs(name, labels and labels["num_labels"], longest=POSITIONS - 5, vocab=VOCAB)
    torch.set_default_dtype(torch.float64)  # of empty tensors of interventions
    record(folder, model, batch, classify(of) if labels else predict_next(of), rename_tied(of["config"]()), curve=name == "houlsby")
    torch.set_default_dtype(torch.float32)


def peft_case(of, out, name, tensors):
    options, labels = PEFT[name]
    options, folder = options(of), fresh(out / name)
    if labels is None:
        model = load(of["lm"](of["config"]()), tensors)
    else:
        tensors = {k: v for k, v in tensors.items() if not k.startswith("lm_head")}
        model = load(of["classes"](of["config"](num_labels=labels)), tensors)
    model = get_peft_model(model, options)
    randomize(model, name, ["lora_", "modules_to_save", "prompt_encoder"])
    rename = save_peft(model, folder)
    rows = "prompt_encoder.default.embedding.weight"
    batch = inputs(name, labels, longest=POSITIONS - 5, vocab=VOCAB)
    record(folder, model, batch, classify(of) if labels else predict_next(of),
           lambda n: "prompt_embeddings" if n == rows else rename(n), curve=False)


def fusion(of, out, tensors):
    """The loss is sum(y * g), as in compose.py."""
    folder = fresh(out / "fuse")
    model = init(of, load(of["lm"](of["config"]()), tensors))
    for name, config in FUSED.items():
        model.add_adapter(name, config=config)
        randomize(model, name, [f".adapters.{name}."])
    setup = Fuse(*FUSED)
    model.add_adapter_fusion(setup, "dynamic")
    randomize(model, "fuse", ["adapter_fusion_layer."])
    model.train_adapter_fusion(setup, unfreeze_adapters=True)
    for name in FUSED:
        model.save_adapter(str(fresh(folder / name)), name, use_safetensors=True, with_head=False)
    model.save_adapter_fusion(str(fresh(folder / "fusion")), setup, use_safetensors=True)
    model.double().eval()
    batch, loss = dict(input_ids=SEQUENCES, setup="Fuse(a, b)"), 0
    hidden = run(of, model, batch)[0]
    rows = iter(hidden)
    for s, ids in enumerate(SEQUENCES):
        for t in range(len(ids)):
            y = next(rows)
            loss = loss + sum(y[c] * math.sin(0.7 * (s + 1) + 0.3 * t + 0.11 * c) for c in range(len(y)))
    loss.backward()
    trained = {n: p.grad for n, p in model.named_parameters() if p.requires_grad and p.grad is not None}
    trained = {f"grad.{n}": g for n, g in trained.items() if "adapters." in n or "adapter_fusion_layer" in n}
    write(folder, batch, dict(last_hidden_state=hidden, **trained))


def main():
    for family in sys.argv[1:] or FAMILIES:
        of, out = FAMILIES[family], FIXTURES / family
        weights = backbone(of, out)
        plain(of, out, weights)
        full(of, out, weights)
        for name, fields in VARIANTS[family].items():
            variant(of, out, name, fields)
        for name in ADAPTERS:
            adapter_case(of, out, name, weights)
        for name in PEFT:
            peft_case(of, out, name, weights)
        fusion(of, out, weights)
        sizes(out)


if __name__ == "__main__":
    main()
