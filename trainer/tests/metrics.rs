//! The scores against the libraries': 1,000 random cases for each family.
//! `tests/reference/metrics.py` drew them from the generator that is written out here, in the same
//! order.
use engraft::reports::{
    confusion::Confusion,
    entities::Entities,
    scores::{
        bleu::{self, Bleu},
        chrf::Kind,
        folds,
        label_sets::LabelSets,
        numbers::Regression,
        porter::stem,
        rouge::rouge,
        schemes::{Scheme, of_letters},
        significance as tests,
        squad::{self, Question},
    },
};
use serde_json::Value;

/// A file of cases.
struct Fixture(Value);
impl Fixture {
    fn read(name: &str) -> (Fixture, Draw) {
        let path = format!("{}/../tests/fixtures/metrics/{name}.json.gz", env!("CARGO_MANIFEST_DIR"));
        let file = std::fs::File::open(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        let json: Value = serde_json::from_reader(flate2::read::GzDecoder::new(file)).unwrap();
        let draw = Draw { x: json["seed"].as_u64().unwrap() };
        (Fixture(json), draw)
    }
    fn cases(&self) -> impl Iterator<Item = (String, &Value)> {
        let cases = self.0["cases"].as_array().unwrap();
        assert!(cases.len() >= 1000, "{}", cases.len());
        cases.iter().enumerate().map(|(i, case)| (format!("case {i}, {case}"), case))
    }
    fn texts(&self) -> Texts {
        serde_json::from_value(self.0.clone()).unwrap()
    }
}

/// The linear congruential generator of the script.
struct Draw {
    x: u64,
}
impl Draw {
    fn below(&mut self, n: usize) -> usize {
        self.x = self.x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.x >> 33) as usize % n
    }
    fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }
    fn each<T>(&mut self, n: usize, mut one: impl FnMut(&mut Draw) -> T) -> Vec<T> {
        (0..n).map(|_| one(self)).collect()
    }
}

/// What texts are made of: words, each with what stands behind it.
#[derive(serde::Deserialize)]
struct Texts {
    words: Vec<String>,
    separators: Vec<String>,
    lengths: Vec<usize>,
}
type Pieces = Vec<(usize, usize)>;
impl Texts {
    fn piece(&self, draw: &mut Draw) -> (usize, usize) {
        let among = if draw.below(2) == 0 { 60 } else { self.words.len() };
        (draw.below(among), draw.below(self.separators.len()))
    }
    fn pieces(&self, draw: &mut Draw) -> Pieces {
        let n = if draw.below(200) == 0 { 300 } else { draw.pick(&self.lengths) };
        draw.each(n, |draw| self.piece(draw))
    }
    fn disturbed(&self, draw: &mut Draw, pieces: &Pieces) -> Pieces {
        let mut pieces = pieces.clone();
        match draw.below(12) {
            0 => return pieces,
            1 => return self.pieces(draw),
            2 | 3 => {
                let at = draw.below(pieces.len() + 1);
                pieces.rotate_left(at);
            }
            4 => pieces.reverse(),
            _ => {}
        }
        let mut out = vec![];
        for piece in pieces {
            match draw.below(8) {
                0 => {}
                1 => out.push(self.piece(draw)),
                2 => out.extend([piece, piece]),
                _ => out.push(piece),
            }
        }
        out
    }
    fn text(&self, pieces: &Pieces) -> String {
        pieces.iter().flat_map(|(w, s)| [self.words[*w].as_str(), &self.separators[*s]]).collect()
    }
    /// Hypotheses, each with references.
    fn corpus(&self, draw: &mut Draw) -> (Vec<String>, Vec<Vec<String>>) {
        let most = draw.pick(&[1, 1, 2, 3]);
        let fewer = draw.below(4) == 0;
        let n = 1 + draw.below(4);
        let segment = |draw: &mut Draw| {
            let base = self.pieces(draw);
            let n = if fewer { 1 + draw.below(most) } else { most };
            (self.text(&base), draw.each(n, |draw| self.text(&self.disturbed(draw, &base))))
        };
        draw.each(n, segment).into_iter().unzip()
    }
}

/// Holds numbers against those of the library; what is not defined is null there.
fn same(about: &str, values: impl IntoIterator<Item = impl Into<Option<f64>>>, expected: &Value) {
    let values: Vec<Option<f64>> = values.into_iter().map(Into::into).collect();
    let expected = expected.as_array().unwrap();
    assert_eq!(values.len(), expected.len(), "{about}");
    for (i, (value, expected)) in values.iter().zip(expected).enumerate() {
        let value = value.filter(|v| !v.is_nan());
        let near = match (value, expected.as_f64()) {
            (Some(a), Some(b)) => (a - b).abs() <= 1e-9 * b.abs().max(1.0),
            (a, b) => a == b,
        };
        assert!(near, "number {i} is {value:?}, in {about}");
    }
}
fn scores(of: engraft::reports::metrics::Scores) -> impl Iterator<Item = f64> {
    of.0.into_iter().map(|(_, value)| value)
}

