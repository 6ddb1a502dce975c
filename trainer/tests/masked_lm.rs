//! Hidden tokens, as a user learns and fills them, and beside the libraries
//! (`tests/reference/masked.py`).
mod support;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use support::*;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures")
}

/// The heads of AdapterHub, and that of transformers' own class: hidden states, logits, loss and
/// every gradient.
#[test]
fn heads_of_both_libraries() {
    let root = fixtures();
    for (name, model) in [
        ("houlsby", "bert/model"),
        ("invertible", "bert/model"),
        ("one-layer", "bert/model"),
        ("built-in", "encoders/bert/model"),
    ] {
        let (work, case) = (Work::empty(), root.join("masked").join(name));
        let expected = tensors(&case.join("expected.safetensors"));
        let has_gradients = expected.keys().any(|n| n.starts_with("grad."));
        assert!(expected.contains_key("loss") && has_gradients == (name != "built-in"), "{name}");
        let (model, at) = (root.join(model), case.display());
        let grad = if has_gradients { "--grad" } else { "" };
        work.run(&format!(
            "forward --model {} --adapter {at} --ids {at}/input.json --out o.safetensors {grad}",
            model.display()
        ))
        .good();
        let found = work.tensors("o.safetensors");
        for (tensor, values) in &expected {
            let bound = if tensor.starts_with("grad.") { 1e-4 } else { 1e-5 };
            let own =
                found.get(tensor).unwrap_or_else(|| panic!("{name}: no {tensor} in {:?}", found.keys()));
            let worst = difference(own, values);
            assert!(worst < bound, "{name}: {tensor} is off by {worst}");
        }
        let more: Vec<_> =
            found.keys().filter(|n| n.starts_with("grad.") && !expected.contains_key(*n)).collect();
        assert!(more.is_empty(), "{name}: nobody knows {more:?}");
    }
    // the model's own head, without an adapter
    let (work, plain) = (Work::empty(), root.join("encoders/bert/plain"));
    let forward = |ids: &str| {
        let model = root.join("encoders/bert/model");
        work.run(&format!(
            "forward --model {} --task masked-lm --ids {ids} --out o.safetensors",
            model.display()
        ))
    };
    forward(&plain.join("input.json").display().to_string()).good();
    let expected = tensors(&plain.join("expected.safetensors"));
    assert!(difference(&work.tensors("o.safetensors")["logits"], &expected["logits"]) < 1e-5);
    work.write("ids.json", json!({"input_ids": [[1, 2]], "labels": [[1]]}).to_string());
    forward("ids.json").fails(&["1 labels for 2 tokens"]);
}

const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// A word of one or two letters.
fn word(i: usize) -> String {
    let letter = |n: usize| char::from(b'a' + n as u8).to_string();
    if i < 26 { letter(i) } else { letter(i - 26).repeat(2) }
}
/// A BERT with random weights under `m`, with a tokenizer of words of which odd ones go on with the
/// word before, and texts in which words follow each other in the order of the alphabet.
fn masked(with_head: bool) -> Work {
    let work = Work::empty();
    let (model, count) = if with_head { ("encoders/bert/model", 43) } else { ("bert/model", 61) };
    let name = |i: usize| match SPECIAL.get(i) {
        Some(name) => name.to_string(),
        None if i % 2 == 1 => format!("##{}", word((i - 5) % 52)),
        None => word((i - 5) % 52),
    };
    let vocab: Map<_, _> = (0..count).map(|i| (name(i), json!(i))).collect();
    let added = |(id, content): (usize, &&str)| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    let token = |i: usize| json!({"SpecialToken": {"id": SPECIAL[i], "type_id": 0}});
    let text = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
    let ids =
        |i: usize| (SPECIAL[i].to_string(), json!({"id": SPECIAL[i], "ids": [i], "tokens": [SPECIAL[i]]}));
    let added: Vec<Value> = SPECIAL.iter().enumerate().map(added).collect();
    let around: Map<_, _> = [ids(2), ids(3)].into_iter().collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": added,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": false},
        "post_processor": {
            "type": "TemplateProcessing", "single": [token(2), text("A"), token(3)],
            "pair": [token(2), text("A"), token(3), text("B"), token(3)],
            "special_tokens": around,
        },
        "model": {"type": "WordPiece", "vocab": vocab, "unk_token": "[UNK]",
                  "continuing_subword_prefix": "##", "max_input_chars_per_word": 100},
    });
    work.copy(&fixtures().join(model), "m").write("m/tokenizer.json", tokenizer.to_string());
    let line = |i: usize| (0..10).map(|j| name(6 + 2 * ((i + j) % 8)) + " ").collect::<String>() + "\n";
    work.write("text.txt", (0..48).map(line).collect::<String>());
    work.write("held-out.txt", (48..64).map(line).collect::<String>());
    work
}
const TRAIN: &str = "train --model m --task masked-lm --train text.txt --eval held-out.txt --json --quiet \
                     --dropout 0 --max-length 16 --batch-size 8 --warmup-ratio 0";

