//! LoRAs made into one by their matrices.
use super::{On, Prune, Recipe, to_f32, values};
use crate::{
    Adapter, Compat, Error, Factors, Format, Host, Result, View,
    files::{CONFIG, Card, peft},
    methods::peft_lora::{self, Said},
    svd::{Svd, of_product, svd},
};
use engraft_engine::{
    LowRank, SiteInfo,
    checkpoint::{TensorData, serialize_with},
};
use serde_json::{Value, json};

/// True if all that an adapter does is to add products to linear layers.
pub(super) fn is_lora(adapter: &Adapter) -> bool {
    adapter.modules().all(|(_, m)| matches!(m.view(), View::Linear(m) if m.factors().is_some()))
}

/// One adapter's matrices at a site.
struct Member {
    /// A (n r, in) and B (n out, r).
    a: Vec<f64>,
    b: Vec<f64>,
    /// r.
    r: usize,
    /// What the product is multiplied with.
    scale: f64,
    weight: f64,
}
/// The sizes that all adapters have in common at a site.
#[derive(Clone, PartialEq)]
struct Shape {
    input: usize,
    /// Outputs of a part.
    width: usize,
    of: usize,
    parts: Vec<usize>,
}
/// The new matrices at a site.
struct Merged<'i> {
    info: &'i SiteInfo,
    a: Vec<f64>,
    b: Vec<f64>,
    r: usize,
    shape: Shape,
}

fn factors<'a>(adapter: &'a Adapter, info: &SiteInfo) -> Option<Factors<'a>> {
    adapter.at(info.site).iter().find_map(|m| if let View::Linear(m) = m.view() { m.factors() } else { None })
}
fn shape(f: &Factors<'_>) -> Shape {
    let LowRank { of, parts, .. } = f.how;
    let width = f.b.shape()[0] / parts.len();
    Shape { input: f.a.shape()[1], width, of: *of, parts: parts.clone() }
}

