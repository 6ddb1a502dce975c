//! Files of events, read as far as a test needs it.
use std::path::Path;

/// Every value in the event files of a folder, in the order of their names: (step, tag, value).
pub fn events(folder: &Path) -> Vec<(u64, String, f32)> {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let mut all = vec![];
    for file in files {
        let (bytes, mut at, mut first) = (std::fs::read(file).unwrap(), 0, true);
        while at < bytes.len() {
            let n = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
            let event = &bytes[at + 12..at + 12 + n];
            at += 16 + n;
            if std::mem::take(&mut first) {
                assert!(event.ends_with(b"brain.Event:2"));
                continue;
            }
            let (mut step, mut summary) = (0, &[][..]);
            for (field, value) in fields(event) {
                match (field, value) {
                    (2, Value::Number(n)) => step = n,
                    (5, Value::Bytes(bytes)) => summary = bytes,
                    _ => {}
                }
            }
            for (_, value) in fields(summary) {
                let Value::Bytes(value) = value else { panic!("a value is a message") };
                let (mut tag, mut number) = (String::new(), f32::NAN);
                for (field, value) in fields(value) {
                    match (field, value) {
                        (1, Value::Bytes(text)) => tag = String::from_utf8(text.to_vec()).unwrap(),
                        (2, Value::Float(x)) => number = x,
                        _ => panic!("a value has a tag and a number"),
                    }
                }
                all.push((step, tag, number));
            }
        }
    }
    all
}

enum Value<'a> {
    Number(u64),
    Float(f32),
    Double,
    Bytes(&'a [u8]),
}

/// The fields of a message of protobuf.
fn fields(mut bytes: &[u8]) -> Vec<(u8, Value<'_>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let end = bytes.iter().position(|b| *b < 0x80).unwrap();
        let n = bytes[..=end].iter().rev().fold(0, |n, b| n << 7 | u64::from(b & 0x7f));
        *bytes = &bytes[end + 1..];
        n
    }
    let mut all = vec![];
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let value = match key & 7 {
            0 => Value::Number(varint(&mut bytes)),
            1 => {
                bytes = &bytes[8..];
                Value::Double
            }
            2 => {
                let n = varint(&mut bytes) as usize;
                let (text, rest) = bytes.split_at(n);
                bytes = rest;
                Value::Bytes(text)
            }
            5 => {
                let (x, rest) = bytes.split_at(4);
                bytes = rest;
                Value::Float(f32::from_le_bytes(x.try_into().unwrap()))
            }
            other => panic!("wire type {other}"),
        };
        all.push(((key >> 3) as u8, value));
    }
    all
}
