//! CoNLL's columns: one word a line with its tags behind it, sentences apart by blank lines.
//!
//! Cells are split at tabs where a line has one, else at runs of spaces. Nothing else splits or ends a line: words may hold
//! no-break spaces and Unicode's own line breaks. A line of spaces and tabs alone ends a sentence. `#` begins a word like any other
//! character. A line whose first cell is `-DOCSTART-` ends a sentence and is none itself.
use super::columns::{Column, Columns};
use super::format::Format;
use super::record::{Chosen, Content, Input, Label, Record, Want};
use crate::error::{Error, Result};
use std::path::Path;

/// The format's row in the registry.
pub(super) const FORMAT: Format =
    Format { extensions: &["conll", "iob", "bio", "txt", "annotated"], contents: &[Content::Words], read };

fn read(path: &Path, text: &str, columns: &Columns, want: Want) -> Result<(Vec<Record>, Chosen)> {
    let index = |column: &Option<Column>, option: &'static str| match column {
        None => Ok(None),
        Some(Column::Index(i)) => Ok(Some(*i)),
        Some(Column::Name(name)) => Err(Error::Option {
            option,
            value: format!("`{name}`"),
            why: format!("columns of {} have no names; give the number, counted from 0", path.display()),
        }),
    };
    let word = index(&columns.text, "text-column")?.unwrap_or(0);
    let tag = index(&columns.label, "label-column")?;
    let labels = want.labels || tag.is_some();

    let (mut records, mut width) = (vec![], None);
    let mut sentence = Sentence::default();
    for (i, line) in text.split('\n').enumerate() {
        let (number, line) = (i + 1, line.strip_suffix('\r').unwrap_or(line));
        let cells = cells(line);
        if cells.is_empty() || cells[0] == "-DOCSTART-" {
            records.extend(std::mem::take(&mut sentence).record(labels));
            continue;
        }
        let columns = *width.get_or_insert(cells.len());
        if cells.len() != columns {
            let many = |n| format!("{n} column{}", if n == 1 { "" } else { "s" });
            let why = format!("{} where the first word has {columns}", many(cells.len()));
            return Err(Error::line(path, number, why));
        }
        let cell = |index: usize, what: &str, option: &str| match cells.get(index) {
            Some(cell) if !cell.trim().is_empty() => Ok(cell.to_string()),
            Some(_) => Err(Error::line(path, number, format!("the {what} is empty"))),
            None => {
                let why = format!("no column {index} for the {what} among {columns}; choose with {option}");
                Err(Error::line(path, number, why))
            }
        };
        sentence.line.get_or_insert(number);
        sentence.words.push(cell(word, "word", "--text-column")?);
        if labels {
            let last = columns - 1;
            if tag.is_none() && last == word {
                return Err(Error::line(path, number, "a word without a tag: there is one column"));
            }
            sentence.tags.push(Some(cell(tag.unwrap_or(last), "tag", "--label-column")?.trim().into()));
        }
    }
    records.extend(sentence.record(labels));
    let label = labels.then(|| tag.map_or("the last column".into(), |i| format!("column {i}")));
    Ok((records, Chosen { text: format!("column {word}"), pair: None, label }))
}

/// The cells of a line; none if there is nothing in it.
fn cells(line: &str) -> Vec<&str> {
    if line.trim_matches([' ', '\t']).is_empty() {
        return vec![];
    }
    match line.contains('\t') {
        true => line.split('\t').collect(),
        false => line.split(' ').filter(|cell| !cell.is_empty()).collect(),
    }
}

/// A sentence under way.
#[derive(Default)]
pub(super) struct Sentence {
    /// Where it begins.
    pub line: Option<usize>,
    pub words: Vec<String>,
    /// As many as words, or none if they are not read.
    pub tags: Vec<Option<String>>,
}
impl Sentence {
    /// The sentence as a record, if it has words.
    pub fn record(self, labels: bool) -> Option<Record> {
        let label = if labels { Label::Each(self.tags) } else { Label::None };
        self.line.map(|line| Record { input: Input::Words(self.words), label, line })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{parse_words, sentences};
    use super::*;

    #[test]
    fn cells_are_split_at_tabs_and_spaces_only() {
        let text = "#tag\tO\r\nNew\u{a0}York\tB-LOC\r\n\t\r\n\r\nI\u{2028}m O\n  he   B-PER \n\n-DOCSTART- -X-\n\nend O";
        let data = parse_words("a.conll", text, &Columns::default(), true).unwrap();
        let expected: [(&[&str], &[&str]); 3] = [
            (&["#tag", "New\u{a0}York"], &["O", "B-LOC"]),
            (&["I\u{2028}m", "he"], &["O", "B-PER"]),
            (&["end"], &["O"]),
        ];
        assert_eq!(sentences(&data), expected.map(|(w, t)| (w.to_vec(), t.to_vec())));
        assert_eq!(data.records.iter().map(|r| r.line).collect::<Vec<_>>(), [1, 5, 10]);
    }

    #[test]
    fn columns_are_chosen_by_number() {
        let columns = Columns { label: Some(Column::Index(1)), ..Columns::default() };
        let data = parse_words("a.txt", "EU NNP B-NP B-ORG\nsays VBZ B-VP O\n", &columns, true).unwrap();
        assert_eq!(sentences(&data)[0].1, ["NNP", "VBZ"]);
        let refused = |text: &str, columns: &Columns| {
            parse_words("a.iob", text, columns, true).unwrap_err().to_string()
        };
        assert_eq!(refused("a O\nb\n", &columns), "a.iob:2: 1 column where the first word has 2");
        assert_eq!(refused("a\n", &Columns::default()), "a.iob:1: a word without a tag: there is one column");
        assert_eq!(refused("a\tO\nb\t\n", &columns), "a.iob:2: the tag is empty");
        let nine = Columns { label: Some(Column::Index(9)), ..Columns::default() };
        assert!(refused("a O\n", &nine).contains("no column 9 for the tag among 2"));
        let named = Columns { label: Some(Column::Name("ner".into())), ..Columns::default() };
        assert!(refused("a O\n", &named).contains("columns of a.iob have no names"));
        assert_eq!(refused("\n \n\t\n", &Columns::default()), "a.iob: the file is empty");
    }

    #[test]
    fn words_alone_are_read_for_prediction() {
        let data = parse_words("a.conll", "one\ntwo\n\nthree\n", &Columns::default(), false).unwrap();
        assert_eq!((data.records.len(), &data.records[0].label), (2, &Label::None));
    }
}
