//! JSONL: one object a line.
use super::columns::{Column, Columns};
use super::finder::Finder;
use super::format::{Format, Records, records};
use super::lines::Lines;
use super::object::Object;
use super::record::{Chosen, Content, Label, Record, Want};
use crate::error::{Error, Result};
use std::path::Path;

/// The extensions of a file with an object a line.
pub(super) const EXTENSIONS: &[&str] = &["jsonl", "ndjson"];

/// The format's row in the registry.
pub(super) const FORMAT: Format = Format {
    extensions: EXTENSIONS,
    contents: &[Content::Texts, Content::LabelSets, Content::Values, Content::Documents, Content::Answers],
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
            if want.content == Content::Answers {
                // sentences of a source, and targets that are as good
                let source = object.strings(&fields.text)?.join(" ");
                let targets = fields.label.as_ref().map(|name| object.strings(name)).transpose()?;
                return Record::answered(path, line, &source, targets)?.of_adapter(path, adapter.as_deref());
            }
            let text = object.string(&fields.text)?;
            let pair = fields.pair.as_ref().map(|name| object.string(name)).transpose()?;
            let label = fields.label.as_ref().map(|name| object.label_of(want.content, name)).transpose()?;
            let label = label.unwrap_or(Label::None);
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
        let mut names: Vec<String> = vec![];
        for name in object.names() {
            if !names.contains(&name) {
                names.push(name); // of one that stands twice the last value counts
            }
        }
        // a number is a field's name here
        let name = |column: &Option<Column>| column.as_ref().map(|c| Column::Name(c.to_string()));
        let columns = Columns {
            text: name(&columns.text),
            pair: name(&columns.pair),
            label: name(&columns.label),
            adapter: name(&columns.adapter),
            ..columns.clone()
        };
        let found = Finder { path, names: &names, what: "field" }.with_header(&columns, want)?;
        let name = |index: usize| names[index].clone();
        let [pair, label, adapter] = [found.pair, found.label, found.adapter].map(|at| at.map(name));
        Ok(Self { text: name(found.text), pair, label, adapter })
    }
}
