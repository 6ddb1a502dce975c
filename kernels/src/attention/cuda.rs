//! A block for each tile of queries and head, or for each tile of keys; see `kernel.cu`.
use super::{check::union, *};
use crate::{
    Buffer, Class, Cuda,
    cuda::Program,
    dropout::argument,
    launch::{Arg, Grid},
};

const PROGRAM: Program = Program { name: NAME, ptx: include_str!("kernel.ptx") };
/// SOURCES, TILE and THREADS of `kernel.cu`.
const SOURCES: usize = 8;
const TILE: usize = 64;
const THREADS: usize = 256;

/// What a backward launch allocates.
pub(super) struct Workspace {
    /// rowsum(P ∘ dP) for each row and head.
    delta: Buffer,
    /// Where the gradient of a bias is asked for: of each tile of queries and head the sums by
    /// distance, and by bucket.
    bias: Option<(Buffer, Buffer)>,
}
impl Workspace {
    pub(super) fn new(device: &Device, a: Attention<'_>, x: Qkv<'_>, bias: bool) -> Result<Workspace> {
        let uncountable = || Error::uncountable(NAME, "dbias", (tiles(a), distances(a)));
        let alloc = |each: usize| {
            let n = tiles(a).checked_mul(a.heads).and_then(|n| n.checked_mul(each));
            device.alloc::<f32>(Class::Scratch, n.ok_or_else(uncountable)?)
        };
        let of_bias = |b: Bias<'_>| Ok::<_, Error>((alloc(distances(a))?, alloc(b.table.rows())?));
        Ok(Workspace {
            delta: device.alloc::<f32>(Class::Scratch, x.q.rows() * a.heads)?,
            bias: x.bias.filter(|_| bias).map(of_bias).transpose()?,
        })
    }
    /// `OfBias` of `kernel.cu`.
    fn of_bias(&self, a: Attention<'_>, bias: Option<Bias<'_>>) -> Result<Arg<'static>> {
        let (Some((by_distance, by_bucket)), Some(b)) = (&self.bias, bias) else {
            return Ok(Arg::structure(vec![0; 5]));
        };
        let counts = [b.table.rows() as u64, b.bucket.len() as u64];
        let (at, stride) = (Arg::address(by_distance)?, distances(a) as u64);
        Ok(Arg::structure(vec![at, stride, Arg::address(by_bucket)?, counts[0], counts[1]]))
    }
}
/// Tiles of queries of all spans.
fn tiles(a: Attention<'_>) -> usize {
    a.spans.iter().map(|s| s.q.len().div_ceil(TILE)).sum()
}
/// Distances between the queries of a tile and the keys of a span, at most.
fn distances(a: Attention<'_>) -> usize {
    a.spans.iter().map(Span::keys).max().unwrap_or(0) + 2 * TILE
}

/// Rows, or items of a launch, as the kernels count them: steps of a grid do not overflow either.
fn short(n: usize) -> Result<u32> {
    let what = || format!("{n} rows or items are more than run on cuda");
    let fits = u32::try_from(n).ok().filter(|n| *n <= i32::MAX as u32);
    fits.ok_or_else(|| Error::Invalid { kernel: NAME, what: what() })
}
/// Channels of the second product that a block takes, of those that kernels are made for.
fn channels(a: Attention<'_>, most: usize) -> usize {
    a.head_dim.next_power_of_two().clamp(32, most)
}
/// Blocks for so many tiles and heads, each of which takes so many channels.
fn items(a: Attention<'_>, tiles: usize, heads: usize, channels: usize) -> Result<usize> {
    let n = tiles.saturating_mul(heads).saturating_mul(a.head_dim.div_ceil(channels));
    Ok(short(n)? as usize)
}

/// `Problem` of `kernel.cu`.
fn problem(d: &Cuda, a: Attention<'_>, x: Qkv<'_>) -> Result<Arg<'static>> {
    if x.kv.len() > SOURCES {
        let what = format!("keys in {} places do not run on cuda: at most {SOURCES}", x.kv.len());
        return Err(Error::Invalid { kernel: NAME, what });
    }
    let (mut spans, mut pieces, mut tiles) = (vec![], vec![], 0);
    for s in a.spans {
        let counts = [s.q.start, s.q.len(), s.position, s.free, s.bias_position];
        let of_keys = [pieces.len() / 4, s.kv.len(), s.keys(), tiles];
        for n in counts.into_iter().chain(of_keys) {
            spans.push(short(n)?);
        }
        tiles += s.q.len().div_ceil(TILE);
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
    words.extend([a.spans.len(), before, after].map(|n| n as u64));
    let two = |a: u32, b: u32| u64::from(b) << 32 | u64::from(a);
    words.push(two(short(a.heads)?, short(a.group())?));
    words.push(two(short(a.head_dim)?, a.scale.to_bits()));
    Ok(Arg::structure(words).then(argument(a.dropout)))
}
/// For each span, a block for each tile of queries, head and so many channels.
fn queries(a: Attention<'_>, channels: usize) -> Result<Grid> {
    let most = a.spans.iter().map(|s| s.q.len()).max().unwrap_or(0);
    let blocks = [items(a, most.div_ceil(TILE), a.heads, channels)?, a.spans.len()];
    Ok(Grid { blocks, threads: THREADS, shared: 0 })
}

