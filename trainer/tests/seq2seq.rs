//! Training on sources and targets.
mod support;
use engraft::data::{Columns, Content, Dataset, Header, Label, Want};
use serde_json::json;
use support::*;

/// The small T5 with random weights in `t5`, with a tokenizer of its 61 words, and a language in
/// which `w3` is `w33`, and so on.
fn translation() -> Work {
    let work = Work::empty();
    let special = ["<pad>", "</s>", "<unk>"];
    let word = |i: usize| special.get(i).map_or_else(|| format!("w{i}"), ToString::to_string);
    let vocab: serde_json::Map<_, _> = (0..61).map(|i| (word(i), json!(i))).collect();
    let end = json!({"SpecialToken": {"id": "</s>", "type_id": 0}});
    let text = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": { "type": "WhitespaceSplit" }, "decoder": null,
        "post_processor": {
            "type": "TemplateProcessing", "single": [text("A"), end], "pair": [text("A"), end, text("B"), end],
            "special_tokens": { "</s>": { "id": "</s>", "ids": [1], "tokens": ["</s>"] } },
        },
        "model": { "type": "WordLevel", "vocab": vocab, "unk_token": "<unk>" },
    });
    work.copy(&fixture("../t5/model"), "t5").write("t5/tokenizer.json", tokenizer.to_string());
    let words = |i: usize, plus: usize| {
        (0..i % 4 + 1).map(|j| format!("w{} ", 3 + plus + (5 * i + 3 * j) % 7)).collect::<String>()
    };
    let rows = |range: std::ops::Range<usize>| {
        range.map(|i| format!("{}\t{}\n", words(i, 0).trim(), words(i, 30).trim())).collect::<String>()
    };
    work.write("train.tsv", format!("source\ttarget\n{}", rows(0..40)));
    work.write("eval.tsv", format!("source\ttarget\n{}", rows(40..60)));
    work
}
const TRAIN: &str = "train --model t5 --task seq2seq --train train.tsv --json --quiet --dropout 0 --batch-size 8 \
                     --max-length 24";

#[test]
fn a_translation_is_learnt() {
    let work = translation();
    let report =
        work.run(&format!("{TRAIN} --eval eval.tsv --adapter full --lr 1e-2 --epochs 24 --out out")).json();
    let perplexity = |e: usize| number(&report["epochs"][e]["metrics"]["perplexity"]);
    assert!(perplexity(23) < 0.2 * perplexity(0), "{} {}", perplexity(0), perplexity(23));
    let again = work.run("eval --model out --task seq2seq --data eval.tsv --json").evaluation();
    let best = (0..24).map(perplexity).fold(f64::INFINITY, f64::min);
    assert!((number(&again["perplexity"]) / best - 1.0).abs() < 1e-6);
    assert_eq!(again["scored_tokens"], json!((40..60).map(|i| i % 4 + 2).sum::<usize>()));
    let said = work.run("generate --model out --input eval.tsv --max-new-tokens 6").good().stdout;
    let right = work
        .text("eval.tsv")
        .lines()
        .skip(1)
        .zip(said.lines())
        .filter(|(row, said)| row.ends_with(said))
        .count();
    assert!(right >= 16, "{right} of 20: {said}");
    // a prediction says the same, and an evaluation compares it
    let predicted = work.run("predict --model out --task seq2seq --input eval.tsv --max-new-tokens 6").good();
    assert_eq!(predicted.stdout, said);
    assert!(number(&again["rouge1"]) > 80.0 && number(&again["bleu"]) > 50.0, "{again}");
    assert_eq!(again["generated"], json!(20));
    let one = work.run("predict --model out --task seq2seq --json --text w3").json();
    assert_eq!(one["predictions"][0]["text"], json!("w3"));
    let without = "eval --model out --task seq2seq --data eval.tsv --json --predict-with-generate=false";
    let without = work.run(without).evaluation();
    assert_eq!((&without["loss"], &without["rouge1"]), (&again["loss"], &serde_json::Value::Null));
}

