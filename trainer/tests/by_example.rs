//! Evaluations example by example: their sums are the scores, whatever the task.
mod support;
use engraft::reports::by_example::{ExamplePrediction, read};
use serde_json::{Value, json};
use support::*;

/// An evaluation and its examples.
fn examined(work: &Work, line: &str) -> (Value, Vec<ExamplePrediction>) {
    let found = work.run(&format!("{line} --predictions said.jsonl --json --quiet")).evaluation();
    assert_eq!(found, work.run(&format!("{line} --json --quiet")).evaluation(), "the scores are the same");
    (found, read(work.path("said.jsonl")).unwrap())
}
/// The score of all examples.
fn score(all: &[ExamplePrediction], name: &str) -> f64 {
    let mut sums: Vec<f64> = vec![];
    for statistic in all.iter().map(|e| &e.statistics[name]) {
        sums.resize(statistic.as_ref().len(), 0.0);
        sums.iter_mut().zip(statistic.as_ref()).for_each(|(sum, x)| *sum += x);
    }
    all[0].statistics[name].kind().score(&sums)
}
#[track_caller]
fn sums_to_its_scores(found: &Value, all: &[ExamplePrediction], names: &[&str]) {
    assert!(all.iter().all(|e| e.statistics.keys().eq(names)), "{:?}", all[0].statistics);
    for name in names {
        let (sum, expected) = (score(all, name), number(&found[*name]));
        assert!((sum - expected).abs() < 1e-12 * expected.abs().max(1.0), "{name}: {sum}, not {expected}");
    }
}
fn ids(all: &[ExamplePrediction]) -> Vec<&str> {
    all.iter().map(|e| e.id.as_str()).collect()
}

#[test]
fn texts() {
    let work = Work::new();
    work.train("--eval eval.tsv --out out");
    let (found, all) = examined(&work, "eval --model MODEL --adapter out --data eval.tsv --batch-size 2");
    sums_to_its_scores(&found, &all, &["accuracy", "loss"]);
    assert_eq!(ids(&all), ["1", "2", "3", "4", "5"]);
    for ((i, e), (text, label)) in all.iter().enumerate().zip(EVAL) {
        assert_eq!((e.line, &e.input, &e.truth), (Some(i + 2), &json!(text), &json!(label)));
        let p = |class: &str| number(&e.scores[class]);
        assert!((p("good") + p("bad") - 1.0).abs() < 1e-6);
        let likely = if p("good") > p("bad") { "good" } else { "bad" };
        assert_eq!(e.prediction, likely);
        assert!((e.loss.unwrap() + p(label).ln()).abs() < 1e-5, "the loss is that of the truth");
        assert_eq!(e.statistics["accuracy"].as_ref(), [f64::from(u8::from(likely == label)), 1.0]);
    }
    // of pairs, with quotes that have to be escaped
    work.write("pairs.jsonl", r#"{"text":"\"a\"","text_pair":"b\n<c>","label":"good"}"#);
    let line = "eval --model MODEL --adapter out --data pairs.jsonl --text-pair-column text_pair";
    let (_, all) = examined(&work, line);
    assert_eq!(all[0].input, json!({"text": "\"a\"", "text_pair": "b\n<c>"}));
}

#[test]
fn words() {
    let work = Work::empty();
    work.write("words.conll", "Anna B-PER\nlives O\n\nParis B-LOC\nis O\nlong O\n\nMister O\nBrown B-PER\n");
    let train = "train --model MODEL --task tagging --train words.conll --quiet --max-steps 3 --out out";
    work.run(train).good();
    let line = "eval --model MODEL --adapter out --data words.conll";
    let (found, all) = examined(&work, line);
    sums_to_its_scores(&found, &all, &["accuracy", "f1", "loss"]);
    assert_eq!(all[1].input, json!(["Paris", "is", "long"]));
    assert_eq!(all[1].truth, json!(["B-LOC", "O", "O"]));
    assert_eq!(all[1].prediction.as_array().unwrap().len(), 3);
    let lines: Vec<usize> = all.iter().filter_map(|e| e.line).collect();
    assert_eq!((ids(&all), lines), (vec!["1", "2", "3"], vec![1, 4, 8]));
    // in windows it is the same sentences
    let (found, windows) = examined(&work, &format!("{line} --max-length 4"));
    sums_to_its_scores(&found, &windows, &["accuracy", "f1", "loss"]);
    assert_eq!(ids(&windows), ids(&all));
}

#[test]
fn blocks_of_a_language_model() {
    let work = Work::empty();
    language_model(&work);
    let (found, all) =
        examined(&work, "eval --model gpt --task causal-lm --data held-out.txt --max-length 8");
    sums_to_its_scores(&found, &all, &["accuracy", "loss", "perplexity"]);
    assert!(all.len() > 5 && all.iter().all(|e| e.truth.is_null() && e.loss.is_some()), "{all:?}");
}

#[test]
fn rows_that_name_their_adapter() {
    let work = Work::new();
    work.train("--out all/a");
    work.train("--out all/b --seed 7");
    let rows: String =
        (0..6).map(|i| format!("{}\tgood\t{}\n", EVAL[i % 5].0, ["b", "a", "a"][i % 3])).collect();
    work.write("rows.tsv", format!("text\tlabel\twho\n{rows}"));
    let line = "eval --model MODEL --adapters all --adapter-column who --data rows.tsv --json --quiet";
    let found = work.run(&format!("{line} --predictions said.jsonl")).json();
    assert_eq!(found, work.run(line).json());
    let all = read(work.path("said.jsonl")).unwrap();
    assert_eq!(ids(&all), ["1", "2", "3", "4", "5", "6"]);
    for name in ["a", "b"] {
        let own: Vec<_> = all.iter().filter(|e| e.adapter.as_deref() == Some(name)).cloned().collect();
        sums_to_its_scores(&found["adapters"][name], &own, &["accuracy", "loss"]);
    }
    assert_eq!((all[0].adapter.as_deref(), &all[1].input), (Some("b"), &json!(EVAL[1].0)));
}

#[test]
fn a_place_where_no_file_can_be_is_refused_first() {
    let work = Work::new();
    work.train("--out out");
    work.write("file", "");
    let line = "eval --model nothing --adapter out --data eval.tsv --predictions";
    work.run(&format!("{line} out")).fails(&["out", "directory"]);
    work.run(&format!("{line} file/x.jsonl")).fails(&["file"]);
}
