//! Multiple choice: beside the libraries, and as a user trains it.
mod support;
use engraft::{
    Device,
    engine::Gradients,
    learner::{Backbone, Learner, Opening},
    tasks::{MultipleChoice, Task},
    text::{batch::Batch, example::Example},
};
use serde_json::{Value, json};
use support::*;

fn learner(name: &str) -> Learner {
    let root = fixture("..");
    let backbone = Backbone::open(root.join("bert/model"), &Device::cpu(1).unwrap(), Opening::default());
    let task = |head: Option<&engraft::adapters::Head>| {
        Ok(Box::new(MultipleChoice::new(head.unwrap().labels().len())) as Box<dyn Task>)
    };
    backbone.unwrap().load_learner(root.join("spans").join(name), task).unwrap()
}
fn items(name: &str) -> Vec<Example> {
    let text = std::fs::read_to_string(fixture("../spans").join(name).join("input.json")).unwrap();
    let input: Value = serde_json::from_str(&text).unwrap();
    let lists = |key: &str| -> Vec<Vec<u32>> { serde_json::from_value(input[key].clone()).unwrap() };
    let numbers = |key: &str| -> Vec<usize> { serde_json::from_value(input[key].clone()).unwrap() };
    let mut sequences = lists("input_ids").into_iter().zip(lists("token_type_ids"));
    let both = numbers("choices").into_iter().zip(numbers("labels"));
    both.map(|(n, right)| Example::choices(sequences.by_ref().take(n).collect(), Some(right))).collect()
}

#[test]
fn scores_losses_and_gradients_are_those_of_the_libraries() {
    for name in ["choices-bert", "choices-ragged", "choices-class"] {
        let (learner, examples) = (learner(name), items(name));
        let mut gradients = Gradients::new();
        let out = learner.examine(&examples, Some(&mut gradients)).unwrap();
        let expected = tensors(&fixture("../spans").join(name).join("expected.safetensors"));
        let found = |a: &ndarray::Array2<f32>| a.iter().copied().collect::<Vec<_>>();
        for (what, found) in [
            ("last_hidden_state", found(&out.hidden)),
            ("logits", found(&out.logits)),
            ("loss", vec![out.loss.unwrap()]),
        ] {
            let worst = difference(&found, &expected[what]);
            assert!(worst < 1e-5, "{name}: {what} is off by {worst}");
        }
        let mut compared = 0;
        learner.visit(&mut |p| {
            let own = gradients.get(p).unwrap().read::<f32>().unwrap();
            let theirs = &expected[&format!("grad.{}", p.name())];
            // what is added to every score changes nothing: such a gradient is nothing but rounding
            let is_zero = |of: &[f32]| of.iter().all(|x| x.abs() < 1e-6);
            let worst = difference(&own, theirs);
            assert!(
                worst < 1e-4 || is_zero(&own) && is_zero(theirs),
                "{name}: {} is off by {worst}",
                p.name()
            );
            compared += 1;
        });
        assert_eq!(compared, expected.keys().filter(|n| n.starts_with("grad.")).count(), "{name}");
        // any batch gives the same, and it is the one of the loss
        let batch: Batch = examples.iter().cloned().collect();
        let together = learner.answers(&batch).unwrap();
        assert_eq!((batch.len(), together.len()), (examples.len(), examples.len()));
        for (one, example) in together.iter().zip(&examples) {
            let alone = learner.answers(&[example.clone()].into_iter().collect()).unwrap();
            assert!(difference(&alone[0].scores, &one.scores) < 1e-6);
            assert_eq!((one.count, one.scores.len()), (1.0, example.rows()));
        }
        let mean = together.iter().map(|a| a.loss).sum::<f64>() / together.len() as f64;
        assert!((mean - f64::from(out.loss.unwrap())).abs() < 1e-5, "{name}");
    }
}

