//! How a launch is cut into tasks, and where its tasks find keys and leave gradients.
use super::{Attention, Bias, Span, Wanted, check::union, softmax::VisibleKeys};
use std::ops::Range;

/// Scores of a block, about.
const SCORES: usize = 64 * 1024;
/// Queries of a block.
const BLOCK: (usize, usize) = (28, 128);
/// Queries of a forward task where there are few tasks: enough to pay for packing K and V.
const TASK: usize = 256;
/// Tasks for each thread, if there are as many heads and sequences: so many that the threads
/// finish together.
const TASKS: usize = 8;
/// The keys that a block leaves out in front are a multiple of this: whole panels of every level.
const WHOLE: usize = 32;

/// From one row of scores to the next: whole vectors, and never a power of two, which would fall on
/// the same few lines of the cache.
pub(super) fn stride(keys: usize) -> usize {
    keys.next_multiple_of(16) | 16
}
/// Queries of a block.
pub(super) fn block(s: &Span) -> usize {
    (SCORES / stride(s.keys())).clamp(BLOCK.0, BLOCK.1).min(s.q.len())
}
/// The numbers of the keys that some of these queries see, and of those between them; they begin
/// with a whole panel.
pub(super) fn seen(s: &Span, a: &Attention<'_>, q: &Range<usize>) -> Range<usize> {
    let visible = VisibleKeys::of_span(s, a.mask);
    if q.is_empty() {
        return 0..0;
    }
    let [_, first] = visible.of(q.start - s.q.start);
    let [free, last] = visible.of(q.end - 1 - s.q.start);
    let end = last.end.max(free.end);
    let start = if s.free > 0 || first.is_empty() { 0 } else { first.start / WHOLE * WHOLE };
    if start < end { start..end } else { 0..0 }
}

/// Some heads of keys of some queries of a span.
pub(super) struct Task<'a> {
    pub span: &'a Span,
    /// The span's number.
    pub index: usize,
    pub kv_heads: Range<usize>,
    pub q: Range<usize>,
}
/// The tasks for this many threads, dealt to them by cost: each thread's share begins with
/// the largest ones, so that what is left at the end is small. What a head's result is does
/// not depend on them.
pub(super) fn tasks<'a>(a: &Attention<'a>, threads: usize, backward: bool) -> Vec<Task<'a>> {
    let (all, wanted) = (a.kv_heads * a.spans.len(), TASKS * threads);
    let groups = a.kv_heads.div_ceil((all / wanted).max(1));
    let queries = if backward || all >= wanted { usize::MAX } else { TASK };
    let mut tasks = vec![];
    let spans = a.spans.iter().enumerate();
    for (index, span) in spans.filter(|(_, s)| !(s.q.is_empty() && s.keys() == 0)) {
        for first in (span.q.start..span.q.end.max(span.q.start + 1)).step_by(queries) {
            let q = first..span.q.end.min(first.saturating_add(queries));
            let heads = |g| a.kv_heads * g / groups..a.kv_heads * (g + 1) / groups;
            tasks.extend((0..groups).map(|g| Task { span, index, kv_heads: heads(g), q: q.clone() }));
        }
    }
    tasks.sort_by_key(|t| std::cmp::Reverse(t.kv_heads.len() * t.q.len() * t.span.keys()));
    let mut by_thread: Vec<Vec<Task<'a>>> = (0..threads).map(|_| vec![]).collect();
    tasks.into_iter().enumerate().for_each(|(i, t)| by_thread[i % threads].push(t));
    by_thread.into_iter().flatten().collect()
}

/// A range of a span's keys.
pub(super) struct Piece {
    /// The number of its first key.
    pub first: usize,
    /// Where its keys lie.
    pub of: usize,
    pub rows: Range<usize>,
    /// If other ranges hold some of the same rows: where this one's gradients are
    /// put by themselves.
    pub partial: Option<usize>,
}
impl Piece {
    /// Rows of those of its keys that are among `keys`, as numbers.
    pub(super) fn part(&self, keys: &Range<usize>) -> Range<usize> {
        let at = |n: usize| self.rows.start + n.clamp(self.first, self.first + self.rows.len()) - self.first;
        at(keys.start)..at(keys.end)
    }
}

/// Where the tasks of a launch find keys, and what they leave behind until all are done.
pub(super) struct Plan {
    /// Of each span.
    pub pieces: Vec<Vec<Piece>>,
    /// Floats of all partial gradients.
    pub floats: usize,
    /// Of them, from where on those of the bias lie: `buckets` numbers for each span and head.
    pub bias: usize,
    pub buckets: usize,
}
impl Plan {
    /// Ranges that overlap others get room for gradients of their own, if a gradient of their
    /// source is wanted.
    pub(super) fn new(a: &Attention<'_>, wanted: &Wanted, bias: Option<Bias<'_>>) -> Plan {
        let mut all: Vec<(usize, Range<usize>)> = vec![];
        all.extend(a.spans.iter().flat_map(|s| &s.kv).map(|k| (k.of, k.rows.clone())));
        all.retain(|k| !k.1.is_empty());
        all.sort_by_key(|k| (k.0, k.1.start, k.1.end));
        // the rows of each source that several ranges hold
        let mut shared: Vec<(usize, Range<usize>)> = vec![];
        let mut reach = (0, 0);
        for (of, rows) in all {
            if reach.0 == of && rows.start < reach.1 {
                shared.push((of, rows.start..rows.end.min(reach.1)));
            }
            reach = (of, if reach.0 == of { reach.1.max(rows.end) } else { rows.end });
        }
        let mut floats = 0;
        let mut pieces = vec![];
        for s in a.spans {
            let mut first = 0;
            let piece = |k: &super::Keys| {
                let overlaps = |r: &Range<usize>| r.start < k.rows.end && k.rows.start < r.end;
                let begin = shared.partition_point(|(of, r)| (*of, r.start) < (k.of, k.rows.end));
                let share = shared[..begin].iter().rev().take_while(|x| x.0 == k.of).any(|x| overlaps(&x.1));
                let wanted = wanted.kv.get(k.of).is_some_and(|w| w[0] || w[1]);
                let partial = (share && wanted && !k.rows.is_empty()).then_some(floats);
                floats += partial.map_or(0, |_| 2 * k.rows.len() * a.kv_channels());
                let piece = Piece { first, of: k.of, rows: k.rows.clone(), partial };
                first += k.rows.len();
                piece
            };
            pieces.push(s.kv.iter().map(piece).collect());
        }
        let buckets = bias.filter(|_| wanted.bias).map_or(0, |b| b.table.rows());
        Plan { pieces, floats: floats + a.spans.len() * a.heads * buckets, bias: floats, buckets }
    }
    /// Ranges whose gradients lie by themselves, in the order of the spans.
    pub(super) fn shared(&self) -> impl Iterator<Item = &Piece> {
        self.pieces.iter().flatten().filter(|p| p.partial.is_some())
    }
    /// (source, rows) that partial gradients are of, without gaps, at most `most` rows at once.
    pub(super) fn merged(&self, most: usize) -> Vec<(usize, Range<usize>)> {
        let mut all = vec![];
        for of in 0..=self.shared().map(|p| p.of).max().unwrap_or(0) {
            for rows in union(self.shared().filter(|p| p.of == of).map(|p| p.rows.clone())) {
                let end = rows.end;
                all.extend(rows.step_by(most).map(|i| (of, i..end.min(i + most))));
            }
        }
        all
    }
}
