//! JSONL: one object a line.
use super::columns::{Column, Columns, LABEL, TEXTS};
use super::finder::Finder;
use super::format::{Format, Records, records};
use super::lines::Lines;
use super::object::Object;
use super::record::{Chosen, Content, Record, Want};
use crate::error::{Error, Result, list};
use std::path::Path;

/// The extensions of a file with an object a line.
pub(super) const EXTENSIONS: &[&str] = &["jsonl", "ndjson"];

/// The format's row in the registry.
pub(super) const FORMAT: Format = Format {
    extensions: EXTENSIONS,
    contents: &[Content::Texts, Content::Documents, Content::Answers],
    open,
};

/// Names of the fields that are read, found in the first object and needed in every one.
struct Fields {
    text: String,
    pair: Option<String>,
    label: Option<String>,
    adapter: Option<String>,
}

fn open(lines: Lines, columns: &Columns, want: Want) -> Result<(Chosen, Records)> {
    each_object(
        lines,
        |path, first| Fields::find(path, first, columns, want),
        |Fields { text, pair, label, .. }| {
            let quoted = |name: &String| format!("`{name}`");
            let (pair, label) = (pair.as_ref().map(quoted), label.as_ref().map(quoted));
            Chosen { text: quoted(text), pair, label }
        },
        move |fields, path, line, object| {
            let adapter = fields.adapter.as_ref().map(|name| object.string(name)).transpose()?;
            let text = object.string(&fields.text)?;
            if want.content == Content::Answers {
                let target = fields.label.as_ref().map(|name| object.string(name)).transpose()?;
                let record = Record::answered(path, line, &text, target.as_deref())?;
                return record.of_adapter(path, adapter.as_deref());
            }
            let pair = fields.pair.as_ref().map(|name| object.string(name)).transpose()?;
            let label = fields.label.as_ref().map(|name| object.label(name)).transpose()?;
            Record::row(path, line, &text, pair.as_deref(), label)?.of_adapter(path, adapter.as_deref())
        },
    )
}

/// Begins to read the objects of a file: `find` looks at the first one, to know what to read of
/// all, `chosen` shows that, and `record` reads an object.
pub(super) fn each_object<F: 'static>(
    mut lines: Lines,
    find: impl Fn(&Path, &Object<'_>) -> Result<F>,
    chosen: impl Fn(&F) -> Chosen,
    record: impl Fn(&F, &Path, usize, &Object<'_>) -> Result<Record> + 'static,
) -> Result<(Chosen, Records)> {
    let (path, mut number) = (lines.path().clone(), 0);
    // the first object is looked at twice
    let mut first = None;
    let fields = loop {
        number += 1;
        let Some(line) = lines.next()? else { return Err(Error::file(&path, "the file is empty")) };
        if !line.trim().is_empty() {
            let fields = find(&path, &Object::parse(&path, number, line)?)?;
            first.replace(line.to_string());
            break fields;
        }
    };
    let shown = chosen(&fields);
    let next = move || {
        if let Some(line) = first.take() {
            return record(&fields, &path, number, &Object::parse(&path, number, &line)?).map(Some);
        }
        while let Some(line) = lines.next()? {
            number += 1;
            if !line.trim().is_empty() {
                return record(&fields, &path, number, &Object::parse(&path, number, line)?).map(Some);
            }
        }
        Ok(None)
    };
    Ok((shown, records(next)))
}

impl Fields {
    fn find(path: &Path, object: &Object<'_>, columns: &Columns, want: Want) -> Result<Self> {
        let names = object.names();
        let missing = |wanted: String, option| Error::Column {
            path: path.into(),
            wanted,
            columns: names.clone(),
            option,
        };
        let named = |name: String, option| {
            if object.has(&name) { Ok(name) } else { Err(missing(format!("field `{name}`"), option)) }
        };
        let adapter =
            || columns.adapter.as_ref().map(|c| named(c.to_string(), "--adapter-column")).transpose();
        if want.content == Content::Answers {
            // a number is a field's name here
            let name = |column: &Option<Column>| column.as_ref().map(|c| Column::Name(c.to_string()));
            let columns =
                Columns { text: name(&columns.text), label: name(&columns.label), ..columns.clone() };
            let (text, label) = Finder { path, names: &names }.answers(&columns, want)?;
            let (text, label) = (names[text].clone(), label.map(|label| names[label].clone()));
            return Ok(Self { text, pair: None, label, adapter: adapter()? });
        }
        let mut usual = TEXTS.iter().filter(|(text, _)| object.has(text));
        let (text, beside) = match (&columns.text, usual.next(), usual.next()) {
            (Some(column), ..) => (named(column.to_string(), "--text-column")?, None),
            (None, Some((text, pair)), None) => (text.to_string(), *pair),
            (None, None, _) => {
                return Err(missing("field `text`, `sentence` or `sentence1`".into(), "--text-column"));
            }
            (None, Some((one, _)), Some((other, _))) => {
                let both = list(&[one.to_string(), other.to_string()]);
                let why = format!("several fields could be meant: {both}; choose with --text-column");
                return Err(Error::file(path, why));
            }
        };
        let pair = match &columns.pair {
            Some(column) => Some(named(column.to_string(), "--text-pair-column")?),
            None => beside.filter(|pair| object.has(pair)).map(Into::into),
        };
        let label = match (&columns.label, want.labels) {
            (Some(column), _) => Some(named(column.to_string(), "--label-column")?),
            (None, true) => Some(named(LABEL.into(), "--label-column")?),
            (None, false) => None,
        };
        Ok(Self { text, pair, label, adapter: adapter()? })
    }
}
