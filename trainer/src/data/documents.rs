//! Text files: documents without labels.
use super::columns::{Columns, Documents};
use super::format::Format;
use super::record::{Chosen, Content, Input, Label, Record, Want};
use crate::error::Result;
use std::path::Path;

/// The format's row in the registry.
pub(super) const FORMAT: Format =
    Format { extensions: &["txt", "text"], contents: &[Content::Documents], read };

fn read(_: &Path, text: &str, columns: &Columns, _: Want) -> Result<(Vec<Record>, Chosen)> {
    let lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).enumerate();
    let mut records: Vec<Record> = vec![];
    let mut is_under_way = false;
    for (i, line) in lines {
        if line.trim().is_empty() {
            is_under_way = false;
            continue;
        }
        match (&columns.documents, records.last_mut().map(|r| &mut r.input)) {
            (Documents::Paragraphs, Some(Input::Text { text, .. })) if is_under_way => {
                text.push('\n');
                text.push_str(line);
            }
            _ => {
                let input = Input::Text { text: line.into(), pair: None };
                records.push(Record { input, label: Label::None, line: i + 1 });
            }
        }
        is_under_way = true;
    }
    Ok((records, Chosen { text: columns.documents.to_string(), pair: None, label: None }))
}

#[cfg(test)]
mod tests {
    use super::super::dataset::Dataset;
    use super::*;

    #[test]
    fn documents_are_lines_or_stand_apart() {
        let text = "one\r\ntwo\n\n \nthree\n four\n";
        let read = |documents| {
            let columns = Columns { documents, ..Columns::default() };
            let want = Want { content: Content::Documents, labels: false };
            let data = Dataset::parse("a.txt", text.as_bytes(), &columns, want).unwrap();
            data.records.into_iter().map(|r| (r.text().to_string(), r.line)).collect::<Vec<_>>()
        };
        let of = |texts: &[(&str, usize)]| texts.iter().map(|(t, l)| (t.to_string(), *l)).collect::<Vec<_>>();
        assert_eq!(read(Documents::Lines), of(&[("one", 1), ("two", 2), ("three", 5), (" four", 6)]));
        assert_eq!(read(Documents::Paragraphs), of(&[("one\ntwo", 1), ("three\n four", 5)]));
    }
}
