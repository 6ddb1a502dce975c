//! Texts in fields of objects, with what is beside them: labels, numbers, targets.
use super::columns::{Column, Columns};
use super::finder::Finder;
use super::object::Object;
use super::objects::{self, Form, each_object};
use super::record::{Chosen, Content, Label, Record, Want};
use crate::error::Result;
use std::path::Path;

/// What is read of objects, a row of the registry.
pub(super) const FORM: Form = Form {
    contents: &[Content::Texts, Content::LabelSets, Content::Values, Content::Documents, Content::Answers],
    open: |objects, columns, want| {
        each_object(objects, columns, |path, names| Fields::find(path, names, columns, want))
    },
};

/// Names of the fields that are read, found in the first object and needed in every one.
struct Fields {
    text: String,
    pair: Option<String>,
    label: Option<String>,
    adapter: Option<String>,
    content: Content,
}

impl Fields {
    fn find(path: &Path, all: &[String], columns: &Columns, want: Want) -> Result<Self> {
        let mut names: Vec<String> = vec![];
        for name in all {
            if !names.contains(name) {
                names.push(name.clone()); // of one that stands twice the last value counts
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
        Ok(Self { text: name(found.text), pair, label, adapter, content: want.content })
    }
}

impl objects::Fields for Fields {
    fn chosen(&self) -> Chosen {
        let quoted = |name: &String| format!("`{name}`");
        let (pair, label) = (self.pair.as_ref().map(quoted), self.label.as_ref().map(quoted));
        Chosen { text: quoted(&self.text), pair, label, classes: None }
    }
    fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }
    fn inputs(&self) -> Vec<&str> {
        [Some(&self.text), self.pair.as_ref(), self.adapter.as_ref()]
            .into_iter()
            .flatten()
            .map(|n| &**n)
            .collect()
    }
    fn record(&self, object: &Object) -> Result<Record> {
        let Fields { text, pair, label, adapter, content } = self;
        let (path, line) = (object.path(), object.line());
        let adapter = adapter.as_ref().map(|name| object.string(name)).transpose()?;
        if *content == Content::Answers {
            // sentences of a source, and targets that are as good
            let source = object.strings(text)?.join(" ");
            let targets = label.as_ref().map(|name| object.strings(name)).transpose()?;
            return Record::answered(path, line, &source, targets)?.of_adapter(path, adapter.as_deref());
        }
        let text = object.string(text)?;
        let pair = pair.as_ref().map(|name| object.string(name)).transpose()?;
        let label = label.as_ref().map(|name| object.label_of(*content, name)).transpose()?;
        let label = label.unwrap_or(Label::None);
        Record::row(path, line, &text, pair.as_deref(), label)?.of_adapter(path, adapter.as_deref())
    }
}
