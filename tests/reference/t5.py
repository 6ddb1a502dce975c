"""Writes tests/fixtures/t5: what tiny random T5s and mT5s do, alone and with adapters of both libraries.

The oracles are `transformers`, `adapters` and `peft`. Losses are those of `T5ForConditionalGeneration`: row i of the decoder
predicts label i, and the mean is over all labels of the batch. common.py says how numbers are computed; T5 computes its norms and
softmax in float32 whatever the rest is, which is taken out.
"""

import contextlib
import re
from unittest import mock

import torch
from safetensors.torch import load_file, save_file
from transformers import MT5Config, MT5ForConditionalGeneration, T5Config, T5ForConditionalGeneration
from transformers.models.mt5.modeling_mt5 import MT5LayerNorm
from transformers.models.t5.modeling_t5 import T5LayerNorm

from adapters import (
    BnConfig, CompacterConfig, DoubleSeqBnConfig, IA3Config, LoRAConfig, ParBnConfig, PrefixTuningConfig, SeqBnConfig,
    SeqBnInvConfig, T5AdapterModel,
)
from peft import IA3Config as PeftIA3Config, LoraConfig, get_peft_model

from common import (
    FIXTURES, IGNORED, NAME, class_loss, cu_seqlens, fresh, lengths, load, randomize, record, rng, save_adapter, save_peft, sizes, write,
)

OUT = FIXTURES / "t5"
VOCAB, LONGEST = 61, 26


def config(kind=T5Config, **more):
    """A new one for each model. The inner width is not that of the stream, and texts are longer than the farthest distance."""
    return kind(**dict(
        d_model=32, d_kv=6, d_ff=40, num_layers=2, num_decoder_layers=2, num_heads=4, vocab_size=VOCAB,
        relative_attention_num_buckets=8, relative_attention_max_distance=12, decoder_start_token_id=0,
    ) | more)


def small(kind=T5Config, **more):
    return config(kind, **dict(d_model=16, d_kv=5, d_ff=12, num_heads=2, vocab_size=31) | more)


