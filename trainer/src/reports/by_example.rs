//! An evaluation example by example: what is true, what was predicted, and what each example adds
//! to the scores. Two evaluations on the same data are compared by it.
//!
//! The file has one JSON object on each line:
//!
//! ```text
//! {"id":"1","line":2,"input":"Great coffee!","truth":"good","prediction":"bad","loss":0.9,
//!  "scores":{"bad":0.6,"good":0.4},"statistics":{"accuracy":{"mean":[0.0,1.0]}}}
//! ```
use super::scores::{bleu, chrf, significance};
use crate::{Error, Result};
use engraft_engine::output;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeMap};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader},
    path::Path,
};

/// One example of an evaluation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExamplePrediction {
    /// What it is known by: the number of its record in the data, counted from one, or what the
    /// data itself calls it.
    pub id: String,
    /// The line of its file at which it starts, counted from one, if it is in a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The adapter that answered, where each row has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// What was read: a text, an object of the two texts of a pair, of a question and its text or of
    /// a text and its choices, a list of words.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub input: Value,
    /// What is true: the name of a class, a list of tags, a text, the number of a choice, counted from
    /// zero, a list of all right answers; null where nothing is said.
    pub truth: Value,
    /// What was predicted, in the same form; of answers one.
    pub prediction: Value,
    /// The mean loss of what has a label in it, in nats; none where nothing has, or it is no
    /// number.
    pub loss: Option<f64>,
    /// What else the task says of it, such as the probability of each class.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub scores: Value,
    /// By the name of the score, what the example adds to it.
    #[serde(default)]
    pub statistics: BTreeMap<String, Statistic>,
}

impl ExamplePrediction {
    /// Whether the prediction is the truth.
    pub fn is_right(&self) -> bool {
        self.prediction == self.truth
    }
    /// The same with what it adds to a score.
    pub fn adding(mut self, score: &str, statistic: Statistic) -> Self {
        self.statistics.insert(score.into(), statistic);
        self
    }
}

/// What sums of a statistic are a score of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A mean, of [sum, number].
    Mean,
    /// The exponential function of a mean, of [sum, number]: a perplexity.
    ExpMean,
    /// F1, of [right, predicted, true].
    F1,
    /// BLEU in percent, of [`bleu::Statistics`].
    Bleu,
    /// chrF in percent, of [`chrf::Statistics`].
    Chrf,
}
impl Kind {
    /// Each with its name in files and how many numbers a statistic of it has.
    pub const ALL: [(Kind, &'static str, usize); 5] = [
        (Kind::Mean, "mean", 2),
        (Kind::ExpMean, "exp_mean", 2),
        (Kind::F1, "f1", 3),
        (Kind::Bleu, "bleu", size_of::<bleu::Statistics>() / size_of::<f64>()),
        (Kind::Chrf, "chrf", size_of::<chrf::Statistics>() / size_of::<f64>()),
    ];
    /// The name in files.
    pub fn name(self) -> &'static str {
        Kind::ALL.iter().find(|(kind, ..)| *kind == self).map_or("", |(_, name, _)| name)
    }
    /// The score of sums over examples, as [`significance`] resamples it.
    pub fn score(self, sums: &[f64]) -> f64 {
        match self {
            Kind::Mean => significance::mean(sums),
            Kind::ExpMean => significance::mean(sums).exp(),
            Kind::F1 => significance::f1(sums),
            Kind::Bleu => sums.try_into().map_or(f64::NAN, |sums| bleu::Bleu::of(&sums).score),
            Kind::Chrf => sums.try_into().map_or(f64::NAN, |sums| chrf::score(&sums)),
        }
    }
}

