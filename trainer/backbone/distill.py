"""Distil a small BERT from a larger one, on any plain text.

    python distill.py --teacher DIR --text FILES... --out DIR

The teacher is a Hugging Face BERT directory with a WordPiece tokenizer.json. The text files are
plain or .gz, one document, paragraph or sentence a line. The result is an ordinary Hugging Face
directory: config.json, tokenizer.json and model.safetensors (16-bit floats).

How it works, in order:

1. The lines are split into sentences.
2. The student keeps the word pieces of the teacher that are most frequent in the text, and every
   single character, so that longest-match-first segmentation stays valid.
3. The teacher reads every sentence once. Its states are averaged over the pieces of each word,
   because teacher and student may cut a word differently, and kept as 16-bit floats. The average
   over all the pieces is kept as the sentence's state.
4. The student starts as a cut-down copy of the teacher's first layers (narrow.py). Then its last layer
   learns to give, through throw-away linear maps, the teacher's states of the layer of the same number
   and of the last one: word for word, and the sentence's in the first token, which heads read.
"""

import argparse
import gzip
import hashlib
import json
import os
import re
import time

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import nn
from transformers import BertConfig, BertModel

from narrow import narrow

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def sentences(paths, longest):
    """The distinct sentences of the files, of 4 to `longest` words."""
    seen = {}
    for path in paths:
        opened = gzip.open(path, "rt", encoding="utf-8") if path.endswith(".gz") else open(path, encoding="utf-8")
        with opened as lines:
            for line in lines:
                line = line.strip()
                # Text that was tokenized already often marks the end of a sentence by two spaces.
                cut = r"\s{2,}" if "  " in line else r"(?<=[.!?])\s+"
                held = []
                for part in re.split(cut, line):
                    held += part.split()
                    if len(held) >= 4:
                        for i in range(0, len(held), longest):
                            words = held[i : i + longest]
                            if len(words) >= 4:
                                seen[" ".join(words)] = None
                        held = []
    return list(seen)


def student_tokenizer(teacher, counts, size):
    """The teacher's tokenizer, cut to the `size` most frequent pieces, and their ids at the teacher."""
    described = json.loads(teacher.to_str())
    vocab = described["model"]["vocab"]
    single = [p for p in vocab if len(p.removeprefix("##")) == 1 and (ord(p[-1]) < 256 or counts[vocab[p]])]
    kept = dict.fromkeys(SPECIAL + sorted(single, key=vocab.get))
    for i in np.argsort(-counts, kind="stable"):
        if len(kept) >= size:
            break
        kept.setdefault(teacher.id_to_token(int(i)))
    ids = np.array([vocab[p] for p in kept])
    described["model"]["vocab"] = {p: i for i, p in enumerate(kept)}
    described["truncation"] = described["padding"] = None
    for token in described["added_tokens"]:
        token["id"] = described["model"]["vocab"][token["content"]]
    for name, token in described["post_processor"].get("special_tokens", {}).items():
        token["ids"] = [described["model"]["vocab"][name]]
    for name in ("sep", "cls"):
        if name in described["post_processor"]:
            token = described["post_processor"][name][0]
            described["post_processor"][name] = [token, described["model"]["vocab"][token]]
    text = json.dumps(described, ensure_ascii=False, separators=(",", ":"))
    return Tokenizer.from_str(text), text, ids


def batches(lengths, tokens, rng):
    """Batches of sentences of about one length, about `tokens` tokens each, in random order."""
    order = np.argsort(lengths + rng.random(len(lengths)))
    cut, start = [], 0
    for i in range(len(order)):
        if (i + 1 - start) * (lengths[order[i]] + 1) > tokens:
            cut.append(order[start : i + 1])
            start = i + 1
    cut.append(order[start:])
    return [cut[i] for i in rng.permutation(len(cut)) if len(cut[i])]


def padded(rows):
    """The rows as one array with zeros behind, and its mask."""
    width = max(map(len, rows))
    out = np.zeros((len(rows), width), dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=np.int64)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return torch.from_numpy(out), torch.from_numpy(mask)


def places(encoded):
    """For every piece its place: 0 for the first token, 1.. for the words, last for the end."""
    words = [w for w in encoded.word_ids if w is not None]
    # Words are counted anew, as the numbers of the tokenizer may skip some.
    rank = {w: i + 1 for i, w in enumerate(dict.fromkeys(words))}
    return np.array([0] + [rank[w] for w in words] + [len(rank) + 1])


CHUNK = 8192  # sentences the teacher reads at a time


