//! A task is some heads of one sequence (forward: of some of its queries), one after the other: what the next one needs is
//! read ahead. A head's queries are worked through in blocks whose scores stay in the second-level cache, with K and V
//! packed once; each thread takes its tasks in the order of their cost, the largest first, so that the last ones to finish are
//! small.
use super::{
    ahead::Ahead,
    product::{Finish, Product, Right, pack, pack_transposed, packed, product},
    softmax::{Drop, softmax, softmax_backward},
    *,
};
use crate::{Class, Cpu, simd::Level};
use std::{
    marker::PhantomData,
    sync::{Mutex, PoisonError},
};

/// Scores of a block, about.
const SCORES: usize = 64 * 1024;
/// Queries of a block.
const BLOCK: (usize, usize) = (28, 128);
/// Queries of a forward task where there are few tasks: enough to pay for packing K and V.
const TASK: usize = 256;
/// Tasks for each thread, if there are as many heads and sequences: so many that the threads finish together.
const TASKS: usize = 8;
/// Rows up to which a matrix is read where it is instead of being packed: it is read only a few times.
const IN_PLACE: usize = 64;
/// Floats of the next head up to which they are read ahead: half a second-level cache.
const AHEAD: usize = 256 * 1024;

/// From one row of scores to the next: whole vectors, and never a power of two, which would fall on the same few lines
/// of the cache.
fn stride(keys: usize) -> usize {
    keys.next_multiple_of(16) | 16
}
/// Queries of a block.
fn block(s: &Span) -> usize {
    (SCORES / stride(s.kv.len())).clamp(BLOCK.0, BLOCK.1).min(s.q.len())
}
/// Floats that a task of this span needs: (scores, one packed K, one packed Kᵀ, one packed block of Q, all of it).
fn sizes(a: &Attention<'_>, s: &Span, backward: bool) -> [usize; 5] {
    let (n, d, m) = (s.kv.len(), a.head_dim, block(s));
    let [scores, k, kt, q] = [m * stride(n), packed(n, d), packed(d, n), packed(m, d)];
    [scores, k, kt, q, if backward { 2 * scores + k + 2 * kt + 2 * q + m } else { scores + k + kt + 2 * m }]
}

/// What a launch allocates for its threads.
pub(super) fn workspace(device: &Device, a: Attention<'_>, backward: bool) -> Result<Buffer> {
    let one = a.spans.iter().map(|s| sizes(&a, s, backward)[4]).max().unwrap_or(0);
    device.alloc::<f32>(Class::Scratch, device.threads() * one.next_multiple_of(16))
}

/// Some heads of some queries of a span.
struct Task<'a> {
    span: &'a Span,
    heads: Range<usize>,
    q: Range<usize>,
}
/// The tasks for this many threads, dealt to them by cost: each thread's share begins with the largest ones, so that what is
/// left at the end is small. What a head's result is does not depend on them.
fn tasks<'a>(a: &Attention<'a>, threads: usize, backward: bool) -> Vec<Task<'a>> {
    let (all, wanted) = (a.heads * a.spans.len(), TASKS * threads);
    let groups = a.heads.div_ceil((all / wanted).max(1));
    let queries = if backward || all >= wanted { usize::MAX } else { TASK };
    let mut tasks = vec![];
    for span in a.spans.iter().filter(|s| !(s.q.is_empty() && s.kv.is_empty())) {
        for first in (span.q.start..span.q.end.max(span.q.start + 1)).step_by(queries) {
            let q = first..span.q.end.min(first.saturating_add(queries));
            let heads = |g| a.heads * g / groups..a.heads * (g + 1) / groups;
            tasks.extend((0..groups).map(|g| Task { span, heads: heads(g), q: q.clone() }));
        }
    }
    tasks.sort_by_key(|t| std::cmp::Reverse(t.heads.len() * t.q.len() * t.span.kv.len()));
    let mut hands: Vec<Vec<Task<'a>>> = (0..threads).map(|_| vec![]).collect();
    tasks.into_iter().enumerate().for_each(|(i, t)| hands[i % threads].push(t));
    hands.into_iter().flatten().collect()
}

