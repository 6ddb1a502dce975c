"""Writes tests/fixtures/metrics/*.json.gz: what the libraries say of 1,000 random cases for each family of metrics.

The inputs are not stored. Both sides draw them from the same linear congruential generator (`Draw` here and in trainer/tests/metrics.rs),
in the same order; a file has the seed, the pieces of text to draw from, and the results. Numbers have twelve digits. null stands for
what is not defined, and for what the library refuses.

    classes       accuracy, F1 of two classes, macro F1, Matthews (scikit-learn)
    numbers       Pearson, Spearman (scipy), errors and R2 (scikit-learn)
    label_sets    several labels (scikit-learn)
    schemes       strict entities and detection of schemes (seqeval)
    squad         SQuAD 1.1 (its official algorithm on transformers' normalisation) and 2.0 (transformers)
    porter        stems of words of BERT's vocabulary: python metrics.py porter VOCAB
    rouge         rouge_score with its stemmer
    bleu, chrf    sacreBLEU
    significance  exact tests and intervals (scipy); resampling by sacreBLEU's formulas on shared draws
    folds         StratifiedKFold, GroupKFold, KFold, StratifiedGroupKFold (scikit-learn)
"""

import collections
import contextlib
import gzip
import io
import json
import logging
import math
import sys
import warnings
from types import SimpleNamespace

import numpy as np
from scipy import stats
from sklearn import metrics as sk
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

from common import FIXTURES

warnings.filterwarnings("ignore")
CASES = 1000
LENGTHS = [0, 1, 2, 3, 5, 8, 12, 18, 26, 40]
SEPARATORS = [" "] * 11 + ["  ", "\n", "\n", "\n", "\n", "\t", "\u00a0", "\u001c", "-", ", ", ". ", "", "! "]
WORDS = """
the The a an of and to in is was it he she said police gunman bank running runs ran killed killing quickly slowly house houses
cat cats sat mat on under better best worse hopefully hoping hopping hoped skies sky dying lying news proceed analogies logically
sensibilities traditional rationally formality feudalism agreed feed owed falling hissing fizzed controlled enjoyment happy flies
x y z 1 2 3 3.5% 1,000 1,000.5 U.S. U.K., e.g. A-1 5-6 state-of-the-art don't it's "quoted" (brackets) [x] {y} <skipped> &quot; &amp;
&lt;b&gt; &amp;quot; ... ! ? ; : - -- ' " . , .5 5. a.b a,b -5 5- @ # $ % ^ * ( ) _ + = / \\ | ~ ` \u20ac5 caf\u00e9 na\u00efve Stra\u00dfe \u0130stanbul
\u212aelvin \u039f\u0394\u039f\u03a3 \u041f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440 \u4f60\u597d \u4e16\u754c \u3053\u3093\u306b\u3061\u306f \uc548\ub155 \u0645\u0631\u062d\u0628\u0627 \u0928\u092e\u0938\u094d\u0924\u0947 a\u0301 \u0905\u093e a\u093e the\u093e \u24d0 \u00bd a\u00bd \U0001f600 \u2014 \u201cA\u201d
\u2018the\u2019 \u00bfqu\u00e9? \u00aba\u00bb zero\u200bwidth A AN THE a\u00b7b word words wordy yes yyy by ye gypsy e
""".split()


class Draw:
    def __init__(self, seed):
        self.x = seed

    def below(self, n):
        self.x = (self.x * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.x >> 33) % n

    def pick(self, values):
        return values[self.below(len(values))]

    def pieces(self):
        """A text as words with what stands behind each."""
        n = 300 if self.below(200) == 0 else self.pick(LENGTHS)
        return [self.piece() for _ in range(n)]

    def piece(self):
        # half of the words come from the first 60, so that texts share some
        word = self.below(60) if self.below(2) == 0 else self.below(len(WORDS))
        return word, self.below(len(SEPARATORS))

    def disturbed(self, pieces):
        """Much like another text, sometimes in another order, equal to it, or another one."""
        kind = self.below(12)
        if kind == 0:
            return list(pieces)
        if kind == 1:
            return self.pieces()
        if kind in (2, 3):
            at = self.below(len(pieces) + 1)
            pieces = pieces[at:] + pieces[:at]
        if kind == 4:
            pieces = pieces[::-1]
        out = []
        for piece in pieces:
            change = self.below(8)
            if change == 0:
                continue
            if change == 1:
                out.append(self.piece())
            elif change == 2:
                out += [piece, piece]
            else:
                out.append(piece)
        return out


