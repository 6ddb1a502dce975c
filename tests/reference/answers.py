"""Writes tests/fixtures/answers: what `transformers`, `rouge_score` and `sacrebleu` say of answers to sources.

The models are those of tests/fixtures/generation: T5 reads a source with a prefix, GPT-2 goes on from a prompt, whose tokens have
no label. For each there are a tokenizer of words, data (T5's as JSONL, some sources being lists of sentences and some targets lists
of references; GPT-2's as CSV, where rows that follow each other with one source are references of one answer), and the numbers:
loss, accuracy, texts and their scores, greedy and with beams. Everything is computed one text at a time, in float32 and in
float64, and tokens must come out the same. Targets are made of what the models say, so that scores are not zero.
"""

import csv
import json

import sacrebleu
import torch
from rouge_score.rouge_scorer import RougeScorer
from tokenizers import Tokenizer
from transformers import GenerationConfig, GPT2LMHeadModel, T5ForConditionalGeneration

from common import FIXTURES, IGNORED, fresh, rng, sizes
from t5 import in_full_precision

OUT = FIXTURES / "answers"
MODELS = FIXTURES / "generation"
PREFIX, TEMPLATE, PROMPT_END = "answer now ", "{source} then ", " then "
ENDS, NEW = [37, 2], 12
WORDS = """
the police killed gunman was running quickly from bank banks runs houses house, slowly hoping hopped skies dying news proceed
analogies logically traditional agreed falling enjoyed happy flies cat cats sat mat on under better 3.5% 1,000 u.s.a don't it's
"quoted" (brackets) state-of-the-art a an of and to in is he she said then now answer again
""".split()


def vocabulary(end):
    words = iter(WORDS)
    names = {0: "<pad>", 1: "<unk>", 2: end, 37: "<end>"}
    return [names[i] if i in names else next(words) for i in range(61)]


def tokenizer(folder, end, closes):
    """Words apart by white space; `closes`: the token `end` stands behind every text."""
    words = vocabulary(end)
    special = lambda i: dict(id=i, content=words[i], single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    text, token = dict(Sequence=dict(id="A", type_id=0)), dict(SpecialToken=dict(id=end, type_id=0))
    second = dict(Sequence=dict(id="B", type_id=0))
    template = dict(type="TemplateProcessing", single=[text, token], pair=[text, token, second, token],
                    special_tokens={end: dict(id=end, ids=[2], tokens=[end])})
    content = dict(
        version="1.0", truncation=None, padding=None, added_tokens=[special(i) for i in (0, 1, 2, 37)], normalizer=None,
        pre_tokenizer=dict(type="WhitespaceSplit"), post_processor=template if closes else None, decoder=None,
        model=dict(type="WordLevel", vocab={w: i for i, w in enumerate(words)}, unk_token="<unk>"),
    )
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(content) + "\n")
    return Tokenizer.from_file(str(path)), words


def generated(models, t, prompt, **options):
    """The new tokens of the best sequence, the same in both precisions."""
    said = []
    for model in models:
        start = dict(decoder_start_token_id=0) if model.config.is_encoder_decoder else {}
        options = start | options
        settings = GenerationConfig(**dict(eos_token_id=ENDS, pad_token_id=0, max_new_tokens=NEW, do_sample=False) | options)
        with torch.no_grad():
            ids = model.generate(torch.tensor([prompt]), generation_config=settings)[0].tolist()
        said.append(ids[1:] if model.config.is_encoder_decoder else ids[len(prompt):])
    assert said[0] == said[1], (prompt, said)
    ids = said[0]
    text = ids[:-1] if ids and ids[-1] in ENDS else ids
    return t.decode(text, skip_special_tokens=True).strip(), sum(i != 0 or not models[0].config.is_encoder_decoder for i in ids)


def disturbed(r, text, words):
    """Much like another text; never empty."""
    plain = [w for w in words if not w.startswith("<")]
    out = []
    for word in text.split():
        kind = r.integers(0, 6)
        out += [] if kind == 0 else [word, r.choice(plain)] if kind == 1 else [r.choice(plain)] if kind == 2 else [word]
    return " ".join(out[:10] or [r.choice(plain)])


def scores(texts, lengths, references):
    """Of the corpus; the sentences of a text are not told apart, since no text here has two."""
    rouge = RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=True)
    of_each = [rouge.score_multi(refs, text) for text, refs in zip(texts, references)]
    found = {k: 100 * sum(s[k].fmeasure for s in of_each) / len(texts) for k in of_each[0]}
    most = max(map(len, references))
    streams = [[refs[i] if i < len(refs) else None for refs in references] for i in range(most)]
    bleu = sacrebleu.BLEU()
    found["bleu"] = bleu.corpus_score(texts, streams).score
    found["chrF2"] = sacrebleu.CHRF().corpus_score(texts, streams).score
    found["chrF2++"] = sacrebleu.CHRF(word_order=2).corpus_score(texts, streams).score
    found["gen_len"] = sum(lengths) / len(lengths)
    return found, str(bleu.get_signature()).rsplit("|version:", 1)[0]


