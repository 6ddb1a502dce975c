//! Runs that follow each other: each is the very run that it is by itself.
mod support;
use serde_json::Value;
use support::*;

fn work() -> Work {
    let work = Work::new();
    let all: Vec<_> = TRAIN.iter().chain(&EVAL).copied().collect();
    work.write("all.tsv", table("\t", &all));
    work
}
/// What was learned.
fn learned(work: &Work, out: &str) -> [Vec<u8>; 2] {
    ["adapter.safetensors", "model_head.safetensors"].map(|f| work.read(&format!("{out}/{f}")))
}
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
fn of_runs(report: &Value, score: &str) -> Vec<f64> {
    report["runs"].as_object().unwrap().values().map(|r| number(&r["metrics"][score])).collect()
}

#[test]
fn folds_are_runs_on_parts_of_the_data() {
    let work = work();
    let flags = "--train all.tsv --layers 2-3 --dropout 0 --epochs 2 --max-steps 99";
    let report = work.train(&format!("{flags} --folds 3 --out out"));
    assert_eq!(work.names("out"), ["fold-1", "fold-2", "fold-3", "report.json", "run.toml"]);
    assert!(!work.path("out/.below").exists(), "what was kept for all of them is gone");
    let examples: Vec<f64> =
        report["runs"].as_object().unwrap().values().map(|r| number(&r["metrics"]["examples"])).collect();
    assert_eq!(examples.iter().sum::<f64>(), 13.0, "{examples:?}");
    let summary = &report["summary"][0]["scores"]["accuracy"];
    let (found, own) = (number(&summary["mean"]), mean(&of_runs(&report, "accuracy")));
    assert!((found - own).abs() < 1e-12 && number(&summary["runs"]) == 3.0, "{summary}");

    // as scikit-learn divides seven of one class and six of the other: the others of a fold's own
    // file learn the same, and are evaluated on the same
    let all: Vec<_> = TRAIN.iter().chain(&EVAL).copied().collect();
    let (mut number_of, mut test, mut rest) = ([0, 0], vec![], vec![]);
    for (text, label) in all {
        let class = usize::from(label == "bad");
        let fold = [[0, 0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 2, 2, 9]][class][number_of[class]];
        number_of[class] += 1;
        if fold == 1 { &mut test } else { &mut rest }.push((text, label));
    }
    assert_eq!((number_of, test.len()), ([7, 6], 4));
    work.write("rest.tsv", table("\t", &rest)).write("test.tsv", table("\t", &test));
    let own = flags.replace("all.tsv", "rest.tsv");
    let alone = work.train(&format!("{own} --eval test.tsv --out alone"));
    assert!(learned(&work, "alone") == learned(&work, "out/fold-2"));
    assert_eq!(alone["metrics"], report["runs"]["fold-2"]["metrics"]);
    // and as it was recorded
    work.run("train --config out/fold-2/run.toml --out again --quiet").good();
    assert!(learned(&work, "again") == learned(&work, "out/fold-2"));
}

#[test]
fn seeds_and_numbers_of_examples() {
    let work = work();
    let report = work.train("--eval eval.tsv --seeds 1,7 --curve 4,8 --out out");
    let names = ["examples-4+seed-1", "examples-4+seed-7", "examples-8+seed-1", "examples-8+seed-7"];
    assert_eq!(report["runs"].as_object().unwrap().keys().collect::<Vec<_>>(), names);
    work.train("--eval eval.tsv --seed 7 --out alone");
    assert!(learned(&work, "alone") == learned(&work, "out/examples-8+seed-7"));
    work.train("--eval eval.tsv --seed 7 --train-examples 4 --out few");
    assert!(learned(&work, "few") == learned(&work, "out/examples-4+seed-7"));
    assert!(learned(&work, "few") != learned(&work, "alone"));
    let points = report["summary"].as_array().unwrap();
    assert_eq!(points.iter().map(|p| number(&p["train_examples"])).collect::<Vec<_>>(), [4.0, 8.0]);
    assert_eq!(number(&points[0]["scores"]["loss"]["runs"]), 2.0);
    // what is given wins over what a file says
    work.run("train --config alone/run.toml --seeds 1,7 --out again --quiet").good();
    assert!(learned(&work, "alone") == learned(&work, "again/seed-7"));
    // for people
    let said =
        work.run(&train("--eval eval.tsv --seeds 1,7 --out said").replace("--json --quiet", "")).good();
    assert!(said.stdout.contains("accuracy ") && said.stdout.contains("2 runs"), "{}", said.stdout);
    // with folds each seed meets each of them
    let report = work.train("--train all.tsv --folds 2 --seeds 1,7 --out both");
    let names: Vec<&String> = report["runs"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["fold-1+seed-1", "fold-1+seed-7", "fold-2+seed-1", "fold-2+seed-7"]);
    assert_eq!(number(&report["summary"][0]["scores"]["loss"]["runs"]), 2.0, "a fold counts once");
}

