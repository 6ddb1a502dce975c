//! What a launch refuses, and what it costs.
use super::{Attention, Gradients, NAME, Qkv, Wanted, softmax::VisibleKeys};
use crate::{Cost, Device, Error, Result};
use std::ops::Range;

/// Ranges cut to those that hold something, in the order of their starts, joined where they
/// touch or overlap.
pub(super) fn union(ranges: impl Iterator<Item = Range<usize>>) -> Vec<Range<usize>> {
    let mut all: Vec<Range<usize>> = ranges.filter(|r| !r.is_empty()).collect();
    all.sort_by_key(|r| (r.start, r.end));
    let mut joined: Vec<Range<usize>> = vec![];
    for r in all {
        match joined.last_mut() {
            Some(last) if r.start <= last.end => last.end = last.end.max(r.end),
            _ => joined.push(r),
        }
    }
    joined
}

impl Attention<'_> {
    /// Refuses inputs that do not fit. Returns the rows of queries that the spans reach.
    pub(super) fn check(&self, device: &Device, x: &Qkv<'_>) -> Result<usize> {
        let fits = match self.kv_heads {
            0 => self.heads == 0,
            n => self.heads > 0 && self.heads.is_multiple_of(n),
        };
        if !fits {
            let what = format!("{} heads of queries cannot share {} of keys", self.heads, self.kv_heads);
            return Err(Error::Invalid { kernel: NAME, what });
        }
        let mut ends = vec![0; x.kv.len()];
        for keys in self.spans.iter().flat_map(|s| &s.kv) {
            let (got, below) = (keys.of, x.kv.len());
            let none = Error::Range { kernel: NAME, what: "pair of keys and values", got, below };
            let end = ends.get_mut(keys.of).ok_or(none)?;
            *end = keys.rows.end.max(keys.rows.start).max(*end);
        }
        let rows = self.spans.iter().map(|s| s.q.end.max(s.q.start)).max().unwrap_or(0);
        let queries: usize = self.spans.iter().map(|s| s.q.len()).sum();
        if union(self.spans.iter().map(|s| s.q.clone())).iter().map(Range::len).sum::<usize>() != queries {
            return Err(Error::Overlap { kernel: NAME, argument: "spans" });
        }
        x.q.expect::<f32>(NAME, device, "q", (x.q.rows().max(rows), self.channels()))?;
        for (kv, end) in x.kv.iter().zip(ends) {
            kv.k.expect::<f32>(NAME, device, "k", (kv.k.rows().max(end), self.kv_channels()))?;
            kv.v.expect::<f32>(NAME, device, "v", (kv.v.rows().max(end), self.kv_channels()))?;
        }
        self.check_bias(device, x)?;
        Ok(rows)
    }
    fn check_bias(&self, device: &Device, x: &Qkv<'_>) -> Result<()> {
        let Some(b) = &x.bias else { return Ok(()) };
        b.table.expect::<f32>(NAME, device, "bias", (b.table.rows(), self.heads))?;
        if let Some(row) = b.bucket.iter().find(|row| **row as usize >= b.table.rows()) {
            let (got, below) = (*row as usize, b.table.rows());
            return Err(Error::Range { kernel: NAME, what: "row of the bias", got, below });
        }
        for s in self.spans {
            let visible = VisibleKeys::of_span(s, self.mask);
            for i in 0..s.q.len() {
                for seen in visible.of(i).into_iter().filter(|r| !r.is_empty()) {
                    // of the nearest and the farthest key, counted from the start of `bucket`
                    let at = |j: usize| (j + b.zero).checked_sub(s.bias_position + i);
                    let (first, last) = (at(seen.start), at(seen.end - 1));
                    if first.is_none() || last.is_none_or(|l| l >= b.bucket.len()) {
                        let (len, before) = (b.bucket.len(), b.zero);
                        let what = format!(
                            "a query sees keys at distances that `bucket` has no row for: it has {len}, the first \
                             for a key {before} in front of its query"
                        );
                        return Err(Error::Invalid { kernel: NAME, what });
                    }
                }
            }
        }
        Ok(())
    }
    pub(super) fn check_gradients(
        &self,
        device: &Device,
        x: &Qkv<'_>,
        rows: usize,
        g: &Gradients<'_>,
    ) -> Result<()> {
        if g.kv.len() != x.kv.len() {
            let (there, asked) = (x.kv.len(), g.kv.len());
            let what =
                format!("gradients of {asked} pairs of keys and values are asked for, there are {there}");
            return Err(Error::Invalid { kernel: NAME, what });
        }
        if let Some(dq) = &g.q {
            dq.expect::<f32>(NAME, device, "dq", (dq.rows().max(rows), self.channels()))?;
        }
        for ([dk, dv], kv) in g.kv.iter().zip(x.kv) {
            for (name, d, x) in [("dk", dk, &kv.k), ("dv", dv, &kv.v)] {
                if let Some(d) = d {
                    d.expect::<f32>(NAME, device, name, (x.rows(), x.cols()))?;
                }
            }
        }
        match (&g.bias, &x.bias) {
            (Some(d), Some(b)) => {
                d.table.view().expect::<f32>(NAME, device, "dbias", (b.table.rows(), b.table.cols()))
            }
            (Some(_), None) => {
                let what = "the gradient of a bias is asked for, and there is none".into();
                Err(Error::Invalid { kernel: NAME, what })
            }
            (None, _) => Ok(()),
        }
    }
    /// Two products of queries and the keys they see forward; backward two, and one for each
    /// gradient that is `wanted`. Each row of a matrix is read or written once, with keys and
    /// values in `sources` places.
    pub(super) fn cost(&self, sources: usize, wanted: Option<&Wanted>) -> Cost {
        let seen = |s| {
            let visible = VisibleKeys::of_span(s, self.mask);
            (0..s.q.len()).map(|i| visible.of(i).iter().map(Range::len).sum::<usize>()).sum::<usize>()
        };
        let pairs: usize = self.spans.iter().map(seen).sum();
        let queries: usize = self.spans.iter().map(|s| s.q.len()).sum();
        let keys = |of: usize| {
            let rows = self.spans.iter().flat_map(|s| &s.kv).filter(|k| k.of == of).map(|k| k.rows.clone());
            union(rows).iter().map(Range::len).sum::<usize>()
        };
        let all: usize = (0..sources).map(keys).sum();
        let (mut products, mut of_q, mut of_kv) = (2, 2 * queries, 2 * all);
        if let Some(w) = wanted {
            let of = |which: usize| w.kv.iter().any(|kv| kv[which]) as usize;
            products += w.q as usize + of(0) + of(1);
            of_q += queries * w.q as usize;
            let written = |(i, kv): (usize, &[bool; 2])| keys(i) * kv.iter().filter(|w| **w).count();
            of_kv += w.kv.iter().enumerate().map(written).sum::<usize>();
        }
        let flops = products as f64 * 2.0 * pairs as f64 * self.channels() as f64;
        let bytes = 4.0 * (of_q * self.channels() + of_kv * self.kv_channels()) as f64;
        Cost { flops, bytes, ..Cost::default() }
    }
}