pub(super) fn forward(
    d: &Cuda,
    a: Attention<'_>,
    x: Qkv<'_>,
    o: ColsMut<'_>,
    lse: Option<ColsMut<'_>>,
) -> Result<()> {
    let channels = channels(a, 128);
    let kernel = match channels {
        32 => "attention_forward_32",
        64 => "attention_forward_64",
        _ => "attention_forward_128",
    };
    let args = [problem(d, a, x)?, Arg::write_cols(o)?, Arg::write_cols_if(lse)?];
    // SAFETY: the parameters of `attention_forward`. `super::forward` has checked that all matrices
    // are on this device and hold the rows that the spans name, that query rows do not overlap and
    // that the bias has a row for every distance; the tables are those of this launch.
    unsafe { d.launch(&PROGRAM, kernel, queries(a, channels)?, &args) }
}

pub(super) fn backward(
    device: &Device,
    d: &Cuda,
    a: Attention<'_>,
    x: Qkv<'_>,
    (lse, d_o): (View<'_>, View<'_>),
    g: Gradients<'_>,
) -> Result<()> {
    let room = Workspace::new(device, a, x, g.bias.is_some())?;
    // `Back` of `kernel.cu`
    let back = || {
        let delta = Arg::structure(vec![Arg::address(&room.delta)?]);
        Ok::<_, Error>(Arg::read(lse)?.then(Arg::read(d_o)?).then(delta))
    };
    let of_queries = channels(a, 128);
    let kernel = match of_queries {
        32 => "attention_backward_queries_32",
        64 => "attention_backward_queries_64",
        _ => "attention_backward_queries_128",
    };
    let args = [problem(d, a, x)?, back()?, Arg::write_cols_if(g.q)?, room.of_bias(a, x.bias)?];
    // SAFETY: as in `forward`: the parameters of `attention_backward_queries`, with room for a number
    // for each row of queries and head, and what `Workspace` says if the bias has a gradient.
    unsafe { d.launch(&PROGRAM, kernel, queries(a, of_queries)?, &args) }?;
    let of_keys = channels(a, 64);
    let kernel = if of_keys == 32 { "attention_backward_keys_32" } else { "attention_backward_keys_64" };
    for (of, [dk, dv]) in g.kv.into_iter().enumerate().filter(|(_, kv)| kv.iter().any(Option::is_some)) {
        let place = |to: &Option<ColsMut<'_>>| to.as_ref().map_or(Ok([0; 2]), |c| Arg::place(c.view()));
        let (dk, dv) = (place(&dk)?, place(&dv)?);
        let keys = a.spans.iter().flat_map(|s| &s.kv).filter(|k| k.of == of);
        for rows in union(keys.map(|k| k.rows.clone())) {
            let args = [
                problem(d, a, x)?,
                back()?,
                short(of)?.into(),
                short(rows.start)?.into(),
                short(rows.len())?.into(),
                Arg::structure(dk.to_vec()),
                Arg::structure(dv.to_vec()),
            ];
            let blocks = items(a, rows.len().div_ceil(TILE), a.kv_heads, of_keys)?;
            // SAFETY: as above: the parameters of `attention_backward_keys`. dK and dV are written in
            // rows that spans name, each by one block for each head and its channels.
            unsafe { d.launch(&PROGRAM, kernel, Grid::pieces(blocks, THREADS), &args) }?;
        }
    }
    let (Some(to), Some(bias)) = (g.bias, x.bias) else { return Ok(()) };
    let numbers = bias.table.rows().saturating_mul(a.heads);
    let args = [
        room.of_bias(a, x.bias)?,
        tiles(a).into(),
        short(a.heads)?.into(),
        Arg::write(to.table)?,
        to.accumulate.into(),
    ];
    let grid = Grid::pieces(numbers.div_ceil(THREADS), THREADS);
    // SAFETY: as above: the parameters of `attention_backward_bias`; the gradient has the shape of
    // the table, and the first launch has written the sums of all tiles.
    unsafe { d.launch(&PROGRAM, "attention_backward_bias", grid, &args) }
}