#[test]
fn a_series_goes_on_where_it_was_stopped() {
    let work = work();
    let line = "--train all.tsv --folds 3 --epochs 2 --max-steps 99 --layers 2-3 --dropout 0 --out out";
    let whole = work.train(line);
    // as if it had been killed in the second run
    std::fs::rename(work.path("out/run.toml"), work.path("out/.run.toml")).unwrap();
    for gone in ["out/report.json", "out/.files"] {
        std::fs::remove_file(work.path(gone)).unwrap();
    }
    std::fs::remove_dir_all(work.path("out/fold-2")).unwrap();
    std::fs::remove_dir_all(work.path("out/fold-3")).unwrap();
    let before = std::fs::metadata(work.path("out/fold-1/adapter.safetensors")).unwrap().modified().unwrap();
    let again = work.run("train --resume out --json --quiet").json();
    let after = std::fs::metadata(work.path("out/fold-1/adapter.safetensors")).unwrap().modified().unwrap();
    assert_eq!(before, after, "what was over is not done again");
    assert_eq!(again["summary"], whole["summary"]);
    let said = work.run("train --resume out").good();
    assert!(said.stdout.contains("complete"), "{}", said.stdout);
}

#[test]
fn what_cannot_be_is_refused() {
    let work = work();
    let fails = |flags: &str, words: &[&str]| work.run(&train(flags)).fails(words);
    fails("--folds 1", &["folds", "at least 2"]);
    fails("--folds 99", &["fold", "at most", "examples in any class"]);
    fails("--folds 2 --eval eval.tsv", &["folds", "eval"]);
    fails("--folds 2 --fold 1/2", &["folds", "fold"]);
    fails("--folds 2 --stream", &["folds", "stream"]);
    fails("--seeds 1,2 --eval eval.tsv --seed 3", &["seeds", "seed"]);
    fails("--seeds 1,2", &["seeds", "eval"]);
    fails("--seeds 1,1 --eval eval.tsv", &["seeds", "twice"]);
    fails("--curve 0,2 --eval eval.tsv", &["curve", "at least 1"]);
    fails("--train-examples 9", &["train-examples", "8 examples"]);
    fails("--curve 99 --eval eval.tsv", &["train-examples", "8 examples"]);
    let documents = "train --model gpt --task causal-lm --train text.txt --folds 2";
    language_model(&work);
    work.run(documents).fails(&["fold", "documents"]);
    work.run(&train("--fold 3/2")).misused(&["3/2", "2/5"]);
}

#[test]
fn folds_keep_groups_whole() {
    let work = Work::new();
    // texts of a document have words in common, and labels that say which it is
    let rows = TRAIN.iter().chain(&EVAL).cycle().take(24).enumerate();
    let row = |(i, (text, label)): (usize, &(&str, &str))| format!("{text} {i}\t{label}\tdoc{}\n", i % 7);
    work.write("docs.tsv", format!("text\tlabel\tdocument\n{}", rows.map(row).collect::<String>()));
    let flags = "train --model MODEL --train docs.tsv --quiet --json --max-steps 1 --max-length 24 --folds 3";
    work.run(&format!("{flags} --group-column document --out out")).json();
    work.run(&format!("{flags} --out plain")).json();
    // what a fold is evaluated on is what it does not learn from
    let of_fold = |out: &str, fold: usize| {
        let report: Value =
            serde_json::from_str(&work.text(&format!("{out}/fold-{fold}/report.json"))).unwrap();
        number(&report["metrics"]["examples"]) as usize
    };
    let sizes: Vec<usize> = (1..=3).map(|fold| of_fold("out", fold)).collect();
    assert_eq!(sizes.iter().sum::<usize>(), 24);
    // documents have 4 or 3 texts each
    assert!(sizes.iter().all(|n| [6, 7, 8, 10, 11].contains(n)), "{sizes:?}");
    assert_eq!((1..=3).map(|fold| of_fold("plain", fold)).collect::<Vec<_>>(), [8, 8, 8]);
    let again = "train --config out/fold-2/run.toml --out again --quiet --json";
    assert_eq!(number(&work.run(again).json()["metrics"]["examples"]) as usize, sizes[1]);
    let refused = |more: &str, words: &[&str]| work.run(&format!("{flags} {more} --out no")).fails(words);
    refused("--group-column nothing", &["--group-column", "nothing"]);
    work.run(&train("--group-column label --out no")).fails(&["`group-column`", "`folds`"]);
    work.write("holes.tsv", "text\tlabel\tdocument\na\tx\td\nb\ty\t\n");
    let holes = "train --model MODEL --train holes.tsv --folds 2 --group-column document --out no --quiet";
    work.run(holes).fails(&["holes.tsv:3", "group"]);
    work.write("words.conll", "a O\nb B-X\n\nc O\n\nd O\n");
    let words = "train --model MODEL --task tagging --train words.conll --folds 2 --group-column document --out no --quiet";
    work.run(words).fails(&["`group-column`", "words.conll", "no columns"]);
}

