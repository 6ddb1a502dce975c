//! Adapters that were saved without a head, and new heads on saved adapters.
mod support;
use serde_json::json;
use support::*;

const IDS: &str = r#"{"input_ids": [[1, 2, 3], [4, 5]]}"#;

/// An adapter that was trained, in `out`, and without its head in `bare`.
fn trained() -> Work {
    let work = Work::new();
    work.train("--out out");
    work.copy(&work.path("out"), "bare").write("ids.json", IDS);
    for file in ["bare/head_config.json", "bare/model_head.safetensors"] {
        std::fs::remove_file(work.path(file)).unwrap();
    }
    work
}

#[test]
fn an_adapter_without_a_head_is_shown_and_computes() {
    let work = trained();
    let [whole, bare] =
        ["out", "bare"].map(|a| work.run(&format!("inspect --model MODEL --adapter {a} --json")).json());
    assert_eq!(whole["adapter"], bare["adapter"]);
    assert_eq!((&bare["task"], &bare["labels"]), (&json!(null), &json!([])));
    let head = number(&whole["head"]["parameters"]);
    for count in ["trainable_parameters", "total_parameters"] {
        assert_eq!(number(&bare[count]), number(&whole[count]) - head);
    }
    let shown = work.run("inspect --model MODEL --adapter bare").good().stdout;
    assert!(shown.contains("trainable: ") && shown.contains("there is no head"), "{shown}");
    // hidden states as with a head, which has no part in them
    for adapter in ["out", "bare"] {
        work.run(&format!(
            "forward --model MODEL --adapter {adapter} --ids ids.json --out {adapter}.safetensors"
        ))
        .good();
    }
    let [whole, bare] = ["out", "bare"].map(|a| work.tensors(&format!("{a}.safetensors")));
    assert_eq!(bare.keys().collect::<Vec<_>>(), ["last_hidden_state"]);
    assert_eq!(whole["last_hidden_state"], bare["last_hidden_state"]);
    // what needs a head says so, and how to get one
    let words = ["bare", "there is no head in it", "train --init bare --head linear"];
    work.run("predict --model MODEL --adapter bare --text hello").fails(&words);
    work.run("eval --model MODEL --adapter bare --data eval.tsv").fails(&words);
    work.run(&train("--init bare --out new")).fails(&words);
    work.run("forward --model MODEL --adapter bare --ids ids.json --out o.safetensors --grad")
        .fails(&["need a head"]);
}

#[test]
fn a_new_head_on_a_saved_adapter() {
    let work = trained();
    for (from, head) in [("bare", "linear"), ("bare", "hub"), ("out", "linear")] {
        // nothing is learnt, so that the adapter is as it was
        let report = work.train(&format!(
            "--init {from} --head {head} --out new --eval eval.tsv --max-steps 1 --lr 1e-30"
        ));
        assert_eq!(work.tensors("new/adapter.safetensors"), work.tensors("out/adapter.safetensors"));
        assert_ne!(work.tensors("new/model_head.safetensors"), work.tensors("out/model_head.safetensors"));
        let names = work.tensors("new/model_head.safetensors").len();
        assert_eq!(names, if head == "linear" { 2 } else { 4 }, "{head}");
        assert_eq!(work.eval("new"), report["metrics"]);
        // a run is repeated from what it wrote down of itself
        let again = work.run("train --config new/run.toml --out again").good();
        assert!(
            work.files("again")["model_head.safetensors"] == work.files("new")["model_head.safetensors"],
            "{}",
            again.stderr
        );
    }
    // its labels are those of the data, and it trains with the adapter
    work.write("other.tsv", "text\tlabel\na\tp\nb\tq\nc\tr\n");
    work.train("--init out --head linear --train other.tsv --out other --lr 1e-2");
    let inspected = work.run("inspect --model MODEL --adapter other --json").json();
    assert_eq!(inspected["labels"], json!(["p", "q", "r"]));
    assert_ne!(work.tensors("other/adapter.safetensors"), work.tensors("out/adapter.safetensors"));
    work.run(&train("--init out --head linear --name n --out x")).fails(&["`init`", "`name`"]);
}
