//! Everything that can be read of objects, so that each format of objects holds it.
use super::columns::Columns;
use super::format::Records;
use super::objects::{Form, Objects};
use super::record::{Chosen, Want};
use super::{choices, fields, questions, words};
use crate::error::{Error, Result};

/// All of it.
const FORMS: &[Form] = &[fields::FORM, words::FORM, questions::FORM, choices::FORM];

/// Begins to read the objects of a file as what is wanted of them.
pub(super) fn open(objects: Box<dyn Objects>, columns: &Columns, want: Want) -> Result<(Chosen, Records)> {
    match FORMS.iter().find(|form| form.contents.contains(&want.content)) {
        Some(form) => (form.open)(objects, columns, want),
        None => Err(Error::file(objects.path(), "this is not read of objects")),
    }
}
