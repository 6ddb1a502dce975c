//! Parts of matrices, as launches take them.
//!
//! A view is a buffer, a first element, rows, columns and a row stride: element (i, j) is number
//! `start + i * stride + j` of the buffer. So a third of a fused product, the rows of one adapter
//! or the filled part of a cache is an argument and not a copy. A view is checked when it is made;
//! a launch then compares shapes and devices ([`View::expect`]).
use crate::{Buffer, Device, Element, Error, Result, check_buffer};
use std::{marker::PhantomData, ops::Range, ptr::NonNull};

/// Where in a buffer the elements are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    start: usize,
    rows: usize,
    cols: usize,
    stride: usize,
}

impl Place {
    fn whole(rows: usize, cols: usize) -> Place {
        Place { start: 0, rows, cols, stride: cols }
    }
    /// The number behind the last element; none if it is beyond what a machine can count.
    fn end(self) -> Option<usize> {
        match (self.rows, self.cols) {
            (0, _) | (_, 0) => Some(self.start),
            (rows, cols) => (rows - 1).checked_mul(self.stride)?.checked_add(cols)?.checked_add(self.start),
        }
    }
    fn within(self, len: usize) -> Result<Place> {
        match self.end() {
            Some(end) if end <= len => Ok(self),
            Some(expected) => Err(Error::Length { kernel: "view", argument: "buffer", expected, got: len }),
            None => Err(Error::uncountable("view", "matrix", (self.rows, self.cols))),
        }
    }
    fn part(self, rows: Range<usize>, cols: Range<usize>) -> Result<Place> {
        let inside = |r: &Range<usize>, n| r.start <= r.end && r.end <= n;
        if !(inside(&rows, self.rows) && inside(&cols, self.cols)) {
            return Err(Error::Part { rows, cols, of: (self.rows, self.cols) });
        }
        // within the elements of a buffer, so that nothing overflows; an empty part
        // may start anywhere
        let empty = rows.is_empty() || cols.is_empty();
        let start = if empty { self.start } else { self.start + rows.start * self.stride + cols.start };
        Ok(Place { start, rows: rows.len(), cols: cols.len(), stride: self.stride })
    }
}

/// A matrix in a buffer, to be read.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    buffer: &'a Buffer,
    place: Place,
}

impl<'a> View<'a> {
    /// All of a matrix (rows, cols) that lies at the start of a buffer.
    pub fn of(buffer: &'a Buffer, rows: usize, cols: usize) -> Result<View<'a>> {
        let place = Place::whole(rows, cols).within(buffer.len())?;
        Ok(View { buffer, place })
    }
    /// All of a buffer, as one row.
    pub fn row(buffer: &'a Buffer) -> View<'a> {
        View { buffer, place: Place::whole(1, buffer.len()) }
    }
    /// These of its rows.
    pub fn rows_of(self, rows: Range<usize>) -> Result<View<'a>> {
        Ok(View { place: self.place.part(rows, 0..self.place.cols)?, ..self })
    }
    /// These of its columns.
    pub fn cols_of(self, cols: Range<usize>) -> Result<View<'a>> {
        Ok(View { place: self.place.part(0..self.place.rows, cols)?, ..self })
    }
    /// Rows.
    pub fn rows(&self) -> usize {
        self.place.rows
    }
    /// Columns.
    pub fn cols(&self) -> usize {
        self.place.cols
    }
    /// Elements from the start of a row to that of the next.
    pub fn stride(&self) -> usize {
        self.place.stride
    }
    /// True if its rows follow each other without a gap.
    pub fn is_dense(&self) -> bool {
        self.place.stride == self.place.cols || self.place.rows <= 1
    }
    /// Refuses a launch for which the matrix has another shape or element type, or lives
    /// on another device.
    pub(crate) fn expect<T: Element>(
        &self,
        kernel: &'static str,
        device: &Device,
        argument: &'static str,
        shape: (usize, usize),
    ) -> Result<()> {
        check_buffer::<T>(kernel, device, argument, self.buffer, 0)?;
        let got = (self.place.rows, self.place.cols);
        if got != shape {
            return Err(Error::Shape { kernel, argument, expected: shape, got });
        }
        Ok(())
    }
    /// The buffer, for kernels that run on its device.
    pub(crate) fn buffer(&self) -> &'a Buffer {
        self.buffer
    }
    /// The number of its first element in the buffer.
    pub(crate) fn start(&self) -> usize {
        self.place.start
    }
    /// Its elements in host memory, from the first to the last: row i starts at `i * stride`.
    pub(crate) fn host<T: Element>(&self) -> Result<&'a [T]> {
        // `within` has found the end inside the buffer
        let end = self.place.end().unwrap_or(self.place.start);
        Ok(&self.buffer.host::<T>()?[self.place.start..end])
    }
}

/// A matrix in a buffer, to be written: nobody else has access to its elements.
#[derive(Debug)]
pub struct ViewMut<'a> {
    buffer: &'a mut Buffer,
    place: Place,
}