def text(pieces):
    return "".join(WORDS[w] + SEPARATORS[s] for w, s in pieces)


def number(x):
    """Twelve digits, or null."""
    x = float(x)
    if not math.isfinite(x):
        return None
    x = float(f"{x:.12g}")
    return int(x) if x == int(x) and abs(x) < 1e15 else x


def write(name, seed, cases, **more):
    content = dict(seed=seed, **more, cases=cases)
    data = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    path = FIXTURES / "metrics" / f"{name}.json.gz"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(data, 9, mtime=0))
    print(f"{name:14} {len(cases):6} cases {path.stat().st_size:9,} bytes")


def classes(seed):
    draw, cases = Draw(seed), []
    for _ in range(CASES):
        n, k = draw.pick([1, 2, 3, 10, 40]), draw.pick([2, 2, 3, 8])
        truth = [draw.below(k) for _ in range(n)]
        kind = draw.below(6)
        predicted = [t if kind == 0 or (kind > 1 and draw.below(2) == 0) else draw.below(k) for t in truth]
        binary = sk.f1_score(truth, predicted, zero_division=0) if k == 2 else math.nan
        macro = sk.f1_score(truth, predicted, average="macro", zero_division=0)
        values = [sk.accuracy_score(truth, predicted), binary, macro, sk.matthews_corrcoef(truth, predicted)]
        cases.append([number(v) for v in values])
    write("classes", seed, cases)


def numbers(seed):
    draw, cases = Draw(seed), []

    def column(kind, n):
        if kind == 0:
            return [float(draw.below(5)) for _ in range(n)]
        if kind == 1:
            return [draw.below(7) / 10] * n
        if kind == 2:
            return [1e6 + draw.below(100) / 10 for _ in range(n)]
        return [draw.below(1 << 20) / 1024 - 512 for _ in range(n)]

    for _ in range(CASES):
        n = draw.pick([1, 2, 3, 5, 10, 60])
        x = column(draw.below(5), n)
        kind = draw.below(7)
        y = [v + draw.below(100) / 10 for v in x] if kind == 5 else list(x) if kind == 6 else column(kind, n)
        r, rho = (stats.pearsonr(x, y)[0], stats.spearmanr(x, y)[0]) if n > 1 else (math.nan, math.nan)
        r2 = sk.r2_score(y, x) if len(set(y)) > 1 else math.nan  # a mean may be off a constant, and R2 then anything
        values = [r, rho, sk.mean_squared_error(y, x), sk.mean_absolute_error(y, x), r2]
        cases.append([number(v) for v in values])
    write("numbers", seed, cases)


def label_sets(seed):
    draw, cases = Draw(seed), []
    for _ in range(CASES):
        n, k = draw.pick([1, 2, 5, 20]), draw.pick([2, 3, 6])
        of = draw.pick([1, 2, 4])  # how rare a label is
        truth = [[int(draw.below(of + 1) == 0) for _ in range(k)] for _ in range(n)]
        kind = draw.below(8)
        change = lambda t: 0 if kind == 0 else t if kind == 1 else 1 - t if draw.below(4) == 0 else t
        predicted = [[change(t) for t in row] for row in truth]
        t, p = np.array(truth), np.array(predicted)
        f1 = lambda average: sk.f1_score(t, p, average=average, zero_division=0)
        values = [f1("micro"), f1("macro"), f1("weighted"), f1("samples"),
                  sk.precision_score(t, p, average="micro", zero_division=0),
                  sk.recall_score(t, p, average="micro", zero_division=0),
                  sk.accuracy_score(t, p), sk.hamming_loss(t, p)]
        cases.append([number(v) for v in values])
    write("label_sets", seed, cases)


