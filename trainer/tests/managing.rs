//! `engraft adapters` and `engraft fold`, as a user runs them.
mod support;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use support::*;

fn at(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name)
}
/// With copies of fixtures, each under the last part of its name.
fn work_with(names: &[&str]) -> Work {
    let work = Work::empty();
    for name in names {
        work.copy(&at(name), name.rsplit('/').next().unwrap());
    }
    work
}
fn bert() -> String {
    at("bert/model").display().to_string()
}
/// Hidden states and logits of a model with an adapter or without.
fn forward(work: &Work, model: &str, adapter: Option<&str>) -> Tensors {
    let adapter = adapter.map(|a| format!("--adapter {a}")).unwrap_or_default();
    let mut input: Value =
        serde_json::from_str(&std::fs::read_to_string(at("lora/qv/input.json")).unwrap()).unwrap();
    input.as_object_mut().unwrap().remove("labels");
    work.write("ids.json", input.to_string());
    work.run(&format!("forward --model {model} {adapter} --ids ids.json --out o.safetensors")).good();
    work.tensors("o.safetensors")
}

#[test]
fn list_finds_every_adapter_below() {
    let work = work_with(&["lora/qv", "lora/peft-qv", "bert/houlsby"]);
    work.copy(&at("merging/prefix-one"), "deep/er/prefix").copy(&at("merging/head-one"), "deep/head");
    work.write(
        "deep/setup/adapter_setup.json",
        std::fs::read(at("compose/bert/setup/adapter_setup.json")).unwrap(),
    );
    work.write(".hidden/adapter_config.json", "{").write("nothing/README.md", "");
    let listed = work.run("adapters list . --json").json();
    let all = listed["adapters"].as_array().unwrap();
    let row = |directory: &str| {
        let found = all.iter().find(|a| a["directory"] == format!("./{directory}"));
        found.unwrap_or_else(|| panic!("{directory}: {listed}")).clone()
    };
    assert_eq!(all.len(), 6);
    let lora = row("qv");
    for (key, value) in [
        ("kind", json!("adapter")),
        ("name", json!("task")),
        ("method", json!("lora")),
        ("format", json!("adapterhub")),
        ("parameters", json!(3 * 2 * 4 * (32 + 32))),
        ("bytes", json!(4 * 3 * 2 * 4 * (32 + 32))),
        ("layers", json!([0, 1, 2])),
        ("model", json!({"model_type": "bert", "name": null, "hidden_size": 32})),
        ("error", Value::Null),
    ] {
        assert_eq!(lora[key], value, "{key}");
    }
    assert_eq!(lora["head"]["head_type"], "classification");
    assert_eq!(lora["head"]["labels"].as_array().unwrap().len(), 3);
    let peft = row("peft-qv");
    assert_eq!(
        (&peft["method"], &peft["format"], &peft["name"]),
        (&json!("LORA"), &json!("peft"), &Value::Null)
    );
    assert_eq!(row("houlsby")["method"], "bottleneck");
    let prefix = row("deep/er/prefix");
    assert_eq!((&prefix["method"], &prefix["layers"]), (&json!("prefix_tuning"), &json!([])));
    assert_eq!(
        (&row("deep/head")["kind"], &row("deep/head")["head"]["name"]),
        (&json!("head"), &json!("one"))
    );
    assert_eq!(row("deep/setup")["method"], "Stack(a, Fuse(b, c))");
    let text = work.run("adapters list qv deep").good().stdout;
    assert_eq!(text.lines().count(), 4);
    assert!(text.starts_with("qv: adapter; `task`; lora; adapterhub, 1536 parameters"), "{text}");
    // what cannot be read is said, and the rest is listed
    work.edit("qv/adapter.safetensors", |bytes| bytes.truncate(100));
    let ran = work.run("adapters list . --json");
    assert_eq!(ran.code, Some(1));
    let listed: Value = serde_json::from_str(&ran.stdout).unwrap();
    let broken = listed["adapters"].as_array().unwrap().iter().find(|a| a["directory"] == "./qv").unwrap();
    assert!(broken["error"].as_str().unwrap().contains("adapter.safetensors"), "{broken}");
    work.run("adapters list missing").fails(&["missing"]);
}

