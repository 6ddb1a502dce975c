//! Data as people have it, and what the program prints of it.
mod support;
use flate2::{Compression, write::GzEncoder};
use serde_json::Value;
use std::{io::Write, process::Stdio};
use support::*;

fn gz(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut packer = GzEncoder::new(vec![], Compression::fast());
    packer.write_all(bytes.as_ref()).unwrap();
    packer.finish().unwrap()
}
/// What a run left, but for times and for what names its files.
fn trained(work: &Work, out: &str) -> (Tensors, Value) {
    let report: Value = serde_json::from_str(&work.text(&format!("{out}/report.json"))).unwrap();
    (work.tensors(&format!("{out}/adapter.safetensors")), report["metrics"].clone())
}
/// The built-in tables in another form.
fn jsonl(texts: &Texts) -> String {
    texts.iter().map(|(t, l)| serde_json::json!({"text": t, "label": l}).to_string() + "\n").collect()
}

#[test]
fn the_form_of_the_data_does_not_matter() {
    let work = Work::new();
    let (first, second) = (table("\t", &TRAIN[..3]), table(",", &TRAIN[3..]));
    work.write("packed.tsv.gz", gz(table("\t", &TRAIN)));
    work.write("parts/1.tsv", first).write("parts/2.csv.gz", gz(second));
    work.write("all.jsonl", jsonl(&TRAIN)).write("all.data", jsonl(&TRAIN));
    let numbered = |i: usize| format!("{i},\"{}\",{}\n", TRAIN[i].0, TRAIN[i].1);
    work.write("pandas.csv", format!(",text,label\n{}", (0..8).map(numbered).collect::<String>()));
    work.train("--eval eval.tsv --out plain");
    for (data, out) in [
        ("packed.tsv.gz", "packed"),
        ("parts/1.tsv parts/2.csv.gz", "two"),
        ("parts/1.tsv --train parts/2.csv.gz", "twice"),
        ("parts/*", "glob"),
        ("all.jsonl", "jsonl"),
        ("all.data --format jsonl", "named"),
        ("pandas.csv", "pandas"),
    ] {
        let eval = if out == "named" { "all.data" } else { "eval.tsv" };
        work.train(&format!("--train {data} --eval {eval} --out {out}"));
        assert!(trained(&work, out).0 == trained(&work, "plain").0, "{data}");
    }
    // the run's file repeats it
    assert!(work.text("glob/run.toml").contains("train = [\"parts/1.tsv\", \"parts/2.csv.gz\"]"));
    assert!(work.text("plain/run.toml").contains("train = \"train.tsv\""));
    work.run("train --config glob/run.toml --out again --quiet").good();
    assert!(trained(&work, "again") == trained(&work, "glob"));
    // evaluation reads the same
    work.write("eval.jsonl.gz", gz(jsonl(&EVAL)));
    let packed = work.run("eval --model MODEL --adapter plain --data eval.jsonl.gz --json").evaluation();
    assert_eq!(packed, work.eval("plain"));
}

#[test]
fn errors_of_several_files_name_the_one_that_is_meant() {
    let work = Work::new();
    work.write("b.tsv", "text\tlabel\nfine day\tgood\nwet day\n");
    work.run(&train("--train train.tsv b.tsv --out out")).fails(&["b.tsv:3: 1 column"]);
    work.run(&train("--train train.tsv x*.tsv --out out")).fails(&["x*.tsv: no file has a name like this"]);
    work.write("c.csv.gz", "text,label\n");
    work.run(&train("--train c.csv.gz --out out")).fails(&["c.csv.gz", "not a gzip file"]);
    work.write("c.csv.gz", &gz("text,label\nfine,good\n")[..20]);
    work.run(&train("--train c.csv.gz --out out")).fails(&["c.csv.gz"]);
    work.run(&train("--train train.tsv --format xml --out out"))
        .fails(&["`format` cannot be `xml`", "jsonl"]);
    assert!(work.names("out").is_empty());
}

#[test]
fn the_standard_input_is_a_file() {
    let work = Work::new();
    work.train("--out plain");
    let piped = |line: &str, input: &[u8]| {
        let mut command = work.arguments(line);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        let _ = pipe.write_all(input); // a program that refuses does not read it
        drop(pipe);
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    };
    let tsv = table("\t", &TRAIN);
    piped(&train("--train - --format tsv --out piped"), tsv.as_bytes()).good();
    piped(&train("--train - --format jsonl --out packed"), &gz(jsonl(&TRAIN))).good();
    for out in ["piped", "packed"] {
        assert!(trained(&work, out).0 == trained(&work, "plain").0, "{out}");
    }
    piped(&train("--train - --out no"), tsv.as_bytes())
        .fails(&["stdin: nothing says how to read it: pass --format tsv, csv"]);
    piped(&train("--train - --format csv --out no"), b"text,label\na,x\n\"b,y\n")
        .fails(&["stdin:3: a quote"]);
    let line = "predict --model MODEL --adapter plain --quiet --input - --format jsonl";
    assert_eq!(piped(line, jsonl(&EVAL).as_bytes()).good().stdout.lines().count(), 5);
}

