//! Which columns hold the text, the second text and the label.

use crate::reports::scores::schemes::Scheme;
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

/// A column, by name or by zero-based index. A number is an index; in JSONL a column is always a
/// field's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Column {
    /// The name in the header.
    Name(String),
    /// Counted from zero.
    Index(usize),
}

impl FromStr for Column {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match text.parse() {
            Ok(index) if digits => Ok(Self::Index(index)),
            _ => Ok(Self::Name(text.into())),
        }
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Index(index) => write!(f, "{index}"),
        }
    }
}

by_text!(Column);

choices! {
    /// Whether the first row names the columns. Says nothing about JSONL, which names them in every
    /// row.
    pub enum Header {
        /// Found out from the first row; an error where it could be either
        Auto = "auto",
        /// It does
        Yes = "yes",
        /// It is data
        No = "no",
    }
}

choices! {
    /// Where a document of a text file ends.
    pub enum Documents {
        /// With its line
        Lines = "lines",
        /// In front of a blank line
        Paragraphs = "paragraphs",
    }
}

choices! {
    /// What quotes mean in a .tsv file.
    pub enum Quotes {
        /// They are characters like any other, as in the GLUE files
        Literal = "literal",
        /// They stand around cells, as pandas and csv.writer write them: tabs and line breaks may
        /// be inside, and a quote is written twice
        Csv = "csv",
    }
}

#[expect(clippy::derivable_impls, reason = "the enum is written by a macro")]
impl Default for Quotes {
    fn default() -> Self {
        Self::Literal
    }
}
#[expect(clippy::derivable_impls, reason = "the enum is written by a macro")]
impl Default for Header {
    fn default() -> Self {
        Self::Auto
    }
}
#[expect(clippy::derivable_impls, reason = "the enum is written by a macro")]
impl Default for Documents {
    fn default() -> Self {
        Self::Lines
    }
}

/// What the user says about the columns; what is `None` is found by its usual name.
///
/// With a header, a pair of texts are the columns `text` and `text_pair`, `sentence1` and
/// `sentence2`, `premise` and `hypothesis`, `question1` and `question2`, `question` and `sentence` or
/// `sentence_A` and `sentence_B` (in capitals or not), a text alone is `text`, `sentence` or
/// `sentence1`, and the label is `label`. What fits in two ways has to be named. A second text is
/// looked for only if the text's column is not named. Without a
/// header there must be two columns, first the text and then the label, or one column of texts
/// where no labels are read; anything else has to be named. Sources and their targets are the
/// columns `source` and `target`, `document` and `summary`, `article` and `highlights`, `text` and
/// `summary`, `text` and `target` or `mr` and `ref`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Columns {
    /// The column of the text, or of the words.
    pub text: Option<Column>,
    /// The second text's column.
    pub pair: Option<Column>,
    /// The column of the label, or of the words' labels.
    pub label: Option<Column>,
    /// The column that names the adapter of each text.
    pub adapter: Option<Column>,
    /// The column that names the group of each record.
    pub group: Option<Column>,
    /// Whether there is a header.
    pub header: Header,
    /// Where the documents of a text file end.
    pub documents: Documents,
    /// What quotes mean in a .tsv file.
    pub quotes: Quotes,
    /// What stands between the labels of a cell that holds several; `|` if nothing is said.
    pub label_separator: Option<String>,
    /// The scheme in which words are tagged, and the one in which they are read.
    pub schemes: Option<(Scheme, Scheme)>,
    /// Whether rows without a label are left out, where labels are needed.
    pub skip_unlabelled: bool,
    /// The format, by an extension that stands for it, whatever the file is called.
    pub format: Option<String>,
}

/// The usual names of the column of a text that may stand alone.
pub(super) const TEXTS: [&str; 3] = ["text", "sentence", "sentence1"];

/// The usual names of the columns of a pair of texts.
pub(super) const PAIRS: [(&str, &str); 6] = [
    ("text", "text_pair"),
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("sentence_A", "sentence_B"),
];

/// The usual names of a source's column, each with that of its target.
pub(super) const ANSWERS: [(&str, &str); 6] = [
    ("source", "target"),
    ("document", "summary"),
    ("article", "highlights"),
    ("text", "summary"),
    ("text", "target"),
    ("mr", "ref"),
];

/// What stands between the labels of a cell unless something is said.
const SEPARATOR: &str = "|";

/// The usual name of the label's column.
pub(super) const LABEL: &str = "label";

impl Columns {
    /// What stands between the labels of a cell.
    pub(super) fn separator(&self) -> String {
        self.label_separator.clone().unwrap_or_else(|| SEPARATOR.into())
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Column> {
        [&self.text, &self.pair, &self.label, &self.adapter, &self.group].into_iter().flatten()
    }
}
