//! `--stream`: training data that is read again in every epoch.
mod support;
use engraft::{
    Device, Error,
    data::{Columns, Content, Files, Want},
    learner::{Backbone, Opening},
    run::{recipe::Recipe, source::Source, stream::Stream},
    tasks::{CausalLm, Classification, Task},
    text::{
        batch::{Batch, BatchSize, Order},
        tokenizer::{Fit, Tokenizer},
    },
};
use serde_json::Value;
use std::{collections::BTreeMap, io::Write, path::Path};
use support::*;

/// What a run learned, and the loss and the tokens of its epochs.
type Learned = (BTreeMap<String, Vec<u8>>, Vec<(Value, Value)>);
fn learned(work: &Work, out: &str) -> Learned {
    let weights = |name: &String| name.ends_with(".safetensors");
    let files = work.files(out).into_iter().filter(|(name, _)| weights(name)).collect();
    let report: Value = serde_json::from_str(&work.text(&format!("{out}/report.json"))).unwrap();
    let epoch = |e: &Value| (e["loss"].clone(), e["tokens"].clone());
    (files, report["epochs"].as_array().unwrap().iter().map(epoch).collect())
}
fn gz(text: &str) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    packer.write_all(text.as_bytes()).unwrap();
    packer.finish().unwrap()
}
/// A table of so many rows.
fn rows(n: usize) -> String {
    let row = |i: usize| {
        let words = "was late and the seat was cold and nobody came ".repeat(i % 5 + 1);
        format!("the train {i} {words}\t{}\n", ["good", "bad"][i * i % 7 % 2])
    };
    format!("text\tlabel\n{}", (0..n).map(row).collect::<String>())
}
/// A command line like [`train`]'s that says nothing of how long a run is, and of its batches only
/// if nothing is given.
fn line(flags: &str) -> String {
    let size = if flags.contains("--batch-") { "" } else { "--batch-size 4" };
    let model = if flags.contains("--model") { "" } else { "--model MODEL" };
    let length = if flags.contains("--max-length") { "" } else { "--max-length 24" };
    format!("train --json --quiet --warmup-ratio 0 --lr 1e-3 {size} {model} {length} {flags}")
}
/// Sentences of words with tags, as CoNLL has them.
fn sentences(n: usize) -> String {
    let one = |i: usize| {
        format!("Anna B-PER\nsaw O\n{} B-LOC\n{}\n", ["Rome", "Oslo"][i % 2], "now O\n".repeat(i % 9))
    };
    (0..n).map(one).collect()
}
/// Documents, one a line.
fn documents(n: usize) -> String {
    (0..n).map(|i| format!("the train {i} {}\n", "was late ".repeat(i % 11))).collect()
}

#[test]
fn with_room_for_everything_a_stream_is_the_run_in_memory() {
    let work = Work::new();
    work.write("rows.tsv", rows(60));
    work.write("packed/1.tsv.gz", gz(&rows(31))).write("packed/2.tsv", rows(29));
    work.write("words.conll", sentences(40));
    language_model(&work);
    let runs = [
        ("rows.tsv", "--epochs 2"),
        ("rows.tsv", "--epochs 3 --max-steps 20 --eval eval.tsv --gradient-accumulation 2"),
        ("rows.tsv", "--epochs 2 --batch-tokens 90"),
        ("packed/*", "--epochs 2 --dropout 0.2"),
        ("words.conll", "--task tagging --epochs 2"),
        ("words.conll", "--task tagging --epochs 2 --batch-tokens 50 --max-length 12"),
        ("rows.tsv", "--epochs 2 --no-shuffle"),
        ("text.txt", "--model gpt --task causal-lm --epochs 2 --max-length 16 --eval held-out.txt"),
    ];
    for (data, flags) in runs {
        let line = line(&format!("--train {data} {flags}"));
        work.run(&format!("{line} --out memory")).json();
        work.run(&format!("{line} --stream --out stream")).json();
        let (memory, stream) = (learned(&work, "memory"), learned(&work, "stream"));
        assert_eq!(memory.1, stream.1, "{flags}");
        assert!(memory == stream, "{flags}");
    }
    let other = |flags: &str, out: &str| {
        work.run(&line(&format!("--train rows.tsv --epochs 2 --stream {flags} --out {out}"))).json();
        learned(&work, out)
    };
    let (few, again) = (other("--stream-buffer 9", "few"), other("--stream-buffer 9 --threads 2", "again"));
    assert!(few == again, "whatever the number of threads");
    assert!(few.0 != other("", "all").0, "a small buffer has another order");
    assert!(other("--stream-buffer 1", "one") != few);
    // the run's file repeats it
    assert!(work.text("few/run.toml").contains("stream = true\nstream-buffer = 9\n"));
    work.run("train --config few/run.toml --out repeated --quiet").good();
    assert!(learned(&work, "repeated") == few);
    work.run("eval --model MODEL --adapter few --data eval.tsv").good();
}