def case(name, models, prompts, references, t, options, extra):
    said = [generated(models, t, p, **options) for p in prompts]
    texts, lengths = zip(*said)
    found, signature = scores(list(texts), lengths, references)
    return dict(name=name, **extra, texts=texts, scores=found, signature=signature)


def of_labels(logits, labels):
    """(Σ loss, right, count) of rows with a label."""
    keep = [i for i, label in enumerate(labels) if label != IGNORED]
    rows, labels = logits[keep], torch.tensor([labels[i] for i in keep])
    loss = torch.nn.functional.cross_entropy(rows, labels, reduction="sum").item()
    return loss, (rows.argmax(-1) == labels).sum().item(), len(keep)


def of_tokens(all):
    loss, right, count = map(sum, zip(*all))
    return dict(loss=loss / count, accuracy=right / count, scored_tokens=count)


def both(kind, name):
    return [kind.from_pretrained(MODELS / name / "model").eval(), kind.from_pretrained(MODELS / name / "model").double().eval()]


def t5():
    folder, r = fresh(OUT / "t5"), rng("answers t5")
    t, words = tokenizer(folder, "</s>", True)
    models, plain = both(T5ForConditionalGeneration, "t5"), [w for w in words if not w.startswith("<")]
    rows = []
    with in_full_precision():
        while len(rows) < 12:
            sentences = [" ".join(r.choice(plain, r.integers(2, 7))) for _ in range(r.integers(1, 3))]
            prompt = t.encode(PREFIX + " ".join(sentences)).ids
            try:
                said = [generated(models, t, prompt)[0], generated(models, t, prompt, num_beams=3)[0]]
            except AssertionError:
                continue
            targets = [disturbed(r, said[int(r.integers(0, 2))], words) for _ in range(r.choice([1, 1, 2, 3]))]
            rows.append(dict(source=sentences if len(sentences) > 1 else sentences[0],
                             target=targets if len(targets) > 1 else targets[0], prompt=prompt))
        (folder / "data.jsonl").write_text("".join(json.dumps({k: row[k] for k in ("source", "target")}) + "\n" for row in rows))
        references = [row["target"] if isinstance(row["target"], list) else [row["target"]] for row in rows]
        all = []
        for row, refs in zip(rows, references):
            labels = t.encode(refs[0]).ids
            with torch.no_grad():
                logits = models[1](input_ids=torch.tensor([row["prompt"]]), labels=torch.tensor([labels])).logits[0]
            all.append(of_labels(logits, labels))
        prompts = [row["prompt"] for row in rows]
        cases = [case("greedy", models, prompts, references, t, {}, dict(flags="")),
                 case("beams", models, prompts, references, t, dict(num_beams=3), dict(flags="--num-beams 3"))]
    write(folder, dict(tokens=of_tokens(all), cases=cases))


def gpt2():
    folder, r = fresh(OUT / "gpt2"), rng("answers gpt2")
    t, words = tokenizer(folder, "<|endoftext|>", False)
    models, plain = both(GPT2LMHeadModel, "gpt2"), [w for w in words if not w.startswith("<")]
    groups = []
    while len(groups) < 9:
        source = " ".join(r.choice(plain, r.integers(1, 8)))
        prompt = t.encode(TEMPLATE.replace("{source}", source)).ids
        try:
            said = [generated(models, t, prompt)[0], generated(models, t, prompt, num_beams=2)[0]]
        except AssertionError:
            continue
        targets = [disturbed(r, said[int(r.integers(0, 2))], words) for _ in range(r.integers(1, 4))]
        groups.append((source, prompt, targets))
    with (folder / "data.csv").open("w", newline="") as f:
        w = csv.writer(f, lineterminator="\n")
        w.writerow(["mr", "ref"])
        w.writerows((source, target) for source, _, targets in groups for target in targets)
    all = []
    for _, prompt, targets in groups:
        for target in targets:
            answer = [*t.encode(target).ids, 2]
            ids = torch.tensor([[*prompt, *answer]])
            labels = [*[IGNORED] * len(prompt), *answer]
            with torch.no_grad():
                out = models[1](input_ids=ids, labels=torch.tensor([labels]))
            sums = of_labels(out.logits[0, :-1], labels[1:])
            assert abs(out.loss.item() - sums[0] / sums[2]) < 1e-6  # which is rounded to float32
            all.append(sums)
    prompts, references = [g[1] for g in groups], [g[2] for g in groups]
    cases = [case("greedy", models, prompts, references, t, {}, dict(flags="")),
             case("beams", models, prompts, references, t, dict(num_beams=2), dict(flags="--num-beams 2"))]
    write(folder, dict(tokens=of_tokens(all), cases=cases))


def write(folder, expected):
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    t5()
    gpt2()
    sizes(OUT)
