//! Objects one after the other, whatever they are written as, and what is read of them.
//!
//! A format whose records are objects says how to come by them ([`Objects`]); what is read of them is a
//! [`Form`].
use super::columns::{Column, Columns};
use super::format::{Records, records};
use super::object::Object;
use super::record::{Chosen, Content, Record, Want};
use super::source::Notes;
use crate::error::Result;
use std::path::Path;
use std::sync::Arc;

/// The objects of a file.
pub(super) trait Objects {
    /// The file.
    fn path(&self) -> &Arc<Path>;
    /// What there is to say about the files of the data set.
    fn notes(&self) -> &Notes;
    /// The names of the fields, which are those of the first object.
    fn names(&mut self) -> Result<Vec<String>>;
    /// Told before the first object which fields will be looked at.
    fn only(&mut self, fields: &[&str]) -> Result<()> {
        let _ = fields;
        Ok(())
    }
    /// The names of all classes that the labels in a field can be, if the file lists them.
    fn classes(&self, field: &str) -> Option<Arc<[String]>> {
        let _ = field;
        None
    }
    /// The next object.
    fn next(&mut self) -> Result<Option<Object>>;
}

/// The fields of which a record is made.
pub(super) trait Fields: 'static {
    /// What is shown of them.
    fn chosen(&self) -> Chosen;
    /// The field of the label, if it is read.
    fn label(&self) -> Option<&str>;
    /// The fields of all else that is read, if they are there.
    fn inputs(&self) -> Vec<&str>;
    /// The record that an object is.
    fn record(&self, object: &Object) -> Result<Record>;
}

/// Begins to read the objects of a file: which fields are read, and the records.
type Open = fn(Box<dyn Objects>, &Columns, Want) -> Result<(Chosen, Records)>;

/// What can be read of objects.
pub(super) struct Form {
    pub contents: &'static [Content],
    pub open: Open,
}

/// Makes a record of each object, by the fields that `find` finds among the names of all, and of the
/// group that a field of the columns names.
pub(super) fn each_object<F: Fields>(
    mut objects: Box<dyn Objects>,
    columns: &Columns,
    find: impl FnOnce(&Path, &[String]) -> Result<F>,
) -> Result<(Chosen, Records)> {
    let path = objects.path().clone();
    let fields = find(&path, &objects.names()?)?;
    let group = columns.group.as_ref().map(Column::to_string);
    let read: Vec<&str> = fields.inputs().into_iter().chain(fields.label()).chain(group.as_deref()).collect();
    objects.only(&read)?;
    let classes = fields.label().and_then(|label| objects.classes(label));
    let chosen = Chosen { classes, ..fields.chosen() };
    let next = move || {
        let Some(object) = objects.next()? else { return Ok(None) };
        let record = fields.record(&object)?;
        match &group {
            Some(name) => record.of_group(object.path(), object.label(name)?.taken()).map(Some),
            None => Ok(Some(record)),
        }
    };
    Ok((chosen, records(next)))
}