/// A buffer of which each task writes elements of its own: its head's columns of its rows. Rows of different spans are
/// disjoint, which [`Attention::rows`] checks; within a span, tasks differ in the head or, going forward, in the queries.
struct Shared<'a> {
    start: *mut f32,
    len: usize,
    buffer: PhantomData<&'a mut [f32]>,
}
// SAFETY: threads write disjoint elements, by the argument above, and read none.
unsafe impl Sync for Shared<'_> {}
impl<'a> Shared<'a> {
    fn new(b: &'a mut Buffer) -> Result<Shared<'a>> {
        let v = b.host_mut::<f32>()?;
        Ok(Shared { start: v.as_mut_ptr(), len: v.len(), buffer: PhantomData })
    }
    /// The first of `rows` rows, `stride` apart, of `cols` values.
    fn block(&self, first: usize, rows: usize, cols: usize, stride: usize) -> *mut f32 {
        assert!(rows == 0 || first + (rows - 1) * stride + cols <= self.len, "a block outside its buffer");
        self.start.wrapping_add(first)
    }
}

/// Runs the tasks, head by head, each with scratch memory of its own.
fn run(d: &Cpu, scratch: &mut [f32], tasks: &[Task<'_>], f: impl Fn(&Task<'_>, usize, &mut [f32]) + Sync) {
    if tasks.is_empty() || scratch.is_empty() {
        return;
    }
    let scratch: Vec<Mutex<&mut [f32]>> =
        scratch.chunks_mut(scratch.len() / d.threads()).map(Mutex::new).collect();
    d.each(tasks.len(), |i, thread| {
        let mut w = scratch[thread].lock().unwrap_or_else(PoisonError::into_inner);
        tasks[i].heads.clone().for_each(|head| f(&tasks[i], head, &mut w));
    });
}

/// B = X, its `k` rows `stride` apart: read in place or packed into `room`.
fn packed_or_in_place<'a>(
    level: Level,
    x: &'a [f32],
    stride: usize,
    (k, n): (usize, usize),
    room: &'a mut [f32],
) -> Right<'a> {
    if k <= IN_PLACE && n.is_multiple_of(level.lanes()) {
        return Right::rows(level, x, stride);
    }
    pack(level, x, stride, k, n, room);
    Right::packed(level, room, k)
}
/// B = Xᵀ, packed into `room`; X's `n` rows are `stride` apart.
fn transposed<'a>(
    level: Level,
    x: &[f32],
    stride: usize,
    (k, n): (usize, usize),
    room: &'a mut [f32],
) -> Right<'a> {
    pack_transposed(level, x, stride, k, n, room);
    Right::packed(level, room, k)
}
/// The matrices that the head after `head` needs, some with a row for each query and some with a row for each key, to be
/// read while this one takes its `products`.
fn next(
    a: &Attention<'_>,
    t: &Task<'_>,
    head: usize,
    products: usize,
    of_q: &[*const f32],
    of_kv: &[*const f32],
) -> Ahead {
    let (c, d, m, n) = (a.channels(), a.head_dim, t.q.len(), t.span.kv.len());
    if head + 1 == t.heads.end || (of_q.len() * m + of_kv.len() * n) * d > AHEAD {
        return Ahead::none();
    }
    let first = |x: &*const f32, row: usize| x.wrapping_add(row * c + (head + 1) * d);
    let of_kv = of_kv.iter().map(|x| (first(x, t.span.kv.start), n));
    let of_q = of_q.iter().map(|x| (first(x, t.q.start), m));
    Ahead::new(of_kv.chain(of_q), c, d, products * m * n * d)
}

