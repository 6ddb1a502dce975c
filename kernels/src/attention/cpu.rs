//! A task is one head of one sequence (forward: of some of its queries). It works through its queries in blocks whose
//! scores stay in the second-level cache, with K and V packed once; tasks are taken in the order of their cost, the
//! largest first, so that the last ones to finish are small.
use super::{
    product::{Product, pack, pack_transposed, packed, product},
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
/// Queries of a forward task: enough to pay for packing K and V.
const TASK: usize = 256;

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
    [scores, k, kt, q, m + if backward { 2 * scores + k + 2 * kt + 2 * q } else { scores + k + kt }]
}

/// What a launch allocates for its threads.
pub(super) fn workspace(device: &Device, a: Attention<'_>, backward: bool) -> Result<Buffer> {
    let one = a.spans.iter().map(|s| sizes(&a, s, backward)[4]).max().unwrap_or(0);
    device.alloc::<f32>(Class::Scratch, device.threads() * one.next_multiple_of(16))
}

/// A head of some queries of a span.
struct Task<'a> {
    span: &'a Span,
    head: usize,
    q: Range<usize>,
}
/// The tasks, those with most to do first.
fn tasks<'a>(a: &Attention<'a>, queries: usize) -> Vec<Task<'a>> {
    let mut tasks = vec![];
    for span in a.spans.iter().filter(|s| !(s.q.is_empty() && s.kv.is_empty())) {
        for first in (span.q.start..span.q.end.max(span.q.start + 1)).step_by(queries) {
            let q = first..span.q.end.min(first.saturating_add(queries));
            tasks.extend((0..a.heads).map(|head| Task { span, head, q: q.clone() }));
        }
    }
    tasks.sort_by_key(|t| std::cmp::Reverse(t.q.len() * t.span.kv.len()));
    tasks
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

