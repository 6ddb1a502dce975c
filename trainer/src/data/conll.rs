//! CoNLL's columns: one word a line with its tags behind it, sentences apart by blank lines.
//!
//! Cells are split at tabs where a line has one, else at runs of spaces. Nothing else splits or
//! ends a line: words may hold no-break spaces and Unicode's own line breaks. A line of spaces and
//! tabs alone ends a sentence. `#` begins a word like any other character. A line whose first cell
//! is `-DOCSTART-` ends a sentence and is none itself.
use super::columns::{Column, Columns};
use super::format::{Format, Records, records};
use super::lines::Lines;
use super::name::Name;
use super::record::{Chosen, Content, Input, Label, Record, Want};
use super::source::Source;
use crate::error::{Error, Result};

/// The format's row in the registry.
pub(super) const FORMAT: Format =
    Format { extensions: &["conll", "iob", "bio", "txt", "annotated"], contents: &[Content::Words], open };

fn open(source: Source, columns: &Columns, want: Want) -> Result<(Chosen, Records)> {
    let lines = Lines::of(source)?;
    let index = |column: &Option<Column>, option: &'static str| match column {
        None => Ok(None),
        Some(Column::Index(i)) => Ok(Some(*i)),
        Some(Column::Name(name)) => {
            let file = lines.path().display();
            let why = format!("columns of {file} have no names; give the number, counted from 0");
            Err(Error::Option { option, value: format!("`{name}`"), why })
        }
    };
    let word = index(&columns.text, "text-column")?.unwrap_or(0);
    let tag = index(&columns.label, "label-column")?;
    let labels = want.labels || tag.is_some();
    let label = labels.then(|| tag.map_or("the last column".into(), |i| format!("column {i}")));
    let mut reader = Reader { lines, word, tag, labels, columns: None };
    let chosen = Chosen { text: format!("column {word}"), label, ..Chosen::default() };
    Ok((chosen, records(move || reader.sentence())))
}

struct Reader {
    lines: Lines,
    word: usize,
    tag: Option<usize>,
    /// Whether labels are read.
    labels: bool,
    /// Of the first word, and so of every one.
    columns: Option<usize>,
}

impl Reader {
    fn sentence(&mut self) -> Result<Option<Record>> {
        let mut sentence = Sentence::default();
        let path = self.lines.path().clone();
        while let Some(line) = self.lines.next()? {
            let cells = cells(line);
            if cells.is_empty() || cells[0] == "-DOCSTART-" {
                match std::mem::take(&mut sentence).record(self.labels) {
                    None => continue,
                    done => return Ok(done),
                }
            }
            let columns = *self.columns.get_or_insert(cells.len());
            let cells: Vec<String> = cells.into_iter().map(Into::into).collect();
            let number = self.lines.number();
            if cells.len() != columns {
                let many = |n| format!("{n} column{}", if n == 1 { "" } else { "s" });
                let why = format!("{} where the first word has {columns}", many(cells.len()));
                return Err(Error::line(&path, number, why));
            }
            let cell = |index: usize, what: &str, option: &str| match cells.get(index) {
                Some(cell) if !cell.trim().is_empty() => Ok(cell.as_str()),
                Some(_) => Err(Error::line(&path, number, format!("the {what} is empty"))),
                None => {
                    let why =
                        format!("no column {index} for the {what} among {columns}; choose with {option}");
                    Err(Error::line(&path, number, why))
                }
            };
            sentence.line.get_or_insert(number);
            sentence.words.push(cell(self.word, "word", "--text-column")?.into());
            if self.labels {
                let last = columns - 1;
                if self.tag.is_none() && last == self.word {
                    return Err(Error::line(&path, number, "a word without a tag: there is one column"));
                }
                let tag = cell(self.tag.unwrap_or(last), "tag", "--label-column")?;
                sentence.tags.push(Some(Name::of_text(tag)));
            }
        }
        Ok(sentence.record(self.labels))
    }
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
    pub tags: Vec<Option<Name>>,
}
impl Sentence {
    /// The sentence as a record, if it has words.
    pub fn record(self, labels: bool) -> Option<Record> {
        let label = if labels { Label::Each(self.tags) } else { Label::None };
        self.line.map(|line| Record::new(Input::Words(self.words), label, line))
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