impl<'a> ViewMut<'a> {
    /// All of a matrix (rows, cols) that lies at the start of a buffer.
    pub fn of(buffer: &'a mut Buffer, rows: usize, cols: usize) -> Result<ViewMut<'a>> {
        let place = Place::whole(rows, cols).within(buffer.len())?;
        Ok(ViewMut { buffer, place })
    }
    /// All of a buffer, as one row.
    pub fn row(buffer: &'a mut Buffer) -> ViewMut<'a> {
        let place = Place::whole(1, buffer.len());
        ViewMut { buffer, place }
    }
    /// These of its rows.
    pub fn rows_of(self, rows: Range<usize>) -> Result<ViewMut<'a>> {
        let place = self.place.part(rows, 0..self.place.cols)?;
        Ok(ViewMut { place, ..self })
    }
    /// These of its columns.
    pub fn cols_of(self, cols: Range<usize>) -> Result<ViewMut<'a>> {
        let place = self.place.part(0..self.place.rows, cols)?;
        Ok(ViewMut { place, ..self })
    }
    /// The same matrix, lent for a shorter time.
    pub fn reborrow(&mut self) -> ViewMut<'_> {
        ViewMut { buffer: self.buffer, place: self.place }
    }
    /// The matrix, to be read.
    pub fn view(&self) -> View<'_> {
        View { buffer: self.buffer, place: self.place }
    }
    /// Several ranges of its columns, each to be written by itself: the gradients of the parts of
    /// a fused product.
    ///
    /// # Errors
    /// If a range is not inside the matrix, or two of them overlap.
    pub fn split_cols(self, parts: &[Range<usize>]) -> Result<Vec<ColsMut<'a>>> {
        let mut sorted: Vec<&Range<usize>> = parts.iter().filter(|r| !r.is_empty()).collect();
        sorted.sort_by_key(|r| r.start);
        if sorted.windows(2).any(|w| w[0].end > w[1].start) {
            return Err(Error::Overlap { kernel: "view", argument: "columns" });
        }
        let all = ColsMut::from(self);
        let rows = 0..all.place.rows;
        let part =
            |cols: &Range<usize>| Ok(ColsMut { place: all.place.part(rows.clone(), cols.clone())?, ..all });
        parts.iter().map(part).collect()
    }
    /// Its elements in host memory, from the first to the last: row i starts at `i * stride`. What
    /// lies between its rows is not of this matrix.
    pub(crate) fn host<T: Element>(self) -> Result<&'a mut [T]> {
        let end = self.place.end().unwrap_or(self.place.start);
        Ok(&mut self.buffer.host_mut::<T>()?[self.place.start..end])
    }
}

/// Columns of a matrix in a buffer, to be written: nobody else has access to them, but others may
/// write other columns of the same rows meanwhile. So kernels get no slice of the rows, only
/// where they begin.
#[derive(Debug)]
pub struct ColsMut<'a> {
    buffer: &'a Buffer,
    /// The buffer's first element, if it is f32 in host memory that may be changed.
    memory: Option<NonNull<f32>>,
    place: Place,
    lent: PhantomData<&'a mut [f32]>,
}
// SAFETY: the pointer is only handed on; whoever writes through it says why that is sound.
unsafe impl Send for ColsMut<'_> {}
// SAFETY: as above.
unsafe impl Sync for ColsMut<'_> {}