def schemes(seed):
    from seqeval import scheme as module
    from seqeval.metrics.v1 import precision_recall_fscore_support as prfs

    names = ["IOB2", "IOB1", "IOE2", "IOBES", "BILOU"]
    letters = dict(IOB2="BIO", IOB1="BIO", IOE2="IOE", IOBES="BIOES", BILOU="BILOU")
    kinds = ["PER", "LOC", "creative-work", "", "-x-"]
    draw, cases = Draw(seed), []

    def tag(allowed):
        letter = draw.pick(allowed)
        if letter == "O" and draw.below(20) > 0:
            return letter
        kind = draw.below(3 if draw.below(10) > 0 else 5)
        return f"{letter}-{kinds[kind]}"

    for _ in range(CASES):
        name = draw.pick(names)
        allowed = letters[name] if draw.below(30) > 0 else "BIOESUL"
        truth, predicted = [], []
        for _ in range(1 + draw.below(4)):
            sentence = [tag(allowed) for _ in range(draw.pick([1, 2, 3, 6, 12, 20]))]
            other = [tag(allowed) if draw.below(4) == 0 else t for t in sentence]
            truth.append(sentence)
            predicted.append(other)
        try:
            found = module.auto_detect(truth)
            found = names.index(found.__name__)
        except ValueError:
            found = None
        scheme = getattr(module, name)
        try:
            entities = [module.Entities(y, scheme) for y in (truth, predicted)]
            counts = [sum(map(len, e.entities)) for e in entities]
            values = []
            if sum(counts):
                score = lambda average: prfs(truth, predicted, average=average, scheme=scheme, zero_division=0)
                values = [number(v) for average in ("micro", "macro", "weighted") for v in score(average)[:3]]
            cases.append([found, counts, values])
        except ValueError:
            cases.append([found, None, None])
    write("schemes", seed, cases, kinds=kinds)


def squad(seed):
    from transformers.data.metrics import squad_metrics as m

    def f1_of_version_1(truth, prediction):
        a, b = m.normalize_answer(truth).split(), m.normalize_answer(prediction).split()
        same = sum((collections.Counter(a) & collections.Counter(b)).values())
        if same == 0:
            return 0
        precision, recall = same / len(b), same / len(a)
        return 2 * precision * recall / (precision + recall)

    draw, cases = Draw(seed), []
    for _ in range(CASES):
        examples, predictions, odds = [], {}, {}
        for i in range(1 + draw.below(5)):
            base = draw.pieces()[:12]
            answers = [text(base)] * (draw.below(4) > 0) + [text(draw.disturbed(base)) for _ in range(draw.below(3))]
            prediction = "" if draw.below(5) == 0 else text(draw.disturbed(base))
            examples.append(SimpleNamespace(qas_id=i, answers=[dict(text=a) for a in answers]))
            predictions[i] = prediction
            odds[i] = draw.below(9) / 4 - 1
        threshold = draw.pick([1.0, 0.25, -2.0, 9.0])
        version_1 = [0.0, 0.0]
        for e in examples:
            if e.answers:
                version_1[0] += max(m.compute_exact(a["text"], predictions[e.qas_id]) for a in e.answers)
                version_1[1] += max(f1_of_version_1(a["text"], predictions[e.qas_id]) for a in e.answers)
        version_2 = m.squad_evaluate(examples, predictions, odds, threshold)
        names = ["exact", "f1", "total", "HasAns_exact", "HasAns_f1", "HasAns_total", "NoAns_exact", "NoAns_f1", "NoAns_total",
                 "best_exact", "best_exact_thresh", "best_f1", "best_f1_thresh"]
        values = [100 * v / len(examples) for v in version_1] + [version_2.get(n, math.nan) for n in names]
        cases.append([number(v) for v in values])
    texts = [m.normalize_answer(w) for w in WORDS]
    write("squad", seed, cases, normalised=texts, words=WORDS, separators=SEPARATORS, lengths=LENGTHS)


