"""Writes tests/fixtures/generation, or of it the families named behind: what `transformers`' generate says with tiny random models,
alone and with adapters.

For each family a model, adapters on it, 20 prompts of different lengths, and cases: fields of `GenerationConfig`, and the new
tokens that come of them, up to 40 for each prompt. Prompts run one by one, so there is no padding. Every case is generated in
float32 and in float64, and must come out the same: no tie, and no rounding, decides. Sampling cannot be the same elsewhere, so
its cases are the scores that a token would be drawn from. common.py says how weights are made; those of T5 are then made larger
or smaller by what they are for, and seeds are chosen, so that a model says other things for other prompts, and ends some of them.
"""

import contextlib
import json
import sys

import torch
from safetensors.torch import save_file
from transformers import (
    GenerationConfig, GPT2Config, GPT2LMHeadModel, MT5Config, MT5ForConditionalGeneration, T5Config, T5ForConditionalGeneration,
)
from transformers.generation.logits_process import LogitsProcessorList

import adapters
from adapters import BnConfig, DoubleSeqBnConfig, PrefixTuningConfig, SeqBnConfig
from peft import LoraConfig, get_peft_model

from common import FIXTURES, NAME, fresh, randomize, rng, save_adapter, save_peft, sizes
from t5 import in_full_precision

OUT = FIXTURES / "generation"
PROMPTS, NEW = 20, 40
ENDS = dict(eos_token_id=[37, 2], pad_token_id=0)  # tokens that these models say often


def gpt2():
    return GPT2LMHeadModel(GPT2Config(
        n_embd=32, n_layer=2, n_head=4, vocab_size=61, n_positions=64, bos_token_id=None, eos_token_id=None,
        attn_implementation="eager"))


def t5(config=T5Config, **more):
    """Texts are longer than the farthest distance."""
    made = config(**dict(
        d_model=24, d_kv=5, d_ff=32, num_layers=2, num_decoder_layers=2, num_heads=4, vocab_size=61, decoder_start_token_id=0,
        relative_attention_num_buckets=8, relative_attention_max_distance=12, eos_token_id=None, bos_token_id=None,
    ) | more)
    return (MT5ForConditionalGeneration if config is MT5Config else T5ForConditionalGeneration)(made)


# name: (seed, model, options of PEFT's LoRA; without them there are no cases with adapters)
FAMILIES = {
    "gpt2": ((), gpt2, dict(task_type="CAUSAL_LM", target_modules=["c_attn", "c_proj"], fan_in_fan_out=True)),
    "t5": ((2,), t5, dict(task_type="SEQ_2_SEQ_LM", target_modules=["q", "k", "v", "o", "wi"])),
    "t5-gated": ((4,), lambda: t5(feed_forward_proj="gated-gelu", tie_word_embeddings=False, num_layers=3), None),
    "mt5": ((5,), lambda: t5(MT5Config, decoder_start_token_id=3), None),
}

# name: what `generate` is told beside `max_new_tokens`; those with `adapter` are generated with it attached
CASES = {
    "greedy": dict(),
    "no-end": dict(eos_token_id=None),
    "one-end": dict(eos_token_id=37),
    "length": dict(max_length=31, max_new_tokens=None, eos_token_id=None),
    "usual-length": dict(max_new_tokens=None, eos_token_id=None),
    "repetition": dict(repetition_penalty=1.7),
    "repetition-less": dict(repetition_penalty=0.8, encoder_repetition_penalty=1.3),
    "no-repeat-1": dict(no_repeat_ngram_size=1, eos_token_id=None),
    "no-repeat-2": dict(no_repeat_ngram_size=2),
    "no-repeat-prompt": dict(no_repeat_ngram_size=3, encoder_no_repeat_ngram_size=2),
    "bad-words": dict(bad_words_ids=[[3], [37], [5, 9], [1, 2, 3], [40], [41, 17], [22], [23, 58]]),
    "suppress": dict(suppress_tokens=[1, 2, 3, 20, 21, 30, 40, 50, 200], begin_suppress_tokens=[2, 22, 23, 32, 35, 37, 58]),
    "min-length": dict(min_length=24),
    "min-new-tokens": dict(min_new_tokens=12, min_length=40),
    "forced-bos": dict(forced_bos_token_id=33, begin_suppress_tokens=[5, 6, 7]),
    "forced-eos": dict(forced_eos_token_id=[12, 7], eos_token_id=None),
    "decay": dict(exponential_decay_length_penalty=[3, 1.2], remove_invalid_values=True),
    "all-rules": dict(repetition_penalty=1.3, no_repeat_ngram_size=2, min_new_tokens=6, suppress_tokens=[4, 44],
                      forced_eos_token_id=37, renormalize_logits=True, remove_invalid_values=True),
    "beams-2": dict(num_beams=2),
    "beams-4": dict(num_beams=4, num_return_sequences=4),
    "beams-short": dict(num_beams=4, length_penalty=-1.0, num_return_sequences=2),
    "beams-long": dict(num_beams=4, length_penalty=2.0),
    "beams-early": dict(num_beams=4, early_stopping=True, num_return_sequences=3),
    "beams-early-short": dict(num_beams=2, early_stopping=True, length_penalty=0.3),
    "beams-never": dict(num_beams=4, early_stopping="never", length_penalty=0.6),
    "beams-never-0": dict(num_beams=2, early_stopping="never", length_penalty=0.0, num_return_sequences=2),
    "beams-one-end": dict(num_beams=3, eos_token_id=37, length_penalty=1.5),
    "beams-no-end": dict(num_beams=2, eos_token_id=None),
    "beams-rules": dict(num_beams=4, repetition_penalty=1.4, no_repeat_ngram_size=2, min_new_tokens=5, forced_eos_token_id=37,
                        bad_words_ids=[[3], [9, 1]], forced_bos_token_id=12, renormalize_logits=True),
    "lora": dict(adapter="lora"),
    "lora-beams": dict(adapter="lora", num_beams=3, num_return_sequences=2),
    "houlsby": dict(adapter="houlsby"),
    "houlsby-beams": dict(adapter="houlsby", num_beams=2, early_stopping=True),
    "prefix": dict(adapter="prefix", max_new_tokens=30),
    "prefix-beams": dict(adapter="prefix", num_beams=2, max_new_tokens=30),
}

