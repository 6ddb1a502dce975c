//! The records of a file, and the formats in which files are written.
use super::columns::Columns;
use super::format::Format;
use super::record::{Chosen, Content, Input, Record, Want};
use super::{conll, conllu, documents, jsonl, table, words};
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// Every format of data files.
pub const FORMATS: &[Format] =
    &[table::TSV, table::CSV, jsonl::FORMAT, words::FORMAT, conll::FORMAT, conllu::FORMAT, documents::FORMAT];

/// The format in which the file at `path` holds what is wanted of it.
fn format(path: &Path, content: Content) -> Result<&'static Format> {
    let extension =
        path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).unwrap_or_default();
    let mut fitting = FORMATS.iter().filter(|f| f.contents.contains(&content));
    fitting.clone().find(|f| f.extensions.contains(&extension.as_str())).ok_or_else(|| {
        let mut names: Vec<String> =
            fitting.by_ref().flat_map(|f| f.extensions).map(|e| format!(".{e}")).collect();
        let last = names.pop().unwrap_or_default();
        let why =
            format!("the extension must be {} or {last}: it says how to read the file", names.join(", "));
        Error::file(path, why)
    })
}

/// The records of one file, in its order.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// Where they came from; error messages name it.
    pub path: PathBuf,
    /// At least one record.
    pub records: Vec<Record>,
    /// The columns that were read.
    pub chosen: Chosen,
}

impl Dataset {
    /// Reads a file of one of the [`FORMATS`].
    pub fn read(path: impl AsRef<Path>, columns: &Columns, want: Want) -> Result<Self> {
        let path = path.as_ref();
        format(path, want.content)?;
        let bytes = std::fs::read(path).map_err(|source| Error::Read { path: path.into(), source })?;
        Self::parse(path, &bytes, columns, want)
    }

    /// Reads bytes; `path` names them in errors, and its extension says how they are read.
    pub fn parse(path: impl AsRef<Path>, bytes: &[u8], columns: &Columns, want: Want) -> Result<Self> {
        let path = path.as_ref();
        let format = format(path, want.content)?;
        let text = utf8(path, bytes)?;
        let (records, chosen) = match text.trim().is_empty() {
            true => return Err(Error::file(path, "the file is empty")),
            false => (format.read)(path, text, columns, want)?,
        };
        if records.is_empty() {
            return Err(Error::file(path, "the file is empty"));
        }
        Ok(Self { path: path.into(), records, chosen })
    }

    /// Texts that come from elsewhere; `name` names them in errors, as in "`name`:2" for the second.
    pub fn of_texts(name: &str, texts: &[String]) -> Result<Self> {
        let path = PathBuf::from(name);
        if texts.is_empty() {
            return Err(Error::file(&path, "there are no texts"));
        }
        let records = texts.iter().enumerate().map(|(i, text)| Record::row(&path, i + 1, text, None, None));
        let records = records.collect::<Result<_>>()?;
        Ok(Self { path, records, chosen: Chosen { text: name.into(), pair: None, label: None } })
    }

    /// Sentences that come from elsewhere, their words apart by white space.
    pub fn of_sentences(name: &str, texts: &[String]) -> Result<Self> {
        let mut data = Self::of_texts(name, texts)?;
        for (record, text) in data.records.iter_mut().zip(texts) {
            record.input = Input::Words(text.split_whitespace().map(Into::into).collect());
        }
        Ok(data)
    }

    /// Number of records.
    #[expect(clippy::len_without_is_empty, reason = "a data set without records is an error when it is read")]
    pub fn len(&self) -> usize {
        self.records.len()
    }
}

/// The text of a file, without its byte order mark.
fn utf8<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a str> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(Error::file(path, "the file is UTF-16; save it as UTF-8"));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = 1 + before.iter().filter(|&&b| b == b'\n').count();
        let byte = 1 + before.iter().rev().take_while(|&&b| b != b'\n').count();
        let found = bytes[error.valid_up_to()];
        Error::line(path, line, format!("not UTF-8: byte {byte} of the line is 0x{found:02x}"))
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}
