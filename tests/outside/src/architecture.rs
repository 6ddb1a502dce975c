//! A small encoder in which a token sees its neighbours through one head of attention in a window
//! of two tokens on each side.
use engraft_engine::{
    self as engine, Act, Activation, Cx, Frozen, LinearForm, LinearRef, Load, NormKind, Param, Parameters,
    Point, Rows, Site, SiteInfo, SiteKind, Tensor, Weight,
    ops::{Heads, Qkv},
};
use engraft_models::{
    Config, Family, Kind, Model, ModelInfo, Result, Tokens,
    weights::{Id, Layout, LinearId, NormId, Weights},
};
use std::ops::Range;

/// The row for a registry of one's own.
pub const FAMILY: Family =
    Family { name: "neighbours", prefix: "", aliases: &[], frozen: build::<Frozen>, trained: build::<Param> };

struct Neighbours<P: Weight> {
    weights: Weights<P>,
    word: Id,
    layers: Vec<(LinearId, LinearId, NormId)>,
    info: ModelInfo,
}

fn build<P: Weight>(config: &Config, load: &mut Load<'_>) -> Result<Box<dyn Model>> {
    let info = ModelInfo {
        family: FAMILY.name,
        kind: Kind::Encoder,
        channels: config.count("channels")?,
        embedding: config.count("channels")?,
        layers: config.count("layers")?,
        vocabulary: config.count("vocab_size")?,
        positions: None,
        segments: 1,
        class: "NeighboursModel",
        dropout: 0.0,
        attention_dropout: 0.0,
        head_dropout: 0.0,
        summary: Rows::First,
        has_pooler: false,
        has_lm_head: false,
        is_tied: false,
        head_eps: 1e-12,
    };
    let c = info.channels;
    let mut at = Layout::<P>::new(load);
    let word = at.table("words.weight", info.vocabulary, c)?;
    at.site(Site::EMBED, SiteKind::Stream { channels: c }, "words");
    let mut layers = vec![];
    for l in 0..info.layers {
        at.site(Site::layer(l), SiteKind::Stream { channels: c }, &format!("layers.{l}"));
        let mut linear = |point, name: &str, parts: usize| {
            let path = format!("layers.{l}.{name}");
            at.linear(Site::attn(l, point), &path, (c, parts * c), LinearForm::default(), parts)
        };
        let (look, out) = (linear(Point::Qkv, "look", 3)?, linear(Point::O, "out", 1)?);
        let path = format!("layers.{l}.norm");
        let norm = at.norm(None, &path, c, 1e-5, NormKind::Layer)?;
        at.close(Site::after_attn(l), c, &format!("layers.{l}"), Some(&path));
        layers.push((look, out, norm));
    }
    let weights = at.finish();
    Ok(Box::new(Neighbours { weights, word, layers, info }))
}

impl<P: Weight> Neighbours<P> {
    fn layer<'m>(&'m self, cx: &mut Cx<'m>, l: usize, x: Act) -> engine::Result<Act> {
        let ((look, out, norm), m) = (self.layers[l], &self.weights);
        let x = cx.stream(Site::layer(l), x)?;
        let qkv = cx.linear(Site::attn(l, Point::Qkv), &x, m.linear(look))?; // (T, 3C)
        let heads = Heads { count: 1, ..Heads::default() };
        let a = cx.attend(Site::attn(l, Point::Probs), Qkv::fused(&qkv, &heads)?, heads)?;
        let a = cx.activate(&a, Activation::Tanh)?;
        let a = cx.linear(Site::attn(l, Point::O), &a, m.linear(out))?;
        let a = cx.drop_later(a, 0.0, Site::attn(l, Point::O), 0);
        cx.close(Site::after_attn(l), a, &x, Some(m.norm(norm))) //             x = LN(x + Attn(x))
    }
}
impl<P: Weight> Model for Neighbours<P> {
    fn info(&self) -> &ModelInfo {
        &self.info
    }
    fn set_dropout(&mut self, _: f32) {}
    fn sites(&self) -> &[SiteInfo] {
        self.weights.sites()
    }
    fn named(&self) -> Vec<(String, &Tensor)> {
        self.weights.named()
    }
    fn embed<'m>(&'m self, cx: &mut Cx<'m>, t: &Tokens) -> Result<Act> {
        let x = cx.embed(&[(self.weights.get(self.word), &*t.ids)], t.seqs())?;
        Ok(cx.stream(Site::EMBED, x)?)
    }
    fn run<'m>(&'m self, cx: &mut Cx<'m>, layers: Range<usize>, mut x: Act, rows: &Rows) -> Result<Act> {
        for l in layers {
            x = cx.layer(l, x, move |cx, x| self.layer(cx, l, x))?;
        }
        Ok(cx.take_rows(&x, rows)?)
    }
    fn pool<'m>(&'m self, _: &mut Cx<'m>, x: &Act) -> Result<Act> {
        Ok(x.clone())
    }
    fn to_vocabulary<'m>(&'m self, _: &mut Cx<'m>, _: &Act) -> Result<Option<(Act, LinearRef<'m>)>> {
        Ok(None)
    }
}
impl<P: Weight> Parameters for Neighbours<P> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.weights.visit(f);
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.weights.visit_mut(f);
    }
}