#[test]
fn rename_changes_the_name_everywhere_and_nothing_else() {
    let work = work_with(&["lora/qv", "lora/peft-qv", "bert/houlsby"]);
    work.write("qv/run.toml", "max-length = 24\n");
    work.run("adapters rename qv other --out new").good();
    assert_eq!(work.text("new/run.toml"), "max-length = 24\n");
    let all = work.tensors("new/adapter.safetensors");
    assert!(all.keys().all(|n| n.contains(".loras.other.lora_")), "{:?}", all.keys());
    assert!(work.tensors("new/model_head.safetensors").keys().all(|n| n.starts_with("heads.other.")));
    assert_eq!(forward(&work, &bert(), Some("new")), forward(&work, &bert(), Some("qv")));
    let ran = work.run("adapters diff qv new --json");
    assert_eq!(ran.code, Some(1));
    let found: Value = serde_json::from_str(&ran.stdout).unwrap();
    let fields: Vec<_> = found["fields"].as_array().unwrap().iter().map(|f| f["field"].clone()).collect();
    assert_eq!(fields, ["name", "head.name"]);
    assert_eq!((&found["tensors"], &found["same"]), (&json!([]), &json!(14)));
    // and back again
    work.run("adapters rename new task --out again").good();
    assert_eq!(work.run("adapters diff qv again").good().stdout, "no difference: 14 tensors are the same\n");
    work.run("adapters rename qv a.b --out x").fails(&["`a.b` cannot be the name"]);
    work.run("adapters rename qv b --out ./qv").fails(&["--out is qv itself"]);
    work.run("adapters rename peft-qv b --out x").fails(&["peft-qv/adapter_config.json", "hold no name"]);
    work.run("adapters rename none b --out x").fails(&["none"]);
    work.copy(&at("compose/bert/setup"), "setup");
    work.run("adapters rename setup b --out x").fails(&["adapter_setup.json", "several adapters"]);
    // a name that a module has too
    work.run("adapters rename houlsby output --out twice").good();
    work.run("adapters rename twice b --out x").fails(&["adapter.safetensors", "holds `output` 2 times"]);
    assert!(work.names("x").is_empty());
}

#[test]
fn merge_writes_what_the_libraries_make() {
    let work =
        work_with(&["merging/peft-first", "merging/peft-second", "merging/lora-one", "merging/lora-two"]);
    let expected = tensors(&at("merging/expected.safetensors"));
    // no weights are needed
    work.write("bare/config.json", std::fs::read(at("bert/model/config.json")).unwrap());
    let model = "--model bare";
    let merge = |flags: &str| work.run(&format!("adapters merge {model} {flags}"));
    let done = merge(
        "--adapters peft-first peft-second --weights 1.0,-0.6 --method peft_linear --out linear --name sum --json",
    );
    let done = done.json();
    assert_eq!((&done["name"], &done["parameters"]), (&json!("sum"), &json!(3 * 2 * 4 * 64)));
    assert_eq!(done["adapters"], json!(["peft-first", "peft-second"]));
    for (name, got) in work.tensors("linear/adapter_model.safetensors") {
        let worst = difference(&got, &expected[&format!("peft-negative/{name}")]);
        assert!(worst < 2e-6, "{name}: {worst}");
    }
    merge("--adapters lora-one lora-two --weights 3,1 --method adapterhub_linear --name new --out average")
        .good();
    for (name, got) in work.tensors("average/adapter.safetensors") {
        let worst = difference(&got, &expected[&format!("lora-linear-given/{name}")]);
        assert!(worst < 2e-6, "{name}: {worst}");
    }
    // exactly the sum, and so the same hidden states as one behind the other
    merge("--adapters lora-one lora-two --weights 1,1 --method cat --out cat").good();
    let both = forward(&work, &bert(), Some("cat"));
    let alone = forward(&work, &bert(), Some("lora-one"));
    assert!(difference(&both["last_hidden_state"], &alone["last_hidden_state"]) > 1e-3);
    let dare = "--adapters lora-one lora-two --weights 1,1 --method dare_ties_svd --density 0.5 --majority-sign frequency";
    merge(&format!("{dare} --seed 3 --out one")).good();
    merge(&format!("{dare} --seed 3 --out two")).good();
    merge(&format!("{dare} --seed 4 --out three")).good();
    assert_eq!(work.files("one"), work.files("two"));
    assert_ne!(work.files("one"), work.files("three"));
    // heads
    for (folder, head) in [("lora-one", "head-one"), ("lora-two", "head-two")] {
        for file in ["head_config.json", "model_head.safetensors"] {
            work.write(
                &format!("{folder}/{file}"),
                std::fs::read(at(&format!("merging/{head}/{file}"))).unwrap(),
            );
        }
    }
    merge("--adapters lora-one lora-two --weights 3,1 --method adapterhub_linear --heads --name new --out whole").good();
    for (name, got) in work.tensors("whole/model_head.safetensors") {
        assert!(difference(&got, &expected[&format!("head/{name}")]) < 1e-6, "{name}");
    }
    assert_eq!(forward(&work, &bert(), Some("whole"))["logits"].len(), 6 * 3);
    let refused = |flags: &str, words: &[&str]| merge(&format!("{flags} --out x")).fails(words);
    let two = "--adapters lora-one lora-two";
    refused(&format!("{two} --method linear"), &["`adapterhub_linear`", "`peft_linear`"]);
    refused(&format!("{two} --method ties --weights 1,1"), &["needs a density"]);
    refused(&format!("{two} --method ties --weights 1,1 --density 2"), &["`density` is 2"]);
    refused(&format!("{two} --method svd --weights 1"), &["1 weights for 2"]);
    refused(&format!("{two} --method ties --weights 1,1 --density 1 --majority-sign most"), &["`most`"]);
    refused(&format!("{two} peft-first --method cat --weights 1,1,1 --heads"), &["no head in peft-first"]);
    refused("--adapters lora-one peft-first --method adapterhub_linear", &["another format"]);
    work.run(&format!("adapters merge {model} {two} --method svd --weights 1,1 --out lora-two"))
        .fails(&["--out is lora-two itself"]);
    work.run(&format!("adapters merge --model bert {two} --method cat --weights 1,1 --out x"))
        .fails(&["bert"]);
    let gpt2 = at("gpt2/model").display().to_string();
    work.run(&format!("adapters merge --model {gpt2} {two} --method cat --weights 1,1 --out x"))
        .fails(&["lora-one/adapter_config.json", "`bert`"]);
    work.run("adapters merge --help").good().stdout.contains("dare_linear_svd").then_some(()).unwrap();
}

