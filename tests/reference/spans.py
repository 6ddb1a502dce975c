"""Writes tests/fixtures/spans: heads that choose rows instead of classes, for answers in a text and for choices.

Every folder but one is a case on the tiny models of tests/fixtures/{bert,gpt2,t5}/model with an adapter and a head: `qa-*` finds
answers, with a start and an end for each sequence; `choices-*` chooses among as many sequences as there are. `*-class` are heads of
transformers' own classes, `choices-ragged` has items of one to four choices, which the library takes one by one. Losses are means
over windows, or items. `extraction.json` holds what `postprocess_qa_predictions` of transformers' examples
(examples/pytorch/question-answering/utils_qa.py) makes of random scores, with its sort made stable, so that equal scores have an
order: UTILS_QA is where that file is.
"""

import importlib.util
import json
import os
import sys
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import BertForMultipleChoice, BertForQuestionAnswering, GPT2ForQuestionAnswering

import adapters
from adapters import BertAdapterModel, DoubleSeqBnConfig, GPT2AdapterModel, LoRAConfig, SeqBnConfig, T5AdapterModel

import bert
import gpt2
import t5
from common import FIXTURES, NAME, fresh, load, of_tokens, randomize, record, rng, save_adapter, sizes

OUT = FIXTURES / "spans"
HEAD = [f"adapters.{NAME}.", f"loras.{NAME}.", f"heads.{NAME}."]


def spans(batch, seed):
    """A start and an end for each sequence; of one both are its first row, which is "no answer"."""
    r = rng(seed, "spans")
    batch["labels"] = []
    for i, ids in enumerate(batch["input_ids"]):
        start = int(r.integers(len(ids))) if i else 0
        batch["labels"].append([start, int(r.integers(start, len(ids))) if i else 0])
    return batch


def span_loss(logits, batch):
    """The mean over sequences of (CE of the start + CE of the end) / 2, each over all rows of a sequence."""
    return sum(F.cross_entropy(z.T, torch.tensor(both)) for z, both in zip(logits, batch["labels"])) / len(logits)


def decode(model, batch):
    """`gpt2.run` for a class that knows no cache."""
    hidden, out = [], []
    handle = model.transformer.ln_f.register_forward_hook(lambda _m, _i, y: hidden.append(y[0]))
    for ids in batch["input_ids"]:
        out.append(model(input_ids=torch.tensor([ids])))
    handle.remove()
    return of_tokens(model, hidden, batch), out


def answering(run):
    def forward(model, batch):
        hidden, out = run(model, batch)
        logits = [torch.stack([o.start_logits[0], o.end_logits[0]], 1) for o in out]
        return hidden, torch.cat(logits), span_loss(logits, batch)

    return forward


def of_decoder(model, batch):
    """The decoder reads what the encoder reads, one to the right, and its rows are scored."""
    hidden, logits = [], []
    handle = model.transformer.decoder.register_forward_hook(lambda _m, _i, y: hidden.append(y[0][0]))
    with t5.in_full_precision():
        for ids in batch["input_ids"]:
            o = model(input_ids=torch.tensor([ids]))
            logits.append(torch.stack([o.start_logits[0], o.end_logits[0]], 1))
    handle.remove()
    return torch.cat(hidden), torch.cat(logits), span_loss(logits, batch)


def as_the_library(model, batch, loss, positions=True):
    """Its loss of one sequence, or item, after the other is the one computed here."""
    theirs = []
    for i, label in enumerate(batch["labels"]):
        one = {k: torch.tensor([batch[k][i]]) for k in ("input_ids", "token_type_ids") if k in batch}
        theirs.append(model(**one, start_positions=torch.tensor([label[0]]), end_positions=torch.tensor([label[1]])).loss)
    assert abs(sum(theirs) / len(theirs) - loss) < 1e-5


def with_head(name, model, config, add, forward, batch):
    folder = fresh(OUT / name)
    add(model)
    model.add_adapter(NAME, config=config)
    model.train_adapter(NAME)
    model.active_head = NAME
    randomize(model, name, HEAD)
    save_adapter(model, folder, True)
    record(folder, model, batch, forward, curve=False)
    return model


