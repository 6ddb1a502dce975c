"""Writes tests/fixtures/gpt2: what tiny random GPT-2s do, alone and with bottleneck adapters and LoRA of both libraries.

The oracles are `transformers`, `adapters` and `peft`. Losses of language models are those of `GPT2LMHeadModel`: the row of a
token predicts the next one, and the mean is over all labelled tokens of the batch. common.py says how numbers are computed.
"""

import json

import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel, GPT2Model

import adapters
from adapters import (AdapterPlusConfig, BnConfig, CompacterConfig, CompacterPlusPlusConfig, DoubleSeqBnConfig,
                      GPT2AdapterModel, LoRAConfig, ParBnConfig, SeqBnConfig)
from peft import LoraConfig, get_peft_model

from common import (FIXTURES, IGNORED, NAME, class_loss, cu_seqlens, fresh, keep_rules, lengths, load, of_tokens, randomize, record, save_peft, shifted,
                    sizes, write)

OUT = FIXTURES / "gpt2"
VOCAB, POSITIONS = 97, 24


def config(**more):
    """A new one for each model: `adapters` writes into the config it is given."""
    return GPT2Config(**dict(
        n_embd=32, n_layer=3, n_head=4, n_inner=40, vocab_size=VOCAB, n_positions=POSITIONS, bos_token_id=0, eos_token_id=0,
        attn_implementation="eager",
    ) | more)


def small(**more):
    """For what is only a variant of the computation; n_inner null is four times the width."""
    return config(**dict(n_embd=16, n_layer=2, n_head=2, n_inner=None, vocab_size=31, n_positions=12) | more)


VARIANTS = {
    "wide": small(),
    "inverse-layer": small(scale_attn_by_inverse_layer_idx=True, n_inner=24),
    "unscaled": small(scale_attn_weights=False, activation_function="gelu", layer_norm_epsilon=1e-3),
    "reorder": small(reorder_and_upcast_attn=True, scale_attn_by_inverse_layer_idx=True),
    "untied": small(tie_word_embeddings=False, activation_function="relu", n_inner=8),
}

# name: (adapter, head). No head: the model's own, which is its token embedding; it is frozen, and no file of a head is written.
ADAPTERS = {
    "houlsby": (DoubleSeqBnConfig(reduction_factor=4), None),
    "pfeiffer": (SeqBnConfig(reduction_factor=2), dict(causal=dict())),  # two layers, gelu, norm, bias
    "parallel": (ParBnConfig(reduction_factor=3), dict(causal=dict(layers=1, activation_function=None))),
    "houlsby-class": (DoubleSeqBnConfig(reduction_factor=6, leave_out=[1]), dict(labels=dict(num_labels=3))),
    "parallel-class": (
        ParBnConfig(mh_adapter=True, reduction_factor=8, scaling="learned"),
        dict(labels=dict(num_labels=2, layers=1)),
    ),
    "adapter-plus": (AdapterPlusConfig(reduction_factor=8, stochastic_depth=0.0), None),
    # own norms, and nothing of the model's behind the adapter
    "norms": (
        BnConfig(mh_adapter=True, output_adapter=True, reduction_factor={"default": 2.5, "1": 16}, non_linearity="tanh",
                 original_ln_before=True, original_ln_after=False, residual_before_ln=False, ln_before=True, ln_after=True),
        None,
    ),
    "res-before-ln": (
        BnConfig(mh_adapter=False, output_adapter=True, reduction_factor=5, non_linearity="leakyrelu", scaling="channel",
                 adapter_residual_before_ln=True, ln_after=True, leave_out=[0]),
        None,
    ),
    "gated": (SeqBnConfig(reduction_factor=4, use_gating=True, scaling=2.0), None),
    "compacter": (CompacterConfig(reduction_factor=4), None),
    "compacter++": (CompacterPlusPlusConfig(reduction_factor=2, phm_rank=2, phm_bias=False), None),
    "phm-shared": (
        CompacterConfig(reduction_factor=4, phm_dim=2, shared_W_phm=True, factorized_phm_rule=True, use_gating=True),
        None,
    ),
    "lora-qv": (LoRAConfig(r=4, alpha=8), None),
    "lora-k": (LoRAConfig(r=2, alpha=2, attn_matrices=["k"], leave_out=[0]), None),
    "lora-all": (
        LoRAConfig(r=3, alpha=5, attn_matrices=["q", "k", "v"], intermediate_lora=True, output_lora=True, leave_out=[1]),
        None,
    ),
    "lora-class": (
        LoRAConfig(r=5, alpha=2, selfattn_lora=False, intermediate_lora=True),
        dict(labels=dict(num_labels=4, layers=1)),
    ),
}