/// Items of two to four choices, whose right one repeats a word of the text.
fn swag() -> String {
    let words = ["river", "window", "garden", "engine", "letter", "doctor"];
    let mut lines = vec![];
    for (i, word) in words.iter().enumerate() {
        for n in 2..5 {
            let right = (i + n) % n;
            let choice = |k: usize| match k == right {
                true => format!("the {word}"),
                false => format!("the {}", words[(i + 1 + k) % words.len()]),
            };
            let choices: Vec<String> = (0..n).map(choice).collect();
            let context = format!("they speak of the {word} again");
            lines.push(json!({"context": context, "choices": choices, "label": right}).to_string());
        }
    }
    lines.join("\n") + "\n"
}
const TRAIN: &str = "train --model MODEL --task multiple-choice --train items.jsonl --eval items.jsonl --json --quiet \
                     --batch-size 4 --epochs 15 --lr 5e-3 --warmup-ratio 0 --seed 1 --out out";

#[test]
fn choices_are_learned_evaluated_and_predicted() {
    let work = Work::empty();
    work.write("items.jsonl", swag());
    let report = work.run(TRAIN).json();
    let m = &report["metrics"];
    assert_eq!((&report["task"], &m["examples"]), (&json!("multiple-choice"), &json!(18)));
    let chance = (0.5 + 1.0 / 3.0 + 0.25) / 3.0;
    assert!((number(&m["chance"]) - chance).abs() < 1e-12, "{m}");
    assert!(number(&m["accuracy"]) > 0.75, "{m}");
    let head: Value = serde_json::from_str(&work.text("out/head_config.json")).unwrap();
    assert_eq!(
        (&head["config"]["head_type"], &head["config"]["num_choices"]),
        (&json!("multiple_choice"), &json!(4))
    );
    assert!(head["config"].get("bias").is_none() && head["config"].get("num_labels").is_none());
    let eval = |flags: &str| {
        work.run(&format!("eval --model MODEL --adapter out --data items.jsonl --json {flags}")).evaluation()
    };
    assert_eq!(&eval(""), m);
    assert_eq!(eval("--batch-size 1")["accuracy"], m["accuracy"]);
    assert_eq!(eval("--batch-tokens 40")["accuracy"], m["accuracy"]);
    let plain = work.run("eval --model MODEL --adapter out --data items.jsonl").good().stdout;
    assert!(
        plain.starts_with("18 texts with choices in ")
            && plain.contains("at random has an accuracy of 36.11 %"),
        "{plain}"
    );

    let said = work.run("predict --model MODEL --adapter out --input items.jsonl --json").json();
    let first = &said["predictions"][0];
    assert_eq!(first["scores"].as_array().unwrap().len(), 2);
    let probabilities = first["probabilities"].as_array().unwrap();
    assert!((probabilities.iter().map(number).sum::<f64>() - 1.0).abs() < 1e-9);
    let best = first["label"].as_u64().unwrap() as usize;
    assert_eq!((&first["choice"], &first["probability"]), (&first["choices"][best], &probabilities[best]));
    let lines = work.run("predict --model MODEL --adapter out --input items.jsonl").good().stdout;
    assert!(lines.lines().count() == 18 && lines.lines().next().unwrap().split('\t').count() == 4, "{lines}");
    work.run("predict --model MODEL --adapter out --text hello").fails(&["multiple-choice", "--input"]);
}

#[test]
fn choices_stream_are_planned_and_cached() {
    let work = Work::empty();
    work.write("items.jsonl", swag());
    let short = |flags: &str| {
        work.run(&format!("{} --max-steps 6 {flags}", TRAIN.replace("--epochs 15 ", ""))).json()
    };
    let plain = short("--epochs 2");
    assert_eq!(short("--epochs 2 --stream")["metrics"], plain["metrics"]);
    let bytes = |r: &Value| r["ledger_peak_bytes"].as_u64().unwrap();
    let tight = short(&format!("--epochs 2 --memory-budget {}", bytes(&plain) - 1));
    assert!(bytes(&tight) < bytes(&plain));
    assert_eq!(tight["metrics"], plain["metrics"]);
    let upper = short("--dropout 0 --layers 3 --epochs 2");
    assert_eq!(short("--dropout 0 --layers 3 --epochs 2 --cache-prefix cache")["metrics"], upper["metrics"]);
    let line = "memory --model MODEL --task multiple-choice --batch 3 --length 12 --methods houlsby --measure --json";
    for row in work.run(line).json()["rows"].as_array().unwrap() {
        assert_eq!(row["ledger_equals_predicted"], true, "{row}");
    }
}

