//! Every format, and which one a file has.
use super::format::Format;
use super::record::Content;
use super::source::{STDIN, is_gz};
use super::{columnar, conll, conllu, documents, jsonl, squad, table};
use crate::error::{Error, Result};
use std::path::Path;

/// Every format of data files.
pub const FORMATS: &[Format] = &[
    table::TSV,
    table::CSV,
    jsonl::FORMAT,
    columnar::PARQUET,
    columnar::ARROW,
    squad::FORMAT,
    conll::FORMAT,
    conllu::FORMAT,
    documents::FORMAT,
];

/// The format in which the file at `path` holds what is wanted of it: the one that is asked for,
/// else the one that its extension stands for, in front of `.gz`.
pub(super) fn format(path: &Path, asked: Option<&str>, content: Content) -> Result<&'static Format> {
    let mut fitting = FORMATS.iter().filter(|f| f.contents.contains(&content));
    let of = |extension: &str| fitting.clone().find(|f| f.extensions.contains(&extension));
    let stem = if is_gz(path) { Path::new(path.file_stem().unwrap_or_default()) } else { path };
    let extension =
        stem.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).unwrap_or_default();
    if let Some(format) = of(asked.unwrap_or(&extension)) {
        return Ok(format);
    }
    let dot = if asked.is_some() || path.as_os_str() == STDIN { "" } else { "." };
    let mut names: Vec<String> =
        fitting.by_ref().flat_map(|f| f.extensions).map(|e| format!("{dot}{e}")).collect();
    let last = names.pop().unwrap_or_default();
    let names = format!("{} or {last}", names.join(", "));
    if let Some(asked) = asked {
        let why = format!("for this task it is {names}");
        return Err(Error::Option { option: "format", value: format!("`{asked}`"), why });
    }
    Err(match path.as_os_str() == STDIN {
        true => {
            Error::file(Path::new("stdin"), format!("nothing says how to read it: pass --format {names}"))
        }
        false => {
            let why = format!("the extension must be {names}: it says how to read the file");
            Error::file(path, format!("{why} (or pass --format)"))
        }
    })
}