@torch.no_grad()
def teach(model, ids, where, layers, rng):
    """The teacher's states by word, for each of `layers`, and the sentences' states."""
    starts = np.concatenate([[0], np.cumsum([w[-1] + 1 for w in where])])
    width = model.config.hidden_size
    by_word = np.zeros((len(layers), starts[-1], width), dtype=np.float16)
    by_sentence = np.zeros((len(ids), len(layers) * width), dtype=np.float16)
    for batch in batches(np.array([len(i) for i in ids]), 2048, rng):
        tokens, mask = padded([ids[i] for i in batch])
        states = model(input_ids=tokens, attention_mask=mask, output_hidden_states=True).hidden_states
        # Every piece's row in a table of this batch's words.
        first = np.concatenate([[0], np.cumsum([where[i][-1] + 1 for i in batch])])
        row = torch.from_numpy(np.concatenate([where[i] + f for i, f in zip(batch, first)]))
        goes = np.concatenate([np.arange(starts[i], starts[i + 1]) for i in batch])
        count = torch.zeros(first[-1]).index_add_(0, row, torch.ones(len(row)))[:, None]
        for k, layer in enumerate(layers):
            total = torch.zeros(first[-1], width).index_add_(0, row, states[layer][mask.bool()])
            by_word[k][goes] = (total / count).numpy().astype(np.float16)
            mean = (states[layer] * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            by_sentence[batch, k * width : (k + 1) * width] = mean.numpy().astype(np.float16)
    return by_word, by_sentence


def taught(model, ids, where, layers, cache, rng):
    """The teacher's states of all sentences, as far as possible from the cache."""
    words, whole, began = [], [], time.time()
    for n in range(0, len(ids), CHUNK):
        some = ids[n : n + CHUNK]
        path = None
        if cache:
            named = hashlib.sha1(repr((layers, some)).encode()).hexdigest()
            path = os.path.join(cache, f"{named}.npz")
        if path and os.path.exists(path):
            held = np.load(path)
            a, b = held["words"], held["whole"]
        else:
            a, b = teach(model, some, where[n : n + CHUNK], layers, rng)
            if path:
                os.makedirs(cache, exist_ok=True)
                np.savez(path, words=a, whole=b)
        words.append(a)
        whole.append(b)
        print(f"teacher: {n + len(some)} of {len(ids)} sentences, {time.time() - began:.0f} s", flush=True)
    return [np.concatenate([w[k] for w in words]) for k in range(len(layers))], np.concatenate(whole)


def normalised(table):
    """Mean and deviation of every column of a table (of a sample of it)."""
    some = table[:: max(1, len(table) // 100000)].astype(np.float32)
    return torch.from_numpy(some.mean(0)), torch.from_numpy(some.std(0) + 1e-4)


def write(out, student, tokenizer):
    """The student as an ordinary Hugging Face directory."""
    os.makedirs(out, exist_ok=True)
    names = (
        "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
        "max_position_embeddings", "type_vocab_size", "initializer_range", "layer_norm_eps", "pad_token_id",
        "position_embedding_type", "model_type",
    )
    config = {name: getattr(student.config, name) for name in names}
    config.update(architectures=["BertModel"], dtype="float16")
    config.update(hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
    with open(os.path.join(out, "config.json"), "w", encoding="utf-8") as f:
        json.dump(config, f, indent=2, sort_keys=True)
        f.write("\n")
    with open(os.path.join(out, "tokenizer.json"), "w", encoding="utf-8") as f:
        f.write(tokenizer)
    weights = {name: w.detach().half().contiguous() for name, w in student.state_dict().items()}
    save_file(weights, os.path.join(out, "model.safetensors"), metadata={"format": "pt"})


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--teacher", required=True, help="Hugging Face BERT directory")
    p.add_argument("--text", required=True, nargs="+", help="text files, plain or .gz")
    p.add_argument("--out", required=True, help="directory to write")
    p.add_argument("--epochs", type=float, default=8, help="passes over the text")
    p.add_argument("--minutes", type=float, default=1e9, help="training stops then, if not before")
    p.add_argument("--vocab", type=int, default=10500)
    p.add_argument("--hidden", type=int, default=192)
    p.add_argument("--layers", type=int, default=4)
    p.add_argument("--heads", type=int, default=6)
    p.add_argument("--intermediate", type=int, default=768)
    p.add_argument("--batch-tokens", type=int, default=2048)
    p.add_argument("--rate", type=float, default=5e-4, help="peak learning rate; 1.5e-3 is too much")
    p.add_argument("--first-weight", type=float, default=1.0, help="weight of the first token's loss")
    p.add_argument("--longest", type=int, default=48, help="words in a sentence")
    p.add_argument("--limit", type=int, help="how many sentences to use, of all of them shuffled")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--cache", help="directory that keeps the teacher's states for later runs")
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    rng = np.random.default_rng(a.seed)

    # 1 and 2: the sentences and the two tokenizers.
    texts = sentences(a.text, a.longest)
    texts = [texts[i] for i in rng.permutation(len(texts))]
    teacher = BertModel.from_pretrained(a.teacher, add_pooling_layer=False).eval()
    pieces = Tokenizer.from_file(os.path.join(a.teacher, "tokenizer.json"))
    pieces.no_padding()
    pieces.no_truncation()
    counts = np.zeros(pieces.get_vocab_size(), dtype=np.int64)
    for n in range(0, len(texts), CHUNK):
        for e in pieces.encode_batch_fast(texts[n : n + CHUNK]):
            np.add.at(counts, e.ids, 1)
    tokenizer, described, kept = student_tokenizer(pieces, counts, a.vocab)
    long, ids, where, long_where = [], [], [], []
    for text in texts[: a.limit]:
        e, f = pieces.encode(text), tokenizer.encode(text)
        if len(e.ids) <= 128 and len(f.ids) <= 128:
            long.append(e.ids)
            long_where.append(places(e))
            ids.append(f.ids)
            where.append(places(f))
            assert where[-1][-1] == long_where[-1][-1], "the two tokenizers see other words"
    print(f"{len(texts)} sentences, {len(ids)} of them used; in these {sum(map(len, ids))} student pieces for "
          f"{sum(map(len, long))} teacher pieces", flush=True)

    # 3: the teacher's states.
    learned = [teacher.config.num_hidden_layers, a.layers]
    by_word, by_sentence = taught(teacher, long, long_where, learned, a.cache, rng)
    starts = np.concatenate([[0], np.cumsum([w[-1] + 1 for w in where])])
    sample = padded(long[:256])
    del long, long_where, texts
    scales = [normalised(t) for t in by_word] + [normalised(by_sentence)]

    # 4: the student.
    config = BertConfig(
        vocab_size=len(kept), hidden_size=a.hidden, num_hidden_layers=a.layers, num_attention_heads=a.heads,
        intermediate_size=a.intermediate, max_position_embeddings=128, hidden_act="gelu",
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, pad_token_id=0,
    )
    student = BertModel(config, add_pooling_layer=False)
    student.eval()
    basis = narrow(teacher, student, torch.from_numpy(kept), *sample)
    print(f"{sum(p.numel() for p in student.parameters())} parameters")
    width = by_word[0].shape[1]
    maps = nn.ModuleList([nn.Linear(a.hidden, n) for n in (width, width, by_sentence.shape[1])])
    with torch.no_grad():
        for m in maps:
            m.weight.zero_()
            m.bias.zero_()
        maps[1].weight.copy_(basis / scales[1][1][:, None])
    everything = [*student.parameters(), *maps.parameters()]
    decayed = [q for q in everything if q.dim() > 1]
    plain = [q for q in everything if q.dim() <= 1]
    best = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}],
                             lr=a.rate, betas=(0.9, 0.98), eps=1e-6)
    lengths = np.array([len(i) for i in ids])
    per_epoch = len(batches(lengths, a.batch_tokens, rng))
    total, step, done = int(per_epoch * a.epochs), 0, 0.0
    began, seen = time.time(), []
    student.train()
    while done < 1:
        for batch in batches(lengths, a.batch_tokens, rng):
            done = max(step / total, (time.time() - began) / 60 / a.minutes)
            if done >= 1:
                break
            warm = 0.06
            rate = a.rate * min(done / warm, (1 - done) / (1 - warm)) + 1e-7
            for group in best.param_groups:
                group["lr"] = rate
            tokens, mask = padded([ids[i] for i in batch])
            last = student(input_ids=tokens, attention_mask=mask).last_hidden_state
            real = mask.bool().clone()
            real[:, 0] = False  # the first token has the sentence's state to learn
            rows = np.concatenate([where[i][1:] + starts[i] for i in batch])
            losses = []
            for k in range(2):
                mean, deviation = scales[k]
                goal = (torch.from_numpy(by_word[k][rows]).float() - mean) / deviation
                losses.append(nn.functional.mse_loss(maps[k](last[real]), goal))
            mean, deviation = scales[2]
            goal = (torch.from_numpy(by_sentence[batch]).float() - mean) / deviation
            losses.append(nn.functional.mse_loss(maps[2](last[:, 0]), goal))
            loss = losses[0] + losses[1] + a.first_weight * losses[2]
            best.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(everything, 1.0)
            best.step()
            seen.append([float(x.detach()) for x in losses])
            step += 1
            if step % 50 == 0:
                end, same, first = np.mean(seen[-50:], 0)
                print(f"step {step}/{total} {done:.1%} {time.time() - began:.0f} s: last layer {end:.4f} "
                      f"layer {a.layers} {same:.4f} sentence {first:.4f}", flush=True)
            if step % 500 == 0:
                write(a.out, student, described)
    write(a.out, student, described)


if __name__ == "__main__":
    main()