#[test]
fn the_forms_of_known_data_sets() {
    let work = Work::empty();
    work.write("items.jsonl", swag());
    work.run(&format!("{} --max-steps 2", TRAIN.replace("--epochs 15 ", ""))).json();
    let predict = |file: &str| {
        let said = work.run(&format!("predict --model MODEL --adapter out --input {file} --json")).json();
        said["predictions"].clone()
    };
    let eval = |file: &str| work.run(&format!("eval --model MODEL --adapter out --data {file} --json"));
    let swag =
        json!({"sent1": "A man sits.", "sent2": "He", "ending0": "eats.", "ending1": "runs.", "label": 1});
    work.write("swag.jsonl", swag.to_string());
    work.write("swag.csv", ",sent1,sent2,ending0,ending1,label\n0,A man sits.,He,eats.,runs.,1\n");
    let generic =
        json!({"context": "A man sits.", "question": "He", "choices": ["eats.", "runs."], "label": "B"});
    work.write("generic.jsonl", generic.to_string());
    let [a, b, c] = ["swag.jsonl", "swag.csv", "generic.jsonl"].map(predict);
    assert_eq!((&a[0]["scores"], &a), (&b[0]["scores"], &c));
    assert_eq!(eval("swag.csv").evaluation(), eval("generic.jsonl").evaluation());

    let race = json!({"article": "It rains.", "question": "It is _ .", "options": ["wet", "dry", "far", "old"], "answer": "A"});
    let gap = json!({"context": "It rains.", "choices": ["It is wet .", "It is dry .", "It is far .", "It is old ."], "label": 0});
    work.write("race.jsonl", race.to_string()).write("gap.jsonl", gap.to_string());
    assert_eq!(predict("race.jsonl")[0]["scores"], predict("gap.jsonl")[0]["scores"]);
    let copa = json!({"premise": "It rains.", "question": "effect", "choice1": "It is wet.", "choice2": "It is dry.", "label": 0});
    let said = json!({"context": "It rains. What happened as a RESULT?", "choices": ["It is wet.", "It is dry."], "label": "It is wet."});
    work.write("copa.jsonl", copa.to_string()).write("said.jsonl", said.to_string());
    assert_eq!(eval("copa.jsonl").evaluation(), eval("said.jsonl").evaluation());
    let arc = json!({"question": "Is it wet?", "choices": {"text": ["yes", "no"], "label": ["1", "2"]}, "answerKey": "2"});
    let bare = json!({"text": "Is it wet?", "choices": ["yes", "no"], "label": 1});
    work.write("arc.jsonl", arc.to_string()).write("bare.jsonl", bare.to_string());
    assert_eq!(eval("arc.jsonl").evaluation(), eval("bare.jsonl").evaluation());

    for (line, words) in [
        (json!({"context": "a", "choices": ["b"], "label": 1}), "`label` is 1, which is none of 1"),
        (json!({"context": "a", "choices": ["b", "c"], "label": "x y"}), "none of the choices"),
        (json!({"context": "a", "choices": ["b", "c"], "label": -1}), "`label` is -1"),
        (json!({"context": "a", "choices": [], "label": 0}), "no choices"),
        (json!({"context": "a", "choices": ["b", " "], "label": 0}), "one of them is empty"),
        (json!({"context": " ", "choices": ["b", "c"], "label": 0}), "`context` is empty"),
        (json!({"context": "a", "choices": "b", "label": 0}), "`choices` must be a list"),
        (json!({"context": "a", "label": 0}), "no list `choices`"),
        (json!({"choices": ["b", "c"], "label": 0}), "field `context` or `question`"),
        (
            json!({"context": "a", "text": "b", "choices": ["b", "c"], "label": 0}),
            "several fields could be meant",
        ),
        (
            json!({"premise": "a", "question": "why", "choice1": "b", "choice2": "c", "label": 0}),
            "expected `cause`",
        ),
    ] {
        work.write("bad.jsonl", line.to_string());
        eval("bad.jsonl").fails(&["bad.jsonl", words]);
    }
    work.write("bare.csv", "A man,eats,runs,1\n");
    eval("bare.csv --header no").fails(&["bare.csv", "header"]);
}