#[test]
fn quoted_tsv_is_noted_and_read_when_asked_for() {
    let work = Work::new();
    work.train("--out out");
    work.write("a.tsv", "text\n\"the \"\"bus\"\" was late\"\nfine\n");
    let line = "predict --model MODEL --adapter out --json --input a.tsv";
    let ran = work.run(line).good();
    assert!(ran.stderr.contains("note: a.tsv:2: quotes are read as they stand"), "{}", ran.stderr);
    assert!(ran.stderr.contains("--quotes csv"));
    let text = |ran: Ran| ran.json()["predictions"][0]["text"].as_str().unwrap().to_string();
    assert_eq!(text(ran), "\"the \"\"bus\"\" was late\"");
    let ran = work.run(&format!("{line} --quotes csv")).good();
    assert!(!ran.stderr.contains("note: a.tsv"), "{}", ran.stderr);
    assert_eq!(text(ran), "the \"bus\" was late");
    // and remembered
    work.write("t.tsv", "text\tlabel\n\"the \"\"bus\"\"\nwas late\"\tbad\nfine\tgood\n");
    work.train("--train t.tsv --quotes csv --out quoted");
    let line = "predict --model MODEL --adapter quoted --json --input a.tsv";
    assert_eq!(text(work.run(line)), "the \"bus\" was late");
    let help = work.run("train --help").good().stdout;
    assert!(help.contains("--quotes") && help.contains("pandas"), "{help}");
}

#[test]
fn every_text_is_one_line() {
    let work = Work::new();
    work.train("--out out");
    let line = "predict --model MODEL --adapter out --quiet --text";
    let strange = ["good\nbad", "a\tb\r\u{1b}[1m", "fine", "-5", "- a dash", "c\u{2028}d"];
    let ran = work.run_with(line, &strange).good();
    let cells: Vec<Vec<&str>> = ran.stdout.lines().map(|l| l.split('\t').collect()).collect();
    let texts: Vec<&str> = cells.iter().map(|c| c[2]).collect();
    assert_eq!(texts, ["good\\nbad", "a\\tb\\r\\u{1b}[1m", "fine", "-5", "- a dash", "c\\u{2028}d"]);
    assert!(cells.iter().all(|c| c.len() == 3), "{}", ran.stdout);
    work.run_with(line, &["--jsn"]).misused(&["--jsn"]);
    assert_eq!(work.run_with(line, &["a", "--json"]).json()["predictions"].as_array().unwrap().len(), 1);
    let json = work.run_with(&line.replace("--text", "--json --text"), &["good\nbad"]).json();
    assert_eq!(json["predictions"][0]["text"], "good\nbad");
}

#[test]
fn texts_that_were_cut_are_counted() {
    let work = Work::new();
    let long = "a long ride along the river ".repeat(9);
    work.write("long.tsv", format!("text\tlabel\n{long}\tgood\nbad\tbad\nfine day\tgood\n{long}\tbad\n"));
    let line = train("--train long.tsv --eval eval.tsv --out out").replace(" --quiet", "");
    let ran = work.run(&line).good();
    let note = "note: 2 of 4 texts of long.tsv were cut to 24 tokens (--max-length)";
    assert!(ran.stderr.contains(note) && !ran.stderr.contains("of eval.tsv"), "{}", ran.stderr);
    let ran = work.run("eval --model MODEL --adapter out --data long.tsv").good();
    assert!(ran.stderr.contains(note), "{}", ran.stderr);
    let ran = work.run_with("predict --model MODEL --adapter out --text", &[&long, "x"]).good();
    assert!(ran.stderr.contains("note: 1 of 2 texts of --text were cut to 24 tokens"), "{}", ran.stderr);
    let ran = work.run_with("predict --model MODEL --adapter out --quiet --text", &[&long, "x"]).good();
    assert_eq!(ran.stderr, "");
}

#[test]
fn memory_takes_a_usual_length_or_what_the_model_can() {
    let work = Work::new();
    work.copy(backbone(), "m").edit("m/config.json", |bytes| {
        let mut config: Value = serde_json::from_slice(bytes).unwrap();
        config["max_position_embeddings"] = 40.into();
        *bytes = config.to_string().into_bytes();
    });
    std::fs::remove_file(work.path("m/model.safetensors")).unwrap();
    let length =
        |flags: &str| work.run(&format!("memory --methods head --json {flags}")).json()["length"].clone();
    assert_eq!(length("--model m"), 40);
    assert_eq!(length("--model m --length 7"), 7);
    assert_eq!(length("--model MODEL"), 128);
    work.run("memory --methods head --model m --length 41").fails(&["`length` cannot be 41", "1 to 40"]);
}

/// Reading a long text takes a few times its bytes, and many short ones little more than their
/// tokens.
#[test]
#[cfg(target_os = "linux")]
fn data_takes_little_memory() {
    let work = Work::new();
    let peak = |report: Value| number(&report["peak_rss_bytes"]) / 1e6;
    let flags = "--max-steps 1 --memory-budget 60MB";
    let base = peak(work.train(&format!("{flags} --out base")));
    for part in ["bus ", "busy", "bus."] {
        work.write("long.tsv", format!("text\tlabel\n{}\tx\nbus\ty\n", part.repeat(2_000_000)));
        let long = peak(work.train(&format!("{flags} --train long.tsv --out long")));
        assert!(long < base + 40.0, "{long} MB for 8 MB of one text of `{part}`, {base} MB without");
    }
    let row = |i: usize| format!("the train {i} was on time and the seat was comfortable\t{}\n", i % 3);
    work.write("rows.tsv", format!("text\tlabel\n{}", (0..100_000).map(row).collect::<String>()));
    let rows = peak(work.train(&format!("{flags} --train rows.tsv --out rows")));
    assert!(rows < base + 40.0, "{rows} MB for 100,000 rows, {base} MB without");
}
