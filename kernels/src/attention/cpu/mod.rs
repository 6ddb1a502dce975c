//! A task is some heads of one sequence (forward: of some of its queries), one after the other:
//! what the next one needs is read ahead. A head's queries are worked through in blocks whose
//! scores stay in the second-level cache, with K and V packed once, and only with the keys that
//! some query of the block sees; each thread takes its tasks in the order of their cost, the
//! largest first, so that the last ones to finish are small.
mod backward;

use super::{
    plan::{Piece, Plan, Task, block, seen, stride, tasks},
    prefetch::{PrefetchPart, PrefetchRows},
    product::{Finish, Product, Right, pack, pack_transposed, packed, product},
    softmax::{Drop, VisibleKeys, add_bias, add_to_bias, softmax, softmax_backward},
    *,
};
use crate::{Buffer, Class, Cpu, simd::Level};
pub(super) use backward::backward;
use std::sync::{Mutex, PoisonError};

/// Rows up to which a matrix is read where it is instead of being packed: it is read
/// only a few times.
const IN_PLACE: usize = 64;
/// Floats of the next head up to which they are read ahead: half a second-level cache.
const AHEAD: usize = 256 * 1024;
/// Rows of partial gradients that a task merges.
const MERGED: usize = 16;

/// Floats of the parts of a task's scratch memory.
#[derive(Clone, Copy)]
struct Sizes {
    scores: usize,
    /// One packed K, one packed Kᵀ, one packed block of Q.
    k: usize,
    kt: usize,
    q: usize,
    /// The keys of a head, brought together from several places.
    gathered: usize,
    /// The bias of a head by distance.
    bias: usize,
    /// All of it.
    sum: usize,
}
impl Sizes {
    fn of(a: &Attention<'_>, s: &Span, bias: bool, backward: bool) -> Sizes {
        let (n, d, m) = (s.keys(), a.head_dim, block(s));
        let [scores, k, kt, q] = [m * stride(n), packed(n, d), packed(d, n), packed(m, d)];
        let gathered = if s.kv.iter().filter(|k| !k.rows.is_empty()).count() > 1 { n * d } else { 0 };
        let bias = if bias { s.q.len() + n } else { 0 };
        let sum = match backward {
            true => 2 * scores + k + 2 * kt + 2 * q + m + gathered + 2 * bias,
            false => scores + k + kt + 2 * m + gathered + bias,
        };
        Sizes { scores, k, kt, q, gathered, bias, sum }
    }
}

/// What a launch allocates for its threads.
pub(super) fn workspace(device: &Device, a: Attention<'_>, x: Qkv<'_>, backward: bool) -> Result<Buffer> {
    let size = |s| Sizes::of(&a, s, x.bias.is_some(), backward).sum;
    let one = a.spans.iter().map(size).max().unwrap_or(0);
    device.alloc::<f32>(Class::Scratch, device.threads() * one.next_multiple_of(16))
}
/// What it allocates for gradients that several spans share.
pub(super) fn partials(device: &Device, plan: &Plan) -> Result<Buffer> {
    device.alloc::<f32>(Class::Scratch, plan.floats)
}

/// Cuts `n` floats off the front.
fn take<'a>(room: &mut &'a mut [f32], n: usize) -> &'a mut [f32] {
    let (first, rest) = std::mem::take(room).split_at_mut(n);
    *room = rest;
    first
}

