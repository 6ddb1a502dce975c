//! The shapes on which attention is checked and timed.
use super::*;
use crate::{
    Buffer, Case, Class, Cost, PreparedCase,
    case::{noise, wide},
};

/// An attention that owns its spans, with inputs of noise.
#[derive(Clone)]
pub(super) struct Problem {
    pub label: &'static str,
    pub spans: Vec<Span>,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub scale: f32,
    pub mask: Mask,
    pub dropout: Option<Dropout>,
    /// Rows of a table of biases; 0: no bias.
    pub buckets: usize,
    /// Q, K and V are columns of one matrix, and so are their gradients. Needs as many keys as
    /// queries, in one place.
    pub fused: bool,
    pub timed: bool,
}
impl Problem {
    pub(super) fn new(label: &'static str, spans: Vec<Span>, heads: usize, head_dim: usize) -> Problem {
        Problem {
            label,
            spans,
            heads,
            kv_heads: heads,
            head_dim,
            scale: 1.0 / (head_dim as f32).sqrt(),
            mask: Mask::None,
            dropout: None,
            buckets: 0,
            fused: false,
            timed: false,
        }
    }
    pub(super) fn attention(&self) -> Attention<'_> {
        let &Problem { heads, kv_heads, head_dim, scale, mask, dropout, .. } = self;
        Attention { heads, kv_heads, head_dim, scale, mask, dropout, spans: &self.spans }
    }
    fn widths(&self) -> (usize, usize) {
        (self.heads * self.head_dim, self.kv_heads * self.head_dim)
    }
    fn rows(&self) -> usize {
        self.spans.iter().map(|s| s.q.end).max().unwrap_or(0)
    }
    /// Rows of each place of keys.
    fn sources(&self) -> Vec<usize> {
        let keys = || self.spans.iter().flat_map(|s| &s.kv);
        let end = |of| keys().filter(|k| k.of == of).map(|k| k.rows.end).max().unwrap_or(0);
        (0..=keys().map(|k| k.of).max().unwrap_or(0)).map(end).collect()
    }
    /// The shapes of Q, of K and V of each place, and of the bias's table.
    fn shapes(&self) -> Vec<(usize, usize)> {
        let (c, kv) = self.widths();
        let mut shapes = vec![(self.rows(), c)];
        self.sources().iter().for_each(|rows| shapes.extend([(*rows, kv); 2]));
        shapes.push((self.buckets, self.heads));
        shapes
    }
    /// Those, filled.
    fn inputs(&self) -> Vec<Vec<f32>> {
        self.shapes().iter().enumerate().map(|(i, (r, c))| noise(1 + i as u64, r * c)).collect()
    }
    pub(super) fn d_o(&self) -> Vec<f32> {
        noise(99, self.rows() * self.widths().0)
    }
    /// The row of the table for each distance, and where the distance 0 is.
    fn bucket(&self) -> (Vec<u32>, usize) {
        let place = |s: &Span| s.keys().max(s.bias_position + s.q.len());
        let zero = self.spans.iter().map(place).max().unwrap_or(0);
        let row = |i: usize| (i * i / 3 % self.buckets.max(1)) as u32;
        (if self.buckets > 0 { (0..2 * zero + 1).map(row).collect() } else { vec![] }, zero)
    }
    /// For [`reference`].
    fn with<T: num_traits::Float, R>(&self, x: &[Vec<T>], f: impl FnOnce(&Inputs<'_, T>) -> R) -> R {
        let (bucket, zero) = self.bucket();
        let (table, x) = x.split_last().expect("the table");
        let kv: Vec<[&[T]; 2]> = x[1..].chunks(2).map(|kv| [&*kv[0], &*kv[1]]).collect();
        let bias = (self.buckets > 0).then_some((&**table, &*bucket, zero));
        f(&Inputs { q: &x[0], kv: &kv, bias })
    }
    /// O and lse, in double precision; as functions of Q, K, V and the table.
    pub(super) fn o(&self, x: &[Vec<f64>]) -> [Vec<f64>; 2] {
        self.with(x, |x| reference(self.attention(), x)).into()
    }
    /// The gradients of Q, K, V and the table.
    pub(super) fn gradients(&self, x: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let d_o = wide(&self.d_o());
        let (dq, dkv, table) = self.with(x, |x| reference_backward(self.attention(), x, &d_o));
        [vec![dq], dkv.into_iter().flatten().collect(), vec![table]].concat()
    }
    pub(super) fn wide(&self) -> Vec<Vec<f64>> {
        self.inputs().iter().map(|x| wide(x)).collect()
    }
    /// Matrices as the launch takes them: Q, K and V side by side if they are fused.
    pub(super) fn arranged<T: Copy>(&self, x: &[Vec<T>]) -> Vec<Vec<T>> {
        if !self.fused {
            return x.to_vec();
        }
        let shapes = self.shapes();
        let row = |i: usize, m: usize| &x[m][i * shapes[m].1..][..shapes[m].1];
        let fused = (0..self.rows()).flat_map(|i| (0..3).flat_map(move |m| row(i, m))).copied().collect();
        vec![fused, x[3].clone()]
    }
    fn on(&self, d: &Device) -> Result<Placed> {
        let buffers = self.arranged(&self.inputs());
        let buffers = buffers.iter().map(|x| d.upload(Class::Scratch, x)).collect::<Result<_>>()?;
        Ok(Placed { problem: self.clone(), buffers, bucket: self.bucket() })
    }
    /// Columns of Q, K and V in a fused matrix.
    fn columns(&self) -> [Range<usize>; 3] {
        let (c, kv) = self.widths();
        [0..c, c..c + kv, c + kv..c + 2 * kv]
    }
    fn cost(&self, back: bool) -> Cost {
        let sources = self.sources().len();
        let wanted = Wanted { q: true, kv: vec![[true; 2]; sources], bias: self.buckets > 0 };
        self.attention().cost(sources, back.then_some(&wanted))
    }
    /// O and lse.
    pub(super) fn forward(&self, d: &Device) -> Result<PreparedCase> {
        let (x, d, rows, (c, _)) = (self.on(d)?, d.clone(), self.rows(), self.widths());
        let zeros = |n| d.zeros::<f32>(Class::Scratch, n);
        let outputs = vec![zeros(rows * c)?, zeros(rows * self.heads)?];
        Ok(PreparedCase::new(outputs, move |y| {
            let [o, lse] = y else { unreachable!() };
            let lse = ViewMut::of(lse, rows, x.problem.heads)?;
            x.go(|a, qkv| forward(&d, a, qkv, ViewMut::of(o, rows, c)?, Some(lse)))
        }))
    }
    /// The gradients, arranged as the inputs.
    pub(super) fn backward(&self, d: &Device) -> Result<PreparedCase> {
        let (x, d, rows, (c, kv)) = (self.on(d)?, d.clone(), self.rows(), self.widths());
        let lse = self.with(&self.inputs(), |x| reference(self.attention(), x)).1;
        let (lse, d_o) = (d.upload(Class::Scratch, &lse)?, d.upload(Class::Scratch, &self.d_o())?);
        let zeros = |b: &Buffer| d.zeros::<f32>(Class::Scratch, b.len());
        let outputs = x.buffers.iter().map(zeros).collect::<Result<_>>()?;
        Ok(PreparedCase::new(outputs, move |y| {
            let p = &x.problem;
            let (table, y) = y.split_last_mut().expect("that of the table");
            let mut parts = match p.fused {
                true => ViewMut::of(&mut y[0], rows, c + 2 * kv)?.split_cols(&p.columns())?,
                false => {
                    let of = |(b, (r, c))| Ok(ColsMut::from(ViewMut::of(b, r, c)?));
                    y.iter_mut().zip(p.shapes()).map(of).collect::<Result<_>>()?
                }
            }
            .into_iter();
            let mut g = Gradients { q: parts.next(), ..Gradients::default() };
            while let (Some(k), Some(v)) = (parts.next(), parts.next()) {
                g.kv.push([Some(k), Some(v)]);
            }
            if p.buckets > 0 {
                let table = ViewMut::of(table, p.buckets, p.heads)?;
                g.bias = Some(BiasGradient { table, accumulate: false });
            }
            let (lse, d_o) = (View::of(&lse, rows, p.heads)?, View::of(&d_o, rows, c)?);
            x.go(|a, qkv| backward(&d, a, qkv, lse, d_o, g))
        }))
    }
}
/// The inputs of a problem on a device.
struct Placed {
    problem: Problem,
    buffers: Vec<Buffer>,
    bucket: (Vec<u32>, usize),
}
impl Placed {
    fn go<R>(&self, f: impl FnOnce(Attention<'_>, Qkv<'_>) -> Result<R>) -> Result<R> {
        let p = &self.problem;
        let (table, x) = self.buffers.split_last().expect("the table");
        let views: Vec<View<'_>> = match p.fused {
            true => {
                let all = View::of(&x[0], p.rows(), p.columns()[2].end)?;
                p.columns().into_iter().map(|cols| all.cols_of(cols)).collect::<Result<_>>()?
            }
            false => x.iter().zip(p.shapes()).map(|(b, (r, c))| View::of(b, r, c)).collect::<Result<_>>()?,
        };
        let kv: Vec<Kv<'_>> = views[1..].chunks(2).map(|kv| Kv { k: kv[0], v: kv[1] }).collect();
        let bias = match p.buckets {
            0 => None,
            n => Some(Bias {
                table: View::of(table, n, p.heads)?,
                bucket: &self.bucket.0,
                zero: self.bucket.1,
            }),
        };
        f(p.attention(), Qkv { q: views[0], kv: &kv, bias })
    }
}

