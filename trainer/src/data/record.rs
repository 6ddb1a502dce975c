//! What one place of a data file says: texts or words, perhaps with labels.
use super::name::Name;
use crate::error::{Error, Result};
use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// What a task reads of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// A text, or a pair of texts, with one label.
    Texts,
    /// The same with any number of labels.
    LabelSets,
    /// The same with a number.
    Values,
    /// Sentences of words with a label each.
    Words,
    /// Texts without labels.
    Documents,
    /// A text and what it is answered with.
    Answers,
    /// A question about a text, which says the answer.
    Questions,
    /// A text, and choices of which one goes with it.
    Choices,
}

impl Content {
    /// Everything there is.
    pub const ALL: &[Content] = &[
        Content::Texts,
        Content::LabelSets,
        Content::Values,
        Content::Words,
        Content::Documents,
        Content::Answers,
        Content::Questions,
        Content::Choices,
    ];

    /// Whether a record is a text or a pair of texts, with whatever label.
    pub fn has_texts(self) -> bool {
        matches!(self, Content::Texts | Content::LabelSets | Content::Values)
    }
}

/// What data is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To learn from.
    Train,
    /// To compare predictions with its labels.
    Evaluate,
    /// To predict its labels, which need not be there.
    Predict,
}

/// What is looked for in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// Texts or words.
    pub content: Content,
    /// Whether every record must have a label, as in training and evaluation. Else labels are not
    /// looked at, unless their column is named.
    pub labels: bool,
}

/// What a task reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A text, never empty, and perhaps a second one.
    Text {
        /// The text.
        text: String,
        /// The second text of a pair.
        pair: Option<String>,
    },
    /// The words of a sentence: one at least, and none of them empty.
    Words(Vec<String>),
    /// A question about a text, neither of them empty.
    Question {
        /// What it is called.
        id: String,
        /// The question.
        question: String,
        /// The text.
        context: String,
    },
    /// A text, never empty, and choices: one at least, and none of them empty.
    Choices {
        /// The text.
        text: String,
        /// The choices, as they stand in the file.
        choices: Vec<String>,
        /// What is read beside the text for each of them.
        seconds: Vec<String>,
    },
}

/// A part of a text that answers a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The answer.
    pub text: String,
    /// Where it stands: from its first code point to the one behind its last. None if it does not
    /// stand where the file says.
    pub range: Option<(usize, usize)>,
}

/// The number of no class.
pub const NO_NUMBER: u32 = u32::MAX;

/// What a task is to find.
#[derive(Debug, Clone, PartialEq)]
pub enum Label {
    /// It is not known.
    None,
    /// The whole record's label.
    One(Name),
    /// Any number of labels of the whole record.
    Set(Vec<Name>),
    /// A number, which is finite.
    Value(f32),
    /// One text or several that are as good, none of them empty: the first is learned from, all of
    /// them are compared with.
    Texts(Vec<String>),
    /// The answers of a question, of which each is right; none if its text does not say it.
    Spans(Vec<Span>),
    /// The number of the choice that is right, counted from zero.
    Choice(usize),
    /// One for each word; `None` where a word has none.
    Each(Vec<Option<Name>>),
    /// The same as numbers of classes, [`NO_NUMBER`] where a word has none: what an evaluation
    /// keeps.
    Numbers(Vec<u32>),
}

impl Label {
    /// What a cell of a table says where this is read; none where it is empty, but for the empty
    /// set. The labels of a set are apart by `separator`. The error says what is wrong.
    pub(super) fn of_cell(content: Content, cell: &str, separator: &str) -> Result<Label, String> {
        let is_empty = cell.trim().is_empty();
        match content {
            Content::LabelSets if is_empty => Ok(Label::Set(vec![])),
            Content::LabelSets => {
                let names: Vec<Name> = cell.split(separator).map(Name::of_text).collect();
                match names.iter().any(|name| name.taken().is_empty()) {
                    true => Err(format!("a label in `{cell}` is empty")),
                    false => Ok(Label::Set(names)),
                }
            }
            _ if is_empty => Ok(Label::None),
            Content::Values => Label::of_number(cell),
            _ => Ok(Label::One(Name::of_text(cell))),
        }
    }
    /// The value of a number that is written like this.
    pub(super) fn of_number(text: &str) -> Result<Label, String> {
        match text.trim().parse::<f32>() {
            Ok(value) if value.is_finite() => Ok(Label::Value(value)),
            _ => Err(format!("the label `{text}` is no number")),
        }
    }
}

/// One text, pair of texts or sentence, perhaps with its labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// What is read.
    pub input: Input,
    /// What is to be found.
    pub label: Label,
    /// The name of the adapter that is to answer for it, if there is a column of such names.
    pub adapter: Option<String>,
    /// The name of the group that it belongs to, if there is a column of such names: folds of a
    /// cross-validation do not divide it.
    pub group: Option<String>,
    /// Where it starts in its file, counted from one.
    pub line: usize,
}