/// A matrix of which each task writes elements of its own: its head's columns of its rows. Query
/// rows of different spans are disjoint, and so are key rows but those that have partial gradients
/// ([`Plan`]), which are written elsewhere; within a span, tasks differ in the head or, going
/// forward, in the queries.
struct Target<'a>(ColsMut<'a>);
impl<'a> Target<'a> {
    fn new(x: ColsMut<'a>) -> Result<Target<'a>> {
        x.on_host()?;
        Ok(Target(x))
    }
    fn block(&self, rows: Range<usize>, cols: Range<usize>) -> *mut f32 {
        self.0
            .block(rows, cols)
            .expect("what spans and heads name is in the matrix: the launch has compared them")
    }
    /// What is read ahead before it is written.
    fn part(&self, rows: Range<usize>, cols: Range<usize>) -> PrefetchPart {
        PrefetchPart {
            first: self.block(rows.clone(), cols.clone()),
            rows: rows.len(),
            stride: self.0.stride(),
            cols: cols.len(),
        }
    }
}

/// A matrix to be read: its values from the first to the last, and from row to row.
#[derive(Clone, Copy)]
struct Source<'a>(&'a [f32], usize);
impl<'a> Source<'a> {
    fn new(x: View<'a>) -> Result<Source<'a>> {
        Ok(Source(x.host()?, x.stride()))
    }
    /// From a row and column on.
    fn at(self, row: usize, col: usize) -> &'a [f32] {
        &self.0[(row * self.1 + col).min(self.0.len())..]
    }
    /// The same matrix from a row and column on.
    fn from(self, row: usize, col: usize) -> Source<'a> {
        Source(self.at(row, col), self.1)
    }
    fn part(self, rows: Range<usize>, cols: Range<usize>) -> PrefetchPart {
        PrefetchPart {
            first: self.at(rows.start, cols.start).as_ptr(),
            rows: rows.len(),
            stride: self.1,
            cols: cols.len(),
        }
    }
    /// Some of a span's keys, columns `col..col + d` of them: where they are if they lie in one
    /// place, else copied into `room`.
    fn keys<'b>(
        all: &[Source<'b>],
        pieces: &[Piece],
        keys: &Range<usize>,
        col: usize,
        d: usize,
        room: &'b mut [f32],
    ) -> Source<'b> {
        let mut parts = pieces.iter().map(|p| (all[p.of], p.part(keys))).filter(|p| !p.1.is_empty());
        match (parts.next(), parts.next()) {
            (None, _) => return Source(&[], d),
            (Some((x, rows)), None) => return Source(x.at(rows.start, col), x.1),
            _ => {}
        }
        let rows = pieces.iter().flat_map(|p| p.part(keys).map(|row| all[p.of].at(row, col)));
        room.chunks_exact_mut(d).zip(rows).for_each(|(to, from)| to.copy_from_slice(&from[..d]));
        Source(room, d)
    }
}

/// Runs the tasks, one head of keys after the other, each with scratch memory of its own.
fn run(d: &Cpu, scratch: &mut [f32], tasks: &[Task<'_>], f: impl Fn(&Task<'_>, usize, &mut [f32]) + Sync) {
    if tasks.is_empty() || scratch.is_empty() {
        return;
    }
    let scratch: Vec<Mutex<&mut [f32]>> =
        scratch.chunks_mut(scratch.len() / d.threads()).map(Mutex::new).collect();
    d.each(tasks.len(), |i, thread| {
        let mut w = scratch[thread].lock().unwrap_or_else(PoisonError::into_inner);
        tasks[i].kv_heads.clone().for_each(|head| f(&tasks[i], head, &mut w));
    });
}

/// B = X (k, n): read in place or packed into `room`.
fn packed_or_in_place<'a>(
    level: Level,
    x: Source<'a>,
    (k, n): (usize, usize),
    room: &'a mut [f32],
) -> Right<'a> {
    if k <= IN_PLACE && n.is_multiple_of(level.lanes()) {
        return Right::rows(level, x.0, x.1);
    }
    pack(level, x.0, x.1, k, n, room);
    Right::packed(level, room, k)
}
/// B = Xᵀ (k, n), packed into `room`.
fn transposed<'a>(level: Level, x: Source<'_>, (k, n): (usize, usize), room: &'a mut [f32]) -> Right<'a> {
    pack_transposed(level, x.0, x.1, k, n, room);
    Right::packed(level, room, k)
}

