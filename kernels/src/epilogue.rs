//! What is added to a product where its sums are written, without a pass of its own.
use crate::{Buffer, Device, Result, View, ViewMut, check_buffer, launch::Arg, storage::view::fits};
use std::ptr::null;

/// A row and a matrix that are added to a product: C = A B + base + bias. They are buffers in a
/// launch ([`Plus`]), then slices whose lengths are checked, then addresses in a tile.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue<Bias, Rows> {
    /// A row, the same for all rows.
    pub bias: Option<Bias>,
    /// A matrix of the output's shape.
    pub base: Base<Rows>,
}
/// The matrix that a product is added to.
#[derive(Clone, Copy, Debug)]
pub enum Base<Rows> {
    /// None.
    Nothing,
    /// This one.
    Rows(Rows),
    /// What the output holds.
    Output,
}
/// What a launch adds to its product.
pub type Plus<'a> = Epilogue<&'a Buffer, View<'a>>;
/// In host memory: a matrix is its elements and the distance between its rows.
pub(crate) type OnHost<'a> = Epilogue<&'a [f32], (&'a [f32], usize)>;
/// For one tile: the addresses of the first column's bias and of the first element, and the
/// distance between rows.
pub(crate) type AtTile = Epilogue<*const f32, (*const f32, usize)>;

impl<Bias, Rows> Epilogue<Bias, Rows> {
    /// Nothing.
    pub const NOTHING: Self = Epilogue { bias: None, base: Base::Nothing };
    /// What the output holds.
    pub const OUTPUT: Self = Epilogue { bias: None, base: Base::Output };
    /// A row, the same for all rows.
    pub fn bias(row: Bias) -> Self {
        Epilogue { bias: Some(row), base: Base::Nothing }
    }
    /// A matrix of the output's shape.
    pub fn rows(rows: Rows) -> Self {
        Epilogue { bias: None, base: Base::Rows(rows) }
    }
    /// True if a matrix is added.
    pub(crate) fn has_base(&self) -> bool {
        !matches!(self.base, Base::Nothing)
    }
}
impl<'a> Plus<'a> {
    pub(crate) fn check(self, kernel: &'static str, device: &Device, shape: (usize, usize)) -> Result<()> {
        if let Some(b) = self.bias {
            check_buffer::<f32>(kernel, device, "bias", b, shape.1)?;
        }
        match self.base {
            Base::Rows(r) => r.expect::<f32>(kernel, device, "plus", shape),
            Base::Nothing | Base::Output => Ok(()),
        }
    }
    /// `Plus` of `cuda.cuh`. What the output holds is read where it is written, by the same thread.
    pub(crate) fn on_gpu(self, output: &ViewMut<'_>) -> Result<Arg<'a>> {
        let bias = self.bias.map_or(Ok(0), Arg::address)?;
        let [start, stride] = match self.base {
            Base::Nothing => [0; 2],
            Base::Rows(rows) => Arg::place(rows)?,
            Base::Output => Arg::place(output.view())?,
        };
        Ok(Arg::structure(vec![bias, start, stride]))
    }
    pub(crate) fn host(self) -> Result<OnHost<'a>> {
        Ok(Epilogue {
            bias: self.bias.map(Buffer::host).transpose()?,
            base: match self.base {
                Base::Nothing => Base::Nothing,
                Base::Rows(r) => Base::Rows((r.host()?, r.stride())),
                Base::Output => Base::Output,
            },
        })
    }
}
impl OnHost<'_> {
    /// True if there is something for each element of C (rows x cols).
    pub(crate) fn covers(&self, rows: usize, cols: usize) -> bool {
        self.bias.is_none_or(|b| b.len() >= cols)
            && match self.base {
                Base::Rows((data, stride)) => fits(data.len(), rows, stride, cols),
                Base::Nothing | Base::Output => true,
            }
    }
    /// The addresses of what is added to the tile at (i, j), which [`Self::covers`] has
    /// found in bounds.
    pub(crate) fn at(&self, i: usize, j: usize) -> AtTile {
        let start = match self.base {
            Base::Nothing => Base::Nothing,
            Base::Rows((data, stride)) => Base::Rows((data.as_ptr(), stride)),
            Base::Output => Base::Output,
        };
        Epilogue { bias: self.bias.map(<[f32]>::as_ptr), base: start }.moved(i, j)
    }
}
impl AtTile {
    /// For the tile `i` rows below and `j` columns to the right.
    #[inline(always)]
    pub(crate) fn moved(self, i: usize, j: usize) -> AtTile {
        Epilogue {
            bias: self.bias.map(|b| b.wrapping_add(j)),
            base: match self.base {
                Base::Rows((at, row)) => Base::Rows((at.wrapping_add(i * row + j), row)),
                base => base,
            },
        }
    }
    /// The first element of what is added to the tile at `c` and the distance between its rows, and
    /// the bias; null: none.
    #[inline(always)]
    pub(crate) fn addresses(self, c: (*mut f32, usize)) -> ((*const f32, usize), *const f32) {
        let base = match self.base {
            Base::Nothing => (null(), 0),
            Base::Rows(rows) => rows,
            Base::Output => (c.0.cast_const(), c.1),
        };
        (base, self.bias.unwrap_or(null()))
    }
}