#[test]
fn convert_goes_both_ways_where_it_is_exact() {
    let work = work_with(&[
        "lora/qv",
        "lora/all",
        "lora/peft-qv",
        "lora/peft-all",
        "lora/peft-patterns",
        "lora/leave-out",
    ]);
    let convert = |flags: &str| work.run(&format!("adapters convert --model {} {flags}", bert()));
    for name in ["qv", "leave-out", "all"] {
        convert(&format!("{name} --to peft --out {name}-peft")).good();
        convert(&format!("{name}-peft --to adapterhub --name task --out {name}-back")).good();
        assert_eq!(
            work.tensors(&format!("{name}/adapter.safetensors")),
            work.tensors(&format!("{name}-back/adapter.safetensors"))
        );
        let hidden = |dir: String| forward(&work, &bert(), Some(&dir))["last_hidden_state"].clone();
        assert_eq!(hidden(name.into()), hidden(format!("{name}-peft")));
        assert_eq!(hidden(name.into()), hidden(format!("{name}-back")));
    }
    // its classifier becomes a head
    convert("peft-qv --to adapterhub --name mine --out hub").good();
    assert_eq!(forward(&work, &bert(), Some("hub")), forward(&work, &bert(), Some("peft-qv")));
    let card: Value = serde_json::from_str(&work.text("hub/adapter_config.json")).unwrap();
    assert_eq!((&card["name"], &card["config"]["attn_matrices"]), (&json!("mine"), &json!(["q", "v"])));
    let head: Value = serde_json::from_str(&work.text("hub/head_config.json")).unwrap();
    assert_eq!(head["name"], "mine");
    convert("peft-all --to adapterhub --out x").fails(&["output of attention"]);
    convert("peft-patterns --to adapterhub --out x")
        .fails(&["AdapterHub's format cannot say", "differ between modules"]);
    work.copy(&at("bert/houlsby"), "houlsby");
    convert("houlsby --to peft --out x").fails(&["PEFT has no such method"]);
    convert("qv --to peft --out qv").fails(&["--out is qv itself"]);
    let gpt2 = at("gpt2/model").display().to_string();
    work.copy(&at("gpt2/peft-attn"), "attn");
    work.run(&format!("adapters convert --model {gpt2} attn --to adapterhub --out x")).fails(&["one layer"]);
    assert!(work.names("x").is_empty());
}

