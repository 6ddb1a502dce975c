//! Two evaluations side by side.
mod support;
use serde_json::json;
use support::*;

/// A file of so many examples, of which those are right that `right` says.
fn predictions(work: &Work, name: &str, right: impl Fn(usize) -> bool) {
    let line = |i: usize| {
        let (is_right, prediction) = if right(i) { (1.0, "x") } else { (0.0, "y") };
        let loss = json!({"mean": [if right(i) { 0.1 } else { 2.0 }, 1.0]});
        let statistics = json!({"accuracy": {"mean": [is_right, 1.0]}, "loss": loss});
        let id = i.to_string();
        json!({"id": id, "truth": "x", "prediction": prediction, "loss": null, "statistics": statistics})
            .to_string()
            + "\n"
    };
    work.write(name, (0..200).map(line).collect::<String>());
}

#[test]
fn runs_are_compared_by_what_each_example_adds() {
    let work = Work::empty();
    predictions(&work, "a", |i| i % 10 != 0);
    predictions(&work, "b", |i| i % 5 != 0);
    predictions(&work, "c", |i| i % 10 != 1);
    let found = work.run("compare a b c --json").json();
    let of = |n: usize, score: usize| found["compared"][n]["scores"][score].clone();
    let accuracy = of(0, 0);
    assert_eq!((&accuracy["metric"], number(&accuracy["difference"])), (&json!("accuracy"), 0.9 - 0.8));
    assert_eq!((&accuracy["mcnemar"]["only_a"], &accuracy["mcnemar"]["only_b"]), (&json!(20), &json!(0)));
    assert_eq!((&accuracy["differ"], &of(0, 1)["metric"]), (&json!(true), &json!("loss")));
    let alike = of(1, 0);
    assert_eq!(
        (&alike["differ"], number(&alike["p"]), number(&alike["difference"])),
        (&json!(false), 1.0, 0.0)
    );
    // a comparison among several is held to more
    let alone = work.run("compare a b --metric accuracy --json").json();
    let alone = &alone["compared"][0]["scores"];
    assert!(alone.as_array().unwrap().len() == 1 && number(&alone[0]["p"]) <= number(&accuracy["p"]));
    let said = work.run("compare a b c --metric accuracy").good();
    assert!(said.stdout.contains("they differ"), "{}", said.stdout);
    assert!(said.stdout.contains("no difference that this set can show"), "{}", said.stdout);
    assert_eq!(said.stdout, work.run("compare a b c --metric accuracy").good().stdout, "the same every time");
}

#[test]
fn what_an_evaluation_says_is_compared() {
    let work = Work::new();
    work.train("--out one").is_object();
    work.train("--out two --seed 1").is_object();
    for run in ["one", "two"] {
        let line =
            format!("eval --model MODEL --adapter {run} --data eval.tsv --predictions {run}.jsonl --json");
        let scores = work.run(&line).json();
        let other = if run == "one" { "two" } else { "one" };
        if work.path(&format!("{other}.jsonl")).exists() {
            let found = work.run(&format!("compare {run}.jsonl {other}.jsonl --json")).json();
            let accuracy = &found["compared"][0]["scores"][0];
            assert_eq!(accuracy["a"], scores["accuracy"]);
            assert_eq!(number(&accuracy["examples"]), 5.0);
        }
    }
}

#[test]
fn other_examples_are_refused() {
    let work = Work::empty();
    predictions(&work, "a", |i| i % 10 != 0);
    work.write("few", work.text("a").lines().take(3).map(|l| format!("{l}\n")).collect::<String>());
    work.write("other", work.text("a").replacen("\"truth\":\"x\"", "\"truth\":\"z\"", 1));
    work.write("renamed", work.text("a").replacen("\"id\":\"7\"", "\"id\":\"seven\"", 1));
    work.write("partly", work.text("a").replacen("\"accuracy\"", "\"f1\"", 1));
    work.run("compare a few").fails(&["few", "3 examples", "same examples"]);
    work.run("compare a other").fails(&["other", "`0`", "another one"]);
    work.run("compare a renamed").fails(&["renamed", "no example `7`"]);
    work.run("compare a a").fails(&["itself"]);
    work.run("compare a partly --metric accuracy").fails(&["metric", "accuracy", "both have loss"]);
    work.run("compare a none").fails(&["none"]);
    work.run("compare a").misused(&["FILE"]);
}