def built_in(name, model, forward, batch, modules):
    folder = fresh(OUT / name)
    adapters.init(model)
    model.add_adapter(NAME, config=SeqBnConfig())
    model.train_adapter(NAME)
    randomize(model, name, [f"adapters.{NAME}.", *modules])
    model.save_adapter(str(folder), NAME, with_head=True, use_safetensors=True)
    record(folder, model, batch, forward, curve=False)


def plain(family, name, *more):
    batch = family.inputs(name, *more)
    batch.pop("labels", None)
    batch.pop("decoder_input_ids", None)
    return spans({k: [x for x in v] for k, v in batch.items()}, name)


def items(name, counts):
    """Sequences of items that have so many choices, one item after the other; `labels` has the right choice of each."""
    r, sequences = rng(name, "items"), bert.inputs(name, 2)
    ids, types = sequences["input_ids"], sequences["token_type_ids"]
    at = [int(i) for i in r.integers(len(ids), size=sum(counts))]
    return dict(input_ids=[ids[i] for i in at], token_type_ids=[types[i] for i in at], choices=counts,
                labels=[int(r.integers(n)) for n in counts])


def choosing(model, batch):
    """One sequence at a time: (hidden states, a score for each sequence, the mean loss of the items)."""
    hidden, out = [], []
    body = next(m for m in model.modules() if isinstance(m, bert.BertEncoder))
    handle = body.register_forward_hook(lambda _m, _i, y: hidden.append(y[0][0]))
    flex = isinstance(model, BertAdapterModel)
    for ids, types in zip(batch["input_ids"], batch["token_type_ids"]):
        wrap = (lambda x: torch.tensor([x])) if flex else (lambda x: torch.tensor([[x]]))
        out.append(model(input_ids=wrap(ids), token_type_ids=wrap(types)).logits.reshape(1))
    handle.remove()
    scores = torch.cat(out)
    losses = [F.cross_entropy(z[None], torch.tensor([right]))
              for z, right in zip(scores.split(batch["choices"]), batch["labels"])]
    return of_tokens(model, hidden, batch), scores[:, None], sum(losses) / len(losses)


def heads():
    frozen = load_file(bert.OUT / "model" / "model.safetensors")
    decoder = load_file(gpt2.OUT / "model" / "model.safetensors")
    seq2seq = load_file(t5.OUT / "model" / "model.safetensors")
    on_bert = lambda: load(BertAdapterModel(bert.config()), frozen)
    add = lambda m: m.add_qa_head(NAME)
    batch = plain(bert, "qa-bert", 2)
    model = with_head("qa-bert", on_bert(), DoubleSeqBnConfig(reduction_factor=8), add, answering(bert.run), batch)
    as_the_library(model, batch, answering(bert.run)(model, batch)[2])
    with_head("qa-two-layers", on_bert(), LoRAConfig(r=2, alpha=4), lambda m: m.add_qa_head(NAME, layers=2, activation_function="gelu"),
              answering(bert.run), plain(bert, "qa-two-layers", 2))
    batch = plain(gpt2, "qa-gpt2")
    model = with_head("qa-gpt2", load(GPT2AdapterModel(gpt2.config()), decoder), SeqBnConfig(reduction_factor=8), add,
                      answering(gpt2.run), batch)
    as_the_library(model, batch, answering(gpt2.run)(model, batch)[2])
    model = T5AdapterModel(t5.config())
    t5.take(model, seq2seq)
    with_head("qa-t5", model, SeqBnConfig(reduction_factor=8), add, of_decoder, plain(t5, "qa-t5"))
    without_pooler = {k: v for k, v in frozen.items() if ".pooler." not in k}
    built_in("qa-bert-class", load(BertForQuestionAnswering(bert.config()), without_pooler), answering(bert.run),
             plain(bert, "qa-bert-class", 2), ["qa_outputs"])
    built_in("qa-gpt2-class", load(GPT2ForQuestionAnswering(gpt2.config()), {f"transformer.{k}" if not k.startswith("transformer.") else k: v
                                                                            for k, v in decoder.items() if not k.startswith("lm_head")}),
             answering(decode), plain(gpt2, "qa-gpt2-class"), ["qa_outputs"])
    with_head("choices-bert", on_bert(), DoubleSeqBnConfig(reduction_factor=8), lambda m: m.add_multiple_choice_head(NAME, num_choices=1),
              choosing, items("choices-bert", [3, 3]))
    with_head("choices-ragged", on_bert(), LoRAConfig(r=2, alpha=4),
              lambda m: m.add_multiple_choice_head(NAME, num_choices=1, layers=1, activation_function=None, use_pooler=True),
              choosing, items("choices-ragged", [2, 4, 1, 3]))
    built_in("choices-class", load(BertForMultipleChoice(bert.config()), frozen), choosing, items("choices-class", [4, 4]),
             ["classifier"])


