//! The rows of a table that comes in batches.
use super::super::object::{self, Object};
use super::super::objects::Objects;
use super::super::source::Notes;
use super::features::{Feature, Features, KEY, features};
use super::value::value;
use crate::error::{Error, Result};
use arrow_array::RecordBatch;
use arrow_schema::Schema;
use serde_json::Value;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// A file with a table, at its beginning.
pub(super) trait Table {
    /// Its columns.
    fn schema(&self) -> &Schema;
    /// Reads these columns, by their numbers, or more of them. The error says what is wrong.
    fn only(&mut self, columns: &[usize]) -> Result<(), String>;
    /// The next batch. The error says what is wrong; behind it comes nothing.
    fn next(&mut self) -> Result<Option<RecordBatch>, String>;
}

/// The rows, one after the other.
pub(super) struct Rows {
    path: Arc<Path>,
    notes: Notes,
    table: Box<dyn Table>,
    features: Features,
    batch: Option<(Rc<dyn object::Rows>, usize)>,
    /// The row under way in its batch, and rows of batches before.
    at: usize,
    before: usize,
}

impl Rows {
    /// Of a table; `named` says whether classes have their names.
    pub fn of(path: Arc<Path>, notes: Notes, table: Box<dyn Table>, named: bool) -> Result<Rows> {
        let features = match named {
            true => features(&path, table.schema().metadata().get(KEY).map(|text| &**text))?,
            false => Features::new(),
        };
        Ok(Rows { path, notes, table, features, batch: None, at: 0, before: 0 })
    }
}

impl Objects for Rows {
    fn path(&self) -> &Arc<Path> {
        &self.path
    }
    fn notes(&self) -> &Notes {
        &self.notes
    }
    fn names(&mut self) -> Result<Vec<String>> {
        Ok(self.table.schema().fields().iter().map(|field| field.name().clone()).collect())
    }
    fn only(&mut self, fields: &[&str]) -> Result<()> {
        let all = self.table.schema().fields().iter().enumerate();
        let read = all.filter(|(_, field)| fields.contains(&field.name().as_str()));
        let columns: Vec<usize> = read.map(|(i, _)| i).collect();
        self.table.only(&columns).map_err(|why| Error::file(&self.path, why))
    }
    fn classes(&self, field: &str) -> Option<Arc<[String]>> {
        self.features.get(field).and_then(Feature::classes).cloned()
    }
    fn next(&mut self) -> Result<Option<Object>> {
        loop {
            if let Some((batch, rows)) = &self.batch
                && self.at < *rows
            {
                self.at += 1;
                let line = self.before + self.at;
                return Ok(Some(Object::of_row(&self.path, line, batch, self.at - 1)));
            }
            self.before += std::mem::take(&mut self.at);
            self.batch = None; // before there is the next one
            let next = self.table.next();
            let next = next.map_err(|why| Error::line(&self.path, self.before + 1, why))?;
            let Some(batch) = next else { return Ok(None) };
            let rows = batch.num_rows();
            self.batch = Some((Rc::new(Batch::of(batch, &self.features)), rows));
        }
    }
}

/// Some rows.
struct Batch {
    batch: RecordBatch,
    names: Vec<String>,
    features: Vec<Feature>,
}

impl Batch {
    fn of(batch: RecordBatch, features: &Features) -> Batch {
        let names: Vec<String> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
        let of = |name: &String| features.get(name).cloned().unwrap_or(Feature::Plain);
        let features = names.iter().map(of).collect();
        Batch { batch, names, features }
    }
}

impl object::Rows for Batch {
    fn names(&self) -> &[String] {
        &self.names
    }
    fn value(&self, row: usize, column: usize) -> Result<Value, String> {
        value(self.batch.column(column), row, &self.features[column])
    }
}