fn tokenizer(max_length: usize) -> Tokenizer {
    let device = Device::null(1);
    let backbone = Backbone::open(backbone(), &device, Opening::default()).unwrap();
    let vocabulary = backbone.model().info().vocabulary;
    Tokenizer::load(support::backbone(), Fit { model: "demo", vocabulary, positions: None, max_length })
        .unwrap()
}
fn files(path: &Path, content: Content) -> Files {
    let want = Want { content, labels: content == Content::Texts };
    Files::new(&[path.to_path_buf()], &Columns::default(), want).unwrap()
}

#[test]
fn every_epoch_has_everything_once_in_an_order_of_its_own() {
    let work = Work::empty();
    work.write("rows.tsv", rows(200)).write("texts.txt", documents(300));
    let tokenizer = tokenizer(24);
    let task = Classification::new(["bad", "good"]).unwrap();
    let cases: [(&str, &dyn Task); 2] = [("rows.tsv", &task), ("texts.txt", &CausalLm::default())];
    for (name, task) in cases {
        for (buffer, size) in [
            (1, BatchSize::Examples(7)),
            (16, BatchSize::Examples(7)),
            (16, BatchSize::Tokens(100)),
            (999, BatchSize::Tokens(5)),
        ] {
            let stream =
                Stream::new(files(&work.path(name), task.content()), None, task, &tokenizer, buffer).unwrap();
            let batches = |order| -> Vec<Batch> { stream.batches(size, order).map(Result::unwrap).collect() };
            let in_order = batches(Order::File { epoch: 0 });
            let items = |batches: &[Batch]| batches.iter().flat_map(|b| b.items.clone()).collect::<Vec<_>>();
            let all: Vec<usize> = (0..items(&in_order).len()).collect();
            assert_eq!(items(&in_order), all);
            let mut seen = vec![];
            for epoch in 0..3 {
                let order = Order::Shuffled { seed: 3, epoch };
                let found = batches(order);
                assert!(found == batches(order), "{name}: the same again");
                assert_eq!(stream.count(size, order).unwrap(), found.len() as u64, "{name} {size:?}");
                let mut sorted = items(&found);
                if !seen.is_empty() && buffer > 1 {
                    assert_ne!(sorted, seen, "{name}");
                }
                seen = sorted.clone();
                sorted.sort_unstable();
                assert_eq!(sorted, all, "{name}");
                for b in &found {
                    match size {
                        BatchSize::Examples(n) => assert!(b.len() <= n),
                        BatchSize::Tokens(n) => assert!(b.tokens() <= n || b.len() == 1),
                    }
                }
            }
            assert!(stream.batches(size, Order::Longest).next().unwrap().is_err());
            // an epoch is counted once where that is enough, and by records where these are
            // examples
            assert_eq!(
                stream.is_counted(BatchSize::Examples(7)),
                task.is_one_to_one() || size == BatchSize::Examples(7)
            );
            let recipe = Recipe { batch: size, epochs: Some(3), accumulation: 2, ..Recipe::default() };
            let steps = |epoch| batches(recipe.order(epoch)).len().div_ceil(2) as u64;
            assert_eq!(recipe.steps(&stream).unwrap(), (0..3).map(steps).sum::<u64>());
            let endless = Recipe { epochs: None, max_steps: Some(5), ..recipe };
            assert_eq!(endless.steps(&stream).unwrap(), 5);
        }
    }
}

#[test]
fn files_that_change_while_they_are_read_are_an_error() {
    let work = Work::empty();
    work.write("rows.tsv", rows(40));
    let (tokenizer, task) = (tokenizer(24), Classification::new(["bad", "good"]).unwrap());
    let open = || Stream::new(files(&work.path("rows.tsv"), Content::Texts), None, &task, &tokenizer, 8);
    let stream = open().unwrap();
    let last = |stream: &Stream<'_>| {
        stream.batches(BatchSize::Examples(4), Order::File { epoch: 0 }).last().unwrap()
    };
    assert!(last(&stream).is_ok());
    work.write("rows.tsv", rows(40).replace("train 39", "coach 39"));
    let error = last(&stream).unwrap_err().to_string();
    assert!(error.ends_with("rows.tsv: it has changed while the run reads it"), "{error}");
    assert_ne!(open().unwrap().hash(), stream.hash());
    work.write("rows.tsv", rows(40) + "x\tgreat\n");
    assert!(matches!(last(&stream), Err(Error::Label { line: 42, .. })));
    // the same records in another form are the same data
    work.write("rows.tsv", rows(40).replace('\n', "\r\n"));
    assert_eq!(open().unwrap().hash(), stream.hash());
    let other = self::tokenizer(12);
    let cut = Stream::new(files(&work.path("rows.tsv"), Content::Texts), None, &task, &other, 8).unwrap();
    assert_ne!(cut.hash(), stream.hash(), "other tokens");
    assert_eq!(cut.cut(), (0, 0));
    assert!(last(&cut).is_ok());
    assert_eq!(cut.cut(), (40, 40));
}