/// Sequences of these lengths one after the other, attending to themselves.
pub(super) fn packed(lengths: &[usize]) -> Vec<Span> {
    let mut at = 0;
    let next = |n: &usize| {
        at += n;
        Span::new(at - n..at, at - n..at)
    };
    lengths.iter().map(next).collect()
}
/// The same behind prefixes of these lengths, each the first rows of one matrix.
pub(super) fn prefixed(lengths: &[(usize, usize)]) -> Vec<Span> {
    let mut spans = packed(&lengths.iter().map(|l| l.1).collect::<Vec<_>>());
    for (s, (prefix, _)) in spans.iter_mut().zip(lengths) {
        s.kv.insert(0, Keys { of: 1, rows: 0..*prefix });
        (s.position, s.free) = (*prefix, *prefix);
    }
    spans
}
fn problems() -> Vec<Problem> {
    let ragged: Vec<usize> = (0..60).map(|i| 1 + (i * 37) % 60).collect();
    let dropout = Some(Dropout::new(0.2, 1, 2, 3));
    let other =
        vec![Span::new(0..3, 5..9), Span::new(3..3, 0..2), Span::new(3..40, 2..5), Span::new(40..42, 9..9)];
    let last = |n: usize| vec![Span { position: n - 2, bias_position: n - 2, ..Span::new(0..2, 0..n) }];
    let (new, mask) = (Problem::new, Mask::Causal);
    let narrow = Mask::Window { before: 40, after: 3 };
    let prefixes = [(7, 12), (0, 3), (30, 1), (7, 45), (4, 0)];
    vec![
        new("no spans", vec![], 2, 4),
        new("1, 1 head of 1", packed(&[1]), 1, 1),
        new("1..7, 3 heads of 5", packed(&[1, 2, 3, 0, 4, 5, 6, 7]), 3, 5),
        Problem { dropout, ..new("other lengths of keys, dropout", other, 2, 8) },
        Problem { dropout, ..new("17 and 33, 2 heads of 80, dropout", packed(&[17, 33]), 2, 80) },
        Problem { dropout, ..new("300, 1 head of 32, dropout", packed(&[300]), 1, 32) },
        new("1300, 1 head of 8", packed(&[1300]), 1, 8),
        Problem { mask, fused: true, ..new("1..7 causal, fused", packed(&[1, 2, 3, 0, 4, 5, 6, 7]), 3, 5) },
        Problem { mask, dropout, ..new("300 causal, dropout", packed(&[300]), 2, 16) },
        Problem { mask, ..new("the last 2 of 90, causal", last(90), 2, 16) },
        Problem { mask: narrow, ..new("700 in a window", packed(&[700]), 1, 16) },
        Problem { mask, dropout, ..new("prefixes, causal, dropout", prefixed(&prefixes), 3, 7) },
        Problem {
            mask: narrow,
            kv_heads: 2,
            ..new("prefixes in a window, grouped", prefixed(&prefixes), 6, 16)
        },
        Problem { buckets: 3, mask, ..new("2, 0 and 3, causal, bias", packed(&[2, 0, 3]), 2, 3) },
        Problem { kv_heads: 1, ..new("70 and 3, 2 heads of 150, grouped", packed(&[70, 3]), 2, 150) },
        Problem { buckets: 9, ..new("1..60, 2 heads of 16, bias", packed(&ragged[..9]), 2, 16) },
        Problem {
            buckets: 5,
            mask,
            kv_heads: 1,
            dropout,
            ..new("300, all of it", prefixed(&[(3, 300)]), 2, 8)
        },
        Problem { timed: true, ..new("16 x 128, 12 heads of 64", packed(&[128; 16]), 12, 64) },
        Problem {
            timed: true,
            dropout,
            ..new("16 x 128, 12 heads of 64, dropout", packed(&[128; 16]), 12, 64)
        },
        Problem { timed: true, ..new("1..60, 12 heads of 32", packed(&ragged), 12, 32) },
        Problem {
            timed: true,
            mask,
            fused: true,
            ..new("4 x 256 causal, 12 heads of 64, fused", packed(&[256; 4]), 12, 64)
        },
        Problem { timed: true, mask, ..new("1 of 1024 causal, 12 heads of 64", last(1024), 12, 64) },
        Problem {
            timed: true,
            ..new("16 x 128 with a prefix of 30, 12 heads of 64", prefixed(&[(30, 128); 16]), 12, 64)
        },
        Problem {
            timed: true,
            buckets: 32,
            ..new("16 x 128, 8 heads of 64, bias", packed(&[128; 16]), 8, 64)
        },
    ]
}

pub(super) fn cases() -> Vec<Case> {
    problems().into_iter().flat_map(|p| [case(p.clone(), false), case(p, true)]).collect()
}
fn case(p: Problem, back: bool) -> Case {
    let (q, cost) = (p.clone(), p.cost(back));
    Case {
        label: format!("{} {}", if back { "backward" } else { "forward" }, p.label),
        tolerance: if back { 4e-6 } else { 2e-6 },
        flops: cost.flops,
        bytes: cost.bytes,
        timed: p.timed,
        cuda: true,
        prepare: Box::new(move |d| if back { p.backward(d) } else { p.forward(d) }),
        reference: Box::new(move || match back {
            true => q.arranged(&q.gradients(&q.wide())).concat(),
            false => q.o(&q.wide()).concat(),
        }),
    }
}
