//! What directories of data stand for.
use super::*;
use crate::reports::progress::Mode;
use std::path::{Path, PathBuf};

const SAVED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/tables/saved");

/// The files below a directory that a path in it stands for.
fn found(directory: &Path, path: &str, purpose: Purpose) -> Result<Vec<String>, String> {
    let within = match path.is_empty() || path.starts_with(':') {
        true => PathBuf::from(format!("{}{path}", directory.display())),
        false => directory.join(path),
    };
    let shown = |e: Error| e.to_string().replace(directory.to_str().unwrap(), "DIR");
    let files = expand(&[within], purpose, Mode::Quiet).map_err(shown)?;
    Ok(files.iter().map(|f| f.strip_prefix(directory).unwrap().to_str().unwrap().to_string()).collect())
}
fn with(files: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        let path = dir.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
    dir
}

#[test]
fn splits_of_a_saved_dict() {
    let of = |path: &str, purpose| found(Path::new(SAVED), path, purpose);
    let train = ["dict/train/data-00000-of-00002.arrow", "dict/train/data-00001-of-00002.arrow"];
    assert_eq!(of("dict", Purpose::Train).unwrap(), train);
    assert_eq!(of("dict:train", Purpose::Evaluate).unwrap(), train);
    assert_eq!(of("dict", Purpose::Evaluate).unwrap(), ["dict/validation/data-00000-of-00001.arrow"]);
    assert_eq!(of("dict:test", Purpose::Evaluate).unwrap(), ["dict/test/data-00000-of-00001.arrow"]);
    assert_eq!(
        of("dict", Purpose::Predict).unwrap_err(),
        "DIR/dict: it has the splits `train`, `validation` and `test`: name the one to read, as in DIR/dict:SPLIT"
    );
    let no = "DIR/dict: it has no split `dev`, but the splits `train`, `validation` and `test`";
    assert_eq!(of("dict:dev", Purpose::Train).unwrap_err(), no);
    assert!(of("dict:x:train", Purpose::Train).unwrap_err().contains("no configuration `x`"));
    // and one data set by itself
    for purpose in [Purpose::Train, Purpose::Evaluate, Purpose::Predict] {
        assert_eq!(of("tags", purpose).unwrap(), ["tags/data-00000-of-00001.arrow"]);
        assert_eq!(of("dict/test", purpose).unwrap(), ["dict/test/data-00000-of-00001.arrow"]);
    }
    assert!(of("tags:train", Purpose::Train).is_err());
}

