//! Event files as TensorBoard reads them.
//!
//! A file is a sequence of records (TensorFlow's `record_writer.cc`), a record an `Event`
//! (`event.proto`) in protobuf's wire format:
//!
//! ```text
//! record   u64 n; u32 crc of n; n bytes; u32 crc of them          all little-endian
//! crc      CRC-32C, rotated right by 15 bits, plus 0xa282ead8
//! Event    1: double seconds since 1970; 2: varint step; 3: string version, of the first record;
//!          5: Summary { 1: Value { 1: string tag, 2: float value } .. }
//! ```
//! A run adds a file with each state that it saves, so that a file never changes: what is noted
//! behind the last state goes with it when a run is killed, and no step is there twice when it goes
//! on. TensorBoard reads the files of a folder in the order of their names, one after the other.
use super::history::{EVAL, Entry, Note};
use crc::{CRC_32_ISCSI, Crc};

/// CRC-32C.
const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
/// What the files are.
const VERSION: &str = "brain.Event:2";
/// The folder of the files, in the directory of a run.
pub const FOLDER: &str = "runs";

/// The name of a file whose first event is of this second.
pub fn name(seconds: u64) -> String {
    format!("{FOLDER}/events.out.tfevents.{seconds:010}.engraft.{}.0", std::process::id())
}

/// A file of what was noted.
pub fn file(notes: &[Note]) -> Vec<u8> {
    let mut file = vec![];
    record(&mut file, &event(notes.first().map_or(0.0, |n| n.time), None, |to| text(to, 3, VERSION)));
    for note in notes {
        let values = note.entry();
        let summary = |to: &mut Vec<u8>| bytes(to, 5, &summary(&values));
        record(&mut file, &event(note.time, Some(note.step), summary));
    }
    file
}

/// A tag of transformers: what is `eval_x` in a log is `eval/x`, everything else `train/x`.
fn tag(name: &str) -> String {
    match name.strip_prefix(EVAL) {
        Some(name) => format!("eval/{name}"),
        None => format!("train/{name}"),
    }
}
/// All numbers of an entry; what is undefined is left out.
fn summary(values: &Entry) -> Vec<u8> {
    let mut summary = vec![];
    for (name, x) in values.iter().filter(|(name, _)| *name != "step") {
        if let Some(x) = x.as_f64() {
            let mut value = vec![];
            text(&mut value, 1, &tag(name));
            value.push(2 << 3 | 5);
            value.extend((x as f32).to_le_bytes());
            bytes(&mut summary, 1, &value);
        }
    }
    summary
}
fn event(time: f64, step: Option<u64>, what: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut event = vec![1 << 3 | 1];
    event.extend(time.to_le_bytes());
    if let Some(step) = step {
        event.push(2 << 3);
        varint(&mut event, step);
    }
    what(&mut event);
    event
}
fn text(to: &mut Vec<u8>, field: u8, text: &str) {
    bytes(to, field, text.as_bytes());
}
fn bytes(to: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    to.push(field << 3 | 2);
    varint(to, bytes.len() as u64);
    to.extend(bytes);
}
fn varint(to: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        to.push(n as u8 | 0x80);
        n >>= 7;
    }
    to.push(n as u8);
}
fn record(to: &mut Vec<u8>, data: &[u8]) {
    let length = (data.len() as u64).to_le_bytes();
    to.extend(length);
    to.extend(masked(&length).to_le_bytes());
    to.extend(data);
    to.extend(masked(data).to_le_bytes());
}
fn masked(data: &[u8]) -> u32 {
    CRC.checksum(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reports::{
        bytes::Bytes,
        history::{Evaluation, Of, Training},
    };

    #[test]
    fn the_first_record_is_tensorboards() {
        assert_eq!(CRC.checksum(b"123456789"), 0xe306_9283);
        let note = |step, of| Note { step, epoch: 0.5, time: 1.5e9, of };
        let training = Training { loss: 0.5, norm: 2.0, rate: 1e-3, bytes: Bytes::default() };
        let scores = [("accuracy", 0.75), ("f1", f64::NAN)].into();
        let evaluation = Evaluation { scores, examples: 4, batches: 1, seconds: 2.0 };
        let file = file(&[note(300, Of::Training(training)), note(300, Of::Evaluation(evaluation))]);
        let mut first = vec![0x18, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22];
        first.extend([0x09, 0, 0, 0, 0xc0, 0x0b, 0x5a, 0xd6, 0x41, 0x1a, 0x0d]);
        first.extend(b"brain.Event:2");
        first.extend([0x4c, 0xa9, 0xa4, 0x64]);
        assert_eq!(file[..first.len()], first);

        // every record is whole
        let (mut at, mut records) = (0, vec![]);
        while at < file.len() {
            let n = u64::from_le_bytes(file[at..at + 8].try_into().unwrap()) as usize;
            let crc = |from: usize| u32::from_le_bytes(file[from..from + 4].try_into().unwrap());
            assert_eq!(crc(at + 8), masked(&file[at..at + 8]));
            assert_eq!(crc(at + 12 + n), masked(&file[at + 12..at + 12 + n]));
            records.push(&file[at + 12..at + 12 + n]);
            at += 16 + n;
        }
        assert_eq!(records.len(), 3);
        assert_eq!(records[1][9..12], [0x10, 0xac, 0x02], "step 300");
        let value = |tag: &str, x: f32| {
            let mut v = vec![10, tag.len() as u8 + 7, 10, tag.len() as u8];
            v.extend(tag.as_bytes());
            v.push(0x15);
            v.extend(x.to_le_bytes());
            v
        };
        let has = |record: &[u8], part: &[u8]| record.windows(part.len()).any(|w| w == part);
        for (record, tag, x) in [
            (1, "train/loss", 0.5),
            (1, "train/grad_norm", 2.0),
            (1, "train/learning_rate", 1e-3),
            (1, "train/epoch", 0.5),
            (1, "train/memory_saved", 0.0),
            (2, "eval/accuracy", 0.75),
            (2, "eval/runtime", 2.0),
        ] {
            assert!(has(records[record], &value(tag, x)), "{tag}");
        }
        assert!(!has(records[2], b"f1"), "what is undefined is no point");
    }

    #[test]
    fn files_are_in_the_order_of_their_names() {
        assert!(name(999_999_999) < name(1_000_000_000) && name(1_500_000_000) < name(1_500_000_001));
        assert!(engraft_engine::output::is_name(&name(1)));
    }
}