#[test]
fn classes() {
    let (fixture, mut draw) = Fixture::read("classes");
    for (about, case) in fixture.cases() {
        let (n, k) = (draw.pick(&[1, 2, 3, 10, 40]), draw.pick(&[2, 2, 3, 8]));
        let truth = draw.each(n, |draw| draw.below(k) as u32);
        let kind = draw.below(6);
        let one =
            |t: &u32| if kind == 0 || (kind > 1 && draw.below(2) == 0) { *t } else { draw.below(k) as u32 };
        let predicted: Vec<u32> = truth.iter().map(one).collect();
        let c = Confusion::of(k, &truth, &predicted);
        same(&about, [Some(c.accuracy()), c.binary_f1(), Some(c.macro_f1()), Some(c.matthews())], case);
    }
}

#[test]
fn numbers() {
    let (fixture, mut draw) = Fixture::read("numbers");
    fn column(draw: &mut Draw, kind: usize, n: usize) -> Vec<f64> {
        match kind {
            0 => draw.each(n, |draw| draw.below(5) as f64),
            1 => vec![draw.below(7) as f64 / 10.0; n],
            2 => draw.each(n, |draw| 1e6 + draw.below(100) as f64 / 10.0),
            _ => draw.each(n, |draw| draw.below(1 << 20) as f64 / 1024.0 - 512.0),
        }
    }
    for (about, case) in fixture.cases() {
        let n = draw.pick(&[1, 2, 3, 5, 10, 60]);
        let kind = draw.below(5);
        let x = column(&mut draw, kind, n);
        let y = match draw.below(7) {
            5 => x.iter().map(|v| v + draw.below(100) as f64 / 10.0).collect(),
            6 => x.clone(),
            kind => column(&mut draw, kind, n),
        };
        same(&about, scores(Regression::of(&x, &y).scores()), case);
    }
}

#[test]
fn label_sets() {
    let (fixture, mut draw) = Fixture::read("label_sets");
    for (about, case) in fixture.cases() {
        let (n, k) = (draw.pick(&[1, 2, 5, 20]), draw.pick(&[2, 3, 6]));
        let of = draw.pick(&[1, 2, 4]);
        let truth = draw.each(n, |draw| draw.each(k, |draw| draw.below(of + 1) == 0));
        let (kind, mut sets) = (draw.below(8), LabelSets::new(k));
        for row in truth {
            let change = |t: &bool| match kind {
                0 => false,
                1 => *t,
                _ => (draw.below(4) == 0) ^ t,
            };
            let predicted: Vec<bool> = row.iter().map(change).collect();
            let set = |row: &[bool]| (0..k as u32).filter(|l| row[*l as usize]).collect::<Vec<_>>();
            sets.add(&set(&row), &set(&predicted));
        }
        same(&about, scores(sets.scores()), case);
    }
}

#[test]
fn schemes() {
    let (fixture, mut draw) = Fixture::read("schemes");
    let kinds: Vec<String> = serde_json::from_value(fixture.0["kinds"].clone()).unwrap();
    let tag = |draw: &mut Draw, letters: &str| {
        let letter = draw.pick(letters.as_bytes()) as char;
        if letter == 'O' && draw.below(20) > 0 {
            return "O".to_string();
        }
        let among = if draw.below(10) > 0 { 3 } else { 5 };
        format!("{letter}-{}", kinds[draw.below(among)])
    };
    let mut refused = 0;
    for (about, case) in fixture.cases() {
        let scheme = draw.pick(&Scheme::ALL);
        let letters = if draw.below(30) > 0 { scheme.letters() } else { "BIOESUL" };
        let sentences = 1 + draw.below(4);
        let sentences = draw.each(sentences, |draw| {
            let n = draw.pick(&[1, 2, 3, 6, 12, 20]);
            let truth = draw.each(n, |draw| tag(draw, letters));
            let one = |t: &String| if draw.below(4) == 0 { tag(draw, letters) } else { t.clone() };
            let predicted: Vec<String> = truth.iter().map(one).collect();
            (truth, predicted)
        });
        let found = of_letters(sentences.iter().flat_map(|(truth, _)| truth.iter().map(String::as_str)));
        let number = found.map(|f| Scheme::ALL.iter().position(|s| *s == f).unwrap() as u64);
        assert_eq!(number, case[0].as_u64(), "{about}");
        let (mut entities, mut counts, mut fails) = (Entities::new(), [0; 2], false);
        for (truth, predicted) in &sentences {
            let [truth, predicted] =
                [truth, predicted].map(|tags| tags.iter().map(String::as_str).collect::<Vec<_>>());
            fails |= scheme.count(&mut entities, &truth, &predicted).is_err();
            for (count, tags) in counts.iter_mut().zip([&truth, &predicted]) {
                *count += scheme.entities(tags).map_or(0, |e| e.len());
            }
        }
        assert_eq!(fails, case[1].is_null(), "{about}");
        refused += usize::from(fails);
        if !fails {
            assert_eq!(serde_json::json!(counts), case[1], "{about}");
            let all = [entities.micro(), entities.macro_mean(), entities.weighted_mean()];
            let values = all.into_iter().flat_map(|f| [f.precision, f.recall, f.f1]);
            // where there are no entities the library divides by zero
            same(&about, values.take(if counts == [0, 0] { 0 } else { 9 }), &case[2]);
        }
    }
    assert!(refused > 5, "letters of other schemes occur: {refused}");
}