#[test]
fn questions_stay_with_their_title() {
    let work = Work::new();
    let question = |i: usize| {
        serde_json::json!({"id": format!("q{i}"), "question": format!("What is number {i}?"),
            "answers": [{"text": "a train", "answer_start": 3}]})
    };
    let article = |(title, all): (usize, std::ops::Range<usize>)| {
        let qas: Vec<Value> = all.map(question).collect();
        serde_json::json!({"title": format!("T{title}"), "paragraphs": [{"context": "It a train is.", "qas": qas}]})
    };
    let articles: Vec<Value> = [0..5, 5..7, 7..9, 9..10].into_iter().enumerate().map(article).collect();
    work.write("squad.json", serde_json::json!({"version": "1.1", "data": articles}).to_string());
    let flags =
        "train --model MODEL --task question-answering --train squad.json --folds 2 --group-column title";
    work.run(&format!("{flags} --max-steps 1 --max-length 24 --quiet --json --out out")).json();
    let examples = |fold: usize| {
        let report: Value =
            serde_json::from_str(&work.text(&format!("out/fold-{fold}/report.json"))).unwrap();
        number(&report["metrics"]["examples"])
    };
    assert_eq!([examples(1), examples(2)], [5.0, 5.0]);
    let missing = flags.replace("title", "chapter");
    work.run(&format!("{missing} --quiet --out no")).fails(&["squad.json", "chapter", "title"]);
}

#[test]
fn data_sets_beside_have_scores_of_their_own() {
    let work = work();
    work.write("first.tsv", table("\t", &EVAL[..4])).write("second.tsv", table("\t", &EVAL[4..]));
    let flags = "--max-steps 6 --lr 5e-3 --eval-every 2";
    let both = work.train(&format!("{flags} --eval m=first.tsv --eval mm=second.tsv --out out"));
    let alone = work.train(&format!("{flags} --eval first.tsv --out alone"));
    // what is best is decided by the first alone, to the bit
    assert!(learned(&work, "out") == learned(&work, "alone"));
    let sets = &both["metrics"]["sets"];
    assert_eq!(sets.as_object().unwrap().keys().collect::<Vec<_>>(), ["m", "mm"]);
    let other: Value = {
        let line = "eval --model MODEL --adapter out --data second.tsv --json --quiet";
        work.run(line).json()
    };
    for score in ["loss", "accuracy"] {
        assert_eq!(both["metrics"][score], alone["metrics"][score]);
        assert_eq!(sets["m"][score], alone["metrics"][score]);
        let beside = &both["metrics"][format!("{score}_mm")];
        assert_eq!(beside, &sets["mm"][score]);
        assert!((number(beside) - number(&other[score])).abs() < 1e-6, "{score}: {both} {other}");
    }
    assert_eq!(
        (&both["metrics"]["examples"], &sets["mm"]["examples"]),
        (&Value::from(4), &other["examples"])
    );
    let results: Value = serde_json::from_str(&work.text("out/eval_results.json")).unwrap();
    assert_eq!(number(&results["eval_accuracy_mm"]), number(&sets["mm"]["accuracy"]));
    let settings = work.text("out/run.toml");
    assert!(settings.contains("eval = [\"m=first.tsv\", \"mm=second.tsv\"]"), "{settings}");
    let again = work.run("train --config out/run.toml --out again --quiet --json").json();
    assert_eq!(again["metrics"], both["metrics"]);
    let plain = work.run("train --config out/run.toml --quiet=false --json=false --out plain").good().stdout;
    assert!(plain.contains("; mm: ") && plain.matches("accuracy").count() >= 2, "{plain}");
    let refused = |flags: &str, words: &[&str]| work.run(&train(&format!("{flags} --out no"))).fails(words);
    refused("--eval m=first.tsv second.tsv", &["`eval`", "second.tsv", "NAME=FILE"]);
    refused("--eval m=nowhere.tsv mm=second.tsv", &["nowhere.tsv"]);
    work.run_with(
        "train --model MODEL --out no --tasks",
        &["a: train=train.tsv, eval=m=first.tsv", "b: train=train.tsv"],
    )
    .fails(&["task `a`", "one data set"]);
}