/// The files of the merged adapter.
pub(super) fn merge(
    recipe: &Recipe,
    name: &str,
    of: &[&Adapter],
    host: &Host,
) -> Result<Vec<(String, Vec<u8>)>> {
    let (first, weights) = (of[0], recipe.weights(of.len())?);
    let own = |a: &Adapter| {
        let ranks = a.sites().iter().filter_map(|i| factors(a, i)).map(|f| f.b.shape()[1]);
        ranks.max().unwrap_or(0)
    };
    let ranks: Vec<usize> = of.iter().map(|a| own(a)).collect();
    let rank = match recipe.strategy.on {
        On::Stacked => ranks.iter().sum(),
        _ => recipe.rank.or(ranks.iter().copied().max()).unwrap_or(0),
    };
    let mut all = vec![];
    for info in first.sites() {
        let (mut members, mut common) = (vec![], None);
        for (adapter, weight) in of.iter().zip(&weights) {
            let Some(f) = factors(adapter, info) else { continue };
            let shape = shape(&f);
            if common.get_or_insert_with(|| shape.clone()) != &shape {
                return Err(Error::Config(format!(
                    "`{}` takes `{}` apart in another way than those before it",
                    adapter.name(),
                    info.path
                )));
            }
            let (a, b, r) = (values(f.a)?, values(f.b)?, f.b.shape()[1]);
            members.push(Member { a, b, r, scale: f64::from(f.how.scale), weight: *weight });
        }
        if let Some(shape) = common {
            let (a, b, r) = at(recipe, &members, &shape, rank, all.len()).map_err(|e| match e {
                Error::Config(what) => Error::Config(format!("`{}`: {what}", info.path)),
                e => e,
            })?;
            all.push(Merged { info, a, b, r, shape });
        }
    }
    match first.format() {
        Format::AdapterHub => adapterhub(recipe, name, first, &all, host),
        Format::Peft => in_peft(first, &all, rank, host),
    }
}
/// A, B and their rank at a site.
fn at(
    recipe: &Recipe,
    of: &[Member],
    shape: &Shape,
    rank: usize,
    number: usize,
) -> Result<(Vec<f64>, Vec<f64>, usize)> {
    match recipe.strategy.on {
        On::Stacked => Ok((stacked_a(of, shape, rank), stacked_b(of, shape, rank, |_| 1.0), rank)),
        On::Factors => {
            let r = of[0].r;
            if let Some(other) = of.iter().find(|m| m.r != r) {
                return Err(Error::Config(format!(
                    "the ranks are {r} and {}; `{}` needs equal ones, `cat` and `svd` do not",
                    other.r, recipe.strategy.name
                )));
            }
            let root = |m: &Member| (m.weight * m.scale).abs().sqrt();
            let signed = |m: &Member| if m.weight * m.scale < 0.0 { -root(m) } else { root(m) };
            let a = of.iter().map(|m| m.a.clone()).collect();
            let b = of.iter().map(|m| m.b.clone()).collect();
            let a = recipe.mixed(a, &of.iter().map(signed).collect::<Vec<_>>(), 2 * number);
            let b = recipe.mixed(b, &of.iter().map(root).collect::<Vec<_>>(), 2 * number + 1);
            Ok((a, b, r))
        }
        _ => decomposed(recipe, of, shape, rank, number),
    }
}
/// The products of rank `k` nearest to the sum at a site.
fn decomposed(
    recipe: &Recipe,
    of: &[Member],
    shape: &Shape,
    k: usize,
    number: usize,
) -> Result<(Vec<f64>, Vec<f64>, usize)> {
    let Shape { input, width, ref parts, .. } = *shape;
    let n = parts.len();
    let found: Vec<Svd> = if recipe.strategy.prune == Prune::Nothing && !recipe.strategy.elects {
        let r: usize = of.iter().map(|m| m.r).sum();
        let scaled = recipe.strategy.on == On::Delta;
        let factor = |m: &Member| m.weight * if scaled { m.scale } else { 1.0 };
        let (a, b) = (plain_a(of, shape, r), stacked_b(of, shape, r, factor));
        let part = |g: usize| {
            let (b, a) = (&b[g * width * r..][..width * r], &a[g * r * input..][..r * input]);
            of_product((b, a), (width, r, input), k)
        };
        (0..n).map(part).collect::<Result<_>>()?
    } else {
        let weights: Vec<f64> = of.iter().map(|m| m.weight).collect();
        let sum = recipe.mixed(of.iter().map(|m| delta(m, shape)).collect(), &weights, number);
        sum.chunks_exact(width * input).map(|d| svd(d, (width, input), k)).collect::<Result<_>>()?
    };
    let b = |f: &Svd| f.u.iter().enumerate().map(|(i, u)| u * f.s[i % k]).collect::<Vec<_>>();
    Ok((found.iter().flat_map(|f| f.vt.clone()).collect(), found.iter().flat_map(b).collect(), k))
}
/// s B A of every part, one below the other: (n width, in).
fn delta(m: &Member, shape: &Shape) -> Vec<f64> {
    let (input, width) = (shape.input, shape.width);
    let mut delta = vec![0.0; m.b.len() / m.r * input];
    for (row, to) in delta.chunks_exact_mut(input).enumerate() {
        for k in 0..m.r {
            let (b, a) = (m.scale * m.b[row * m.r + k], &m.a[(row / width * m.r + k) * input..][..input]);
            to.iter_mut().zip(a).for_each(|(to, a)| *to += b * a);
        }
    }
    delta
}
/// The As of each part below each other, each with a factor, filled up with zeros to `r` rows a
/// part.
fn stack_a(of: &[Member], shape: &Shape, r: usize, factor: impl Fn(&Member) -> f64) -> Vec<f64> {
    let mut a = vec![];
    for g in 0..shape.parts.len() {
        for m in of {
            a.extend(m.a[g * m.r * shape.input..][..m.r * shape.input].iter().map(|x| x * factor(m)));
        }
        a.resize((g + 1) * r * shape.input, 0.0);
    }
    a
}
fn stacked_a(of: &[Member], shape: &Shape, r: usize) -> Vec<f64> {
    stack_a(of, shape, r, |m| m.weight * m.scale)
}
fn plain_a(of: &[Member], shape: &Shape, r: usize) -> Vec<f64> {
    stack_a(of, shape, r, |_| 1.0)
}
/// The Bs beside each other, each with a factor, filled up with zeros to `r` columns.
fn stacked_b(of: &[Member], shape: &Shape, r: usize, factor: impl Fn(&Member) -> f64) -> Vec<f64> {
    let mut b = vec![];
    for row in 0..shape.parts.len() * shape.width {
        for m in of {
            b.extend(m.b[row * m.r..][..m.r].iter().map(|x| x * factor(m)));
        }
        b.resize((row + 1) * r, 0.0);
    }
    b
}