#[test]
fn what_a_run_was_told_is_told_again() {
    let work = translation();
    let flags = "--adapter lora --max-steps 3 --source-prefix";
    let mut scores = vec![];
    for (prefix, out) in [("w60 w59", "one"), ("w58", "two")] {
        let line = format!("{TRAIN} --out {out} {flags}");
        work.run_with(&line, &[&format!("{prefix} ")]).json();
        assert!(work.text(&format!("{out}/run.toml")).contains(&format!("source-prefix = \"{prefix} \"")));
        let of = |more: &[&str]| {
            let line = format!("eval --model t5 --adapter {out} --data eval.tsv --json");
            number(&work.run_with(&line, more).evaluation()["loss"])
        };
        scores.push(of(&[]));
        assert_ne!(of(&[]), of(&["--source-prefix", ""]), "a flag overrides it");
        let said = |more: &[&str]| {
            let line = format!("generate --model t5 --adapter {out} --prompt w3 --json --num-beams 2");
            work.run_with(&line, more).json()["generated"][0]["input_ids"].clone()
        };
        assert_ne!(said(&[]), said(&["--source-prefix", ""]));
        assert_eq!(said(&["--source-prefix", ""]), json!([3, 1]));
    }
    assert_ne!(scores[0], scores[1]);
}

#[test]
fn smoothed_labels_are_for_training() {
    let work = translation();
    let first: String = work.text("train.tsv").lines().take(9).map(|line| format!("{line}\n")).collect();
    work.write("first.tsv", first);
    let train = TRAIN.replace("train.tsv", "first.tsv");
    let loss = |out: &str, more: &str| {
        let line =
            format!("{train} --eval eval.tsv --adapter lora --max-steps 1 --lr 1e-12 --out {out} {more}");
        let report = work.run(&line).json();
        let evaluated = number(&report["epochs"][0]["metrics"]["loss"]);
        (number(&report["epochs"][0]["loss"]), evaluated)
    };
    let (plain, smooth) = (loss("plain", ""), loss("smooth", "--label-smoothing 0.3"));
    assert!((plain.1 - smooth.1).abs() < 1e-6 * plain.1);
    // by hand, from the logits of the first batch
    let mut ids = json!({"input_ids": [], "labels": []});
    for row in work.text("first.tsv").lines().skip(1) {
        let (source, target) = row.split_once('\t').unwrap();
        let of =
            |text: &str| text.split(' ').map(|w| w[1..].parse().unwrap()).chain([1u32]).collect::<Vec<_>>();
        ids["input_ids"].as_array_mut().unwrap().push(json!(of(source)));
        ids["labels"].as_array_mut().unwrap().push(json!(of(target)));
    }
    work.write("ids.json", ids.to_string());
    work.run("forward --model t5 --task seq2seq --ids ids.json --out o.safetensors").good();
    let logits = work.tensors("o.safetensors")["logits"].clone();
    let labels: Vec<usize> =
        serde_json::from_value::<Vec<Vec<usize>>>(ids["labels"].clone()).unwrap().concat();
    let mean = |share: f64| {
        let row = |(z, label): (&[f32], &usize)| {
            let sum: f64 = z.iter().map(|z| f64::from(*z).exp()).sum();
            let all: f64 = z.iter().map(|z| f64::from(*z)).sum();
            sum.ln() - (1.0 - share) * f64::from(z[*label]) - share * all / z.len() as f64
        };
        logits.chunks(61).zip(&labels).map(row).sum::<f64>() / labels.len() as f64
    };
    assert!(
        (plain.0 - mean(0.0)).abs() < 1e-5 && (smooth.0 - mean(0.3)).abs() < 1e-5,
        "{plain:?} {smooth:?}"
    );
    assert_ne!(plain.0, smooth.0);
}

#[test]
fn what_does_not_go_together_is_refused() {
    let work = translation();
    let run = |line: &str| work.run(line);
    run("train --model t5 --task causal-lm --train train.tsv --text-column source")
        .fails(&["causal-lm", "seq2seq"]);
    run("train --model MODEL --task seq2seq --train train.tsv").fails(&["seq2seq", "no decoder"]);
    run(&format!("{TRAIN} --adapter lora --label-smoothing 1")).fails(&["label-smoothing", "below 1"]);
    run(&format!("{TRAIN} --adapter lora --max-target-length 1")).fails(&["max-target-length", "special"]);
    run("train --model MODEL --train train.tsv --text-column source --label-column target --label-smoothing 0.1")
        .fails(&["label-smoothing", "classification"]);
    work.write("hole.tsv", "source\ttarget\nw3\tw33\nw4\t \n");
    run("train --model t5 --task seq2seq --adapter lora --train hole.tsv")
        .fails(&["hole.tsv:3", "the target is empty"]);
    work.write("sources.txt", "w3\n");
    run("train --model t5 --task seq2seq --adapter lora --train sources.txt")
        .fails(&["sources.txt", "targets"]);
    work.write("names.tsv", "one\tother\tid\nw3\tw33\t1\n");
    run("train --model t5 --task seq2seq --adapter lora --train names.tsv --header yes").fails(&[
        "names.tsv",
        "--text-column",
        "`one`",
    ]);
    run(&format!("{TRAIN} --adapter lora --max-steps 1 --out cut --max-target-length 2")).good();
    run(&format!(
        "{TRAIN} --adapter lora --max-steps 1 --out named --source-column target --target-column source"
    ))
    .good();
}

