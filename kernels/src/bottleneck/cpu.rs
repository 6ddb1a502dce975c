//! Blocks of rows in parallel. Both weights are packed first, by all threads; then each block is multiplied twice while it
//! is in the second-level cache, which holds the packed weights too. How rows are cut depends on the shapes alone.
use super::*;
use crate::{
    Class, Cpu, Isa,
    activation::{derivatives, values},
    matmul::{
        Base,
        panels::{Operands, Panels},
    },
    simd::{LINE, Level},
    team::Shared,
};
use std::{ptr::null, slice::from_raw_parts_mut};

/// Rows of a block at most: whole tiles of 14 and of 9.
const ROWS: usize = 126;
/// Rows are cut smaller until there are so many blocks ...
const BLOCKS: usize = 32;
/// ... or they have so few rows.
const LEAST_ROWS: usize = 42;

/// Rows of a block; of the last one perhaps fewer.
fn rows(m: usize) -> usize {
    let blocks = m.div_ceil(m.div_ceil(BLOCKS).clamp(LEAST_ROWS, ROWS)).max(1);
    m.div_ceil(blocks).max(1)
}
/// f32 values of the packed weights, and of what each thread needs as its own: f(a) of a block, if it is to be `kept`.
fn floats(isa: Isa, [m, c, b]: [usize; 3], kept: bool) -> (usize, usize) {
    if m == 0 {
        return (0, 0);
    }
    let packed = Panels::floats(isa, c, b) + Panels::floats(isa, b, c);
    (packed.next_multiple_of(LINE), if kept { (rows(m) * b).next_multiple_of(LINE) } else { 0 })
}
/// What a launch allocates: the same on the device that only counts.
pub(super) fn workspace(device: &Device, isa: Isa, shape: [usize; 3], kept: bool) -> Result<Buffer> {
    let (packed, each) = floats(isa, shape, kept);
    device.alloc::<f32>(Class::Scratch, packed + device.threads() * each)
}

/// Two products, the second of which is added to something, or the first one alone.
struct Products<'a> {
    shape: [usize; 3],
    isa: Isa,
    first: Panels<'a>,
    bias: Option<&'a [f32]>,
    second: Option<(Panels<'a>, Plus<'a>)>,
    /// What is between them writes its result apart.
    kept: bool,
}

pub(super) fn forward(
    device: &Device,
    d: &Cpu,
    w: Bottleneck<'_>,
    x: &Buffer,
    plus: Plus<'_>,
    a: &mut Buffer,
    y: &mut Buffer,
) -> Result<()> {
    let (isa, level, c, b) = (isa()?, Level::current()?, w.channels, w.width);
    let p = Products {
        shape: [w.rows, c, b],
        isa,
        first: Panels::new(isa, w.down.host()?, true, c, b),
        bias: w.down_bias.map(Buffer::host).transpose()?,
        second: Some((Panels::new(isa, w.up.host()?, true, b, c), plus)),
        kept: true,
    };
    let mut space = workspace(device, isa, p.shape, p.kept)?;
    let (a, y) = (a.host_mut()?, y.host_mut()?);
    p.run(d, x.host()?, a, y, space.host_mut()?, |_, a, h| values(level, w.f, a, h))
}

pub(super) fn backward(
    device: &Device,
    d: &Cpu,
    w: Bottleneck<'_>,
    a: &Buffer,
    dy: &Buffer,
    da: &mut Buffer,
    dx: Option<(Plus<'_>, &mut Buffer)>,
) -> Result<()> {
    let (isa, level, c, b) = (isa()?, Level::current()?, w.channels, w.width);
    let (plus, dx) = dx.unzip();
    let down = w.down.host()?;
    let p = Products {
        shape: [w.rows, c, b],
        isa,
        first: Panels::new(isa, w.up.host()?, false, c, b),
        bias: None,
        second: plus.map(|plus| (Panels::new(isa, down, false, b, c), plus)),
        kept: false,
    };
    let mut space = workspace(device, isa, p.shape, p.kept)?;
    let (a, da) = (a.host()?, da.host_mut()?);
    let dx = dx.map_or(Ok(&mut [][..]), Buffer::host_mut)?;
    p.run(d, dy.host()?, da, dx, space.host_mut()?, |i, da, _| derivatives(level, w.f, &a[i * b..], da))
}

impl Products<'_> {
    /// narrow = x times the first matrix, `between(row, block of narrow, f(a) of the block)`, y = that times the second.
    fn run(
        &self,
        d: &Cpu,
        x: &[f32],
        narrow: &mut [f32],
        y: &mut [f32],
        space: &mut [f32],
        between: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
    ) -> Result<()> {
        let [m, c, b] = self.shape;
        if m == 0 {
            return Ok(());
        }
        let start = self.second.map_or(Plus::NOTHING, |s| s.1).start()?;
        let (packed, each) = floats(self.isa, self.shape, self.kept);
        // these are what the unsafe code below relies on
        assert!(x.len() >= m * c && narrow.len() >= m * b, "x or a is too short");
        assert!(self.second.is_none() || y.len() >= m * c, "y is too short");
        assert!(self.bias.is_none_or(|v| v.len() >= b) && start.bias.is_none_or(|v| v.len() >= c));
        assert!(!matches!(start.onto, Base::Rows(rows) if rows.len() < m * c), "the rows are too short");
        assert!(space.len() >= packed + d.threads() * each, "the workspace is too small");

        let [space, narrow, y] = [space, narrow, y].map(|v| Shared(v.as_mut_ptr()));
        let behind = Panels::floats(self.isa, c, b);
        let pieces = self.first.pieces();
        let all = pieces + self.second.map_or(0, |s| s.0.pieces());
        d.each(all, |i, _| match &self.second {
            // SAFETY: both matrices have room in the workspace, the second one behind the first (asserted), and every
            // piece is packed once.
            Some((second, _)) if i >= pieces => unsafe { second.pack(i - pieces, space.get().add(behind)) },
            // SAFETY: as above.
            _ => unsafe { self.first.pack(i, space.get()) },
        });
        let rows = rows(m);
        let row = |v: Option<&[f32]>| v.map_or(null(), <[f32]>::as_ptr);
        d.each(m.div_ceil(rows), |block, thread| {
            let i = block * rows;
            let high = rows.min(m - i);
            // SAFETY: rows i .. i + high of x, narrow, y and what y is added to exist (asserted), and no other task
            // touches these of narrow and y, which are borrowed mutably and so overlap nothing else. The matrices are
            // packed. `thread` is below `threads()` and no two threads that run at once share it, so that its part of
            // the workspace, which holds as many rows of B (asserted), belongs to this call.
            unsafe {
                let at = narrow.get().add(i * b);
                let of = Operands {
                    a: (x.as_ptr().add(i * c), c),
                    start: (null(), 0),
                    bias: row(self.bias),
                    c: (at, b),
                };
                self.first.multiply(space.get(), high, of);
                let own = space.get().add(packed + thread * each);
                let kept = if self.kept { high * b } else { 0 };
                between(i, from_raw_parts_mut(at, high * b), from_raw_parts_mut(own, kept));
                let Some((second, _)) = &self.second else { return };
                let out = y.get().add(i * c);
                let of = Operands {
                    a: (if self.kept { own } else { at }, b),
                    start: match start.onto {
                        Base::Zero => (null(), 0),
                        Base::Rows(rows) => (rows.as_ptr().add(i * c), c),
                        Base::Output => (out, c),
                    },
                    bias: row(start.bias),
                    c: (out, c),
                };
                second.multiply(space.get().add(behind), high, of);
            }
        });
        Ok(())
    }
}