#[test]
fn answers() {
    let (fixture, mut draw) = Fixture::read("squad");
    let texts = fixture.texts();
    for (word, expected) in texts.words.iter().zip(fixture.0["normalised"].as_array().unwrap()) {
        assert_eq!(squad::normalise(word), *expected, "{word:?}");
    }
    for (about, case) in fixture.cases() {
        let n = 1 + draw.below(5);
        let questions = draw.each(n, |draw| {
            let mut base = texts.pieces(draw);
            base.truncate(12);
            let mut answers: Vec<String> =
                (draw.below(4) > 0).then(|| texts.text(&base)).into_iter().collect();
            let more = draw.below(3);
            answers.extend(draw.each(more, |draw| texts.text(&texts.disturbed(draw, &base))));
            let is_none = draw.below(5) == 0;
            let prediction = if is_none { String::new() } else { texts.text(&texts.disturbed(draw, &base)) };
            (answers, prediction, draw.below(9) as f64 / 4.0 - 1.0)
        });
        let threshold = draw.pick(&[1.0, 0.25, -2.0, 9.0]);
        let odds: Vec<f64> = questions.iter().map(|(_, _, odds)| *odds).collect();
        let questions: Vec<Question> = questions
            .iter()
            .map(|(a, p, _)| Question {
                answers: a.iter().map(String::as_str).collect(),
                prediction: Some(p),
            })
            .collect();
        let first = squad::v1(&questions).unwrap();
        let second = squad::v2(&questions, Some(&odds), Some(threshold)).unwrap();
        same(&about, scores(first.scores()).chain(scores(second.scores())), case);
    }
}

#[test]
fn stems() {
    let (fixture, _) = Fixture::read("porter");
    for (about, case) in fixture.cases() {
        let (word, rest) = case.as_str().unwrap().split_once(' ').unwrap();
        let (cut, end) = rest.split_at(1);
        let kept = word.len() - cut.parse::<usize>().unwrap();
        assert_eq!(stem(word), format!("{}{end}", &word[..kept]), "{about}");
    }
}

#[test]
fn summaries() {
    let (fixture, mut draw) = Fixture::read("rouge");
    let texts = fixture.texts();
    for (about, case) in fixture.cases() {
        let base = texts.pieces(&mut draw);
        let n = draw.pick(&[1, 1, 1, 2, 3]);
        let references = draw.each(n, |draw| texts.text(&texts.disturbed(draw, &base)));
        let r = rouge(&texts.text(&base), &references).unwrap();
        let all = [r.rouge1, r.rouge2, r.rouge_l, r.rouge_l_sum];
        same(&about, all.into_iter().flat_map(|o| [o.precision, o.recall, o.f1]), case);
    }
}

#[test]
fn translations() {
    let (fixture, mut draw) = Fixture::read("bleu");
    let texts = fixture.texts();
    for pair in fixture.0["tokens"].as_array().unwrap() {
        assert_eq!(bleu::tokenize(pair[0].as_str().unwrap()), pair[1], "{pair}");
    }
    for (about, case) in fixture.cases() {
        let (hypotheses, references) = texts.corpus(&mut draw);
        let b = Bleu::corpus(&hypotheses, &references).unwrap();
        let one = Bleu::sentence(&hypotheses[0], &references[0]).unwrap();
        same(&about, [b.score, b.bp], &serde_json::json!([case[0], case[1]]));
        let counts = serde_json::json!([b.sys_len, b.ref_len, b.counts, b.totals]);
        assert_eq!(counts.as_array().unwrap()[..], case.as_array().unwrap()[2..6], "{about}");
        same(&about, b.precisions, &case[6]);
        same(&about, [one.score], &serde_json::json!([case[7]]));
        let signature =
            format!("{}|{}|", case[8].as_str().unwrap(), fixture.0["signature"].as_str().unwrap());
        assert!(bleu::signature(&references).starts_with(&signature), "{signature}: {about}");
        let shown = (draw.below(20) == 0).then(|| b.to_string());
        assert_eq!(shown.as_deref(), case[9].as_str());
    }
}

