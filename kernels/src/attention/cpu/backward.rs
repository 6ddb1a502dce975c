//! The backward pass: a task is some heads of one sequence, as going forward, with
//! all of its queries.
use super::{super::*, *};
use std::marker::PhantomData;

/// Gradients that several spans share, until they are merged.
#[derive(Clone, Copy)]
struct Partial<'a> {
    start: *mut f32,
    len: usize,
    lent: PhantomData<&'a mut [f32]>,
}
// SAFETY: threads write disjoint elements: each belongs to one range of keys, or to the bias, of
// one span and one head.
unsafe impl Sync for Partial<'_> {}
impl<'a> Partial<'a> {
    fn new(x: &'a mut [f32]) -> Partial<'a> {
        Partial { start: x.as_mut_ptr(), len: x.len(), lent: PhantomData }
    }
    fn block(&self, first: usize, len: usize) -> *mut f32 {
        assert!(first + len <= self.len, "a block outside the partial gradients");
        self.start.wrapping_add(first)
    }
}

/// Where gradients of keys, or of values, go.
struct OfKeys<'a> {
    whole: &'a [Option<Target<'a>>],
    partial: Partial<'a>,
    /// 0: they are of keys, 1: of values.
    which: usize,
    cols: usize,
}
impl OfKeys<'_> {
    /// Those of some columns and keys of a piece, and from row to row.
    fn block(&self, p: &Piece, rows: Range<usize>, cols: Range<usize>) -> Option<(*mut f32, usize)> {
        let whole = self.whole[p.of].as_ref()?;
        let Some(at) = p.partial else { return Some((whole.block(rows, cols), whole.0.stride())) };
        let first = at + (self.which * p.rows.len() + rows.start - p.rows.start) * self.cols;
        self.partial.block(first, rows.len() * self.cols);
        Some((self.partial.block(first + cols.start, 0), self.cols))
    }
    fn part(&self, p: &Piece, cols: Range<usize>) -> Option<PrefetchPart> {
        let (first, stride) = self.block(p, p.rows.clone(), cols.clone())?;
        Some(PrefetchPart { first, rows: p.rows.len(), stride, cols: cols.len() })
    }
    /// Those of `keys` become rows of a product, whose first row is that of the key `from`.
    ///
    /// # Safety
    /// The gradients of these keys and columns must be this task's own.
    unsafe fn product(
        &self,
        level: Level,
        pieces: &[Piece],
        (keys, from): (Range<usize>, usize),
        cols: Range<usize>,
        p: Product<'_>,
        ahead: &mut PrefetchRows,
    ) {
        for piece in pieces {
            let rows = piece.part(&keys);
            if rows.is_empty() {
                continue;
            }
            let Some((c, c_row)) = self.block(piece, rows.clone(), cols.clone()) else { continue };
            let skipped = piece.first + (rows.start - piece.rows.start) - from;
            let a = &p.a[(skipped * p.a_row).min(p.a.len())..];
            // SAFETY: inside the matrix or its partial gradients, and the caller's promise.
            unsafe { product(level, Product { m: rows.len(), a, c, c_row, ..p }, ahead) };
        }
    }
}

