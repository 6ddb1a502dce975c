//! A warp for each query and head, or for each row of keys; see `kernel.cu`.
use super::{check::union, *};
use crate::{
    Buffer, Class, Cuda,
    cuda::Program,
    dropout::argument,
    launch::{Arg, Grid},
};

const PROGRAM: Program = Program { name: NAME, ptx: include_str!("kernel.ptx") };
/// SOURCES, WARPS and the most channels of a head of `kernel.cu`.
const SOURCES: usize = 8;
const WARPS: usize = 4;
const CHANNELS: usize = 256;

/// What a backward launch allocates: rowsum(P ∘ dP) for each row and head.
pub(super) fn workspace(device: &Device, a: Attention<'_>, rows: usize) -> Result<Buffer> {
    device.alloc::<f32>(Class::Scratch, rows * a.heads)
}

/// Rows, or items of a launch, as the kernels count them: steps of a grid do not overflow either.
fn short(n: usize) -> Result<u32> {
    let what = || format!("{n} rows or items are more than run on cuda");
    let fits = u32::try_from(n).ok().filter(|n| *n <= i32::MAX as u32);
    fits.ok_or_else(|| Error::Invalid { kernel: NAME, what: what() })
}

/// `Problem` of `kernel.cu`.
fn problem(d: &Cuda, a: Attention<'_>, x: Qkv<'_>) -> Result<Arg<'static>> {
    let invalid = |what: String| Error::Invalid { kernel: NAME, what };
    if a.head_dim > CHANNELS {
        return Err(invalid(format!(
            "heads of {} channels do not run on cuda: at most {CHANNELS}",
            a.head_dim
        )));
    }
    if x.kv.len() > SOURCES {
        return Err(invalid(format!("keys in {} places do not run on cuda: at most {SOURCES}", x.kv.len())));
    }
    let (mut spans, mut pieces) = (vec![], vec![]);
    for s in a.spans {
        short(s.q.len().saturating_mul(a.heads))?;
        spans.extend([short(s.q.start)?, short(s.q.len())?, short(s.position)?, short(s.free)?]);
        spans.extend([
            short(s.bias_position)?,
            short(pieces.len() / 4)?,
            short(s.kv.len())?,
            short(s.keys())?,
        ]);
        let mut first = 0;
        for k in &s.kv {
            pieces.extend([short(first)?, short(k.of)?, short(k.rows.start)?, short(k.rows.len())?]);
            first += k.rows.len();
        }
    }
    let mut words = Arg::place(x.q)?.to_vec();
    for of in [|kv: &Kv<'_>| Arg::place(kv.k), |kv: &Kv<'_>| Arg::place(kv.v)] {
        for i in 0..SOURCES {
            words.extend(x.kv.get(i).map_or(Ok([0; 2]), of)?);
        }
    }
    match x.bias {
        Some(b) => {
            words.extend(Arg::place(b.table)?);
            words.extend([d.table(b.bucket)?, b.zero as u64]);
        }
        None => words.extend([0; 4]),
    }
    let (before, after) = a.mask.reach();
    words.extend([d.table(&spans)?, d.table(&pieces)?]);
    words.extend([a.spans.len(), before, after, a.head_dim].map(|n| n as u64));
    let two = |a: u32, b: u32| u64::from(b) << 32 | u64::from(a);
    words.push(two(short(a.heads)?, short(a.group())?));
    words.push(two(a.scale.to_bits(), u32::from(a.dropout.is_some())));
    Ok(Arg::structure(words).then(argument(a.dropout)))
}
/// A warp for each query of each span and head.
fn queries(a: Attention<'_>) -> Grid {
    let most = a.spans.iter().map(|s| s.q.len()).max().unwrap_or(0);
    Grid { blocks: [(most * a.heads).div_ceil(WARPS), a.spans.len()], threads: 32 * WARPS, shared: 0 }
}

pub(super) fn forward(
    d: &Cuda,
    a: Attention<'_>,
    x: Qkv<'_>,
    o: ColsMut<'_>,
    lse: Option<ColsMut<'_>>,
) -> Result<()> {
    let args = [problem(d, a, x)?, Arg::write_cols(o)?, Arg::write_cols_if(lse)?];
    // SAFETY: the parameters of `attention_forward`. `super::forward` has checked that all matrices
    // are on this device and hold the rows that the spans name, that query rows do not overlap and
    // that the bias has a row for every distance; the tables are those of this launch.
    unsafe { d.launch(&PROGRAM, "attention_forward", queries(a), &args) }
}

pub(super) fn backward(
    device: &Device,
    d: &Cuda,
    a: Attention<'_>,
    x: Qkv<'_>,
    (lse, d_o): (View<'_>, View<'_>),
    g: Gradients<'_>,
) -> Result<()> {
    let mut delta = workspace(device, a, x.q.rows())?;
    let dq = Arg::write_cols_if(g.q)?;
    let args = [problem(d, a, x)?, Arg::read(lse)?, Arg::read(d_o)?, Arg::all_mut(&mut delta)?, dq];
    // SAFETY: as in `forward`: the parameters of `attention_backward_queries`, with room for a number
    // for each row of queries and head.
    unsafe { d.launch(&PROGRAM, "attention_backward_queries", queries(a), &args) }?;
    for (of, [dk, dv]) in g.kv.into_iter().enumerate().filter(|(_, kv)| kv.iter().any(Option::is_some)) {
        let keys = a.spans.iter().flat_map(|s| &s.kv).filter(|k| k.of == of);
        for rows in union(keys.map(|k| k.rows.clone())) {
            let of_gradient = |to: &Option<ColsMut<'_>>| {
                Ok::<_, Error>(Arg::structure(
                    to.as_ref().map_or(Ok([0; 2]), |c| Arg::place(c.view()))?.to_vec(),
                ))
            };
            short(rows.len().saturating_mul(a.kv_heads))?;
            let args = [
                problem(d, a, x)?,
                Arg::read(lse)?,
                Arg::read(d_o)?,
                Arg::all(&delta)?,
                short(of)?.into(),
                short(rows.start)?.into(),
                short(rows.len())?.into(),
                of_gradient(&dk)?,
                of_gradient(&dv)?,
            ];
            let grid = Grid::pieces((rows.len() * a.kv_heads).div_ceil(WARPS), 32 * WARPS);
            // SAFETY: as above: the parameters of `attention_backward_keys`. dK and dV are written in
            // rows that spans name, each by one warp for each head.
            unsafe { d.launch(&PROGRAM, "attention_backward_keys", grid, &args) }?;
        }
    }
    let (Some(to), Some(bias)) = (g.bias, x.bias) else { return Ok(()) };
    let buckets = bias.table.rows();
    short(buckets.saturating_mul(a.heads))?;
    let args = [
        problem(d, a, x)?,
        Arg::read(lse)?,
        Arg::read(d_o)?,
        Arg::all(&delta)?,
        Arg::write(to.table)?,
        short(buckets)?.into(),
        to.accumulate.into(),
    ];
    // SAFETY: as above: the parameters of `attention_backward_bias`; the gradient has the shape of
    // the table.
    unsafe { d.launch(&PROGRAM, "attention_backward_bias", Grid::pieces(buckets * a.heads, 256), &args) }
}