/// What an example adds to a score: numbers whose sums over any examples give the score of these
/// examples.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistic {
    kind: Kind,
    sums: Vec<f64>,
}
impl Statistic {
    /// Of so many things, what is counted of them: a sentence with 3 right words of 5 adds (3, 5)
    /// to an accuracy, an example with a right answer (1, 1).
    pub fn mean(sum: f64, number: f64) -> Statistic {
        Statistic { kind: Kind::Mean, sums: vec![sum, number] }
    }
    /// One that is right or not.
    pub fn right(is_right: bool) -> Statistic {
        Statistic::mean(f64::from(u8::from(is_right)), 1.0)
    }
    /// The same of a perplexity: a sum of losses, and of how many.
    pub fn exp_mean(sum: f64, number: f64) -> Statistic {
        Statistic { kind: Kind::ExpMean, sums: vec![sum, number] }
    }
    /// What is right, predicted and true.
    pub fn f1(counts: [f64; 3]) -> Statistic {
        Statistic { kind: Kind::F1, sums: counts.into() }
    }
    /// Of BLEU.
    pub fn bleu(segment: &bleu::Statistics) -> Statistic {
        Statistic { kind: Kind::Bleu, sums: segment.into() }
    }
    /// Of chrF.
    pub fn chrf(segment: &chrf::Statistics) -> Statistic {
        Statistic { kind: Kind::Chrf, sums: segment.into() }
    }
    /// What sums of it are a score of.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}
impl AsRef<[f64]> for Statistic {
    fn as_ref(&self) -> &[f64] {
        &self.sums
    }
}
impl Serialize for Statistic {
    /// An object with one entry, such as `{"mean": [1.0, 1.0]}`; what is no number is null.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(self.kind.name(), &self.sums)?;
        map.end()
    }
}
impl<'de> Deserialize<'de> for Statistic {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = BTreeMap::<String, Vec<Option<f64>>>::deserialize(deserializer)?;
        let mut entries = map.into_iter();
        let (Some((name, sums)), None) = (entries.next(), entries.next()) else {
            return Err(de::Error::custom("a statistic has one entry"));
        };
        let Some((kind, _, length)) = Kind::ALL.into_iter().find(|(_, n, _)| *n == name) else {
            let known = Kind::ALL.map(|(_, name, _)| name).join(", ");
            return Err(de::Error::custom(format!("`{name}` is no statistic; there are {known}")));
        };
        if sums.len() != length {
            let what = format!("`{name}` has {length} numbers, not {}", sums.len());
            return Err(de::Error::custom(what));
        }
        Ok(Statistic { kind, sums: sums.into_iter().map(|x| x.unwrap_or(f64::NAN)).collect() })
    }
}

/// The examples with the highest losses, at most so many, the highest first; only those that can be
/// shown. Long inputs are cut.
pub fn hardest(all: &[ExamplePrediction], most: usize) -> Vec<ExamplePrediction> {
    let shown = all.iter().filter(|e| !e.input.is_null() && e.loss.is_some());
    let mut shown: Vec<&ExamplePrediction> = shown.collect();
    shown.sort_by(|a, b| b.loss.unwrap_or(f64::NAN).total_cmp(&a.loss.unwrap_or(f64::NAN)));
    let cut = |e: &ExamplePrediction| ExamplePrediction {
        input: cut(&e.input),
        truth: cut(&e.truth),
        prediction: cut(&e.prediction),
        scores: Value::Null,
        ..e.clone()
    };
    shown.into_iter().take(most).map(cut).collect()
}
/// As much of a value as is shown of an example.
fn cut(value: &Value) -> Value {
    const LETTERS: usize = 1200;
    const WORDS: usize = 250;
    match value {
        Value::String(text) => match text.char_indices().nth(LETTERS) {
            Some((end, _)) => format!("{} ...", &text[..end]).into(),
            None => value.clone(),
        },
        Value::Array(all) if all.len() > WORDS => {
            all[..WORDS].iter().map(cut).chain([Value::from("...")]).collect()
        }
        Value::Array(all) => all.iter().map(cut).collect(),
        Value::Object(all) => all.iter().map(|(key, value)| (key.clone(), cut(value))).collect(),
        other => other.clone(),
    }
}

/// Writes a file of examples.
pub fn write(path: impl AsRef<Path>, examples: &[ExamplePrediction]) -> Result<()> {
    let path = path.as_ref();
    let mut text = vec![];
    for example in examples {
        serde_json::to_writer(&mut text, example).map_err(|e| Error::file(path, e.to_string()))?;
        text.push(b'\n');
    }
    Ok(output::write_atomically(path, &text)?)
}