#[test]
fn several_ways_to_write_it_are_one() {
    let read = |name: &str, text: &str, columns: &Columns, labels: bool| {
        let want = Want { content: Content::Answers, labels };
        Dataset::parse(name, text.as_bytes(), columns, want).map(|data| {
            let one = |r: &engraft::data::Record| (r.text().into_owned(), r.answers().join("|"));
            data.records.iter().map(one).collect::<Vec<_>>()
        })
    };
    let (usual, want) = (Columns::default(), vec![("a b".to_string(), "c".to_string())]);
    for (name, text) in [
        ("a.tsv", "source\ttarget\na b\tc\n"),
        ("a.csv", "id,highlights,article\n7,c,a b\n"),
        ("a.csv", "MR,Ref\n\"a b\",c\n"),
        ("a.jsonl", "{\"summary\": \"c\", \"document\": \"a b\"}\n"),
        ("a.jsonl", "{\"text\": \"a b\", \"target\": \"c\", \"other\": 1}\n"),
        ("a.jsonl", "{\"source\": [\"a\", \"b\"], \"target\": [\"c\"]}\n"),
    ] {
        assert_eq!(read(name, text, &usual, true).unwrap(), want, "{name} {text}");
        let sources = read(name, text, &usual, false).unwrap();
        assert_eq!((sources[0].0.as_str(), sources[0].1.as_str()), ("a b", ""), "{name} {text}");
    }
    let several = "{\"source\": \"a b\", \"target\": [\"c\", \"d\"]}\n";
    assert_eq!(read("a.jsonl", several, &usual, true).unwrap(), [("a b".to_string(), "c|d".to_string())]);
    for (bad, why) in [
        ("{\"source\": \"a\", \"target\": []}", "a.jsonl:1: there is no target in the list"),
        ("{\"source\": \"a\", \"target\": [\"b\", \" \"]}", "a.jsonl:1: target 2 is empty"),
        ("{\"source\": [], \"target\": \"b\"}", "a.jsonl:1: the text is empty"),
        ("{\"source\": \"a\", \"target\": [\"b\", 1]}", "list of strings, and there is a number in it"),
        ("{\"source\": null, \"target\": \"b\"}", "a string or a list of strings, not null"),
    ] {
        let error = read("a.jsonl", bad, &usual, true).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    let without = Columns { header: Header::No, ..Columns::default() };
    assert_eq!(read("a.tsv", "a b\tc\n", &without, true).unwrap(), want);
    let two = "text\tsource\ttarget\tsummary\na\tb\tc\td\n";
    let error = read("a.tsv", two, &usual, true).unwrap_err().to_string();
    assert!(error.contains("--text-column") && error.contains("`source`"), "{error}");
    let named = Columns {
        text: Some("source".parse().unwrap()),
        label: Some("summary".parse().unwrap()),
        ..Columns::default()
    };
    assert_eq!(read("a.tsv", two, &named, true).unwrap(), [("b".to_string(), "d".to_string())]);
    let half = Columns { text: Some("source".parse().unwrap()), ..Columns::default() };
    assert_eq!(read("a.tsv", two, &half, true).unwrap(), [("b".to_string(), "c".to_string())]);
    let data = Dataset::parse(
        "a.tsv",
        b"source\ttarget\na\tb\n",
        &usual,
        Want { content: Content::Answers, labels: true },
    )
    .unwrap();
    assert_eq!(data.records[0].label, Label::Texts(vec!["b".into()]));
}
