//! Rows that each name their adapter: every line is what that adapter says by itself.
mod support;
use serde_json::{Value, json};
use support::*;

/// Who is learned: name, flags, labels of the data.
const LEARNED: [(&str, &str, [&str; 3]); 6] = [
    ("plain", "--adapter houlsby", ["good", "bad", "bad"]),
    ("other", "--adapter houlsby --seed 5", ["good", "bad", "bad"]),
    ("thin", "--adapter pfeiffer --reduction-factor 32 --layers 2-3 --head linear", ["yes", "no", "maybe"]),
    ("lora", "--adapter lora --seed 9", ["up", "down", "down"]),
    ("prompt", "--adapter prompt_tuning", ["one", "two", "three"]),
    ("head", "--adapter none", ["left", "right", "right"]),
];
/// They, each in `all/NAME`, and `fused`, a composition of two of them.
fn learned() -> Work {
    let work = Work::new();
    for (name, flags, labels) in LEARNED {
        let rows: Vec<String> =
            TRAIN.iter().enumerate().map(|(i, (text, _))| format!("{text}\t{}\n", labels[i % 3])).collect();
        work.write("own.tsv", format!("text\tlabel\n{}", rows.concat()));
        work.train(&format!("--train own.tsv {flags} --name {name} --out all/{name}"));
    }
    let fuse = format!("fuse --model MODEL --train train.tsv --adapters all/plain all/other {SHORT}");
    work.run(&format!("{fuse} --out fused --quiet")).good();
    work
}
/// Rows of (adapter, text): of each adapter some, in no order.
fn rows() -> Vec<(&'static str, &'static str)> {
    let texts = TRAIN.iter().chain(&EVAL).map(|(text, _)| *text);
    let names = LEARNED.iter().map(|(name, ..)| *name).chain(["fused"]).collect::<Vec<_>>();
    texts.cycle().take(40).enumerate().map(|(i, text)| (names[(5 * i + i / 7) % names.len()], text)).collect()
}
fn place(name: &str) -> String {
    if name == "fused" { "fused".into() } else { format!("all/{name}") }
}

#[test]
fn every_line_is_that_of_its_adapter_by_itself() {
    let (work, rows) = (learned(), rows());
    let table: String = rows.iter().map(|(name, text)| format!("{text}\t7\t{name}\n")).collect();
    work.write("rows.tsv", format!("text\tnumber\twho\n{table}"));
    let object = |(name, text): &(&str, &str)| json!({"who": name, "sentence": text}).to_string() + "\n";
    work.write("rows.jsonl", rows.iter().map(object).collect::<String>());
    // by itself: the lines of all texts of the adapter
    let mut expected = vec![String::new(); rows.len()];
    let mut objects = vec![Value::Null; rows.len()];
    for name in LEARNED.iter().map(|(name, ..)| *name).chain(["fused"]) {
        let own: Vec<usize> = (0..rows.len()).filter(|i| rows[*i].0 == name).collect();
        assert!(own.len() > 1, "{name}");
        let texts: String = own.iter().map(|i| format!("{}\n", rows[*i].1)).collect();
        work.write("alone.tsv", format!("text\n{texts}"));
        let alone = format!("predict --model MODEL --adapter {} --input alone.tsv --quiet", place(name));
        let lines = work.run(&alone).good().stdout;
        let json = work.run(&format!("{alone} --json")).json();
        for ((i, line), one) in own.iter().zip(lines.lines()).zip(json["predictions"].as_array().unwrap()) {
            expected[*i] = format!("{name}\t{line}");
            objects[*i] = one.clone();
            objects[*i].as_object_mut().unwrap().insert("adapter".into(), name.into());
        }
    }
    // the folder of all, and one more
    for (input, more) in [
        ("rows.tsv", "--batch-size 64"),
        ("rows.tsv", "--batch-tokens 60 --threads 1"),
        ("rows.jsonl", "--batch-size 7"),
    ] {
        let line = format!("predict --model MODEL --input {input} --adapter-column who {more} --quiet");
        let said = work.run(&format!("{line} --adapters all fused")).good().stdout;
        assert_eq!(said.lines().collect::<Vec<_>>(), expected, "{input} {more}");
        let json = work.run(&format!("{line} --adapters all fused --json")).json();
        assert_eq!(json["predictions"].as_array().unwrap(), &objects, "{input} {more}");
        assert_eq!(json["task"], "classification");
    }
    // rounded weights say nearly the same
    let line =
        "predict --model MODEL --input rows.tsv --adapter-column who --adapters all fused --quiet --json";
    let json = work.run(&format!("{line} --adapter-dtype bf16")).json();
    let mut differs = false;
    for (one, exact) in json["predictions"].as_array().unwrap().iter().zip(&objects) {
        let difference = (number(&one["probability"]) - number(&exact["probability"])).abs();
        differs |= difference > 0.0;
        assert!(difference < 0.05 && one["adapter"] == exact["adapter"], "{one} {exact}");
    }
    assert!(differs);
}