# of models with an encoder
ENCODED = {
    "start": dict(decoder_start_token_id=5, num_beams=2),
    "cross-beams": dict(adapter="cross", num_beams=2),
}

# what a token is drawn from
DRAWN = {
    "temperature": dict(temperature=0.7, top_k=None),
    "top-k": dict(top_k=5),
    "top-k-usual": dict(),
    "top-p": dict(top_k=0, top_p=0.8),
    "min-p": dict(top_k=0, min_p=0.1),
    "all": dict(temperature=1.4, top_k=30, top_p=0.9, min_p=0.05, repetition_penalty=1.2, no_repeat_ngram_size=2,
                renormalize_logits=True),
    "beams": dict(num_beams=3, temperature=0.3, top_k=1, top_p=0.1, min_p=0.9),
    "beams-no-end": dict(num_beams=3, eos_token_id=None, top_k=0, top_p=0.01),
}

ADAPTERS = {"houlsby": DoubleSeqBnConfig(reduction_factor=4),
            "prefix": PrefixTuningConfig(prefix_length=5, flat=True),
            "cross": BnConfig(mh_adapter=True, output_adapter=False, reduction_factor=4, non_linearity="relu", cross_adapter=True)}


def prompts(vocab, family):
    r = rng("prompts", family)
    return [r.integers(0, vocab, n).tolist() for n in [1, 2, *r.integers(1, 24, PROMPTS - 3), 24]]


def varied(model):
    """Far-reaching layers and sharp attention: a model does not say its last token again and again."""
    for name, p in model.named_parameters():
        if "layer_norm" in name:
            p.data = 1 + p.data
        elif name.endswith((".o.weight", ".wo.weight")):
            p.data *= 4
        elif name.endswith(".q.weight"):
            p.data *= 2
        elif "relative_attention_bias" in name:
            p.data *= 6


def exact(model):
    """What T5 rounds to float32 on its way is not rounded."""
    return in_full_precision() if model.config.is_encoder_decoder else contextlib.nullcontext()


def next_token(model, ids, source):
    """Logits of the token behind these."""
    inputs = dict(input_ids=torch.tensor([ids]))
    if model.config.is_encoder_decoder:
        inputs = dict(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([ids]))
    with exact(model):
        out = model(**inputs).logits[0, -1].detach()
    return out.float()


def configured(options):
    return GenerationConfig(**(dict(max_new_tokens=NEW) | ENDS | options))


def ended(ids, ends):
    """Less what fills up a batch behind the end."""
    for i, token in enumerate(ids):
        if token in ends:
            return ids[:i + 1]
    return ids


def generate(model, all_prompts, config):
    """For each prompt its sequences, less the prompt, and their scores."""
    config.return_dict_in_generate = config.output_scores = True
    ends = [config.eos_token_id] if isinstance(config.eos_token_id, int) else config.eos_token_id or []
    sequences, scores = [], []
    for ids in all_prompts:
        with exact(model):
            out = model.generate(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), generation_config=config)
        begin = 1 if model.config.is_encoder_decoder else len(ids)
        sequences.append([ended(s[begin:].tolist(), ends) for s in out.sequences])
        if config.num_beams > 1:
            scores.append(out.sequences_scores.tolist())
    return sequences, scores


