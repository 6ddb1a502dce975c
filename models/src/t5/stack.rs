//! The layers of T5's encoder and decoder: what they consist of, and where they are in files.
use super::settings::Shape;
use crate::{
    Result,
    buckets::Buckets,
    weights::{Id, Layout, LinearId, NormId},
};
use engraft_engine::{LinearForm, NormKind, Part, Point, Site, SiteKind, Weight};
use std::ops::Range;

/// An encoder or a decoder.
#[derive(Debug)]
pub(super) struct Stack {
    /// The number of its first layer.
    pub first: usize,
    pub layers: Vec<Layer>,
    /// Relative positions: (buckets, heads).
    pub bias: Id,
    pub buckets: Buckets,
    pub last: NormId,
}
#[derive(Clone, Copy, Debug)]
pub(super) struct Layer {
    pub own: Attention,
    pub cross: Option<Attention>,
    pub ln: NormId,
    pub up: LinearId,
    pub gate: Option<LinearId>,
    pub down: LinearId,
}
#[derive(Clone, Copy, Debug)]
pub(super) struct Attention {
    pub part: Part,
    pub ln: NormId,
    pub q: LinearId,
    pub k: LinearId,
    pub v: LinearId,
    pub o: LinearId,
}
/// The layers of an encoder or a decoder.
pub(super) fn stack<P: Weight>(
    at: &mut Layout<'_, '_, P>,
    name: &str,
    layers: Range<usize>,
    buckets: Buckets,
    shape: &Shape,
) -> Result<Stack> {
    let Shape { c, d, f, is_gated, eps, .. } = *shape;
    let (first, rms, stream) = (layers.start, NormKind::Rms, SiteKind::Stream { channels: c });
    let form = LinearForm { no_bias: true, ..LinearForm::default() };
    let bias = format!("{name}.block.0.layer.0.SelfAttention.relative_attention_bias.weight");
    let bias = at.bias_table(&bias, shape.buckets.0, shape.heads)?;
    let attention = |at: &mut Layout<'_, '_, P>, l, part, p: &str, module: &str| -> Result<Attention> {
        let here = |point| Site { layer: l, part, point };
        let ln = at.norm(Some(here(Point::Norm)), &format!("{p}.layer_norm"), c, eps, rms)?;
        let p_of = |name: &str| format!("{p}.{module}.{name}");
        let q = at.linear(here(Point::Q), &p_of("q"), (c, d), form, 1)?;
        let k = at.linear(here(Point::K), &p_of("k"), (c, d), form, 1)?;
        let v = at.linear(here(Point::V), &p_of("v"), (c, d), form, 1)?;
        at.site(here(Point::Prefix), SiteKind::Prefix { channels: d }, &format!("{p}.{module}"));
        let o = at.linear(here(Point::O), &p_of("o"), (d, c), form, 1)?;
        at.close(here(Point::Close), c, p, None);
        Ok(Attention { part, ln, q, k, v, o })
    };
    let layer = |at: &mut Layout<'_, '_, P>, l: usize| -> Result<Layer> {
        let block = format!("{name}.block.{}", l - first);
        at.site(Site::layer(l), stream, &block);
        let own = attention(at, l, Part::Attn, &format!("{block}.layer.0"), "SelfAttention")?;
        let cross = match first > 0 {
            true => Some(attention(at, l, Part::Cross, &format!("{block}.layer.1"), "EncDecAttention")?),
            false => None,
        };
        let p = format!("{block}.layer.{}", 1 + usize::from(cross.is_some()));
        let ln = at.norm(Some(Site::ffn(l, Point::Norm)), &format!("{p}.layer_norm"), c, eps, rms)?;
        let p_of = |name: &str| format!("{p}.DenseReluDense.{name}");
        let (gate, up) = match is_gated {
            true => {
                let gate = at.linear(Site::ffn(l, Point::Gate), &p_of("wi_0"), (c, f), form, 1)?;
                (Some(gate), p_of("wi_1"))
            }
            false => (None, p_of("wi")),
        };
        let up = at.linear(Site::ffn(l, Point::Up), &up, (c, f), form, 1)?;
        let down = at.linear(Site::ffn(l, Point::Down), &p_of("wo"), (f, c), form, 1)?;
        at.close(Site::after_ffn(l), c, &p, None);
        at.site(Site::behind(l), stream, &format!("{block}.reft_layer"));
        Ok(Layer { own, cross, ln, up, gate, down })
    };
    let end = layers.end;
    let layers = layers.map(|l| layer(at, l)).collect::<Result<_>>()?;
    let last = if first == 0 { Site::memory(end, Point::Norm) } else { Site::LAST_NORM };
    let last = at.norm(Some(last), &format!("{name}.final_layer_norm"), c, eps, rms)?;
    Ok(Stack { first, layers, bias, buckets, last })
}
