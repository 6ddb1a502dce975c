//! An activation carries its packing.
//!
//! The rows of all sequences of a batch stand one after the other, and the activation says which
//! rows are whose. That one decision means no padding anywhere, lets a hook change the rows in the
//! middle of a model, lets queries and keys differ in length, and makes a replayed or cached layer
//! a function of the activation alone.
use crate::{Error, Result, node::NodeId};
use engraft_kernels::{Buffer, Class, View, matmul_int8::QuantizedRows};
use ndarray::Array2;
use std::sync::{Arc, OnceLock};

/// One sequence of a packed batch: rows `start..start + len`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seq {
    /// Its first row.
    pub start: usize,
    /// Its rows.
    pub len: usize,
    /// Which example of the batch it is.
    pub item: usize,
    /// Which of the active adapter setups answers for it.
    pub route: usize,
    /// Leading rows that are no tokens (a prompt): labels skip them.
    pub extra: usize,
    /// The row that stands first and is read for the whole sequence: that of a prompt, where there
    /// is one, unless the prompt counts as standing behind it.
    pub first: usize,
    /// The place of its first row, from which positions are counted: others may stand in front of
    /// it as keys alone.
    pub place: usize,
}

/// Values of shape (rows, cols) and how the rows are packed. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Act {
    pub(crate) buf: Arc<Buffer>,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) node: Option<NodeId>,
    pub(crate) seqs: Arc<[Seq]>,
    /// The values in 8 bits, from when they are first needed: once for all that read them.
    pub(crate) quantized: Arc<OnceLock<QuantizedRows>>,
}

impl Act {
    /// An activation that nothing trainable stands behind.
    pub fn new(buf: Buffer, cols: usize, seqs: Arc<[Seq]>) -> Result<Act> {
        let rows = seqs.iter().map(|s| s.start + s.len).max().unwrap_or(0);
        if buf.len() != rows * cols {
            return Err(Error::Shape { op: "activation", left: vec![rows, cols], right: vec![buf.len()] });
        }
        Ok(Act::of(buf, (rows, cols), seqs))
    }
    /// The same packing with other values.
    pub(crate) fn like(&self, buf: Buffer, cols: usize) -> Act {
        Act::of(buf, (self.rows, cols), self.seqs.clone())
    }
    pub(crate) fn of(buf: Buffer, (rows, cols): (usize, usize), seqs: Arc<[Seq]>) -> Act {
        Act { buf: Arc::new(buf), rows, cols, node: None, seqs, quantized: Arc::default() }
    }
    /// With its values in 8 bits, which were written along with them.
    pub(crate) fn with_quantized(self, quantized: Option<QuantizedRows>) -> Act {
        Act { quantized: Arc::new(quantized.map_or_else(OnceLock::new, OnceLock::from)), ..self }
    }
    /// Rows (tokens).
    pub fn rows(&self) -> usize {
        self.rows
    }
    /// Channels.
    pub fn cols(&self) -> usize {
        self.cols
    }
    /// True if both are the same values, not merely equal ones.
    pub fn is_same(&self, other: &Act) -> bool {
        Arc::ptr_eq(&self.buf, &other.buf)
    }
    /// The same values packed in another way; the rows of the sequences must be
    /// those that are there.
    pub fn repacked(self, seqs: Arc<[Seq]>) -> Result<Act> {
        let rows = seqs.iter().map(|s| s.start + s.len).max().unwrap_or(0);
        match rows == self.rows {
            true => Ok(Act { seqs, ..self }),
            false => Err(Error::Shape { op: "repacked", left: vec![self.rows], right: vec![rows] }),
        }
    }
    /// How the rows are packed.
    pub fn seqs(&self) -> &Arc<[Seq]> {
        &self.seqs
    }
    /// The values, (rows, cols).
    pub fn buffer(&self) -> &Buffer {
        &self.buf
    }
    /// The values, as launches take them.
    pub(crate) fn view(&self) -> Result<View<'_>> {
        Ok(View::of(&self.buf, self.rows, self.cols)?)
    }
    /// A copy of the values in host memory.
    pub fn read(&self) -> Result<Vec<f32>> {
        Ok(self.buf.read()?)
    }
    /// A copy of the values in host memory as an array of shape (rows, cols).
    pub fn to_array(&self) -> Result<Array2<f32>> {
        let wrong =
            |_| Error::Shape { op: "array", left: vec![self.rows, self.cols], right: vec![self.buf.len()] };
        Array2::from_shape_vec((self.rows, self.cols), self.read()?).map_err(wrong)
    }
    /// True if a `Param` stands behind it.
    pub fn is_recorded(&self) -> bool {
        self.node.is_some()
    }
    /// From now on the values are held for the backward pass.
    pub(crate) fn hold(&self) {
        if self.buf.class() != Class::Saved {
            self.buf.set_class(Class::Saved);
        }
    }
    pub(crate) fn same_shape(&self, op: &'static str, other: &Act) -> Result<()> {
        if (self.rows, self.cols) == (other.rows, other.cols) {
            return Ok(());
        }
        Err(Error::Shape { op, left: vec![self.rows, self.cols], right: vec![other.rows, other.cols] })
    }
}

/// Sequences of the given lengths, one for each item, packed in order.
pub fn pack(lengths: impl IntoIterator<Item = usize>) -> Arc<[Seq]> {
    let mut start = 0;
    let seq = |(item, len)| {
        let s = Seq { start, len, item, ..Seq::default() };
        start += len;
        s
    };
    lengths.into_iter().enumerate().map(seq).collect()
}