impl<'a> From<ViewMut<'a>> for ColsMut<'a> {
    fn from(v: ViewMut<'a>) -> ColsMut<'a> {
        let ViewMut { buffer, place } = v;
        let memory = buffer.host_start();
        ColsMut { buffer, memory, place, lent: PhantomData }
    }
}
impl ColsMut<'_> {
    /// Rows.
    pub fn rows(&self) -> usize {
        self.place.rows
    }
    /// Columns.
    pub fn cols(&self) -> usize {
        self.place.cols
    }
    /// As [`View::expect`].
    pub(crate) fn expect<T: Element>(
        &self,
        kernel: &'static str,
        device: &Device,
        argument: &'static str,
        shape: (usize, usize),
    ) -> Result<()> {
        self.view().expect::<T>(kernel, device, argument, shape)
    }
    /// From row to row.
    pub(crate) fn stride(&self) -> usize {
        self.place.stride
    }
    /// Where they are.
    pub(crate) fn view(&self) -> View<'_> {
        View { buffer: self.buffer, place: self.place }
    }
    /// Refuses what kernels on the processor cannot write: other memory, or no f32.
    pub(crate) fn on_host(&self) -> Result<NonNull<f32>> {
        self.memory.ok_or_else(|| Error::not_on("the host", self.buffer.device().name()))
    }
    /// Where a block of it begins, in host memory: valid for writes of these rows and columns. Null
    /// if there is nothing to write.
    pub(crate) fn block(&self, rows: Range<usize>, cols: Range<usize>) -> Result<*mut f32> {
        let part = self.place.part(rows, cols)?;
        if part.rows == 0 || part.cols == 0 {
            return Ok(std::ptr::null_mut());
        }
        Ok(self.on_host()?.as_ptr().wrapping_add(part.start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Class;
    use proptest::prelude::*;

    #[test]
    fn parts_hold_their_elements() {
        let device = Device::cpu(1).unwrap();
        let values: Vec<f32> = (0..60).map(|x| x as f32).collect();
        let buffer = device.upload(Class::Scratch, &values).unwrap();
        let x = View::of(&buffer, 5, 12).unwrap();
        let part = x.cols_of(4..8).unwrap().rows_of(1..4).unwrap();
        assert_eq!((part.rows(), part.cols(), part.stride(), part.is_dense()), (3, 4, 12, false));
        let host = part.host::<f32>().unwrap();
        assert_eq!(host.len(), 2 * 12 + 4);
        assert_eq!(host.chunks(12).map(|r| r[0]).collect::<Vec<_>>(), [16.0, 28.0, 40.0]);
        assert!(x.rows_of(2..3).unwrap().cols_of(0..3).unwrap().is_dense());
        assert!(x.cols_of(12..12).unwrap().host::<f32>().unwrap().is_empty());
    }
    #[test]
    fn what_lies_outside_is_refused() {
        let device = Device::cpu(1).unwrap();
        let mut buffer = device.upload(Class::Scratch, &[0f32; 59]).unwrap();
        assert!(View::of(&buffer, 5, 12).is_err());
        assert!(View::of(&buffer, usize::MAX, 2).is_err());
        let x = View::of(&buffer, 4, 12).unwrap();
        let (behind, backwards) = (3..5, Range { start: 3, end: 2 });
        assert!(x.rows_of(behind).is_err() && x.rows_of(backwards).is_err() && x.cols_of(12..13).is_err());
        let wrong = x.expect::<f32>("test", &device, "x", (12, 4)).unwrap_err();
        assert_eq!(wrong.to_string(), "test: `x` has shape (4, 12), expected (12, 4)");
        assert!(ViewMut::of(&mut buffer, 60, 1).is_err());
    }
    #[test]
    fn columns_are_written_side_by_side() {
        let device = Device::cpu(1).unwrap();
        let mut buffer = device.upload(Class::Scratch, &[0f32; 24]).unwrap();
        let whole = ViewMut::of(&mut buffer, 4, 6).unwrap().rows_of(1..4).unwrap();
        let parts = whole.split_cols(&[4..6, 0..1, 2..2]).unwrap();
        assert_eq!(parts.iter().map(|p| (p.rows(), p.cols())).collect::<Vec<_>>(), [(3, 2), (3, 1), (3, 0)]);
        for (n, p) in parts.iter().enumerate() {
            for i in 0..p.rows() {
                let to = p.block(i..i + 1, 0..p.cols()).unwrap();
                // SAFETY: the columns of a row of this part
                (0..p.cols()).for_each(|j| unsafe { *to.add(j) = (1 + n) as f32 });
            }
            assert!(p.block(0..4, 0..1).is_err() && p.block(0..1, 0..7).is_err());
        }
        let row = [2.0, 0.0, 0.0, 0.0, 1.0, 1.0];
        assert_eq!(buffer.read::<f32>().unwrap(), [[0.0; 6], row, row, row].concat());
        let mut split =
            |parts: &[Range<usize>]| ViewMut::of(&mut buffer, 4, 6).unwrap().split_cols(parts).map(drop);
        assert!(matches!(split(&[0..3, 2..4]), Err(Error::Overlap { .. })));
        assert!(matches!(split(&[0..3, 3..7]), Err(Error::Part { .. })));
        let mut ids = device.upload(Class::Scratch, &[0u32; 2]).unwrap();
        assert!(ColsMut::from(ViewMut::of(&mut ids, 1, 2).unwrap()).block(0..1, 0..1).is_err());
    }
    proptest! {
        #[test]
        fn a_part_of_a_part_is_a_part(r in 0usize..7, c in 0usize..7, a in 0usize..8, b in 0usize..8, n in 0usize..8, m in 0usize..8) {
            let device = Device::cpu(1).unwrap();
            let values: Vec<f32> = (0..r * c).map(|x| x as f32).collect();
            let buffer = device.upload(Class::Scratch, &values).unwrap();
            let x = View::of(&buffer, r, c).unwrap();
            match x.rows_of(a..a + n).and_then(|x| x.cols_of(b..b + m)) {
                Ok(part) => {
                    let host = part.host::<f32>().unwrap();
                    for i in 0..n {
                        for j in 0..m {
                            prop_assert_eq!(host[i * part.stride() + j], ((a + i) * c + b + j) as f32);
                        }
                    }
                }
                Err(_) => prop_assert!(a + n > r || b + m > c),
            }
        }
    }
}