def porter(vocabulary):
    from nltk.stem.porter import PorterStemmer

    words = {w.strip().removeprefix("##") for w in open(vocabulary, encoding="utf-8")}
    words = sorted(w for w in words if w.isascii() and w.isalpha() and len(w) > 2)
    stemmer = PorterStemmer()
    # the stem as how many letters of the word it keeps, and what follows them
    def short(word):
        stem = stemmer.stem(word)
        kept = next((i for i, (a, b) in enumerate(zip(word, stem)) if a != b), min(len(word), len(stem)))
        return f"{word} {len(word) - kept}{stem[kept:]}"
    cases = [short(w) for w in words]
    # endings that few words of a vocabulary have, behind stems of every measure
    endings = """ational tional enci anci izer bli alli entli eli ousli ization ation ator alism iveness fulness ousness aliti iviti
        biliti fulli logi icate ative alize iciti ical ful ness al ance ence er ic able ible ant ement ment ent ion sion ou ism ate iti
        ous ive ize e ll eed ed ing ied ies sses ss s y ally ating bled izing lling""".split()
    cases += [short(stem + end) for stem in "t tr ee tree by ivy oats trouble private yyy gypsy s 1 x2y".split() for end in endings]
    draw = Draw(11)
    for _ in range(3000):
        cases.append(short("".join(draw.pick("aeiouybcdlstxz") for _ in range(1 + draw.below(6))) + draw.pick(endings)))
    write("porter", 0, cases)


def rouge(seed):
    from rouge_score.rouge_scorer import RougeScorer

    kinds = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
    scorer = RougeScorer(kinds, use_stemmer=True)
    draw, cases = Draw(seed), []
    for _ in range(CASES):
        base = draw.pieces()
        candidate = text(base)
        references = [text(draw.disturbed(base)) for _ in range(draw.pick([1, 1, 1, 2, 3]))]
        scores = scorer.score_multi(references, candidate)
        cases.append([number(v) for k in kinds for v in scores[k]])
    write("rouge", seed, cases, words=WORDS, separators=SEPARATORS, lengths=LENGTHS)


def corpus(draw):
    """Hypotheses, each with references; some cases have segments with fewer than others."""
    hypotheses, references = [], []
    most = draw.pick([1, 1, 2, 3])
    fewer = draw.below(4) == 0
    for _ in range(1 + draw.below(4)):
        base = draw.pieces()
        hypotheses.append(text(base))
        n = 1 + draw.below(most) if fewer else most
        references.append([text(draw.disturbed(base)) for _ in range(n)])
    columns = [[r[i] if i < len(r) else None for r in references] for i in range(most)]
    return hypotheses, references, columns


def bleu(seed):
    from sacrebleu.metrics import BLEU

    logging.getLogger("sacrebleu").setLevel(logging.ERROR)
    draw, cases = Draw(seed), []
    for _ in range(CASES):
        hypotheses, references, columns = corpus(draw)
        metric = BLEU()
        s = metric.corpus_score(hypotheses, columns)
        one = BLEU(effective_order=True).sentence_score(hypotheses[0], references[0])
        signature = str(metric.get_signature()).split("|version")[0]
        cases.append([number(s.score), number(s.bp), s.sys_len, s.ref_len, s.counts, s.totals, [number(p) for p in s.precisions],
                      number(one.score), signature.split("|")[0], str(s) if draw.below(20) == 0 else None])
    tokens = BLEU().tokenizer
    pairs = [a + s + b for a in WORDS for s, b in [(SEPARATORS[draw.below(len(SEPARATORS))], draw.pick(WORDS))]]
    write("bleu", seed, cases, tokens=[[p, tokens(p.rstrip())] for p in pairs], signature=signature.split("|", 1)[1],
          words=WORDS, separators=SEPARATORS, lengths=LENGTHS)


def chrf(seed):
    from sacrebleu.metrics import CHRF

    draw, cases = Draw(seed), []
    for _ in range(CASES):
        hypotheses, _, columns = corpus(draw)
        both = [CHRF(), CHRF(word_order=2)]
        cases.append([number(m.corpus_score(hypotheses, columns).score) for m in both])
    signatures = [str(m.get_signature()).split("|version")[0].split("|", 1)[1] for m in both]
    write("chrf", seed, cases, signatures=signatures, words=WORDS, separators=SEPARATORS, lengths=LENGTHS)