#[test]
fn what_is_missing_of_a_saved_data_set_is_named() {
    let refused = |files: &[(&str, &str)]| {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        found(dir.path(), "", Purpose::Train).unwrap_err()
    };
    let state = |file: &str| format!("{{\"_data_files\": [{{\"filename\": \"{file}\"}}], \"_split\": null}}");
    for (files, why) in [
        (&[("dataset_dict.json", r#"{"splits": ["train"]}"#)][..], "there is no state.json"),
        (&[("dataset_dict.json", r#"{"splits": ["../x"]}"#)], "`../x` is no name of a split"),
        (&[("dataset_dict.json", "[]")], "it is not of `datasets`: "),
        (&[("state.json", &state("a.arrow"))], "the file a.arrow of the data set is not there"),
        (&[("state.json", &state("../a.arrow"))], "`../a.arrow` is no file beside it"),
        (&[("state.json", r#"{"_data_files": []}"#)], "it lists no files"),
    ] {
        let error = refused(files);
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn splits_by_the_names_of_files() {
    let train = |files: &[&str], path: &str| found(with(files).path(), path, Purpose::Train);
    let eval = |files: &[&str], path: &str| found(with(files).path(), path, Purpose::Evaluate);
    let shards = ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"];
    let one = [&shards[..], &["data/test-00000-of-00001.parquet", "README.md", ".git/x.csv"]].concat();
    assert_eq!(train(&one, "").unwrap(), shards);
    assert_eq!(eval(&one, ":test").unwrap(), ["data/test-00000-of-00001.parquet"]);
    let why = "DIR: it has the splits `test` and `train`: name the one to evaluate on, as in DIR:SPLIT";
    assert_eq!(eval(&one, "").unwrap_err(), why, "a test split is not guessed");
    assert_eq!(train(&one[1..], "").unwrap_err(), "DIR: of the 2 files of the split `train` there are 1");

    let words = ["my_train.csv", "my_dev.csv", "testing.csv"];
    assert_eq!(train(&words, "").unwrap(), ["my_train.csv"]);
    assert_eq!(eval(&words, "").unwrap(), ["my_dev.csv"]);
    assert_eq!(eval(&words, ":test").unwrap(), ["testing.csv"]);
    assert_eq!(
        train(&["train/a.jsonl", "train/b.jsonl", "test/a.jsonl"], "").unwrap(),
        ["train/a.jsonl", "train/b.jsonl"]
    );
    assert_eq!(train(&["only.csv.gz"], "").unwrap(), ["only.csv.gz"]);
    assert!(train(&["a.csv", "b.csv"], "").unwrap_err().contains("nothing says which split `a.csv` is of"));
    let twice = train(&["train.csv", "train.jsonl"], "").unwrap_err();
    assert_eq!(twice, "DIR: the split `train` is there as `train.csv` and as `train.jsonl`: name files");
    assert!(train(&["a.txt", "LICENSE"], "").unwrap_err().contains("there is no data in it"), "no data");
    assert!(train(&[], "").unwrap_err().contains("it is empty"));

    let configurations = [
        "en/train-00000-of-00001.parquet",
        "en/test-00000-of-00001.parquet",
        "de/train-00000-of-00001.parquet",
    ];
    assert_eq!(train(&configurations, ":de").unwrap(), [configurations[2]]);
    assert_eq!(train(&configurations, ":en:test").unwrap(), [configurations[1]]);
    let which = "DIR: it has the configurations `de` and `en`: name one, as in DIR:de";
    assert_eq!(train(&configurations, "").unwrap_err(), which);
    let none = train(&configurations, ":fr").unwrap_err();
    assert_eq!(none, "DIR: it has no configuration `fr`; there are `de` and `en`");
    let there = eval(&configurations, ":de").unwrap_err();
    assert_eq!(there, "DIR: it has the split `train`: name the one to evaluate on, as in DIR:de:SPLIT");
}

#[test]
fn a_card_says_which_files_are_what() {
    let dir = with(&["x/one.csv", "x/two.csv", "y.jsonl", "extra.csv"]);
    let card = |configs: &str| {
        std::fs::write(dir.path().join("README.md"), format!("---\nconfigs:\n{configs}---\n")).unwrap()
    };
    card(
        "- config_name: a\n  data_files:\n  - split: train\n    path: x/*\n  - split: test\n    path: y.jsonl\n- config_name: b\n  data_files: extra.*\n  default: true\n",
    );
    let of = |path: &str| found(dir.path(), path, Purpose::Train);
    assert_eq!(of(":a").unwrap(), ["x/one.csv", "x/two.csv"]);
    assert_eq!(of(":a:test").unwrap(), ["y.jsonl"]);
    assert_eq!(of("").unwrap(), ["extra.csv"]);
    card("- config_name: a\n  data_files: nothing*\n");
    let error = of("").unwrap_err();
    assert_eq!(error, "DIR: there is no file of the split `train`");
}

#[test]
fn a_path_that_is_there_stands_for_itself() {
    let dir = with(&["a:train.csv", "[b].csv", "d/train.csv", "d/test.csv"]);
    for name in ["a:train.csv", "[b].csv", "no-such.csv", "no:such"] {
        assert_eq!(found(dir.path(), name, Purpose::Train).unwrap(), [name]);
    }
    assert_eq!(found(dir.path(), "d:test", Purpose::Train).unwrap(), ["d/test.csv"]);
    assert_eq!(found(dir.path(), "d/*.csv", Purpose::Train).unwrap(), ["d/test.csv", "d/train.csv"]);
}