#[test]
fn hidden_tokens_are_learned_and_filled() {
    for (with_head, adapter) in [(true, "houlsby"), (false, "lora[r=4,alpha=8]")] {
        let work = masked(with_head);
        let flags = format!("--adapter {adapter} --lr 1e-2 --epochs 150 --out out");
        let report = work.run(&format!("{TRAIN} {flags}")).json();
        assert_eq!(report["task"], "masked-lm");
        let loss = |e: usize| number(&report["epochs"][e]["metrics"]["loss"]);
        // the model's own head is random and does not learn: there is less to gain
        let most = if with_head { 0.95 } else { 0.85 };
        assert!(loss(149) < most * loss(0), "{adapter}: {} {}", loss(0), loss(149));
        // a head of its own where the model has none
        assert_eq!(work.path("out/head_config.json").exists(), !with_head);
        if !with_head {
            let card: Value = serde_json::from_str(&work.text("out/head_config.json")).unwrap();
            let expected = json!({"activation_function": "gelu", "bias": true, "embedding_size": 32,
                "head_type": "masked_lm", "label2id": null, "layer_norm": true, "layers": 2,
                "shift_labels": false, "vocab_size": 61});
            assert_eq!(card["config"], expected);
        }
        let eval = |more: &str| {
            work.run(&format!("eval --model m --adapter out --data held-out.txt --json {more}")).evaluation()
        };
        let found = eval("");
        assert_eq!(found["loss"], report["metrics"]["loss"]);
        assert!((number(&found["loss"]).exp() / number(&found["perplexity"]) - 1.0).abs() < 1e-9);
        assert!(with_head || number(&found["accuracy"]) > 0.2, "{found}");
        // what is hidden does not depend on batches, and it is more if that is said
        let other = eval("--batch-size 3");
        assert_eq!(other["scored_tokens"], found["scored_tokens"]);
        assert!((number(&other["loss"]) / number(&found["loss"]) - 1.0).abs() < 1e-6);
        let half = eval("--mlm-probability 0.5");
        assert!(number(&half["scored_tokens"]) > 2.0 * number(&found["scored_tokens"]));

        let texts = ["--best=3", "--text", "b d [MASK] h j l n", "b [MASK] f h [MASK] l"];
        let said = work.run_with("predict --model m --adapter out --json", &texts).json();
        let masks = |i: usize| said["predictions"][i]["masks"].as_array().unwrap().clone();
        assert_eq!((masks(0).len(), masks(1).len()), (1, 2), "{said}");
        let best = masks(0)[0].as_array().unwrap().clone();
        let p: Vec<f64> = best.iter().map(|b| number(&b["probability"])).collect();
        assert!(
            p.len() == 3 && p.is_sorted_by(|a, b| a >= b) && p.iter().sum::<f64>() <= 1.0 + 1e-6,
            "{p:?}"
        );
        assert!(best.iter().any(|b| b["token"] == "f"), "{said}");
        let line = work.run_with("predict --model m --adapter out", &texts).good().stdout;
        assert!(line.lines().nth(1).unwrap().contains(" | ") && line.contains("\tb d [MASK] h"), "{line}");
        work.run_with("predict --model m --adapter out", &["--text", "g i"]).fails(&["--text:1", "[MASK]"]);
    }
}

