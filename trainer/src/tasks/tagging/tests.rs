use super::*;
use crate::data::{Columns, Want};
use crate::text::tokenizer::{
    Fit,
    tests::{alone, json},
};

const TEXT: &str = "a B-X\nb I-X\nc O\nd B-Y\nd I-Y\n\nc O\na B-X\n";

fn data(text: &str) -> Dataset {
    let want = Want { content: Content::Words, labels: true };
    Dataset::parse("a.conll", text.as_bytes(), &Columns::default(), want).unwrap()
}
fn tokenizer(max_length: usize) -> Tokenizer {
    let fit = Fit { model: "tiny", vocabulary: 9, positions: Some(12), max_length };
    Tokenizer::of(&alone(&json()), fit).unwrap()
}
fn encode(task: &Tagging, data: &Dataset, max_length: usize) -> Examples {
    let examples =
        task.encode(data, &tokenizer(max_length), Purpose::Evaluate, &mut Carry::default()).unwrap();
    examples.into_iter().collect()
}
/// Answers that are right wherever there is a label.
fn right(examples: &Examples) -> Vec<Answer> {
    let one = |e: Example| Answer { chosen: e.labels, count: 1.0, loss: 0.5, ..Answer::default() };
    examples.iter().map(one).collect()
}

#[test]
fn every_word_is_scored_once_however_short_the_windows() {
    let data = data(TEXT);
    let task = Tagging::of(Labels::learn(&data.path, data.names()).unwrap());
    assert_eq!(task.labels(), ["B-X", "B-Y", "I-X", "I-Y", "O"]);
    for max_length in 4..10 {
        let examples = encode(&task, &data, max_length);
        assert!(examples.iter().all(|e| e.ids.len() <= max_length));
        let read: Vec<(usize, u32)> =
            examples.iter().flat_map(|e| e.parts.into_iter().map(move |p| (e.record, p))).collect();
        assert_eq!(read, [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (1, 0), (1, 1)]);
        let e = task.evaluate(&data, &examples, &right(&examples));
        let mut kept = data.clone();
        kept.keep_labels(|label| task.labels.find(label));
        assert!(kept.records.iter().all(|r| r.words().is_empty() && matches!(r.label, Label::Numbers(_))));
        assert_eq!(task.evaluate(&kept, &examples, &right(&examples)), e);
        assert_eq!((e.metrics.scores.get("f1"), e.metrics.scores.get("accuracy")), (Some(1.0), Some(1.0)));
        assert_eq!(e.metrics.details["words"], json!({"scored": 7, "without_prediction": 0}));
        assert_eq!(e.metrics.details["entities"][0]["type"], "X");
    }
    let first = &encode(&task, &data, 9).get(0);
    assert_eq!((&first.ids, &first.reads), (&vec![2, 4, 5, 6, 7, 7, 3], &Reads::These(vec![1, 2, 3, 4, 5])));
}

#[test]
fn words_without_a_prediction_count() {
    let data = data(TEXT);
    let task = Tagging::of(Labels::learn(&data.path, data.names()).unwrap());
    let examples = encode(&task, &data, 9);
    let examples: Examples = examples.iter().take(examples.len() - 1).collect();
    let e = task.evaluate(&data, &examples, &right(&examples));
    assert_eq!(e.metrics.details["words"], json!({"scored": 7, "without_prediction": 2}));
    assert_eq!(e.metrics.scores.get("recall"), Some(2.0 / 3.0));
    assert_eq!(e.metrics.scores.get("accuracy"), Some(6.0 / 7.0));
    let predictions = task.predictions(&data, &examples, &right(&examples));
    assert_eq!(predictions[0].text, "a\tB-X\nb\tI-X\nc\tO\nd\tB-Y\nd\tI-Y\n");
    assert_eq!(predictions[1].json, json!({"words": ["c", "a"], "tags": ["O", "O"]}));
}

#[test]
fn entities_are_counted_strictly_if_asked_for() {
    let data = data("a B-X\nb I-X\n\nc I-X\nd O\n");
    let labels = || ["B-X", "I-X", "O"].map(String::from).to_vec();
    let told = |name: &str| Told::new(Map::from_iter([("strict".to_string(), name.into())]));
    let f1 = |task: &Tagging| {
        let examples = encode(task, &data, 9);
        let e = task.evaluate(&data, &examples, &right(&examples));
        (e.metrics.scores.get("recall").unwrap(), e.metrics.details.get("strict").cloned(), e.metrics.details)
    };
    let (recall, strict, details) = f1(&Tagging::of(Labels::from_names(labels()).unwrap()));
    assert_eq!((recall, strict, &details["entities"][0]["support"]), (1.0, None, &json!(2)));
    let known = |names: Vec<String>, told: &Told| Tagging::new(names).and_then(|t| t.told(told));
    let (recall, strict, details) = f1(&known(labels(), &told("IOB2")).unwrap());
    assert_eq!((recall, strict), (1.0, Some("iob2".into())));
    assert_eq!(details["entities"][0]["support"], 1, "nothing begins the second one");
    for (names, scheme, why) in [
        (vec!["B-X", "O"], "iobs", "no scheme"),
        (vec!["E-X", "O"], "iob2", "`E-X`"),
        (vec!["NOUN", "VERB"], "iob2", "no tags of entities"),
    ] {
        let names = names.into_iter().map(String::from).collect();
        let error = known(names, &told(scheme)).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn labels_without_letters_are_classes() {
    let data = data("a NOUN\nb VERB\n\nc NOUN\n");
    let task = Tagging::of(Labels::learn(&data.path, data.names()).unwrap());
    assert_eq!(task.metrics()[0].name, "accuracy");
    let examples = encode(&task, &data, 9);
    let e = task.evaluate(&data, &examples, &right(&examples));
    assert_eq!((e.metrics.scores.get("macro_f1"), e.metrics.scores.get("f1")), (Some(1.0), None));
    assert_eq!(e.metrics.details["confusion"], json!([[2, 0], [0, 1]]));
}

#[test]
fn labels_of_tokens_are_lists() {
    let task = Tagging::new(["O", "B-X"]).unwrap();
    let e = task.example(vec![1, 2], Some(&Given::Each(vec![-100, 1]))).unwrap();
    assert_eq!((e.reads, e.labels), (Reads::All, vec![IGNORED, 1]));
    for bad in [Given::One(0), Given::Each(vec![0]), Given::Each(vec![0, 2])] {
        assert!(task.example(vec![1, 2], Some(&bad)).is_err(), "{bad:?}");
    }
}
