//! Blocks of rows in parallel. Both weights are packed first, by all threads; then each block is
//! multiplied twice while it is in the second-level cache, which holds the packed weights too. How
//! rows are cut depends on the shapes alone.
use super::*;
use crate::{
    Class, Cpu, Isa,
    activation::{derivatives, values},
    epilogue::OnHost,
    matmul::panels::{Operands, Panels},
    simd::{LINE, Level},
    storage::view::{Floats, fits},
    team::Shared,
};
use std::slice::from_raw_parts_mut;

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
/// f32 values of the packed weights, and of what each thread needs as its own: f(a) of a block, if
/// it is to be `kept`.
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

/// Two products, with what is added to them, or the first one alone.
struct Products<'a> {
    shape: [usize; 3],
    isa: Isa,
    first: (Panels<'a>, OnHost<'a>),
    second: Option<(Panels<'a>, OnHost<'a>)>,
    /// What is between them writes its result apart.
    kept: bool,
}

/// f32 rows in host memory, and the distance between them.
type HostRows<'a> = (&'a [f32], usize);
type HostRowsMut<'a> = (&'a mut [f32], usize);

fn weight(w: View<'_>) -> Result<Floats<'_, f32>> {
    Ok(Floats { data: w.host()?, stride: w.stride() })
}
fn rows_mut(v: ViewMut<'_>) -> Result<HostRowsMut<'_>> {
    let stride = v.view().stride();
    Ok((v.host()?, stride))
}

pub(super) fn forward(
    device: &Device,
    d: &Cpu,
    w: Bottleneck<'_>,
    x: View<'_>,
    plus: Plus<'_>,
    a: ViewMut<'_>,
    y: ViewMut<'_>,
) -> Result<()> {
    let (isa, level, c, b) = (isa()?, Level::current()?, w.channels(), w.width());
    let bias = Plus { bias: w.down_bias, base: Base::Nothing };
    let p = Products {
        shape: [x.rows(), c, b],
        isa,
        first: (Panels::new(isa, weight(w.down)?, true, c, b), bias.host()?),
        second: Some((Panels::new(isa, weight(w.up)?, true, b, c), plus.host()?)),
        kept: true,
    };
    let mut space = workspace(device, isa, p.shape, p.kept)?;
    let (x, y) = ((x.host()?, x.stride()), rows_mut(y)?);
    p.run(d, x, a.host()?, y, space.host_mut()?, |_, a, h| values(level, w.f, a, h));
    Ok(())
}

pub(super) fn backward(
    device: &Device,
    d: &Cpu,
    w: Bottleneck<'_>,
    a: View<'_>,
    dy: View<'_>,
    da: ViewMut<'_>,
    dx: Option<(Plus<'_>, ViewMut<'_>)>,
) -> Result<()> {
    let (isa, level, c, b) = (isa()?, Level::current()?, w.channels(), w.width());
    let (second, dx) = match dx {
        Some((plus, dx)) => {
            (Some((Panels::new(isa, weight(w.down)?, false, b, c), plus.host()?)), rows_mut(dx)?)
        }
        None => (None, (&mut [][..], c)),
    };
    let p = Products {
        shape: [dy.rows(), c, b],
        isa,
        first: (Panels::new(isa, weight(w.up)?, false, c, b), OnHost::NOTHING),
        second,
        kept: false,
    };
    let mut space = workspace(device, isa, p.shape, p.kept)?;
    let (a, dy) = (a.host()?, (dy.host()?, dy.stride()));
    p.run(d, dy, da.host()?, dx, space.host_mut()?, |i, da, _| derivatives(level, w.f, &a[i * b..], da));
    Ok(())
}

impl Products<'_> {
    /// narrow = x times the first matrix, `between(row, block of narrow, f(a) of the block)`, y =
    /// that times the second.
    fn run(
        &self,
        d: &Cpu,
        (x, x_row): HostRows<'_>,
        narrow: &mut [f32],
        (y, y_row): HostRowsMut<'_>,
        space: &mut [f32],
        between: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
    ) {
        let [m, c, b] = self.shape;
        if m == 0 {
            return;
        }
        let (packed, each) = floats(self.isa, self.shape, self.kept);
        let (first, first_plus) = &self.first;
        // these are what the unsafe code below relies on
        assert!(fits(x.len(), m, x_row, c) && narrow.len() >= m * b, "x or a is too short");
        assert!(first_plus.covers(m, b), "what is added is too short");
        if let Some((_, plus)) = &self.second {
            assert!(y_row >= c && fits(y.len(), m, y_row, c), "y is too short");
            assert!(plus.covers(m, c), "what is added is too short");
        }
        assert!(space.len() >= packed + d.threads() * each, "the workspace is too small");

        let [space, narrow, y] = [space, narrow, y].map(|v| Shared(v.as_mut_ptr()));
        let behind = Panels::floats(self.isa, c, b);
        let pieces = first.pieces();
        let all = pieces + self.second.map_or(0, |s| s.0.pieces());
        d.each(all, |i, _| match &self.second {
            // SAFETY: both matrices have room in the workspace, the second one behind the first
            // (asserted), and every piece is packed once.
            Some((second, _)) if i >= pieces => unsafe { second.pack(i - pieces, space.get().add(behind)) },
            // SAFETY: as above.
            _ => unsafe { first.pack(i, space.get()) },
        });
        let rows = rows(m);
        d.each(m.div_ceil(rows), |block, thread| {
            let i = block * rows;
            let high = rows.min(m - i);
            // SAFETY: rows i .. i + high of x, narrow, y and what is added exist (asserted), and no
            // other task touches these of narrow and y, which are borrowed mutably and so overlap
            // nothing else. The matrices are packed. `thread` is below `threads()` and no two
            // threads that run at once share it, so that its part of the workspace, which holds as
            // many rows of B (asserted), belongs to this call.
            unsafe {
                let at = narrow.get().add(i * b);
                let a = x.as_ptr().wrapping_add(i * x_row);
                let of = Operands { a: (a, x_row), plus: first_plus.at(i, 0), c: (at, b) };
                first.multiply(space.get(), high, of);
                let own = space.get().add(packed + thread * each);
                let kept = if self.kept { high * b } else { 0 };
                between(i, from_raw_parts_mut(at, high * b), from_raw_parts_mut(own, kept));
                let Some((second, plus)) = &self.second else { return };
                let a = (if self.kept { own.cast_const() } else { at.cast_const() }, b);
                let c = (y.get().wrapping_add(i * y_row), y_row);
                second.multiply(space.get().add(behind), high, Operands { a, plus: plus.at(i, 0), c });
            }
        });
    }
}