/// Runs the tasks, each with scratch memory of its own.
fn run(d: &Cpu, scratch: &mut [f32], tasks: &[Task<'_>], f: impl Fn(&Task<'_>, &mut [f32]) + Sync) {
    if tasks.is_empty() || scratch.is_empty() {
        return;
    }
    let scratch: Vec<Mutex<&mut [f32]>> =
        scratch.chunks_mut(scratch.len() / d.threads()).map(Mutex::new).collect();
    d.each(tasks.len(), |i, thread| {
        f(&tasks[i], &mut scratch[thread].lock().unwrap_or_else(PoisonError::into_inner));
    });
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
    run(d, scratch.host_mut()?, &tasks(&a, TASK), |t, w| {
        let (n, ld) = (t.span.kv.len(), stride(t.span.kv.len()));
        let [scores, k_size, kt_size, ..] = sizes(&a, t.span, false);
        let (s, w) = w.split_at_mut(scores);
        let (v_pack, w) = w.split_at_mut(k_size);
        let (k_pack, w) = w.split_at_mut(kt_size);
        let keys = t.span.kv.start * c + t.head * d_head;
        pack_transposed(level, &k[keys.min(k.len())..], c, d_head, n, k_pack);
        pack(level, &v[keys.min(v.len())..], c, n, d_head, v_pack);
        for rows in blocks(&t.q, block(t.span)) {
            let (m, at) = (rows.len(), rows.start * c + t.head * d_head);
            let scores = Product {
                m,
                k: d_head,
                n,
                a: &q[at.min(q.len())..],
                a_row: c,
                a_col: 1,
                b: k_pack,
                c: s.as_mut_ptr(),
                c_row: ld,
                accumulate: false,
            };
            // SAFETY: `s` is this task's own and holds `block` rows of `ld` values.
            unsafe { product(level, scores) };
            let drop = a.dropout.map(|dropout| Drop { dropout, row: rows.start, col: (t.head * n) as u32 });
            let sums = &mut w[..m];
            softmax(level, s, ld, n, a.scale, drop, sums);
            let out = Product {
                k: n,
                n: d_head,
                a: s,
                a_row: ld,
                b: v_pack,
                c: o.block(at, m, d_head, c),
                c_row: c,
                ..scores
            };
            // SAFETY: inside O (checked), and this task's own (see `Shared`).
            unsafe { product(level, out) };
            if let Some(lse) = &lse {
                let to = lse.block(rows.start * a.heads + t.head, m, 1, a.heads);
                for (i, x) in sums.iter().enumerate() {
                    // SAFETY: inside the buffer (checked), and this task's own (see `Shared`).
                    unsafe { *to.add(i * a.heads) = *x };
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
    run(d, scratch.host_mut()?, &tasks(&a, usize::MAX), |t, w| {
        let (n, ld) = (t.span.kv.len(), stride(t.span.kv.len()));
        let [scores, k_size, kt_size, q_size, _] = sizes(&a, t.span, true);
        let (s, w) = w.split_at_mut(scores);
        let (ds, w) = w.split_at_mut(scores);
        let (k_pack, w) = w.split_at_mut(k_size);
        let (kt_pack, w) = w.split_at_mut(kt_size);
        let (vt_pack, w) = w.split_at_mut(kt_size);
        let (q_pack, w) = w.split_at_mut(q_size);
        let (do_pack, w) = w.split_at_mut(q_size);
        let keys = t.span.kv.start * c + t.head * d_head;
        let (k_head, v_head) = (&k[keys.min(k.len())..], &v[keys.min(v.len())..]);
        pack_transposed(level, k_head, c, d_head, n, kt_pack);
        pack_transposed(level, v_head, c, d_head, n, vt_pack);
        pack(level, k_head, c, n, d_head, k_pack);
        for rows in blocks(&t.q, block(t.span)) {
            let (m, at) = (rows.len(), rows.start * c + t.head * d_head);
            let (q_head, do_head) = (&q[at.min(q.len())..], &d_o[at.min(d_o.len())..]);
            pack(level, q_head, c, m, d_head, q_pack);
            pack(level, do_head, c, m, d_head, do_pack);
            // S = Q Kᵀ and dO Vᵀ
            let to_scores = Product {
                m,
                k: d_head,
                n,
                a: q_head,
                a_row: c,
                a_col: 1,
                b: kt_pack,
                c: s.as_mut_ptr(),
                c_row: ld,
                accumulate: false,
            };
            // SAFETY: `s` and `ds` are this task's own and hold `block` rows of `ld` values.
            unsafe {
                product(level, to_scores);
                product(level, Product { a: do_head, b: vt_pack, c: ds.as_mut_ptr(), ..to_scores });
            }
            let drop = a.dropout.map(|dropout| Drop { dropout, row: rows.start, col: (t.head * n) as u32 });
            let sums = &mut w[..m];
            sums.iter_mut().zip(rows.clone()).for_each(|(l, i)| *l = lse[i * a.heads + t.head]);
            softmax_backward(level, s, ds, ld, n, a.scale, drop, sums);
            // dV += Pᵀ dO, dK += dSᵀ Q, dQ = dS K
            let to_keys = Product {
                m: n,
                k: m,
                n: d_head,
                a: s,
                a_row: 1,
                a_col: ld,
                b: do_pack,
                c: dv.block(keys, n, d_head, c),
                c_row: c,
                accumulate: rows.start > t.q.start,
            };
            let to_k = Product { a: ds, b: q_pack, c: dk.block(keys, n, d_head, c), ..to_keys };
            let to_q = Product {
                m,
                k: n,
                a_row: ld,
                a_col: 1,
                b: k_pack,
                c: dq.block(at, m, d_head, c),
                accumulate: false,
                ..to_k
            };
            // SAFETY: inside their buffers (checked), and this task's own (see `Shared`).
            unsafe {
                product(level, to_keys);
                product(level, to_k);
                product(level, to_q);
            }
        }
    });
    Ok(())
}