/// What AdapterHub's files say: one rank and one α for all sites.
fn adapterhub(
    recipe: &Recipe,
    name: &str,
    first: &Adapter,
    all: &[Merged<'_>],
    host: &Host,
) -> Result<Vec<(String, Vec<u8>)>> {
    if let Some(m) = all.iter().find(|m| factors(first, m.info).is_none()) {
        return Err(Error::Config(format!(
            "`{}` has nothing at `{}`, where others have: AdapterHub's format of its configuration cannot say that",
            first.name(),
            m.info.path
        )));
    }
    let r = all.first().map_or(0, |m| m.r);
    let mut fields = first.config().adapterhub()?;
    let before = |field: &str| fields.get(field).and_then(Value::as_f64).unwrap_or(0.0);
    let alpha = match recipe.strategy.on {
        // the factor stays what it was
        On::Products if recipe.compat == Compat::Documented => before("alpha") * r as f64 / before("r"),
        On::Products => before("alpha"),
        _ => r as f64,
    };
    let alpha = if alpha.fract() == 0.0 { json!(alpha as i64) } else { json!(alpha) };
    fields.insert("r".into(), r.into());
    fields.insert("alpha".into(), alpha);
    let mut tensors = vec![];
    for Merged { info, a, b, r, shape } in all {
        let (n, path) = (shape.parts.len(), format!("{}.loras.{name}", info.path));
        tensors.push((format!("{path}.lora_A"), TensorData::f32(&to_f32(a), &[n * r, shape.input])));
        tensors.push((format!("{path}.lora_B"), TensorData::f32(&to_f32(b), &[n * shape.width, *r])));
    }
    let card = Card::new(fields, host, name);
    let data = serialize_with(&tensors, host.note().as_deref())?;
    Ok(vec![(CONFIG.into(), card.bytes()?), (Format::AdapterHub.tensors().into(), data)])
}
/// What PEFT's files say: α is the rank everywhere, so that nothing is multiplied with anything.
fn in_peft(first: &Adapter, all: &[Merged<'_>], rank: usize, host: &Host) -> Result<Vec<(String, Vec<u8>)>> {
    let at = |i: &SiteInfo| {
        let m = all.iter().find(|m| m.info.site == i.site)?;
        let r = m.shape.parts.len() * m.r;
        Some((r, r as f64))
    };
    let before = first.config().peft(first.sites())?;
    let dropout = before.get("lora_dropout").and_then(Value::as_f64).unwrap_or(0.0);
    let said = Said { r: rank, alpha: rank as f64, rslora: false, dropout, dora: false };
    let made = peft_lora::fields(first.sites(), at, said)?;
    let mut fields = before;
    fields.extend(
        made.into_iter().filter(|(k, _)| !["task_type", "base_model_name_or_path"].contains(&k.as_str())),
    );
    fields.remove("exclude_modules");
    let mut tensors = vec![];
    for Merged { info, a, b, r, shape } in all {
        let path = format!("{}{}", peft::ROOT, info.in_model(&info.path));
        let (n, whole) = (shape.parts.len(), shape.of * shape.width);
        // the parts of a layer as blocks of one matrix
        let mut blocks = vec![0.0; whole * n * r];
        for (g, part) in shape.parts.iter().enumerate() {
            for o in 0..shape.width {
                let to = (part * shape.width + o) * n * r + g * r;
                blocks[to..to + r].copy_from_slice(&b[(g * shape.width + o) * r..][..*r]);
            }
        }
        tensors.push((format!("{path}.lora_A.weight"), TensorData::f32(&to_f32(a), &[n * r, shape.input])));
        tensors.push((format!("{path}.lora_B.weight"), TensorData::f32(&to_f32(&blocks), &[whole, n * r])));
    }
    peft::files(&fields, &tensors, host)
}