#[test]
fn bad_lines_are_named_wherever_they_are() {
    let work = Work::new();
    work.write("good.tsv", rows(3000))
        .write("bad.tsv", rows(3000).replacen("train 2500 was", "train 2500\twas", 1));
    let flags = "--stream --epochs 1 --batch-size 1000";
    work.run(&train(&format!("{flags} --train good.tsv bad.tsv --out out")))
        .fails(&["bad.tsv:2502: 3 columns"]);
    assert!(work.names("out").is_empty(), "before the first step");
    // a label that a saved head does not know is found when its text is read
    work.train("--out first");
    work.write("label.tsv", rows(3000) + "fine\tgreat\n");
    let from = "train --quiet --init first --stream --train label.tsv --no-shuffle --epochs 1 --batch-size 1501 --out out";
    work.run(from).fails(&["label.tsv:3002", "`great`"]);
    for (flags, words) in [
        ("--train - --format tsv", &["stdin", "only once"][..]),
        ("--train /dev/null --format tsv", &["/dev/null", "only once"]),
        ("--cache-prefix c", &["`stream` and `cache-prefix` exclude"]),
        ("--stream-buffer 0", &["`stream-buffer` cannot be 0"]),
        ("--train missing.tsv", &["missing.tsv"]),
    ] {
        work.run(&train(&format!("--stream {flags} --out no"))).fails(words);
    }
    work.run("profile --model MODEL --train train.tsv --stream").fails(&["`stream` cannot be given"]);
    assert!(work.names("no").is_empty());
    let help = work.run("train --help").good().stdout;
    assert!(help.contains("--stream-buffer") && help.contains("4096"), "{help}");
}

#[test]
fn what_a_stream_says() {
    let work = Work::new();
    work.write("rows.tsv", rows(30));
    let said = |flags: &str| {
        let line = line(&format!("--train rows.tsv --stream --out out {flags}"));
        work.run(&line.replace(" --quiet", "")).good().stderr
    };
    let cut = "note: 24 of 30 texts of rows.tsv were cut to 24 tokens (--max-length)";
    let (epoch, counted) = (said("--epochs 1"), "everything is tokenised");
    assert!(epoch.contains(cut) && !epoch.contains(counted), "{epoch}");
    assert!(said("--epochs 1 --batch-tokens 99").contains(counted));
    assert!(!said("--max-steps 2 --batch-tokens 99").contains(counted));
}

#[test]
fn a_budget_holds_for_whatever_comes() {
    let work = Work::new();
    work.write("rows.tsv", rows(60)).write("words.conll", sentences(40));
    language_model(&work);
    for flags in [
        "--train rows.tsv",
        "--train rows.tsv --batch-tokens 60 --gradient-accumulation 2",
        "--train rows.tsv --batch-tokens 9",
        "--train words.conll --task tagging --batch-tokens 40",
        "--train words.conll --task tagging --batch-size 3",
        "--train text.txt --model gpt --task causal-lm --max-length 16 --batch-tokens 50",
    ] {
        let line = line(&format!("{flags} --epochs 1 --stream --stream-buffer 10 --out out"));
        let refused = work.run(&format!("{line} --memory-budget 1kB"));
        let (_, rest) =
            refused.stderr.split_once("needs at least ").unwrap_or_else(|| panic!("{}", refused.stderr));
        let least: f64 = rest.split(' ').next().unwrap().parse().unwrap();
        let report = work.run(&format!("{line} --memory-budget {least}").replace(".0", "")).json();
        let held = number(&report["ledger_peak_bytes"]);
        // the buffer is in it, and the texts of the data are nearly as long as they may be
        assert!(held < least && held > 0.6 * least, "{flags}: {held} of {least}");
    }
}

/// A stream holds its buffer and a part of the files, however long these are.
#[test]
#[cfg(target_os = "linux")]
fn a_stream_takes_as_much_memory_for_many_rows_as_for_few() {
    let work = Work::new();
    let peak = |report: Value| number(&report["peak_rss_bytes"]) / 1e6;
    work.write("few.tsv", rows(3000)).write("many.tsv", rows(150_000));
    let run =
        |data: &str| {
            peak(work.train(&format!(
                "--train {data} --max-steps 2 --stream --stream-buffer 500 --out {data}.out"
            )))
        };
    let (few, many) = (run("few.tsv"), run("many.tsv"));
    assert!(many < few + 4.0, "{many} MB for 150,000 rows, {few} MB for 3,000");
}
