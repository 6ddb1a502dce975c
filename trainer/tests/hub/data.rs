//! Data sets of the hub.
use super::{
    downloads::ask,
    server::{COMMIT, Hub, etag},
    *,
};

/// A data set with classes, in two configurations.
fn texts() -> BTreeMap<String, Vec<u8>> {
    let saved = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tables");
    let read = |name: &str| std::fs::read(saved.join(name)).unwrap();
    let card = "---\nconfigs:\n- config_name: rows\n  data_files:\n  - split: train\n    path: data/train-*\n  \
                - split: test\n    path: test.jsonl\n- config_name: sets\n  data_files: sets.parquet\n---\n# Texts\n";
    BTreeMap::from([
        ("README.md".into(), card.into()),
        ("data/train-00000-of-00001.parquet".into(), read("codecs/snappy.parquet")),
        ("test.jsonl".into(), br#"{"text": "row", "label": "a"}"#.to_vec()),
        ("sets.parquet".into(), read("saved/sets.parquet")),
    ])
}
fn serving() -> Hub {
    let hub = Hub::serving(texts());
    hub.state().is_data = true;
    hub
}
const DATA: &str = "train --model MODEL --adapter none --quiet --max-steps 2 --batch-size 4";

#[test]
fn a_run_on_a_data_set_of_the_hub_is_the_run_on_its_files() {
    let (work, hub) = (Work::new(), serving());
    let run = |line: &str| ask(&work, &hub, line);
    run(&format!(
        "{DATA} --train hf:datasets/tiny/demo:rows --eval hf:datasets/tiny/demo:rows:test --out there"
    ))
    .good();
    for (name, bytes) in texts() {
        work.write(&format!("files/{name}"), bytes);
    }
    let here = "--train files/data/train-00000-of-00001.parquet --eval files/test.jsonl --out here";
    run(&format!("{DATA} {here}")).good();
    assert_eq!(work.tensors("here/model_head.safetensors"), work.tensors("there/model_head.safetensors"));
    // what is read is named by its commit, so that the run is repeated on the same
    let toml = work.text("there/run.toml");
    let file = format!("hf:datasets/tiny/demo@{COMMIT}/data/train-00000-of-00001.parquet");
    assert!(toml.contains(&format!("train = \"{file}\"\n")), "{toml}");
    hub.state().commit = "f".repeat(40);
    hub.seen();
    run("train --config there/run.toml --out again").good();
    assert_eq!(hub.seen(), [""; 0], "nobody is asked for what is here");
    assert_eq!(work.tensors("again/model_head.safetensors"), work.tensors("there/model_head.safetensors"));
    // the cache is laid out as Python's
    let folder = work.path("home/hub/datasets--tiny--demo");
    assert_eq!(std::fs::read_to_string(folder.join("refs/main")).unwrap(), COMMIT);
    let name = "data/train-00000-of-00001.parquet";
    let link = folder.join("snapshots").join(COMMIT).join(name);
    assert_eq!(link.read_link().unwrap(), Path::new("../../../blobs").join(etag(name, &texts()[name])));
    // and serves without the hub
    drop(hub);
    let offline = |data: &str| {
        let mut command = work.arguments(&format!("{DATA} --out offline --train {data}"));
        clean(&mut command, &work.path("home"));
        Ran::of(command.env("HF_HUB_OFFLINE", "1"))
    };
    offline("hf:datasets/tiny/demo:rows").good();
    offline("hf:datasets/tiny/demo:sets")
        .fails(&["hf:datasets/tiny/demo: there is no file of the split `train`"]);
    offline("hf:datasets/tiny/other").fails(&["hf download tiny/other --repo-type dataset"]);
}

#[test]
fn what_is_not_obvious_is_listed() {
    let (work, hub) = (Work::new(), serving());
    let fails = |data: &str, words: &[&str]| {
        ask(&work, &hub, &format!("{DATA} --train {data} --out out")).fails(words);
    };
    fails("hf:datasets/tiny/demo", &["the configurations `rows` and `sets`", "hf:datasets/tiny/demo:rows"]);
    fails("hf:datasets/tiny/demo:rows:dev", &["no split `dev`, but the splits `train` and `test`"]);
    fails("hf:datasets/tiny/demo/no.csv", &["hf:datasets/tiny/demo: there is no file no.csv"]);
    fails(
        "hf:datasets/tiny/demo@v2",
        &["hf:datasets/tiny/demo@v2: ", "has the data set, but no revision `v2`"],
    );
    fails("hf:datasets/tiny/none", &["has no such data set"]);
    fails("hf:tiny/demo", &["hf:datasets/OWNER/NAME"]);
    let held_out =
        format!("{DATA} --train hf:datasets/tiny/demo:rows --eval hf:datasets/tiny/demo:rows --out out");
    ask(&work, &hub, &held_out).fails(&["`train` and `test`: name the one to evaluate on", ":rows:SPLIT"]);
    // a file is named as it is
    let data = "hf:datasets/tiny/demo@v1/test.jsonl";
    let head = "train --model MODEL --adapter houlsby --quiet --out head";
    ask(&work, &hub, &format!("{head} {SHORT} --train train.tsv")).good();
    let predict = format!("predict --model MODEL --adapter head --input {data} --quiet");
    assert!(ask(&work, &hub, &predict).good().stdout.ends_with("row\n"));
}
