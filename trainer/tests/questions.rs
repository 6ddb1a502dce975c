//! Extractive question answering: beside transformers' rules, and as a user trains it.
mod support;
use engraft::tasks::extraction::{Rules, Window, best_rows, extract};
use serde_json::{Value, json};
use support::*;

#[test]
fn answers_are_extracted_as_transformers_does() {
    let text = std::fs::read_to_string(fixture("../spans/extraction.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    let (mut without, mut empty) = (0, 0);
    for (i, case) in cases.iter().enumerate() {
        let n_best = case["n_best_size"].as_u64().unwrap() as usize;
        let rules = Rules {
            n_best,
            max_length: case["max_answer_length"].as_u64().unwrap() as usize,
            may_be_none: case["version_2_with_negative"].as_bool().unwrap(),
            threshold: number(&case["null_score_diff_threshold"]),
        };
        let window = |w: &Value| -> Window {
            let scores = |key: &str| -> Vec<f32> { serde_json::from_value(w[key].clone()).unwrap() };
            let best = best_rows(&scores("start"), &scores("end"), n_best);
            (best, serde_json::from_value(w["places"].clone()).unwrap())
        };
        let windows: Vec<Window> = case["windows"].as_array().unwrap().iter().map(window).collect();
        let found = extract(case["context"].as_str().unwrap(), &windows, rules);
        let said = &case["said"];
        if said.is_null() {
            without += 1; // the library fails where all answers are empty
            assert_eq!((found.answer.as_str(), found.range), ("", None), "case {i}");
            continue;
        }
        empty += usize::from(found.answer == "empty");
        assert_eq!(found.answer, said["answer"], "case {i}");
        assert_eq!(found.null_odds, said["null_odds"].as_f64(), "case {i}");
        let theirs = said["n_best"].as_array().unwrap();
        assert_eq!(found.n_best.len(), theirs.len(), "case {i}");
        for (ours, theirs) in found.n_best.iter().zip(theirs) {
            assert_eq!(ours.text, theirs["text"], "case {i}");
            let logits = [f64::from(ours.logits.0), f64::from(ours.logits.1)];
            assert_eq!(logits, [number(&theirs["start_logit"]), number(&theirs["end_logit"])], "case {i}");
            assert!((ours.probability - number(&theirs["probability"])).abs() < 1e-6, "case {i}");
        }
    }
    assert!(cases.len() > 90 && without > 0 && empty > 0, "{without} {empty}");
}

/// Where a text says a name.
fn answer(context: &str, text: &str) -> Value {
    let at = context.find(text).unwrap();
    json!({"text": text, "answer_start": context[..at].chars().count()})
}
/// SQuAD's own form; the last question of each paragraph has no answer, if there may be such ones.
fn squad(version_2: bool) -> String {
    let mut paragraphs = vec![];
    for (i, (who, place)) in
        [("Anna", "Genoa"), ("Björk", "Reykjavík"), ("Carl", "Oslo"), ("Dora", "Rome")].iter().enumerate()
    {
        let context = format!("In the year — as it was said — {who} went to the town of {place} and stayed.");
        let mut qas = vec![
            json!({"id": format!("{i}-who"), "question": " Who went?", "answers": [answer(&context, who)]}),
            json!({"id": format!("{i}-where"), "question": "Where is the town?", "answers": [answer(&context, place)]}),
        ];
        if version_2 {
            let plausible = answer(&context, who);
            qas.push(
                json!({"id": format!("{i}-why"), "question": "Why not?", "answers": [], "is_impossible": true,
                "plausible_answers": [plausible]}),
            );
        }
        paragraphs.push(json!({"context": context, "qas": qas}));
    }
    let (a, b) = paragraphs.split_at(2);
    json!({"version": "1.1", "data": [{"title": "a", "paragraphs": a}, {"title": "b", "paragraphs": b}]})
        .to_string()
}
/// The same, an object a line.
fn flat(squad: &str) -> String {
    let data: Value = serde_json::from_str(squad).unwrap();
    let mut lines = String::new();
    for p in data["data"].as_array().unwrap().iter().flat_map(|a| a["paragraphs"].as_array().unwrap()) {
        for q in p["qas"].as_array().unwrap() {
            let of = |key: &str| -> Vec<Value> {
                q["answers"].as_array().unwrap().iter().map(|a| a[key].clone()).collect()
            };
            let answers = json!({"text": of("text"), "answer_start": of("answer_start")});
            lines += &json!({"id": q["id"], "question": q["question"], "context": p["context"], "answers": answers}).to_string();
            lines.push('\n');
        }
    }
    lines
}
const TRAIN: &str = "train --model MODEL --task question-answering --train squad.json --eval squad.json --json --quiet \
                     --batch-size 4 --epochs 40 --lr 5e-3 --warmup-ratio 0 --seed 1 --out out";

#[test]
fn answers_are_learned_evaluated_and_predicted() {
    let work = Work::empty();
    work.write("squad.json", squad(false)).write("flat.jsonl", flat(&squad(false)));
    work.write("list.json", format!("{{\"data\": [{}]}}", flat(&squad(false)).trim_end().replace('\n', ",")));
    let report = work.run(TRAIN).json();
    let m = &report["metrics"];
    assert_eq!((&report["task"], &m["examples"]), (&json!("question-answering"), &json!(8)));
    assert_eq!(m["read"], json!({"questions": 8, "without_answer": 0, "windows": 8}));
    assert!(number(&m["f1"]) > 90.0 && number(&m["exact_match"]) > 85.0, "{m}");
    let head: Value = serde_json::from_str(&work.text("out/head_config.json")).unwrap();
    assert_eq!(
        (&head["config"]["head_type"], &head["config"]["num_labels"]),
        (&json!("question_answering"), &json!(2))
    );
    assert!(head["config"].get("bias").is_none() && head["config"].get("use_pooler").is_none());
    let eval =
        |flags: &str| work.run(&format!("eval --model MODEL --adapter out --json {flags}")).evaluation();
    for file in ["squad.json", "flat.jsonl", "list.json"] {
        assert_eq!(&eval(&format!("--data {file}")), m, "{file}");
    }
    assert_eq!(eval("--data flat.jsonl --batch-size 1")["exact_match"], m["exact_match"]);
    // windows of few tokens
    let cut = eval("--data squad.json --max-length 20 --doc-stride 4");
    assert!(cut["read"]["windows"].as_u64().unwrap() > 8 && number(&cut["f1"]) > 0.0, "{cut}");
    let plain = work.run("eval --model MODEL --adapter out --data squad.json").good().stdout;
    assert!(plain.starts_with("8 questions in ") && plain.contains("8 questions in 8 windows"), "{plain}");

    let line = "predict --model MODEL --adapter out --input squad.json";
    let said = work.run(&format!("{line} --json --n-best 3")).json();
    let first = &said["predictions"][2];
    assert_eq!((&first["id"], first["n_best"].as_array().unwrap().len()), (&json!("1-who"), 3));
    let context = "In the year — as it was said — Björk went to the town of Reykjavík and stayed.";
    for one in first["n_best"].as_array().unwrap().iter().chain([first]) {
        let [start, end] = ["start", "end"].map(|key| one[key].as_u64().unwrap() as usize);
        let text: String = context.chars().skip(start).take(end - start).collect();
        assert_eq!(one.get("text").unwrap_or(&first["answer"]), &json!(text), "{one}");
    }
    assert!(first.get("null_odds").is_none());
    let short = work.run(&format!("{line} --json --max-answer-length 1")).json();
    assert!(short["predictions"].as_array().unwrap().iter().all(|p| p["answer"].is_string()));
    let lines = work.run(line).good().stdout;
    assert!(lines.lines().count() == 8 && lines.starts_with("0-who\t"), "{lines}");
    work.run("predict --model MODEL --adapter out --text hello").fails(&["question-answering", "--input"]);
}

#[test]
fn questions_without_an_answer() {
    let work = Work::empty();
    work.write("squad.json", squad(true)).write("one.json", squad(false));
    let report = work.run(&TRAIN.replace("--epochs 40", "--epochs 3")).json();
    let m = &report["metrics"];
    assert_eq!(m["read"], json!({"questions": 12, "without_answer": 4, "windows": 12}));
    for score in ["f1", "exact_match", "HasAns_f1", "NoAns_exact", "best_f1", "best_exact_thresh"] {
        assert!(m[score].is_number(), "{score}: {m}");
    }
    assert_eq!((&m["HasAns_total"], &m["NoAns_total"]), (&json!(8.0), &json!(4.0)));
    let eval =
        |flags: &str| work.run(&format!("eval --model MODEL --adapter out --json {flags}")).evaluation();
    assert!(eval("--data one.json").get("NoAns_f1").is_none(), "the data say so");
    assert!(eval("--data one.json --version-2").get("best_f1").is_some());
    assert!(eval("--data squad.json --version-2=false").get("NoAns_f1").is_none());
    let all = eval("--data squad.json --null-score-diff-threshold -1000");
    assert_eq!((number(&all["NoAns_exact"]), number(&all["HasAns_exact"])), (100.0, 0.0));
    let none = eval("--data squad.json --null-score-diff-threshold 1000");
    assert_eq!(number(&none["NoAns_exact"]), 0.0);
    let line = "predict --model MODEL --adapter out --input squad.json --json --version-2 --null-score-diff-threshold -1000";
    let said = work.run(line).json();
    let first = &said["predictions"][0];
    assert_eq!((&first["answer"], &first["start"]), (&json!(""), &Value::Null));
    assert!(first["null_odds"].is_number(), "{first}");
    // what is said in training is followed later
    let trained = work.run(&TRAIN.replace("--epochs 40", "--epochs 1 --version-2 --metric best_f1")).json();
    assert!(trained["metrics"]["best_f1"].is_number());
    let line = "predict --model MODEL --adapter out --input squad.json --json";
    assert!(work.run(line).json()["predictions"][0]["null_odds"].is_number());
    for (flag, words) in [
        ("--n-best 0", "n-best"),
        ("--max-answer-length 0", "max-answer-length"),
        ("--null-score-diff-threshold inf", "null-score-diff-threshold"),
    ] {
        work.run(&format!("{TRAIN} {flag}")).fails(&[words]);
    }
    work.write("train.tsv", "text\tlabel\na\tx\nb\ty\n");
    work.run("train --model MODEL --train train.tsv --n-best 3 --out x").fails(&["classification", "n-best"]);
}

#[test]
fn questions_stream_are_planned_and_cached() {
    let work = Work::empty();
    work.write("squad.json", squad(true));
    let short = |flags: &str| {
        work.run(&format!(
            "{} {flags}",
            TRAIN.replace("--epochs 40", "--epochs 2 --max-length 24 --doc-stride 6")
        ))
        .json()
    };
    let plain = short("");
    assert!(plain["metrics"]["read"]["windows"].as_u64().unwrap() > 12);
    assert_eq!(short("--stream")["metrics"], plain["metrics"]);
    let bytes = |r: &Value| r["ledger_peak_bytes"].as_u64().unwrap();
    let tight = short(&format!("--memory-budget {}", bytes(&plain) - 1));
    assert!(bytes(&tight) < bytes(&plain));
    assert_eq!(tight["metrics"], plain["metrics"]);
    let upper = short("--dropout 0 --layers 3");
    assert_eq!(short("--dropout 0 --layers 3 --cache-prefix cache")["metrics"], upper["metrics"]);
    let line = "memory --model MODEL --task question-answering --batch 3 --length 20 --methods houlsby --measure --json";
    for row in work.run(line).json()["rows"].as_array().unwrap() {
        assert_eq!(row["ledger_equals_predicted"], true, "{row}");
    }
}

#[test]
fn what_is_wrong_with_questions_is_said() {
    let work = Work::empty();
    work.write("squad.json", squad(false));
    work.run(&TRAIN.replace("--epochs 40", "--epochs 1")).json();
    let eval = |file: &str| work.run(&format!("eval --model MODEL --adapter out --data {file}"));
    let good = squad(false);
    let moved = |answers| good.replacen("\"answer_start\":", "\"answer_start\":1", answers);
    // numbers of bytes, or anything else: the answers are compared, and nothing is learned from them
    work.write("moved.json", moved(3)).write("lost.json", moved(8));
    let said = eval("moved.json").good();
    assert!(said.stderr.contains("moved.json: 3 answers to 8 questions do not stand"), "{}", said.stderr);
    work.run(&TRAIN.replace("squad.json --eval", "lost.json --eval")).fails(&["lost.json", "no label"]);
    let long =
        work.run("eval --model MODEL --adapter out --data squad.json --max-length 24 --doc-stride 99").good();
    assert!(long.stderr.contains("--doc-stride"), "{}", long.stderr);
    work.run("eval --model MODEL --adapter out --data squad.json --max-length 4").fails(&["max-length"]);
    for (text, words) in [
        (good.replace("\"paragraphs\"", "\"sections\""), "no field `answers`"),
        (good.replace("\"qas\"", "\"questions\""), "`paragraphs` are not SQuAD's"),
        (good.replace("0-where", "0-who"), "a second question with the id `0-who`"),
        (good.replace("Where is the town?", " "), "the question `0-where` is empty"),
        (good.replace("\"answers\"", "\"answered\""), "has no `answers`"),
        (good.replace("\"data\"", "\"date\""), "no list `data`"),
        (good[..good.len() / 2].to_string(), "ends in the middle"),
        (String::new(), "empty"),
    ] {
        work.write("bad.json", text);
        eval("bad.json").fails(&["bad.json", words]);
    }
    work.write("bad.jsonl", "{\"question\": \"a\", \"context\": \"b\"}\n");
    eval("bad.jsonl").fails(&["bad.jsonl", "field `answers`", "--label-column"]);
    work.write("bad.jsonl", "{\"question\": \"a\", \"context\": \"b\", \"answers\": 3}\n");
    eval("bad.jsonl").fails(&["bad.jsonl:1", "`answers`: must be a list"]);
    eval("squad.json --label-column solutions").fails(&["`solutions`"]);
    work.write(
        "named.jsonl",
        "{\"q\": \"Who went?\", \"c\": \"Anna went.\", \"a\": [{\"text\": \"Anna\", \"answer_start\": 0}]}\n",
    );
    let line = "eval --model MODEL --adapter out --data named.jsonl --text-column q --text-pair-column c --label-column a";
    work.run(line).good();
}
