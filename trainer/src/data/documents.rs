//! Text files: documents without labels, or sources without targets.
use super::columns::{Columns, Documents};
use super::format::{Format, Records, records};
use super::lines::Lines;
use super::record::{Chosen, Content, Input, Label, Record, Want};
use super::source::Source;
use crate::error::{Error, Result};

/// The format's row in the registry.
pub(super) const FORMAT: Format =
    Format { extensions: &["txt", "text"], contents: &[Content::Documents, Content::Answers], open };

fn open(source: Source, columns: &Columns, want: Want) -> Result<(Chosen, Records)> {
    if want.content == Content::Answers && want.labels {
        return Err(Error::file(
            source.path(),
            "it has sources without their targets: pass a table with both",
        ));
    }
    let (mut lines, documents) = (Lines::of(source)?, columns.documents);
    let chosen = Chosen { text: documents.to_string(), ..Chosen::default() };
    Ok((chosen, records(move || document(&mut lines, documents))))
}

/// The next document.
fn document(lines: &mut Lines, ends: Documents) -> Result<Option<Record>> {
    let (mut found, mut number) = (None::<(String, usize)>, lines.number());
    while let Some(line) = lines.next()? {
        number += 1;
        match (&mut found, line.trim().is_empty()) {
            (None, true) => {}
            (Some(_), true) => break,
            (none @ None, false) => {
                *none = Some((line.into(), number));
                if ends == Documents::Lines {
                    break;
                }
            }
            (Some((text, _)), false) => {
                text.push('\n');
                text.push_str(line);
            }
        }
    }
    let record = |(text, line)| Record::new(Input::Text { text, pair: None }, Label::None, line);
    Ok(found.map(record))
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