/// The rows that the head of keys after `head` needs, to be read while this one takes its
/// `products`: those of queries, and those of the task's last keys, its own.
fn next(
    a: &Attention<'_>,
    t: &Task<'_>,
    pieces: &[Piece],
    head: usize,
    products: usize,
    of_q: impl Fn(Range<usize>, Range<usize>) -> [Option<PrefetchPart>; 3],
    of_kv: impl Fn(&Piece, Range<usize>) -> [Option<PrefetchPart>; 4],
) -> PrefetchRows {
    let (d, group) = (a.head_dim, a.group());
    let Some(own) = pieces.last().filter(|_| head + 1 < t.kv_heads.end) else { return PrefetchRows::none() };
    let next = |width: usize| (head + 1) * width..(head + 2) * width;
    let ([k, v, dv, dk], [q, d_o, dq]) = (of_kv(own, next(d)), of_q(t.q.clone(), next(group * d)));
    let parts = [k, v, dv, dk, q, d_o, dq];
    if parts.iter().flatten().map(|p| p.rows * p.cols).sum::<usize>() > AHEAD {
        return PrefetchRows::none();
    }
    PrefetchRows::new(parts.into_iter().flatten(), products * t.q.len() * own.rows.len() * d * group)
}

/// Blocks of at most `size` rows.
fn blocks(q: &Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> {
    let end = q.end;
    q.clone().step_by(size.max(1)).map(move |i| i..end.min(i + size))
}

/// The bias of one head for some queries and keys of a span: `by_distance[last - i]` begins the row
/// of the i-th of these queries.
struct Biased<'a> {
    by_distance: &'a mut [f32],
    /// The bucket of each distance; none where no query sees a key that far away.
    bucket: Vec<Option<usize>>,
    last: usize,
}
impl<'a> Biased<'a> {
    fn new(b: &Bias<'_>, s: &Span, q: &Range<usize>, keys: &Range<usize>, room: &'a mut [f32]) -> Biased<'a> {
        let last = q.len().saturating_sub(1);
        let distances = (q.len() + keys.len()).saturating_sub(1);
        // the smallest distance is that of the last query to the first key
        let at =
            |t: usize| (b.zero + keys.start + t).checked_sub(s.bias_position + q.start - s.q.start + last);
        let bucket = (0..distances).map(|t| b.bucket.get(at(t)?).map(|row| *row as usize)).collect();
        Biased { by_distance: &mut room[..distances], bucket, last }
    }
    /// Reads that of a head.
    fn read(&mut self, table: Source<'_>, head: usize) {
        let of = |row: &Option<usize>| row.map_or(0.0, |row| table.at(row, head)[0]);
        self.by_distance.iter_mut().zip(&self.bucket).for_each(|(to, row)| *to = of(row));
    }
    /// Adds the gradient by distance to that of each bucket.
    ///
    /// # Safety
    /// The numbers of all buckets must be at `to`, and nobody else's meanwhile.
    unsafe fn leave(&self, by_distance: &[f32], to: *mut f32) {
        for (x, bucket) in by_distance.iter().zip(&self.bucket) {
            if let Some(bucket) = bucket {
                // SAFETY: one of the buckets: the launch has compared them with the table's rows.
                unsafe { *to.add(*bucket) += x };
            }
        }
    }
    /// Where a block's first row begins; `skipped` keys in front are left out.
    fn of_block(&mut self, first: usize, skipped: usize) -> (&mut [f32], usize) {
        (&mut self.by_distance[skipped..], self.last - first)
    }
}