#[test]
fn each_is_evaluated_on_its_rows() {
    let work = learned();
    let rows: Vec<(&str, &str, &str)> = EVAL
        .iter()
        .flat_map(|(text, label)| ["plain", "renamed"].map(|name| (name, *text, *label)))
        .collect();
    let row = |(name, text, label): &(&str, &str, &str)| format!("{text}\t{name}\t{label}\n");
    work.write("rows.tsv", format!("text\twho\tlabel\n{}", rows.iter().map(row).collect::<String>()));
    let line = "eval --model MODEL --data rows.tsv --adapter-column who --adapters all/plain renamed=all/other --quiet";
    let found = work.run(&format!("{line} --json")).json();
    for (name, place) in [("plain", "all/plain"), ("renamed", "all/other")] {
        let alone = work.eval(place);
        assert_eq!(found["adapters"][name], alone, "{name}");
    }
    let said = work.run(line).good().stdout;
    assert!(said.starts_with("plain: 5 texts: accuracy ") && said.contains("\nrenamed: 5 texts: "), "{said}");
}

#[test]
fn what_cannot_be_answered_is_refused() {
    let work = learned();
    let line = |adapters: &str| {
        format!("predict --model MODEL --input rows.tsv --adapter-column who --adapters {adapters} --quiet")
    };
    let with = |rows: &str| {
        work.write("rows.tsv", format!("text\twho\n{rows}"));
    };
    with("A text.\tplain\nAnother.\tthinn\n");
    work.run(&line("all")).fails(&["rows.tsv:3", "no adapter `thinn`", "`head`, `lora`", "`thin`"]);
    with("A text.\tplain\nAnother.\t\n");
    work.run(&line("all")).fails(&["rows.tsv:3", "the name of the adapter is empty"]);
    with("A text.\tplain\n");
    work.run(&line("all").replace("who", "whom")).fails(&[
        "rows.tsv",
        "`whom`",
        "`text` and `who`",
        "--adapter-column",
    ]);
    work.run(&line("nowhere")).fails(&["nowhere"]);
    work.run(&line("all all/plain")).fails(&["`adapters`", "`plain`", "all/plain", "NAME=DIR"]);
    work.write("empty/notes.txt", "");
    work.run(&line("empty")).fails(&["empty", "no adapter in it"]);
    work.run(&line("all --task tagging")).fails(&["`task`", "tagging", "`plain` does classification"]);
    work.run(&line("all --adapter all/plain")).misused(&["cannot be used with"]);
    work.run("predict --model MODEL --input rows.tsv --adapter-column who").misused(&["--adapters"]);
    work.run("predict --model MODEL --text x --adapter-column who --adapters all")
        .misused(&["cannot be used with"]);
    work.run("predict --model MODEL --input rows.tsv --adapters all").misused(&["--adapter"]);
    work.run("predict --model MODEL --text x --adapter all/plain --adapter-dtype bf16")
        .misused(&["--adapter-column"]);
    // only what is named is loaded
    work.edit("all/lora/adapter.safetensors", |bytes| bytes.truncate(100));
    work.run(&line("all")).good();
    with("A text.\tplain\nA text.\tlora\n");
    work.run(&line("all")).fails(&["all/lora/adapter.safetensors"]);
    // read in different ways, unless it is said in which
    with("A text.\tplain\nA text.\tshort\n");
    work.train("--max-length 5 --out all/short");
    work.run(&line("all")).fails(&["`short`", "`max-length`", "5", "24", "--max-length"]);
    work.run(&line("all --max-length 5")).good();
    // words have no adapter beside them
    work.write("train.conll", "a X\nb Y\n\nc X\n\n");
    work.train("--task tagging --train train.conll --max-length 24 --out tagger");
    with("A text.\ttagger\n");
    work.run(&line("tagger")).fails(&["`tagger` does tagging"]);
}