# name: (options of PEFT's LoRA, labels of a classification or None)
PEFT = {
    "peft-attn": (dict(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=["c_attn"]), None),
    "peft-all": (
        dict(task_type="CAUSAL_LM", r=3, lora_alpha=5, use_rslora=True, target_modules=["c_attn", "c_proj", "c_fc"]),
        None,
    ),
    "peft-class": (
        dict(task_type="SEQ_CLS", r=2, lora_alpha=3, target_modules=["attn.c_attn", "mlp.c_proj"], layers_to_transform=[0, 2]),
        3,
    ),
}


def inputs(seed, labels=None, longest=POSITIONS, vocab=VOCAB):
    """Ragged sequences; labels are classes, or the tokens themselves less the beginning of every other sequence."""
    r, of = lengths(seed, longest, middle=2)
    ids = [r.integers(0, vocab, n).tolist() for n in of]
    if labels is not None:
        return dict(input_ids=ids, labels=r.integers(0, labels, len(ids)).tolist())
    prompts = [(i % 2) * (len(x) // 3) for i, x in enumerate(ids)]
    return dict(input_ids=ids, labels=[[IGNORED] * p + x[p:] for p, x in zip(prompts, ids)])


def run(model, batch):
    """(last hidden states, after the last norm; what the model gives for each sequence): one sequence at a time."""
    hidden, out = [], []
    body = next(m for m in model.modules() if isinstance(m, GPT2Model))
    handle = body.ln_f.register_forward_hook(lambda _m, _i, y: hidden.append(y[0]))
    for ids in batch["input_ids"]:
        out.append(model(input_ids=torch.tensor([ids]), use_cache=False))
    handle.remove()
    return of_tokens(model, hidden, batch), out


def predict_next(model, batch):
    hidden, out = run(model, batch)
    logits = of_tokens(model, [o.logits[0] for o in out], batch)
    return hidden, logits, class_loss(logits, shifted(batch))


def classify(model, batch):
    hidden, out = run(model, batch)
    logits = torch.stack([o.logits[0] for o in out])
    return hidden, logits, class_loss(logits, batch["labels"])


def as_the_library_shifts(model, batch):
    """The library's own loss of one sequence is the loss computed here (it rounds the logits to float32)."""
    i = max(range(len(batch["labels"])), key=lambda i: len(batch["labels"][i]))
    one = {k: [v[i]] for k, v in batch.items()}
    theirs = model(**{k: torch.tensor(v) for k, v in one.items()}).loss
    assert abs(theirs - predict_next(model, one)[2]) < 1e-5


def untwice(name):
    """A tied head is the token embedding under a second name."""
    return None if name == "lm_head.weight" else name


def backbone():
    """The frozen model as `GPT2LMHeadModel` saves it; returns its tensors."""
    folder = fresh(OUT / "model")
    model = GPT2LMHeadModel(config())
    randomize(model, "backbone")
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink()
    return load_file(folder / "model.safetensors")


def plain(tensors):
    folder, batch = fresh(OUT / "plain"), inputs("plain")
    del batch["labels"]
    model = load(GPT2LMHeadModel(config()), tensors).double().eval()
    hidden, out = run(model, batch)
    write(folder, batch, dict(last_hidden_state=hidden, logits=torch.cat([o.logits[0] for o in out]),
                              cu_seqlens=cu_seqlens(batch)))


def full(tensors):
    """Full fine-tuning of a language model: every weight trains, and the token embedding from both its uses."""
    folder, batch = fresh(OUT / "full"), inputs("full")
    model = load(GPT2LMHeadModel(config()), tensors)
    record(folder, model, batch, predict_next, untwice)
    as_the_library_shifts(model, batch)


def variant(name):
    """A model of its own, and every gradient of its loss."""
    folder, how = fresh(OUT / name), VARIANTS[name]
    batch = inputs(name, longest=how.n_positions, vocab=how.vocab_size)
    model = GPT2LMHeadModel(how)
    randomize(model, name)
    if name == "wide":
        like_the_first_files(model, folder)
    else:
        model.save_pretrained(folder)
        (folder / "generation_config.json").unlink()
    if how.reorder_and_upcast_attn:  # computes its scores in float32, so the copy without that flag is the definition
        exact = load(GPT2LMHeadModel(small(scale_attn_by_inverse_layer_idx=True)), model.state_dict()).double().eval()
        rounded = predict_next(model.eval(), batch)[1]
        assert (predict_next(exact, batch)[1] - rounded).abs().max() < 1e-5
        model = exact
    record(folder, model, batch, predict_next, untwice if how.tie_word_embeddings else lambda n: n, curve=False)


def like_the_first_files(model, folder):
    """As the published `gpt2`: no `transformer.` in front, the causal masks among the weights, and fields nobody reads."""
    tensors = {k.removeprefix("transformer."): v for k, v in model.state_dict().items() if k != "lm_head.weight"}
    mask = torch.ones(model.config.n_positions, model.config.n_positions).tril()[None, None]
    tensors |= {f"h.{i}.attn.bias": mask.clone() for i in range(model.config.n_layer)}
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    fields = dict(
        activation_function="gelu_new", architectures=["GPT2LMHeadModel"], attn_pdrop=0.1, bos_token_id=0, embd_pdrop=0.1,
        eos_token_id=0, initializer_range=0.02, layer_norm_epsilon=1e-05, model_type="gpt2", n_ctx=12, n_embd=16, n_head=2,
        n_layer=2, n_positions=12, resid_pdrop=0.1, summary_activation=None, summary_first_dropout=0.1,
        summary_proj_to_labels=True, summary_type="cls_index", summary_use_proj=True, vocab_size=31,
        task_specific_params={"text-generation": {"do_sample": True, "max_length": 50}},
    )
    (folder / "config.json").write_text(json.dumps(fields, indent=2) + "\n")
    again = GPT2LMHeadModel.from_pretrained(folder).state_dict()
    assert all(torch.equal(v, again[k]) for k, v in model.state_dict().items())


def case(name, tensors):
    folder = fresh(OUT / name)
    adapter, head = ADAPTERS[name]
    if head is None:
        model = load(GPT2LMHeadModel(config()), tensors)
        adapters.init(model)
    else:
        model = load(GPT2AdapterModel(config()), {k: v for k, v in tensors.items()})
        if "causal" in head:
            model.add_causal_lm_head(NAME, **head["causal"])
        else:
            model.add_classification_head(NAME, **head["labels"])
        model.active_head = NAME
    model.add_adapter(NAME, config=adapter)
    model.train_adapter(NAME)
    grafted = [f"{kind}.{NAME}." for kind in ("adapters", "loras", "shared_parameters")]
    randomize(model, name, [*grafted, f"heads.{NAME}."])
    keep_rules(model, adapter)
    try:
        model.save_adapter(str(folder), NAME, with_head=head is not None, use_safetensors=True)
    except RuntimeError:  # `ln_before` is saved under two names, which safetensors refuses: write both
        state = {k: v.clone() for k, v in model.state_dict().items() if any(f".{part}" in k for part in grafted)}
        save_file(state, folder / "adapter.safetensors")
    labels = head and head.get("labels")
    batch = inputs(name, labels and labels["num_labels"])
    record(folder, model, batch, classify if labels else predict_next, untwice)
    if not labels:
        as_the_library_shifts(model, batch)


def peft_case(name, tensors):
    folder = fresh(OUT / name)
    options, labels = PEFT[name]
    if labels is None:
        model = load(GPT2LMHeadModel(config()), tensors)
    else:
        model = load(GPT2ForSequenceClassification(config(num_labels=labels)), tensors)
    model = get_peft_model(model, LoraConfig(fan_in_fan_out=True, **options))
    randomize(model, name, ["lora_", "modules_to_save"])
    rename = save_peft(model, folder)
    record(folder, model, inputs(name, labels), classify if labels else predict_next, rename)


def main():
    weights = backbone()
    plain(weights)
    full(weights)
    for name in VARIANTS:
        variant(name)
    for name in ADAPTERS:
        case(name, weights)
    for name in PEFT:
        peft_case(name, weights)
    sizes(OUT)


if __name__ == "__main__":
    main()