def exactly(model, all_prompts, config):
    """The same in float32 and in float64."""
    exact, scores = generate(model.double().eval(), all_prompts, config)
    rounded, _ = generate(model.float().eval(), all_prompts, config)
    assert exact == rounded, "a tie"
    return exact, scores


def case(folder, name, how, model, all_prompts):
    options = {k: v for k, v in how.items() if k != "adapter"}
    sequences, scores = exactly(model, all_prompts, configured(options))
    written = dict(adapter=how.get("adapter"), config=dict(max_new_tokens=NEW) | ENDS | options, sequences=sequences)
    if scores:
        written["scores"] = [[round(x, 6) for x in of] for of in scores]
    lines = ",\n".join(f" {json.dumps(k)}: {json.dumps(v)}" for k, v in written.items())
    (folder / f"{name}.json").write_text("{\n" + lines + "\n}\n")
    lengths = [len(s) for of in sequences for s in of]
    print(f"  {name:20} {min(lengths)} to {max(lengths)} tokens, {sum(n < NEW for n in lengths)} of {len(lengths)} end early")


def drawn(folder, model, all_prompts):
    """Scores of the next token of some prompts, before and after the rules; -inf is null."""
    model.double().eval()
    some = sources = all_prompts[:6]
    written = dict(prompts=some)
    if model.config.is_encoder_decoder:
        some = [[model.config.decoder_start_token_id, *ids] for ids in all_prompts[6:12]]
        written = dict(prompts=some, sources=sources)
    logits = [next_token(model, ids, source) for ids, source in zip(some, sources)]
    written |= dict(logits=[x.tolist() for x in logits], cases={})
    for name, options in DRAWN.items():
        fields = dict(do_sample=True) | ENDS | options
        config = GenerationConfig(**fields)
        config.decoder_start_token_id = model.config.decoder_start_token_id
        model._prepare_special_tokens(config, True, device="cpu")
        after = []
        for ids, source, x in zip(some, sources, logits):
            config.max_length = len(ids) + NEW
            rules = model._get_logits_processor(config, input_ids_seq_length=len(ids), encoder_input_ids=torch.tensor([source]),
                                                logits_processor=LogitsProcessorList(), device="cpu", model_kwargs={})
            y = rules(torch.tensor([ids]), x[None])[0]
            after.append([None if v == float("-inf") else round(v, 6) for v in y.tolist()])
        written["cases"][name] = dict(config=fields, scores=after)
    (folder / "drawn.json").write_text(json.dumps(written).replace('"cases"', '\n"cases"').replace('{"config"', '\n{"config"') + "\n")


def adapted(folder, name, make, tensors, lora):
    """A model with an adapter, which is saved."""
    model = make()
    model.load_state_dict(tensors, strict=False)
    model.tie_weights()
    to = fresh(folder / "adapters" / name)
    if name == "lora":
        model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, **lora))
        randomize(model, name, ["lora_"])
        save_peft(model, to)
        return model
    adapters.init(model)
    model.add_adapter(NAME, config=ADAPTERS[name])
    randomize(model, name, [f"adapters.{NAME}.", f"prefix_tunings.{NAME}.", f"prefix_tuning.{NAME}", "prefix_tuning"])
    model.set_active_adapters(NAME)
    if model.config.is_encoder_decoder:
        save_adapter(model, to, False)
        return model
    try:
        model.save_adapter(str(to), NAME, use_safetensors=True)
    except RuntimeError:  # the generator of a prefix hangs at every attention once more, which safetensors refuses
        state = {k: v.clone() for k, v in model.state_dict().items() if f".{NAME}." in k and ".pool." not in k}
        save_file(state, to / "adapter.safetensors")
    return model


def family(name):
    seed, make, lora = FAMILIES[name]
    folder = fresh(OUT / name)
    model = make()
    randomize(model, ("generation", name, *seed))
    if model.config.is_encoder_decoder:
        varied(model)
    model.tie_weights()
    model.save_pretrained(folder / "model")
    (folder / "model" / "generation_config.json").write_text(json.dumps(ENDS) + "\n")
    all_prompts = prompts(model.config.vocab_size, name)
    (folder / "prompts.json").write_text(json.dumps(all_prompts) + "\n")
    drawn(folder, model, all_prompts)
    tensors = {k: v.clone() for k, v in model.float().state_dict().items()}
    cases = CASES | (ENCODED if model.config.is_encoder_decoder else {})
    cases = {n: how for n, how in cases.items() if lora or "adapter" not in how}
    used = [how["adapter"] for how in cases.values() if "adapter" in how]
    models = {None: model} | {n: adapted(folder, n, make, tensors, lora) for n in dict.fromkeys(used)}
    (folder / "cases").mkdir()
    for n, how in cases.items():
        case(folder / "cases", n, how, models[how.get("adapter")], all_prompts)


def main():
    for name in sys.argv[1:] or FAMILIES:
        print(name)
        family(name)
    sizes(OUT)


if __name__ == "__main__":
    main()