/// Blocks of at most `size` rows; one of none if there are no rows.
fn blocks(q: &Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> {
    let q = q.clone();
    (q.start..q.end.max(q.start + 1)).step_by(size.max(1)).map(move |i| i..q.end.min(i + size))
}

pub(super) fn forward(
    d: &Cpu,
    device: &Device,
    a: Attention<'_>,
    x: Qkv<'_>,
    o: &mut Buffer,
    lse: Option<&mut Buffer>,
) -> Result<()> {
    let (level, mut scratch) = (Level::current()?, workspace(device, a, false)?);
    let (q, k, v) = (x.q.host::<f32>()?, x.k.host::<f32>()?, x.v.host::<f32>()?);
    let (o, lse) = (Shared::new(o)?, lse.map(Shared::new).transpose()?);
    let (c, d_head) = (a.channels(), a.head_dim);
    run(d, scratch.host_mut()?, &tasks(&a, d.threads(), false), |t, head, w| {
        let (n, ld) = (t.span.kv.len(), stride(t.span.kv.len()));
        let [scores, k_size, kt_size, ..] = sizes(&a, t.span, false);
        let (s, w) = w.split_at_mut(scores);
        let (v_room, w) = w.split_at_mut(k_size);
        let (k_room, w) = w.split_at_mut(kt_size);
        let mut ahead = next(&a, t, head, 2, &[q.as_ptr(), o.start], &[k.as_ptr(), v.as_ptr()]);
        let keys = t.span.kv.start * c + head * d_head;
        let k_t = transposed(level, &k[keys.min(k.len())..], c, (d_head, n), k_room);
        let v = packed_or_in_place(level, &v[keys.min(v.len())..], c, (n, d_head), v_room);
        for rows in blocks(&t.q, block(t.span)) {
            let (m, at) = (rows.len(), rows.start * c + head * d_head);
            let scores = Product {
                m,
                k: d_head,
                n: n.next_multiple_of(level.lanes()),
                a: &q[at.min(q.len())..],
                a_row: c,
                a_col: 1,
                b: k_t,
                c: s.as_mut_ptr(),
                c_row: ld,
                finish: Finish::Store,
            };
            // SAFETY: `s` is this task's own and holds `block` rows of `ld` values.
            unsafe { product(level, scores, &mut ahead) };
            let drop = a.dropout.map(|dropout| Drop { dropout, row: rows.start, col: (head * n) as u32 });
            let (tops, sums) = w[..2 * m].split_at_mut(m);
            softmax(level, s, ld, n, a.scale, drop, tops, sums);
            let out = Product {
                k: n,
                n: d_head,
                a: s,
                a_row: ld,
                b: v,
                c: o.block(at, m, d_head, c),
                c_row: c,
                // without keys O is 0
                finish: if n > 0 { Finish::Divide(sums) } else { Finish::Store },
                ..scores
            };
            // SAFETY: inside O (checked), and this task's own (see `Shared`).
            unsafe { product(level, out, &mut ahead) };
            if let Some(lse) = &lse {
                let to = lse.block(rows.start * a.heads + head, m, 1, a.heads);
                for (i, (top, sum)) in tops.iter().zip(sums).enumerate() {
                    // SAFETY: inside the buffer (checked), and this task's own (see `Shared`).
                    unsafe { *to.add(i * a.heads) = *top + sum.ln() };
                }
            }
        }
    });
    Ok(())
}

pub(super) fn backward(
    d: &Cpu,
    device: &Device,
    a: Attention<'_>,
    x: Qkv<'_>,
    lse: &Buffer,
    d_o: &Buffer,
    g: Gradients<'_>,
) -> Result<()> {
    let (level, mut scratch) = (Level::current()?, workspace(device, a, true)?);
    let (q, k, v) = (x.q.host::<f32>()?, x.k.host::<f32>()?, x.v.host::<f32>()?);
    let (lse, d_o) = (lse.host::<f32>()?, d_o.host::<f32>()?);
    let (dq, dk, dv) = (Shared::new(g.dq)?, Shared::new(g.dk)?, Shared::new(g.dv)?);
    let (c, d_head) = (a.channels(), a.head_dim);
    run(d, scratch.host_mut()?, &tasks(&a, d.threads(), true), |t, head, w| {
        let (n, ld) = (t.span.kv.len(), stride(t.span.kv.len()));
        let [scores, k_size, kt_size, q_size, _] = sizes(&a, t.span, true);
        let (s, w) = w.split_at_mut(scores);
        let (ds, w) = w.split_at_mut(scores);
        let (k_room, w) = w.split_at_mut(k_size);
        let (kt_room, w) = w.split_at_mut(kt_size);
        let (vt_room, w) = w.split_at_mut(kt_size);
        let (q_room, w) = w.split_at_mut(q_size);
        let (do_room, w) = w.split_at_mut(q_size);
        let of_kv = [k.as_ptr(), v.as_ptr(), dv.start, dk.start];
        let mut ahead = next(&a, t, head, 5, &[q.as_ptr(), d_o.as_ptr(), dq.start], &of_kv);
        let keys = t.span.kv.start * c + head * d_head;
        let (k_head, v_head) = (&k[keys.min(k.len())..], &v[keys.min(v.len())..]);
        let k_t = transposed(level, k_head, c, (d_head, n), kt_room);
        let v_t = transposed(level, v_head, c, (d_head, n), vt_room);
        let k_rows = packed_or_in_place(level, k_head, c, (n, d_head), k_room);
        for rows in blocks(&t.q, block(t.span)) {
            let (m, at) = (rows.len(), rows.start * c + head * d_head);
            let (q_head, do_head) = (&q[at.min(q.len())..], &d_o[at.min(d_o.len())..]);
            let q_rows = packed_or_in_place(level, q_head, c, (m, d_head), q_room);
            let do_rows = packed_or_in_place(level, do_head, c, (m, d_head), do_room);
            // S = Q Kᵀ and dO Vᵀ
            let to_scores = Product {
                m,
                k: d_head,
                n: n.next_multiple_of(level.lanes()),
                a: q_head,
                a_row: c,
                a_col: 1,
                b: k_t,
                c: s.as_mut_ptr(),
                c_row: ld,
                finish: Finish::Store,
            };
            // SAFETY: `s` and `ds` are this task's own and hold `block` rows of `ld` values.
            unsafe {
                product(level, to_scores, &mut ahead);
                product(level, Product { a: do_head, b: v_t, c: ds.as_mut_ptr(), ..to_scores }, &mut ahead);
            }
            let drop = a.dropout.map(|dropout| Drop { dropout, row: rows.start, col: (head * n) as u32 });
            let sums = &mut w[..m];
            sums.iter_mut().zip(rows.clone()).for_each(|(l, i)| *l = lse[i * a.heads + head]);
            softmax_backward(level, s, ds, ld, n, a.scale, drop, sums);
            // dV += Pᵀ dO, dK += dSᵀ Q, dQ = dS K
            let to_keys = Product {
                m: n,
                k: m,
                n: d_head,
                a: s,
                a_row: 1,
                a_col: ld,
                b: do_rows,
                c: dv.block(keys, n, d_head, c),
                c_row: c,
                finish: if rows.start > t.q.start { Finish::Add } else { Finish::Store },
            };
            let to_k = Product { a: ds, b: q_rows, c: dk.block(keys, n, d_head, c), ..to_keys };
            let to_q = Product {
                m,
                k: n,
                a_row: ld,
                a_col: 1,
                b: k_rows,
                c: dq.block(at, m, d_head, c),
                finish: Finish::Store,
                ..to_k
            };
            // SAFETY: inside their buffers (checked), and this task's own (see `Shared`).
            unsafe {
                product(level, to_keys, &mut ahead);
                product(level, to_k, &mut ahead);
                product(level, to_q, &mut ahead);
            }
        }
    });
    Ok(())
}