#[test]
fn diff_ends_as_diff_does() {
    let work = work_with(&["lora/qv", "lora/all", "lora/peft-qv"]);
    work.copy(&at("lora/qv"), "same").copy(&at("lora/qv"), "near");
    assert_eq!(work.run("adapters diff qv same").code, Some(0));
    let far = work.run("adapters diff qv all");
    assert_eq!(far.code, Some(1));
    for line in [
        "config.r: 4, 3",
        "config.intermediate_lora: false, true",
        "only in all: ",
        "lora_A: [4, 32], [3, 32]",
    ] {
        assert!(far.stdout.contains(line), "{line}: {}", far.stdout);
    }
    // one value of one tensor
    work.edit("near/adapter.safetensors", |bytes| {
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let x = f32::from_le_bytes(bytes[header..header + 4].try_into().unwrap()) + 0.25;
        bytes[header..header + 4].copy_from_slice(&x.to_le_bytes());
        let text = String::from_utf8(bytes[8..header].to_vec()).unwrap();
        bytes.splice(8..header, text.replace("engraft.sha256", "engraft.sha255").into_bytes());
    });
    let ran = work.run("adapters diff qv near --json");
    assert_eq!(ran.code, Some(1));
    let found: Value = serde_json::from_str(&ran.stdout).unwrap();
    let [t] = found["tensors"].as_array().unwrap().as_slice() else { panic!("{found}") };
    assert!((number(&t["max"]) - 0.25).abs() < 1e-6, "{t}");
    assert!(number(&t["relative"]) > 0.0 && (0.5..1.0).contains(&number(&t["cosine"])), "{t}");
    assert_eq!((&found["fields"], &found["same"]), (&json!([]), &json!(13)));
    for (pair, words) in [("qv peft-qv", "adapterhub's format"), ("qv nothing", "nothing")] {
        let ran = work.run(&format!("adapters diff {pair}"));
        assert_eq!(ran.code, Some(2), "{pair}");
        assert!(ran.stderr.starts_with("error: ") && ran.stderr.contains(words), "{}", ran.stderr);
    }
}

#[test]
fn fold_writes_a_plain_model_that_computes_the_same() {
    let work = work_with(&["bert/model", "lora/qv", "lora/peft-all", "bert/houlsby"]);
    let config = work.text("model/config.json");
    let bf16: Value = {
        let mut v: Value = serde_json::from_str(&config).unwrap();
        v["torch_dtype"] = "bfloat16".into();
        v
    };
    work.write("model/config.json", bf16.to_string())
        .write("model/tokenizer.json", "{}")
        .write("model/vocab.txt", "a\n");
    for name in ["qv", "peft-all"] {
        work.run(&format!("fold --model model --adapter {name} --out folded-{name}")).good();
        let folded = format!("folded-{name}");
        let (got, want) = (forward(&work, &folded, Some(&folded)), forward(&work, "model", Some(name)));
        for tensor in ["last_hidden_state", "logits"] {
            let worst = difference(&got[tensor], &want[tensor]);
            assert!(worst < 1e-5, "{name} {tensor}: {worst}");
        }
        let plain = forward(&work, &folded, None);
        assert_eq!(plain["last_hidden_state"], got["last_hidden_state"]);
    }
    assert_eq!(
        work.names("folded-qv"),
        [
            "config.json",
            "head_config.json",
            "model.safetensors",
            "model_head.safetensors",
            "tokenizer.json",
            "vocab.txt"
        ]
    );
    let said: Value = serde_json::from_str(&work.text("folded-qv/config.json")).unwrap();
    assert_eq!(said, {
        let mut v = bf16;
        v["torch_dtype"] = "float32".into();
        v
    });
    let fold = |flags: &str| work.run(&format!("fold {flags}"));
    fold("--model model --adapter qv --out ./model").fails(&["model's own directory"]);
    fold("--model model --adapter qv --out qv").fails(&["--out is qv itself"]);
    fold("--model model --adapter houlsby --out x")
        .fails(&["`task` cannot be merged", "more than a change of weights"]);
    for dtype in ["int8", "nf4"] {
        work.run(&format!("quantize --model model --dtype {dtype} --out {dtype}")).good();
        fold(&format!("--model {dtype} --adapter qv --out x")).fails(&[dtype, "stored as", "finer"]);
    }
    assert!(work.names("x").is_empty());
}