VARIANTS = {
    "flan": small(feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    "mt5": small(MT5Config),
    "uneven": small(num_layers=1, num_decoder_layers=3, feed_forward_proj="gated-silu", layer_norm_epsilon=1e-3),
    "old": small(num_decoder_layers=None, relative_attention_num_buckets=32, relative_attention_max_distance=128),
}

ADAPTERS = {
    "houlsby": DoubleSeqBnConfig(reduction_factor=4),
    "pfeiffer": SeqBnConfig(reduction_factor=2),
    "parallel": ParBnConfig(reduction_factor=3),
    "cross": BnConfig(mh_adapter=True, output_adapter=True, reduction_factor=8, non_linearity="gelu", cross_adapter=True),
    "compacter": CompacterConfig(reduction_factor=4),
    "invertible": SeqBnInvConfig(reduction_factor=8),
    "lora-qv": LoRAConfig(r=4, alpha=8),
    "lora-all": LoRAConfig(
        r=3, alpha=5, attn_matrices=["q", "k", "v"], intermediate_lora=True, output_lora=True, leave_out=[1, 2],
    ),
    "ia3": IA3Config(),
    "prefix": PrefixTuningConfig(prefix_length=3, bottleneck_size=8),
    # where some layers of a stack have a prefix and others none, the library loses the relative positions
    "prefix-flat": PrefixTuningConfig(prefix_length=2, flat=True, leave_out=[0, 1]),
    "prefix-encoder": PrefixTuningConfig(prefix_length=3, bottleneck_size=8, cross_prefix=False),
    "prefix-decoder": PrefixTuningConfig(prefix_length=3, bottleneck_size=8, encoder_prefix=False),
}
PEFT = {
    "peft-qv": lambda: LoraConfig(task_type="SEQ_2_SEQ_LM", r=4, lora_alpha=8, target_modules=["q", "v"]),
    "peft-all": lambda: LoraConfig(
        task_type="SEQ_2_SEQ_LM", r=2, lora_alpha=3, use_rslora=True, target_modules=["q", "k", "v", "o", "wi", "wo"],
    ),
    "peft-ia3": lambda: PeftIA3Config(
        task_type="SEQ_2_SEQ_LM", target_modules=["k", "v", "wo"], feedforward_modules=["wo"],
    ),
}


def inputs(seed, vocab=VOCAB):
    """Ragged texts and ragged labels: one of them alone, one with labels that are ignored."""
    r, of = lengths(seed, LONGEST, middle=2)
    ids = [r.integers(2, vocab, n).tolist() for n in of]
    targets = [r.integers(2, vocab, n).tolist() for n in r.permutation([1, 2, 5, 9, 19])]
    labels = [[IGNORED] * (len(t) // 3) + t[len(t) // 3:] if i == 3 else t for i, t in enumerate(targets)]
    shifted = [[0] + [0 if x == IGNORED else x for x in of[:-1]] for of in labels]
    return dict(input_ids=ids, decoder_input_ids=shifted, labels=labels)


def in_full(norm):
    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))
    return mock.patch.object(norm, "forward", forward)


@contextlib.contextmanager
def in_full_precision():
    """What the model rounds to float32 on its way is not rounded."""
    with in_full(T5LayerNorm), in_full(MT5LayerNorm), mock.patch.object(torch.Tensor, "float", lambda self: self):
        yield


def run(model, batch):
    """(last hidden states of the decoder, logits, loss): one sequence at a time."""
    hidden, logits = [], []
    body = next(m for name, m in model.named_modules() if name.endswith("decoder"))
    handle = body.register_forward_hook(lambda _m, _i, y: hidden.append(y[0][0]))
    with in_full_precision():
        for ids, target in zip(batch["input_ids"], batch["decoder_input_ids"]):
            out = model(input_ids=torch.tensor([ids]), decoder_input_ids=torch.tensor([target]), use_cache=False)
            logits.append(out.logits[0])
    handle.remove()
    logits = torch.cat(logits)
    return torch.cat(hidden), logits, class_loss(logits, [label for of in batch["labels"] for label in of])


def as_the_library_shifts(model, batch):
    """The library makes of labels what the decoder reads here, and its loss is the one computed here."""
    for i, labels in enumerate(batch["labels"]):
        one = {k: [v[i]] for k, v in batch.items()}
        assert model._shift_right(torch.tensor([labels])).tolist() == one["decoder_input_ids"]
        theirs = model(input_ids=torch.tensor(one["input_ids"]), labels=torch.tensor([labels])).loss
        assert abs(theirs - run(model, one)[2]) < 1e-5


def once(name):
    """The table of embeddings has one name."""
    return None if name in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight") else name


def backbone():
    folder = fresh(OUT / "model")
    model = T5ForConditionalGeneration(config())
    randomize(model, "t5 backbone")
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink()
    return load_file(folder / "model.safetensors")


def plain(tensors):
    folder, batch = fresh(OUT / "plain"), inputs("t5 plain")
    model = load(T5ForConditionalGeneration(config()), tensors).double().eval()
    hidden, logits, loss = run(model, batch)
    write(folder, batch, dict(last_hidden_state=hidden, logits=logits, loss=loss, cu_seqlens=cu_seqlens(batch)))


def full(tensors):
    """Full fine-tuning: every weight trains, and the table of embeddings from its three uses."""
    folder, batch = fresh(OUT / "full"), inputs("t5 full")
    model = load(T5ForConditionalGeneration(config()), tensors)
    record(folder, model, batch, run, once)
    as_the_library_shifts(model, batch)


def variant(name):
    folder, how = fresh(OUT / name), VARIANTS[name]
    model = (MT5ForConditionalGeneration if how.model_type == "mt5" else T5ForConditionalGeneration)(how)
    randomize(model, name)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink()
    if name == "old":
        like_the_first_files(model, folder)
    tied = how.tie_word_embeddings
    record(folder, model, inputs(name, how.vocab_size), run, lambda n: n if n == "lm_head.weight" and not tied else once(n),
           curve=False)


def like_the_first_files(model, folder):
    """As the published `t5-small`: the table of embeddings under each of its names, and a table that nothing reads."""
    tensors = dict(model.state_dict())
    unread = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    tensors[unread] = torch.zeros(model.config.relative_attention_num_buckets, model.config.num_heads)
    tensors = {k: v.clone().contiguous() for k, v in tensors.items() if k != "shared.weight"}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def take(model, tensors):
    """The tensors of `T5ForConditionalGeneration` for AdapterHub's class, which holds the model in one of its modules."""
    load(model.transformer, tensors)
    model.transformer.encoder.embed_tokens = model.transformer.decoder.embed_tokens = model.transformer.shared


def case(name, tensors):
    folder, batch = fresh(OUT / name), inputs(name)
    model = T5AdapterModel(config())
    take(model, tensors)
    model.add_seq2seq_lm_head(NAME)
    model.add_adapter(NAME, config=ADAPTERS[name])
    model.train_adapter(NAME)
    model.active_head = NAME
    for p in model.heads.parameters():  # the table of embeddings, which is frozen
        p.requires_grad = False
    randomize(model, name, [f"{kind}.{NAME}." for kind in
                            ("adapters", "loras", "shared_parameters", "invertible_adapters", "prefix_tunings")])
    if name == "ia3":
        for n, p in model.named_parameters():
            if f"loras.{NAME}." in n:
                p.data = 1 + 0.2 * torch.tensor(rng(name, n).standard_normal(tuple(p.shape)), dtype=torch.float32)
    save_adapter(model, folder, False)
    # the generators of prefixes hang at every attention once more, where they are not what files are made of
    record(folder, model, batch, run, lambda n: re.sub(r"^transformer\..*\.prefix_tuning\.pool", "transformer.prefix_tuning", n))


def peft_case(name, tensors):
    folder = fresh(OUT / name)
    model = get_peft_model(load(T5ForConditionalGeneration(config()), tensors), PEFT[name]())
    randomize(model, name, ["lora_", "ia3_l"])
    rename = save_peft(model, folder)
    record(folder, model, inputs(name), run, rename)


def with_head(name, tensors, add):
    """AdapterHub's model with a head of its own, saved with it: FIXTURES/heads/NAME."""
    folder = fresh(FIXTURES / "heads" / name)
    model = T5AdapterModel(config(eos_token_id=1))
    take(model, tensors)
    add(model)
    model.add_adapter(NAME, config=DoubleSeqBnConfig(reduction_factor=4))
    model.train_adapter(NAME)
    model.active_head = NAME
    return folder, model


def seq2seq_head(tensors):
    folder, model = with_head("t5-seq2seq", tensors, lambda m: m.add_seq2seq_lm_head(NAME))
    for p in model.heads.parameters():  # the table of embeddings, which is frozen
        p.requires_grad = False
    randomize(model, "t5 seq2seq head", [f"adapters.{NAME}."])
    save_adapter(model, folder, True)
    record(folder, model, inputs("t5 seq2seq head"), run, curve=False)


def classes_head(tensors):
    """The decoder reads what the encoder reads, one to the right, and its row at the end of the text counts."""
    folder, model = with_head("t5-classes", tensors, lambda m: m.add_classification_head(NAME, num_labels=3))
    randomize(model, "t5 classes head", [f"adapters.{NAME}.", f"heads.{NAME}."])
    save_adapter(model, folder, True)
    texts = [ids + [1] for ids in inputs("t5 classes head")["input_ids"]]
    batch = dict(input_ids=texts, labels=[i % 3 for i in range(len(texts))])

    def forward(model, batch):
        hidden, logits = [], []
        handle = model.transformer.decoder.register_forward_hook(lambda _m, _i, y: hidden.append(y[0][0]))
        with in_full_precision():
            for ids in batch["input_ids"]:
                logits.append(model(input_ids=torch.tensor([ids])).logits[0])
        handle.remove()
        logits = torch.stack(logits)
        return torch.cat(hidden), logits, class_loss(logits, batch["labels"])

    record(folder, model, batch, forward, curve=False)


def main():
    weights = backbone()
    seq2seq_head(weights)
    classes_head(weights)
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
