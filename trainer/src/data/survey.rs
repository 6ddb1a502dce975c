//! What a pass over data files finds without a tokenizer: how many records there are, and a hash of
//! what they say.
use super::dataset::Dataset;
use super::labels::LabelNames;
use super::record::{Input, Label, Record};
use sha2::{Digest, Sha256};

/// What was found in files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// The names of all labels.
    pub names: LabelNames,
    /// What was read.
    pub seen: Seen,
}

/// So many records, and the SHA-256 of their texts, words and labels in their order: the same
/// however the files are called, written, packed and divided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// How many records.
    pub records: usize,
    /// The hash, in hexadecimal digits.
    pub hash: String,
}

/// Records under way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seeing {
    records: usize,
    hash: Sha256,
}

impl Seeing {
    /// A part was read.
    pub fn add(&mut self, part: &Dataset) {
        self.records += part.records.len();
        part.records.iter().for_each(|record| self.record(record));
    }

    /// All was read.
    pub fn end(self) -> Seen {
        let hash = self.hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        Seen { records: self.records, hash }
    }

    /// Every part of a record begins with what it is and how long.
    fn record(&mut self, record: &Record) {
        match &record.input {
            Input::Text { text, pair } => {
                self.part(b't', text);
                pair.iter().for_each(|pair| self.part(b'p', pair));
            }
            Input::Words(words) => words.iter().for_each(|word| self.part(b'w', word)),
            Input::Question { question, context, .. } => {
                self.part(b'q', question);
                self.part(b'c', context);
            }
            Input::Choices { text, seconds, .. } => {
                self.part(b't', text);
                seconds.iter().for_each(|second| self.part(b'o', second));
            }
        }
        match &record.label {
            Label::None | Label::Numbers(_) => {} // numbers stand in no file
            Label::One(label) => self.part(b'l', label.exact()),
            Label::Set(labels) => {
                self.part(b's', &labels.len().to_string());
                labels.iter().for_each(|label| self.part(b'l', label.exact()));
            }
            Label::Value(value) => self.part(b'v', &value.to_string()),
            Label::Texts(texts) => texts.iter().for_each(|text| self.part(b'y', text)),
            Label::Choice(number) => self.part(b'k', &number.to_string()),
            Label::Spans(answers) => {
                self.part(b's', "");
                for answer in answers {
                    self.part(b'a', &answer.text);
                    answer.range.iter().for_each(|(start, _)| self.part(b'@', &start.to_string()));
                }
            }
            Label::Each(labels) => {
                for label in labels {
                    let (kind, name) = label.as_ref().map_or((b'n', ""), |label| (b'e', label.exact()));
                    self.part(kind, name);
                }
            }
        }
        self.part(b'.', "");
    }

    fn part(&mut self, kind: u8, text: &str) {
        self.hash.update([kind]);
        self.hash.update((text.len() as u64).to_le_bytes());
        self.hash.update(text);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Columns, Content, Want};
    use super::*;

    fn seen(name: &str, text: &str, labels: bool) -> Seen {
        let want = Want { content: Content::Texts, labels };
        let mut seeing = Seeing::default();
        seeing.add(&Dataset::parse(name, text.as_bytes(), &Columns::default(), want).unwrap());
        seeing.end()
    }

    #[test]
    fn the_hash_is_of_what_is_said() {
        let rows = seen("a.tsv", "text\tlabel\na b\tx\nc\ty\n", true);
        assert_eq!(rows.records, 2);
        assert_eq!(rows, seen("b.csv", "label,text\n\"x\",\"a b\"\ny,c\n", true));
        for other in ["text\tlabel\na b\tx\nc\tx\n", "text\tlabel\na\tx\nc\ty\n", "text\tlabel\na b\tx\n"] {
            assert_ne!(rows, seen("a.tsv", other, true), "{other}");
        }
        assert_ne!(rows, seen("a.tsv", "text\tlabel\na b\tx\nc\ty\n", false), "without labels");
        let pair = |row: &str| seen("a.tsv", &format!("text\ttext_pair\n{row}\n"), false);
        assert_ne!(pair("ab\tc"), pair("a\tbc"), "parts do not flow together");
    }
}