pub(in super::super) fn backward(
    d: &Cpu,
    device: &Device,
    a: Attention<'_>,
    x: Qkv<'_>,
    (lse, d_o): (View<'_>, View<'_>),
    g: Gradients<'_>,
) -> Result<()> {
    let (level, mut scratch) = (Level::current()?, workspace(device, a, x, true)?);
    let plan = Plan::new(&a, &Wanted::of(&g), x.bias);
    let mut partial = partials(device, &plan)?;
    let partial = partial.host_mut::<f32>()?;
    partial[plan.bias..].fill(0.0);
    let q = Source::new(x.q)?;
    let k = x.kv.iter().map(|kv| Source::new(kv.k)).collect::<Result<Vec<_>>>()?;
    let v = x.kv.iter().map(|kv| Source::new(kv.v)).collect::<Result<Vec<_>>>()?;
    let table = x.bias.map(|b| Source::new(b.table)).transpose()?;
    let (lse, d_o) = (Source::new(lse)?, Source::new(d_o)?);
    let dq = g.q.map(Target::new).transpose()?;
    let mut targets = [vec![], vec![]];
    for kv in g.kv {
        for (all, target) in targets.iter_mut().zip(kv) {
            all.push(target.map(Target::new).transpose()?);
        }
    }
    let room = Partial::new(partial);
    let of_keys =
        |which: usize| OfKeys { whole: &targets[which], partial: room, which, cols: a.kv_channels() };
    let (dk, dv) = (of_keys(0), of_keys(1));
    let (d_head, group) = (a.head_dim, a.group());
    run(d, scratch.host_mut()?, &tasks(&a, d.threads(), true), |t, kv_head, mut w| {
        let (pieces, n) = (&plan.pieces[t.index], t.span.keys());
        let ld = stride(n);
        let sizes = Sizes::of(&a, t.span, table.is_some(), true);
        let (s, ds) = (take(&mut w, sizes.scores), take(&mut w, sizes.scores));
        let (k_room, kt_room) = (take(&mut w, sizes.k), take(&mut w, sizes.kt));
        let vt_room = take(&mut w, sizes.kt);
        let (q_room, do_room) = (take(&mut w, sizes.q), take(&mut w, sizes.q));
        let (gathered, bias_room) = (take(&mut w, sizes.gathered), take(&mut w, sizes.bias));
        let dbias = take(&mut w, sizes.bias);
        let mut ahead = next(
            &a,
            t,
            pieces,
            kv_head,
            5,
            |rows, cols| {
                let part = |x: &Source<'_>| Some(x.part(rows.clone(), cols.clone()));
                [part(&q), part(&d_o), dq.as_ref().map(|dq| dq.part(rows.clone(), cols.clone()))]
            },
            |p, cols| {
                let part = |x: &[Source<'_>]| Some(x[p.of].part(p.rows.clone(), cols.clone()));
                [part(&k), part(&v), dv.part(p, cols.clone()), dk.part(p, cols.clone())]
            },
        );
        let (keys, of_kv) = (seen(t.span, &a, &t.q), kv_head * d_head..(kv_head + 1) * d_head);
        let size = (d_head, keys.len());
        let v_t =
            transposed(level, Source::keys(&v, pieces, &keys, of_kv.start, d_head, gathered), size, vt_room);
        let k_keys = Source::keys(&k, pieces, &keys, of_kv.start, d_head, gathered);
        let k_t = transposed(level, k_keys, size, kt_room);
        let k_rows = packed_or_in_place(level, k_keys, (keys.len(), d_head), k_room);
        let mut bias = x.bias.map(|b| Biased::new(&b, t.span, &t.q, &keys, bias_room));
        // the keys below this have gradients: other queries add to them
        let mut begun = 0;
        let to_keys = Product {
            m: 0,
            k: 0,
            n: d_head,
            a: &[],
            a_row: 1,
            a_col: ld,
            b: k_rows,
            c: std::ptr::null_mut(),
            c_row: 0,
            finish: Finish::Store,
        };
        for head in kv_head * group..(kv_head + 1) * group {
            if let (Some(b), Some(table)) = (&mut bias, table) {
                b.read(table, head);
                dbias.fill(0.0);
            }
            for rows in blocks(&t.q, block(t.span)) {
                let (m, cols) = (rows.len(), head * d_head..(head + 1) * d_head);
                let of_block = seen(t.span, &a, &rows);
                let (n_block, skipped) = (of_block.len(), of_block.start.saturating_sub(keys.start));
                let (q_head, do_head) = (q.from(rows.start, cols.start), d_o.from(rows.start, cols.start));
                let q_rows = packed_or_in_place(level, q_head, (m, d_head), q_room);
                let do_rows = packed_or_in_place(level, do_head, (m, d_head), do_room);
                // S = Q Kᵀ and dO Vᵀ
                let to_scores = Product {
                    m,
                    k: d_head,
                    n: n_block.next_multiple_of(level.lanes()),
                    a: q_head.0,
                    a_row: q_head.1,
                    a_col: 1,
                    b: k_t.skip_cols(level, skipped),
                    c: s.as_mut_ptr(),
                    c_row: ld,
                    finish: Finish::Store,
                };
                let b = v_t.skip_cols(level, skipped);
                let of_do = Product { a: do_head.0, a_row: do_head.1, b, c: ds.as_mut_ptr(), ..to_scores };
                // SAFETY: `s` and `ds` are this task's own and hold `block` rows of `ld` values.
                unsafe {
                    product(level, to_scores, &mut ahead);
                    product(level, of_do, &mut ahead);
                }
                let mut scale = a.scale;
                if let Some(b) = &mut bias {
                    let (by_distance, first) = b.of_block(rows.start - t.q.start, skipped);
                    add_bias(level, s, ld, m, n_block, scale, by_distance, first);
                    scale = 1.0;
                }
                let col = (head * n + of_block.start) as u32;
                let drop = a.dropout.map(|dropout| Drop { dropout, row: rows.start, col });
                let visible = VisibleKeys::of_span(t.span, a.mask).part(rows.start - t.q.start, &of_block);
                let sums = &mut w[..m];
                sums.iter_mut().zip(rows.clone()).for_each(|(l, i)| *l = lse.at(i, head)[0]);
                softmax_backward(level, s, ds, ld, visible, scale, drop, sums);
                if let Some(b) = &bias {
                    let first = b.last - (rows.start - t.q.start);
                    add_to_bias(level, ds, ld, m, n_block, a.scale, &mut dbias[skipped..], first);
                }
                // dV += Pᵀ dO, dK += dSᵀ Q: set, where no query before has seen the key
                let of_p = Product { k: m, a: s, b: do_rows, ..to_keys };
                let of_ds = Product { k: m, a: ds, b: q_rows, ..to_keys };
                let (start, end) = (of_block.start, of_block.end);
                let parts = [
                    (begun.min(start)..start, 0, Finish::Store),
                    (start..end.min(begun.max(start)), m, Finish::Add),
                    (begun.max(start)..end.max(begun), m, Finish::Store),
                ];
                for (keys, k, finish) in parts.into_iter().filter(|p| !p.0.is_empty()) {
                    let from = if k == 0 { keys.start } else { start };
                    let (p, ds) = (Product { k, finish, ..of_p }, Product { k, finish, ..of_ds });
                    // SAFETY: the columns of these heads of a span's keys are this task's
                    // own (see `Target`).
                    unsafe {
                        dv.product(level, pieces, (keys.clone(), from), of_kv.clone(), p, &mut ahead);
                        dk.product(level, pieces, (keys, from), of_kv.clone(), ds, &mut ahead);
                    }
                }
                begun = begun.max(end);
                let Some(dq) = &dq else { continue };
                let to_q = Product {
                    m,
                    k: n_block,
                    a: ds,
                    a_row: ld,
                    a_col: 1,
                    b: k_rows.skip_rows(skipped),
                    c: dq.block(rows, cols),
                    c_row: dq.0.stride(),
                    ..to_keys
                };
                // SAFETY: inside dQ (checked), and this task's own (see `Target`).
                unsafe { product(level, to_q, &mut ahead) };
            }
            if let Some(b) = bias.as_ref().filter(|_| plan.buckets > 0) {
                let first = plan.bias + (t.index * a.heads + head) * plan.buckets;
                // SAFETY: the numbers of this span and head (checked), which are this task's own
                // and zeros so far.
                unsafe { b.leave(dbias, room.block(first, plan.buckets)) };
            }
        }
        // SAFETY: as above.
        unsafe {
            dv.product(level, pieces, (begun..n, begun), of_kv.clone(), to_keys, &mut ahead);
            dk.product(level, pieces, (begun..n, begun), of_kv, to_keys, &mut ahead);
        }
    });
    merge(d, &plan, partial, &targets, a.kv_channels());
    let Some(mut g) = g.bias else { return Ok(()) };
    let (to_row, rows) = (g.table.view().stride(), g.table.view().rows());
    let to = g.table.reborrow().host::<f32>()?;
    for (bucket, head) in (0..rows).flat_map(|b| (0..a.heads).map(move |h| (b, h))) {
        let of_span = |s: usize| partial[plan.bias + (s * a.heads + head) * plan.buckets + bucket];
        let sum = (0..a.spans.len()).map(of_span).fold(0.0, |sum, x| sum + x);
        let to = &mut to[bucket * to_row + head];
        *to = if g.accumulate { *to + sum } else { sum };
    }
    Ok(())
}

/// Adds up the gradients that lie by themselves, in the order of the spans.
fn merge(d: &Cpu, plan: &Plan, partial: &[f32], targets: &[Vec<Option<Target<'_>>>; 2], cols: usize) {
    let merged = plan.merged(MERGED);
    d.each(merged.len(), |i, _| {
        let (of, rows) = &merged[i];
        for (which, row) in (0..2).flat_map(|which| rows.clone().map(move |row| (which, row))) {
            let Some(target) = &targets[which][*of] else { continue };
            let sum = target.block(row..row + 1, 0..cols);
            let pieces = plan.shared().filter(|p| p.of == *of && p.rows.contains(&row));
            for (n, (p, at)) in pieces.filter_map(|p| Some((p, p.partial?))).enumerate() {
                let first = at + (which * p.rows.len() + row - p.rows.start) * cols;
                for (c, x) in partial[first..][..cols].iter().enumerate() {
                    // SAFETY: a row of the target, which belongs to one of the merged ranges, and
                    // so to this task.
                    unsafe { *sum.add(c) = if n == 0 { *x } else { *sum.add(c) + x } };
                }
            }
        }
    });
}
