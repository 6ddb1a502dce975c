//! A table of a million rows is read as a stream: in a process of its own, whose memory is looked at.
use arrow_array::{RecordBatch, StringArray};
use engraft::{
    data::{Columns, Content, Files, Want},
    reports::process::{peak_rss_bytes, reset_peak_rss, rss_bytes},
};
use parquet::{arrow::ArrowWriter, basic::Compression, file::properties::WriterProperties};
use std::{fs::File, path::Path, process::Command, sync::Arc};

const ROWS: usize = 1_000_000;
/// Bytes that the process may grow by.
const MOST: u64 = 60 << 20;
/// What the other process is told: the file to read.
const FILE: &str = "ENGRAFT_TABLE";

/// Writes texts of 8 to 20 words in one row group, as other programs do.
fn write(path: &Path) {
    let batch = |from: usize| {
        let text = |i: usize| {
            let word = |j: usize| format!("word{}", (i * 7919 + j * 104_729) % 5000);
            format!("{i} {}", (0..8 + i % 12).map(word).collect::<Vec<_>>().join(" "))
        };
        let rows = from..from + 10_000;
        let texts = StringArray::from_iter_values(rows.clone().map(text));
        let other = StringArray::from_iter_values(rows.clone().map(|i| text(i + 1)));
        let labels = StringArray::from_iter_values(rows.map(|i| ["good", "bad"][i % 2]));
        RecordBatch::try_from_iter([
            ("text", Arc::new(texts) as _),
            ("other", Arc::new(other) as _),
            ("label", Arc::new(labels) as _),
        ])
        .unwrap()
    };
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY);
    let properties = properties.set_max_row_group_row_count(Some(ROWS)).build();
    let file = File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch(0).schema(), Some(properties)).unwrap();
    for from in (0..ROWS).step_by(10_000) {
        writer.write(&batch(from)).unwrap();
    }
    writer.close().unwrap();
}

#[test]
fn a_million_rows_are_read_within_60_mb() {
    if let Some(path) = std::env::var_os(FILE) {
        return read(Path::new(&path));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.parquet");
    write(&path);
    let mut again = Command::new(std::env::current_exe().unwrap());
    let ran = again.args(["--exact", "a_million_rows_are_read_within_60_mb", "--nocapture"]).env(FILE, &path);
    let ran = ran.output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    println!("{} MB of Parquet; {said}", path.metadata().unwrap().len() / 1_000_000);
    assert!(ran.status.success() && said.contains("grew by"), "{said}");
}

fn read(path: &Path) {
    let want = Want { content: Content::Texts, labels: true };
    let files = Files::new(&[path.into()], &Columns::default(), want).unwrap();
    reset_peak_rss();
    let before = rss_bytes();
    assert_eq!(files.survey().unwrap().seen.records, ROWS);
    if let (Some(before), Some(peak)) = (before, peak_rss_bytes()) {
        let grown = peak.saturating_sub(before);
        println!("the process grew by {:.1} MB", grown as f64 / 1e6);
        assert!(grown < MOST, "{grown}");
    } else {
        println!("nobody says what the process grew by here");
    }
}