pub(super) fn forward(
    d: &Cpu,
    device: &Device,
    a: Attention<'_>,
    x: Qkv<'_>,
    o: ColsMut<'_>,
    lse: Option<ColsMut<'_>>,
) -> Result<()> {
    let (level, mut scratch) = (Level::current()?, workspace(device, a, x, false)?);
    let q = Source::new(x.q)?;
    let k = x.kv.iter().map(|kv| Source::new(kv.k)).collect::<Result<Vec<_>>>()?;
    let v = x.kv.iter().map(|kv| Source::new(kv.v)).collect::<Result<Vec<_>>>()?;
    let table = x.bias.map(|b| Source::new(b.table)).transpose()?;
    let (o, lse) = (Target::new(o)?, lse.map(Target::new).transpose()?);
    let nothing = Wanted { q: false, kv: vec![], bias: false };
    let plan = Plan::new(&a, &nothing, None);
    let (d_head, group) = (a.head_dim, a.group());
    run(d, scratch.host_mut()?, &tasks(&a, d.threads(), false), |t, kv_head, mut w| {
        let (pieces, of_span) = (&plan.pieces[t.index], t.q.start - t.span.q.start);
        let (n, ld) = (t.span.keys(), stride(t.span.keys()));
        let sizes = Sizes::of(&a, t.span, table.is_some(), false);
        let s = take(&mut w, sizes.scores);
        let (v_room, k_room) = (take(&mut w, sizes.k), take(&mut w, sizes.kt));
        let (gathered, bias_room) = (take(&mut w, sizes.gathered), take(&mut w, sizes.bias));
        let mut ahead = next(
            &a,
            t,
            pieces,
            kv_head,
            2,
            |rows, cols| [Some(q.part(rows.clone(), cols.clone())), Some(o.part(rows, cols)), None],
            |p, cols| {
                let part = |x: &[Source<'_>]| Some(x[p.of].part(p.rows.clone(), cols.clone()));
                [part(&k), part(&v), None, None]
            },
        );
        let (keys, col) = (seen(t.span, &a, &t.q), kv_head * d_head);
        let k_keys = Source::keys(&k, pieces, &keys, col, d_head, gathered);
        let k_t = transposed(level, k_keys, (d_head, keys.len()), k_room);
        let v_keys = Source::keys(&v, pieces, &keys, col, d_head, gathered);
        let v_rows = packed_or_in_place(level, v_keys, (keys.len(), d_head), v_room);
        let mut bias = x.bias.map(|b| Biased::new(&b, t.span, &t.q, &keys, bias_room));
        for head in kv_head * group..(kv_head + 1) * group {
            if let (Some(b), Some(table)) = (&mut bias, table) {
                b.read(table, head);
            }
            for rows in blocks(&t.q, block(t.span)) {
                let (m, cols) = (rows.len(), head * d_head..(head + 1) * d_head);
                let of_block = seen(t.span, &a, &rows);
                let (n_block, skipped) = (of_block.len(), of_block.start.saturating_sub(keys.start));
                let scores = Product {
                    m,
                    k: d_head,
                    n: n_block.next_multiple_of(level.lanes()),
                    a: q.at(rows.start, cols.start),
                    a_row: q.1,
                    a_col: 1,
                    b: k_t.skip_cols(level, skipped),
                    c: s.as_mut_ptr(),
                    c_row: ld,
                    finish: Finish::Store,
                };
                // SAFETY: `s` is this task's own and holds `block` rows of `ld` values.
                unsafe { product(level, scores, &mut ahead) };
                let mut scale = a.scale;
                if let Some(b) = &mut bias {
                    let (by_distance, first) = b.of_block(rows.start - t.q.start, skipped);
                    add_bias(level, s, ld, m, n_block, scale, by_distance, first);
                    scale = 1.0;
                }
                let col = (head * n + of_block.start) as u32;
                let drop = a.dropout.map(|dropout| Drop { dropout, row: rows.start, col });
                let visible =
                    VisibleKeys::of_span(t.span, a.mask).part(rows.start - t.q.start + of_span, &of_block);
                let (tops, sums) = w[..2 * m].split_at_mut(m);
                softmax(level, s, ld, visible, scale, drop, tops, sums);
                if let Some(lse) = &lse {
                    let to = lse.block(rows.clone(), head..head + 1);
                    for (i, (top, sum)) in tops.iter().zip(&*sums).enumerate() {
                        // SAFETY: this task's own (see `Target`), and a row of the block.
                        unsafe { *to.add(i * lse.0.stride()) = *top + sum.ln() };
                    }
                }
                // what sees no keys is 0
                sums.iter_mut().filter(|sum| **sum == 0.0).for_each(|sum| *sum = 1.0);
                let out = Product {
                    k: n_block,
                    n: d_head,
                    a: s,
                    a_row: ld,
                    b: v_rows.skip_rows(skipped),
                    c: o.block(rows, cols),
                    c_row: o.0.stride(),
                    finish: Finish::Divide(sums),
                    ..scores
                };
                // SAFETY: inside O (checked), and this task's own (see `Target`).
                unsafe { product(level, out, &mut ahead) };
            }
        }
    });
    Ok(())
}