/// Reads a file of examples, in its order. An error names the line that is no such example, or that
/// has the id of one before.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<ExamplePrediction>> {
    let path = path.as_ref();
    let failed = |source| Error::Read { path: path.into(), source };
    let file = BufReader::new(std::fs::File::open(path).map_err(failed)?);
    let (mut all, mut ids) = (Vec::<ExamplePrediction>::new(), BTreeSet::new());
    for (line, text) in (1..).zip(file.lines()) {
        let text = text.map_err(failed)?;
        let wrong =
            |e: serde_json::Error| Error::line(path, line, format!("no prediction of an example: {e}"));
        let example: ExamplePrediction = serde_json::from_str(&text).map_err(wrong)?;
        if !ids.insert(example.id.clone()) {
            return Err(Error::line(path, line, format!("the id `{}` stands twice", example.id)));
        }
        all.push(example);
    }
    match all.is_empty() {
        true => Err(Error::file(path, "there are no examples in it")),
        false => Ok(all),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn example(id: &str, is_right: bool) -> ExamplePrediction {
        let e = ExamplePrediction {
            id: id.into(),
            line: Some(2),
            input: json!({"text": "a\n<b>", "text_pair": "c"}),
            truth: "x".into(),
            prediction: if is_right { "x" } else { "y" }.into(),
            loss: Some(0.1 + 0.2),
            scores: json!({"x": 0.25, "y": 0.75}),
            ..ExamplePrediction::default()
        };
        e.adding("accuracy", Statistic::right(is_right)).adding("loss", Statistic::mean(f64::NAN, 1.0))
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let all = [example("1", true), ExamplePrediction { id: "2".into(), ..Default::default() }];
        write(&path, &all).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 2, "one line each: {text}");
        assert!(text.contains(r#""statistics":{"accuracy":{"mean":[1.0,1.0]},"loss":{"mean":[null,1.0]}}"#));
        let again = read(&path).unwrap();
        assert_eq!((&again[1], again[0].loss), (&all[1], Some(0.1 + 0.2)));
        assert_eq!(again[0].statistics["accuracy"], all[0].statistics["accuracy"]);
        assert!(again[0].statistics["loss"].as_ref()[0].is_nan());
        assert!(again[0].is_right() && !example("1", false).is_right());
    }

    #[test]
    fn the_hardest_come_first() {
        let of = |id: &str, loss: Option<f64>| ExamplePrediction { loss, ..example(id, true) };
        let unseen = ExamplePrediction { input: Value::Null, ..of("5", Some(9.0)) };
        let mut all = vec![of("1", Some(0.5)), of("2", None), of("3", Some(2.0)), of("4", Some(1.0)), unseen];
        let ids = |found: Vec<ExamplePrediction>| found.into_iter().map(|e| e.id).collect::<Vec<_>>();
        assert_eq!(ids(hardest(&all, 2)), ["3", "4"]);
        assert_eq!(ids(hardest(&all, 9)), ["3", "4", "1"]);
        all[0].input = json!({"text": "é".repeat(2000), "words": vec!["a"; 300]});
        let input = &hardest(&all, 3)[2].input;
        assert_eq!(input["text"].as_str().unwrap().chars().count(), 1204);
        assert_eq!(input["words"].as_array().unwrap().len(), 251);
    }

    #[test]
    fn sums_are_scores() {
        let sum = |all: &[Statistic]| -> f64 {
            let width = all[0].as_ref().len();
            let sums: Vec<f64> = (0..width).map(|i| all.iter().map(|s| s.as_ref()[i]).sum::<f64>()).collect();
            all[0].kind().score(&sums)
        };
        assert_eq!(sum(&[true, false, true, true].map(Statistic::right)), 0.75);
        let perplexity = sum(&[Statistic::exp_mean(3.0, 1.0), Statistic::exp_mean(1.0, 3.0)]);
        assert_eq!(perplexity, 1f64.exp());
        assert_eq!(sum(&[Statistic::f1([1.0, 2.0, 1.0]), Statistic::f1([1.0, 1.0, 2.0])]), 4.0 / 6.0);
        let (text, references) = ("the cat sat on the mat today", ["the cat sat on the mat"]);
        let segment = bleu::segment(text, &references).unwrap();
        assert_eq!(sum(&[Statistic::bleu(&segment)]), bleu::Bleu::of(&segment).score);
        let segment = chrf::Kind::Chrf2.segment(text, &references).unwrap();
        assert_eq!(sum(&[Statistic::chrf(&segment)]), chrf::score(&segment));
        for (kind, name, width) in Kind::ALL {
            assert_eq!(kind.name(), name);
            assert!(kind.score(&vec![1.0; width]).is_finite(), "{name}");
        }
    }

    #[test]
    fn what_is_no_example_is_refused_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let good = r#"{"id":"1","truth":null,"prediction":null,"loss":null}"#;
        for (text, words) in [
            (String::new(), &["no examples"][..]),
            (format!("{good}\n{good}\n"), &[":2", "`1` stands twice"]),
            (format!("{good}\n{{}}\n"), &[":2", "missing field `id`"]),
            (format!("{good}\n\n"), &[":2"]),
            (good.replace("null}", r#"null,"x":0}"#), &[":1", "unknown field `x`"]),
            (good.replace("null}", r#"null,"statistics":{"a":{"b":[1]}}}"#), &["`b` is no statistic"]),
            (good.replace("null}", r#"null,"statistics":{"a":{"f1":[1]}}}"#), &["3 numbers, not 1"]),
            (good.replace("null}", r#"null,"statistics":{"a":{}}}"#), &["one entry"]),
        ] {
            std::fs::write(&path, &text).unwrap();
            let error = read(&path).unwrap_err().to_string();
            words.iter().chain(&["a.jsonl"]).for_each(|w| assert!(error.contains(w), "{error}: {w}"));
        }
        std::fs::write(&path, good).unwrap();
        assert_eq!(read(&path).unwrap().len(), 1, "fields that say nothing may be missing");
        assert!(read(folder.path().join("b")).unwrap_err().to_string().contains("cannot read"));
    }
}