impl Record {
    /// What is read, and what is to be found, at a line; beside which no column names anything.
    pub(super) fn new(input: Input, label: Label, line: usize) -> Record {
        Record { input, label, adapter: None, group: None, line }
    }
    /// Checks what was found in one row and puts it together.
    pub(super) fn row(
        path: &Path,
        line: usize,
        text: &str,
        pair: Option<&str>,
        label: Label,
    ) -> Result<Record> {
        let filled = |what: &str, cell: &str| {
            if cell.trim().is_empty() {
                Err(Error::line(path, line, format!("the {what} is empty")))
            } else {
                Ok(())
            }
        };
        filled("text", text)?;
        pair.map_or(Ok(()), |pair| filled("second text", pair))?;
        let input = Input::Text { text: text.into(), pair: pair.map(Into::into) };
        Ok(Record::new(input, label, line))
    }
    /// A source with its targets, if they are read.
    pub(super) fn answered(
        path: &Path,
        line: usize,
        source: &str,
        targets: Option<Vec<String>>,
    ) -> Result<Record> {
        let record = Record::row(path, line, source, None, Label::None)?;
        let Some(targets) = targets else { return Ok(record) };
        if targets.is_empty() {
            return Err(Error::line(path, line, "there is no target in the list"));
        }
        match targets.iter().position(|target| target.trim().is_empty()) {
            None => Ok(Record { label: Label::Texts(targets), ..record }),
            Some(0) => Err(Error::line(path, line, "the target is empty")),
            Some(n) => Err(Error::line(path, line, format!("target {} is empty", n + 1))),
        }
    }
    /// The same with the name of its adapter, which is not empty.
    pub(super) fn of_adapter(self, path: &Path, name: Option<&str>) -> Result<Record> {
        let name = name.map(str::trim);
        match name {
            Some("") => Err(Error::line(path, self.line, "the name of the adapter is empty")),
            _ => Ok(Record { adapter: name.map(String::from), ..self }),
        }
    }
    /// The same with the name of its group, which is not empty.
    pub(super) fn of_group(self, path: &Path, name: &str) -> Result<Record> {
        match name.trim() {
            "" => Err(Error::line(path, self.line, "the name of the group is empty")),
            name => Ok(Record { group: Some(name.into()), ..self }),
        }
    }
    /// The text, or the question; of words, all of them with spaces between.
    pub fn text(&self) -> Cow<'_, str> {
        match &self.input {
            Input::Text { text, .. } | Input::Choices { text, .. } => text.into(),
            Input::Question { question, .. } => question.into(),
            Input::Words(words) => words.join(" ").into(),
        }
    }
    /// Bytes of its text.
    pub fn bytes(&self) -> usize {
        match &self.input {
            Input::Text { text, .. } => text.len(),
            Input::Words(words) => words.iter().map(|word| word.len() + 1).sum::<usize>().saturating_sub(1),
            Input::Question { question, .. } => question.len(),
            Input::Choices { text, seconds, .. } => {
                text.len() + seconds.iter().map(String::len).sum::<usize>()
            }
        }
    }
    /// The second text of a pair; of a question the text that it is about.
    pub fn pair(&self) -> Option<&str> {
        match &self.input {
            Input::Text { pair, .. } => pair.as_deref(),
            Input::Question { context, .. } => Some(context),
            Input::Words(_) | Input::Choices { .. } => None,
        }
    }
    /// The texts that are to be found, the one to learn from first; none where there are none.
    pub fn answers(&self) -> &[String] {
        if let Label::Texts(texts) = &self.label { texts } else { &[] }
    }
    /// The words of a sentence; none of a text.
    pub fn words(&self) -> &[String] {
        if let Input::Words(words) = &self.input { words } else { &[] }
    }
    /// The names of all its labels, as they are taken; of choices those that the library gives as
    /// many as there are.
    pub fn labels(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let (whole, each, choices) = match (&self.label, &self.input) {
            (Label::Choice(_), Input::Choices { choices, .. }) => (&[][..], &[][..], choices.len()),
            (Label::One(label), _) => (std::slice::from_ref(label), &[][..], 0),
            (Label::Set(labels), _) => (&labels[..], &[][..], 0),
            (Label::Each(labels), _) => (&[][..], &labels[..], 0),
            _ => (&[][..], &[][..], 0),
        };
        let names = whole.iter().chain(each.iter().flatten()).map(|name| Cow::from(name.taken()));
        names.chain((0..choices).map(|i| Cow::from(format!("LABEL_{i}"))))
    }
}

/// Which columns were read, to be shown to the user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chosen {
    /// The column of the text or the words, by name where there is a header and by index otherwise.
    pub text: String,
    /// The second text's.
    pub pair: Option<String>,
    /// The label's.
    pub label: Option<String>,
    /// The names of all classes that its labels can be, in their order, if the file lists them.
    pub classes: Option<Arc<[String]>>,
}

impl fmt::Display for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "text from {}", self.text)?;
        if let Some(pair) = &self.pair {
            write!(f, " and {pair}")?;
        }
        match &self.label {
            Some(label) => write!(f, ", label from {label}"),
            None => Ok(()),
        }
    }
}
