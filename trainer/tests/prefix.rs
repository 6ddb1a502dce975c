//! The cache of what lies below the first trained layer: the same bits, and nothing stale.
mod support;
use support::*;

const UPPER: &str = "--adapter houlsby --layers 2-3 --dropout 0 --epochs 3 --max-steps 99 --eval eval.tsv";

fn saved(work: &Work, out: &str) -> Vec<Vec<u8>> {
    ["adapter.safetensors", "model_head.safetensors"]
        .iter()
        .map(|f| work.read(&format!("{out}/{f}")))
        .collect()
}
/// The one directory in a cache.
fn only(work: &Work, cache: &str) -> String {
    let names = work.names(cache);
    assert_eq!(names.len(), 1, "{names:?}");
    format!("{cache}/{}", names[0])
}

#[test]
fn a_cached_run_gives_the_bits_of_an_uncached_one_and_so_does_the_next() {
    let work = Work::new();
    work.train(&format!("{UPPER} --out plain"));
    for out in ["first", "second", "third"] {
        let threads = if out == "third" { 1 } else { 2 };
        let report = work.train(&format!("{UPPER} --out {out} --cache-prefix cache --threads {threads}"));
        assert!(saved(&work, out) == saved(&work, "plain"), "{out}");
        assert!(number(&report["epochs"][2]["loss"]) > 0.0);
    }
    let rows = work.read(&format!("{}/rows", only(&work, "cache"))).len();
    // every token of every text of both files, once
    assert!(rows > 0 && rows.is_multiple_of(192 * 4), "{rows}");
    work.train(&format!("{} --out more --cache-prefix cache", UPPER.replace("--epochs 3", "--epochs 5")));
    assert_eq!(work.read(&format!("{}/rows", only(&work, "cache"))).len(), rows);
}

#[test]
fn what_was_cached_is_what_is_used() {
    let work = Work::new();
    work.train(&format!("{UPPER} --out first --cache-prefix cache"));
    let at = only(&work, "cache");
    let good = work.read(&format!("{at}/rows"));
    let again = train(&format!("{UPPER} --out again --cache-prefix cache"));
    work.edit(&format!("{at}/rows"), |b| b[100] ^= 1);
    work.run(&again).fails(&["rows", "damaged", "delete the cache"]);
    work.write(&format!("{at}/rows"), &good[..good.len() - 4]);
    work.run(&again).fails(&["rows", "the index needs", "delete the cache"]);
    // rows that never came to count are written over
    work.write(&format!("{at}/rows"), [&good[..], &[7; 1000]].concat());
    work.run(&again).good();
    assert!(work.read(&format!("{at}/rows")) == good);
    work.edit(&format!("{at}/index.safetensors"), |b| *b.last_mut().unwrap() ^= 1);
    work.run(&again).fails(&["index.safetensors", "damaged"]);
}

#[test]
fn another_setting_never_meets_these_rows() {
    let work = Work::new();
    work.copy(backbone(), "model");
    let run = |flags: &str| {
        let default = if flags.contains("--layers") { "" } else { "--layers 2-3" };
        work.train(&format!("--dropout 0 --model model --out out --cache-prefix cache {default} {flags}"));
        work.names("cache").len()
    };
    assert_eq!(run(""), 1);
    assert_eq!(run("--lr 1e-4 --seed 9 --reduction-factor 8 --threads 1"), 1, "what trains does not matter");
    assert_eq!(run("--layers 3"), 2, "another layer");
    assert_eq!(run("--max-length 7"), 3, "another truncation");
    assert_eq!(run("--cache-dtype bf16"), 4, "another precision");
    work.edit("model/model.safetensors", |b| *b.last_mut().unwrap() ^= 1);
    assert_eq!(run(""), 5, "another backbone");
    work.edit("model/tokenizer.json", |b| b.push(b'\n'));
    assert_eq!(run(""), 6, "another tokenizer");
    work.edit("model/config.json", |b| b.push(b'\n'));
    assert_eq!(run(""), 7, "another configuration");
}

#[test]
fn a_head_alone_needs_one_row_of_each_text_and_bf16_half_the_bytes() {
    let work = Work::new();
    let head = "--adapter none --dropout 0 --epochs 2 --max-steps 99";
    work.train(&format!("{head} --out plain"));
    work.train(&format!("{head} --out cached --cache-prefix cache"));
    let name = "model_head.safetensors";
    assert!(work.read(&format!("plain/{name}")) == work.read(&format!("cached/{name}")));
    let texts = work.text("train.tsv").lines().count() - 1;
    assert_eq!(work.read(&format!("{}/rows", only(&work, "cache"))).len(), texts * 192 * 4);

    work.train(&format!("{head} --out half --cache-prefix half-cache --cache-dtype bf16"));
    assert_eq!(work.read(&format!("{}/rows", only(&work, "half-cache"))).len(), texts * 192 * 2);
    let (a, b) = (work.tensors(&format!("plain/{name}")), work.tensors(&format!("half/{name}")));
    let worst = a.iter().map(|(n, a)| difference(&b[n], a)).fold(0.0, f64::max);
    assert!(worst > 0.0 && worst < 0.05, "{worst}");
}

#[test]
fn what_is_no_constant_is_refused() {
    let work = Work::new();
    for (flags, words) in [
        ("--layers 2-3", ["cache-prefix", "set `dropout` to 0"]),
        ("--layers 0,3 --dropout 0", ["cache-prefix", "nothing below"]),
        ("--adapter full --dropout 0", ["cache-prefix", "whole backbone trains"]),
    ] {
        work.run(&train(&format!("{flags} --out out --cache-prefix cache"))).fails(&words);
    }
    assert_eq!(work.names("cache"), [] as [&str; 0]);
}