#[test]
fn a_run_is_repeated_to_the_bit_and_every_epoch_hides_others() {
    let work = masked(true);
    let flags = "--adapter lora --lr 1e-2 --epochs 3 --checkpoint-every 4";
    let whole = work.run(&format!("{TRAIN} {flags} --out whole")).json();
    for (out, more) in [("again", ""), ("streamed", "--stream"), ("planned", "--memory-budget 1GB")] {
        let again = work.run(&format!("{TRAIN} {flags} --out {out} {more}")).json();
        assert_eq!(again["metrics"], whole["metrics"], "{out}");
        assert_eq!(work.read(&format!("{out}/adapter.safetensors")), work.read("whole/adapter.safetensors"));
    }
    let first = |out: &str, more: &str| {
        let line = format!("{TRAIN} --adapter lora --lr 1e-12 --epochs 2 --no-shuffle --out {out} {more}");
        let line = if out < "c" { line } else { line.replace("text.txt", "words.txt") };
        let epochs = work.run(&line).json()["epochs"].clone();
        [0, 1].map(|e: usize| number(&epochs[e]["loss"]))
    };
    let (one, other) = (first("a", ""), first("b", "--seed 7"));
    assert!(one[0] != one[1] && one[0] != other[0]);
    // of words that have two tokens
    work.write("words.txt", "bc de fg hi bc de fg\n".repeat(16));
    assert_ne!(first("c", "--whole-words"), first("d", ""));
    assert!(work.text("c/run.toml").contains("whole-words = true"));
}

#[test]
fn a_run_that_was_stopped_goes_on_with_the_same_tokens() {
    let work = masked(true);
    let flags = "--adapter lora --lr 1e-2 --epochs 3 --checkpoint-every 1";
    work.run(&format!("{TRAIN} {flags} --out whole")).good();
    // stopped from outside once a state is there
    let line = format!("{TRAIN} {flags} --out stopped");
    let mut child = work
        .arguments(&line)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let began = std::time::Instant::now();
    while !work.path("stopped/state.safetensors").exists() && !work.path("stopped/report.json").exists() {
        assert!(began.elapsed().as_secs() < 120, "{:?}", work.names("stopped"));
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    work.run("train --resume stopped --json --quiet").good();
    assert_eq!(work.read("stopped/adapter.safetensors"), work.read("whole/adapter.safetensors"));
}

#[test]
fn what_does_not_go_with_hidden_tokens_is_refused() {
    let work = masked(true);
    let run = |more: &str| work.run(&format!("{TRAIN} --adapter lora --max-steps 1 --out x {more}"));
    run("--mlm-probability 0").fails(&["mlm-probability", "above 0"]);
    run("--layers 1 --cache-prefix below").fails(&["cache-prefix", "every epoch"]);
    run("--max-target-length 3").fails(&["masked-lm", "`max-target-length`"]);
    let variants = ["--no-shuffle", "--variant", "a: seed=1", "b: seed=2"];
    work.run_with(&format!("{TRAIN} --adapter lora --max-steps 1 --out y"), &variants)
        .fails(&["seed", "which tokens are hidden"]);
    work.run("eval --model m --task causal-lm --data held-out.txt --max-length 16")
        .fails(&["no language-modelling head"]);
    let headless = masked(false);
    headless
        .run("eval --model m --task masked-lm --data held-out.txt --max-length 16")
        .fails(&["no language-modelling head"]);
    language_model(&headless);
    headless
        .run("train --model gpt --task masked-lm --train text.txt --adapter lora")
        .fails(&["masked-lm", "causal-lm"]);
}

#[test]
fn every_byte_of_hidden_tokens_is_planned() {
    let work = masked(true);
    let line = "memory --model m --task masked-lm --batch 3 --length 16 --methods houlsby --measure --json";
    for row in work.run(line).json()["rows"].as_array().unwrap() {
        assert_eq!(row["ledger_equals_predicted"], true, "{row}");
    }
    let bytes = |r: &Value| r["ledger_peak_bytes"].as_u64().unwrap();
    let run = |out: &str, more: &str| {
        work.run(&format!("{TRAIN} --adapter lora --epochs 2 --out {out} {more}")).json()
    };
    let free = run("free", "");
    let tight = run("tight", &format!("--memory-budget {}", bytes(&free)));
    assert!(bytes(&tight) <= bytes(&free));
    assert_eq!(tight["metrics"], free["metrics"]);
}