def significance(seed):
    from sacrebleu.significance import _compute_p_value, estimate_ci

    draw, exact = Draw(seed), []
    for _ in range(CASES):
        most = draw.pick([3, 20, 200, 3000])
        b, c = draw.below(most), draw.below(most)
        n = 1 + draw.below(most)
        k = draw.below(n + 1)
        p = stats.binomtest(min(b, c), b + c, 0.5).pvalue if b + c else 1.0
        wilson = stats.binomtest(k, n).proportion_ci(method="wilson")
        folds = [draw.below(1000) / 1000 for _ in range(2 + draw.below(10))]
        test, train = 1 + draw.below(50), 50 + draw.below(500)
        half = stats.t.ppf(0.975, len(folds) - 1) * math.sqrt(np.var(folds, ddof=1) * (1 / len(folds) + test / train))
        exact.append([number(v) for v in (p, wilson.low, wilson.high, np.mean(folds) - half, np.mean(folds) + half)])

    def score(kind, rows):
        sums = [0.0] * len(rows[0])
        for row in rows:
            sums = [a + b for a, b in zip(sums, row)]
        if kind == 0:
            return sums[0] / sums[1]
        return 2 * sums[0] / (sums[1] + sums[2]) if sums[1] + sums[2] else 0.0

    trials, resampled = 100, []
    for _ in range(200):
        kind, n = draw.below(3), draw.pick([1, 2, 5, 12])
        if kind < 2:  # right or wrong; a number
            row = lambda: [float(draw.below(2)) if kind == 0 else draw.below(1000) / 7, 1.0]
        else:  # right, predicted, true
            row = lambda: (lambda r: [float(r), float(r + draw.below(3)), float(r + draw.below(3))])(draw.below(3))
        of = 0 if kind < 2 else 1
        a, b = [row() for _ in range(n)], [row() for _ in range(n)]
        whole = score(of, a), score(of, b)
        delta = abs(whole[0] - whole[1])
        indices = [[draw.below(n) for _ in range(n)] for _ in range(trials)]
        sample = lambda rows: np.array([score(of, [rows[i] for i in chosen]) for chosen in indices])
        sa, sb = sample(a), sample(b)
        mean, _ = estimate_ci(sa)
        sorted_a, sorted_d = np.sort(sa), np.sort(sa - sb)
        ends = [s[i] for s in (sorted_a, sorted_d) for i in (trials // 40, trials - trials // 40 - 1)]
        differences = np.abs(sa - sb)
        p = 1.0 if delta == 0 else _compute_p_value(differences - differences.mean(), delta)
        swaps = [[draw.below(2) == 1 for _ in range(n)] for _ in range(trials)]
        mixed = lambda keep: np.array([score(of, [x if s == keep else y for x, y, s in zip(a, b, chosen)]) for chosen in swaps])
        exchanged = np.abs(mixed(True) - mixed(False))
        least = delta - 1e-12 * max(abs(whole[0]), abs(whole[1]))
        randomised = (int(np.sum(exchanged >= least)) + 1) / (trials + 1)
        if not np.any(np.abs(exchanged - delta) < 1e-9):
            assert randomised == _compute_p_value(exchanged, delta)  # sacreBLEU's, where no difference repeats
        resampled.append([number(v) for v in (*whole, mean, *ends, p, randomised)])
    t = [number(stats.t.ppf(0.975, n)) for n in range(1, 400)]
    write("significance", seed, exact, resampled=resampled, trials=trials, student=t)


def folds(seed):
    draw, cases = Draw(seed), []

    def tested(splits, n):
        of = [None] * n
        for fold, (_, test) in enumerate(splits):
            for i in test:
                of[i] = fold
        return "".join(str(f) for f in of)

    for _ in range(CASES):
        n, k, classes = draw.pick([3, 7, 20, 60]), draw.pick([2, 3, 5]), draw.pick([1, 2, 4, 9])
        y = [draw.below(classes) for _ in range(n)]
        groups = [draw.below(1 + n // 3) for _ in range(n)]
        case = []
        both = lambda: StratifiedGroupKFold(k).split(y, y, groups)
        for splits in (lambda: StratifiedKFold(k).split(y, y), lambda: GroupKFold(k).split(y, y, groups), lambda: KFold(k).split(y), both):
            try:
                case.append(tested(splits(), n))
            except ValueError:
                case.append(None)
        cases.append(case)
    write("folds", seed, cases)


ALL = dict(classes=1, numbers=2, label_sets=3, schemes=4, squad=5, rouge=6, bleu=7, chrf=8, significance=9, folds=10)


def main():
    names = sys.argv[1:]
    if names[:1] == ["porter"]:
        return porter(names[1])
    for name in names or ALL:
        with contextlib.redirect_stderr(io.StringIO()):
            globals()[name](ALL[name])


if __name__ == "__main__":
    main()