#[test]
fn characters() {
    let (fixture, mut draw) = Fixture::read("chrf");
    let texts = fixture.texts();
    for (about, case) in fixture.cases() {
        let (hypotheses, references) = texts.corpus(&mut draw);
        let both = [Kind::Chrf2, Kind::Chrf2PlusPlus];
        same(&about, both.map(|kind| kind.corpus(&hypotheses, &references)), case);
        for (kind, signature) in both.into_iter().zip(fixture.0["signatures"].as_array().unwrap()) {
            assert!(
                kind.signature(&references).contains(&format!("|{}|version", signature.as_str().unwrap()))
            );
        }
    }
}

#[test]
fn significance() {
    let (fixture, mut draw) = Fixture::read("significance");
    for (about, case) in fixture.cases() {
        let most = draw.pick(&[3, 20, 200, 3000]);
        let (b, c) = (draw.below(most) as u64, draw.below(most) as u64);
        let n = 1 + draw.below(most);
        let k = draw.below(n + 1);
        let folds = 2 + draw.below(10);
        let folds = draw.each(folds, |draw| draw.below(1000) as f64 / 1000.0);
        let (test, train) = ((1 + draw.below(50)) as f64, (50 + draw.below(500)) as f64);
        let share = tests::wilson(k as u64, n as u64).unwrap();
        let mean = tests::mean_interval(&folds, test, train).unwrap();
        same(&about, [tests::mcnemar(b, c), share.low, share.high, mean.low, mean.high], case);
    }
    let trials = fixture.0["trials"].as_u64().unwrap() as usize;
    for case in fixture.0["resampled"].as_array().unwrap() {
        let (kind, n) = (draw.below(3), draw.pick(&[1, 2, 5, 12]));
        let row = |draw: &mut Draw| match kind {
            0 => vec![draw.below(2) as f64, 1.0],
            1 => vec![draw.below(1000) as f64 / 7.0, 1.0],
            _ => {
                let right = draw.below(3);
                vec![right as f64, (right + draw.below(3)) as f64, (right + draw.below(3)) as f64]
            }
        };
        let (a, b) = (draw.each(n, row), draw.each(n, row));
        let score = if kind < 2 { tests::mean } else { tests::f1 };
        let mut drawn = |below: usize| draw.each(trials * n, |draw| draw.below(below) as u64).into_iter();
        let (indices, mut swaps) = (drawn(n), drawn(2));
        let (mut first, mut second) = (indices.clone(), indices);
        let one = tests::bootstrap(&a, score, trials, |_| first.next().unwrap()).unwrap();
        let both = tests::paired_bootstrap(&a, &b, score, trials, |_| second.next().unwrap()).unwrap();
        let swapped = tests::paired_randomisation(&a, &b, score, trials, |_| swaps.next().unwrap()).unwrap();
        let (own, difference) = (one.interval, both.difference);
        let ends = [own.low, own.high, difference.low, difference.high];
        let values = [both.a, both.b, one.mean].into_iter().chain(ends).chain([both.p, swapped]);
        same(&format!("{case}"), values, case);
    }
    same("Student's t", (1..400).map(tests::student), &fixture.0["student"]);
}

#[test]
fn parts_of_cross_validations() {
    let (fixture, mut draw) = Fixture::read("folds");
    for (about, case) in fixture.cases() {
        let (n, k, classes) = (draw.pick(&[3, 7, 20, 60]), draw.pick(&[2, 3, 5]), draw.pick(&[1, 2, 4, 9]));
        let labels = draw.each(n, |draw| draw.below(classes));
        let groups = draw.each(n, |draw| draw.below(1 + n / 3));
        let (a, b) = (folds::stratified(&labels, k, None), folds::grouped(&groups, k, None));
        let (c, d) = (folds::plain(n, k, None), folds::stratified_groups(&labels, &groups, k, None));
        for (folds, expected) in [a, b, c, d].into_iter().zip(case.as_array().unwrap()) {
            let shown = folds.ok().map(|f| f.iter().map(usize::to_string).collect::<String>());
            assert_eq!(shown.as_deref(), expected.as_str(), "{about}");
        }
    }
}