WORDS = ["the", "été", "of", "Björk", "a", "in", "1999", "naïve", "—", "sea"]


def scores(r, n):
    """Steps of a quarter, so that some are equal."""
    return [float(x) for x in r.integers(-12, 13, n) / 4]


def question(r, kind):
    """A text and windows of it, with random scores; some of them degenerate."""
    words = [WORDS[i] for i in r.integers(len(WORDS), size=int(r.integers(1, 12)))]
    context, offsets, at = " ".join(words), [], 0
    for word in words:
        offsets.append([at, at + len(word)])
        at += len(word) + 1
    front, windows = int(r.integers(1, 4)), []
    width = int(r.integers(1, len(words) + 1))
    for start in range(0, len(words), max(1, width - 1)):
        places = [None] * front + offsets[start:start + width] + [None]
        if kind == "nothing":
            places = [None] * len(places)
        if kind == "empty":
            places = [p and [p[0], p[0]] for p in places]
        windows.append(dict(start=scores(r, len(places)), end=scores(r, len(places)), places=places))
        if start + width >= len(words):
            break
    if kind == "unlikely":
        for w in windows:
            w["start"][0] = w["end"][0] = -100.0
    return dict(context=context, windows=windows)


def extraction():
    spec = importlib.util.spec_from_file_location("utils_qa", os.environ["UTILS_QA"])
    utils_qa = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(utils_qa)
    argsort, r, cases = np.argsort, rng("extraction"), []
    kinds = ["usual"] * 5 + ["nothing", "empty", "unlikely"]
    for i in range(96):
        case = question(r, kinds[i % len(kinds)])
        rules = dict(version_2_with_negative=i // 8 % 2 == 1, n_best_size=[20, 3, 1, 5][i // 2 % 4],
                     max_answer_length=[30, 2, 1][i // 3 % 3], null_score_diff_threshold=[0.0, 1.5, -2.0][i // 5 % 3])
        as_arrays = lambda key: [np.array(w[key], dtype=np.float32) for w in case["windows"]]
        features = [dict(example_id="q", offset_mapping=[p and tuple(p) for p in w["places"]]) for w in case["windows"]]
        written = {}

        class Examples(list):
            def __getitem__(self, key):
                return ["q"] if key == "id" else super().__getitem__(key)

        keep = lambda path, text: written.update({os.path.basename(path): text})
        class Writer:
            def __init__(self, path, *_):
                self.path = path
            def __enter__(self):
                return self
            def __exit__(self, *_):
                return False
            def write(self, text):
                keep(self.path, text)

        stable = lambda x: argsort(x, kind="stable")
        try:
            with mock.patch.object(utils_qa.np, "argsort", stable), mock.patch.object(utils_qa, "open", Writer, create=True):
                answers = utils_qa.postprocess_qa_predictions(
                    Examples([dict(id="q", context=case["context"])]), features, (as_arrays("start"), as_arrays("end")),
                    output_dir=str(OUT), **rules)
            n_best = json.loads(written["nbest_predictions.json"])["q"]
            odds = json.loads(written["null_odds.json"])["q"] if "null_odds.json" in written else None
            said = dict(answer=answers["q"], n_best=n_best, null_odds=odds)
        except IndexError:  # all answers are empty, and it looks for one that is not
            said = None
        cases.append(case | rules | dict(said=said))
    assert {case["said"] is None for case in cases} == {True, False}
    (OUT / "extraction.json").write_text(json.dumps(cases, ensure_ascii=False, separators=(",", ":")) + "\n")


def main():
    which = sys.argv[1:] or ["heads", "extraction"]
    OUT.mkdir(parents=True, exist_ok=True)
    if "heads" in which:
        heads()
    if "extraction" in which:
        extraction()
    sizes(OUT)


if __name__ == "__main__":
    main()
