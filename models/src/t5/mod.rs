//! T5 (Raffel et al. 2020) and mT5, an encoder and a decoder with relative positions and RMSNorm in
//! front of every sub-layer; names as in Hugging Face `T5ForConditionalGeneration`.
//!
//! Dimensions in the comments: T tokens of all sequences, S tokens of all targets, C channels, D
//! channels of all heads, F channels of the feed-forward network. Layers count through: those of the
//! decoder follow those of the encoder.
mod settings;
mod stack;

use crate::{
    Config, Family, Model, ModelInfo, Result, Rows, Target, Tokens,
    weights::{Id, Layout, LinearId, Weights},
};
use engraft_engine::{
    self as engine, Act, Cx, Frozen, LinearForm, LinearRef, Load, Param, Parameters, Point, Site, SiteInfo,
    SiteKind, Tensor, Weight,
    ops::{Heads, Mask, Qkv, Relative},
};
use settings::{Defaults, OF_MT5, OF_T5, Read, Settings};
use stack::{Attention, Layer, Stack, stack};
use std::ops::Range;

/// The registry row.
pub const FAMILY: Family = Family {
    name: "t5",
    prefix: "",
    aliases: ALIASES,
    frozen: |config, load| build::<Frozen>(config, load, &OF_T5),
    trained: |config, load| build::<Param>(config, load, &OF_T5),
};
/// That of mT5 (Xue et al. 2021), the same model with other defaults.
pub const MT5: Family = Family {
    name: "mt5",
    prefix: "",
    aliases: ALIASES,
    frozen: |config, load| build::<Frozen>(config, load, &OF_MT5),
    trained: |config, load| build::<Param>(config, load, &OF_MT5),
};
const ALIASES: &[(&str, &str)] = &[
    ("d_model", "hidden_size"),
    ("num_heads", "num_attention_heads"),
    ("num_layers", "num_hidden_layers"),
    ("d_kv", "head_dim"),
];
/// T5 over frozen or trained weights.
#[derive(Debug)]
pub struct T5<P: Weight> {
    weights: Weights<P>,
    word: Id,
    encoder: Stack,
    decoder: Stack,
    vocabulary: Option<LinearId>,
    info: ModelInfo,
    settings: Settings,
}
fn build<P: Weight>(config: &Config, load: &mut Load<'_>, or: &Defaults) -> Result<Box<dyn Model>> {
    Ok(Box::new(T5::<P>::load(config, load, or)?))
}

impl<P: Weight> T5<P> {
    fn load(config: &Config, load: &mut Load<'_>, or: &Defaults) -> Result<T5<P>> {
        let Read { info, shape, settings, encoder, buckets } = Read::of(config, or)?;
        let (layers, stream) = (info.layers, SiteKind::Stream { channels: shape.c });
        let mut at = Layout::<P>::new(load).inside("transformer");
        let copies = ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"];
        let copies = if info.is_tied { &copies } else { &copies[..2] };
        let word = at.tied_table("shared.weight", copies, info.vocabulary, shape.c)?;
        at.site(Site::WORDS, stream, "encoder");
        at.site(Site::EMBED, stream, "");
        let first = stack(&mut at, "encoder", 0..encoder, buckets.0, &shape)?;
        at.site(Site::memory(encoder, Point::Stream), stream, "encoder");
        let second = stack(&mut at, "decoder", encoder..layers, buckets.1, &shape)?;
        // a table that older files hold and that nothing reads
        at.ignore("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight");
        let vocabulary = match info.is_tied || !at.has("lm_head.weight") {
            true => None,
            false => {
                let form = LinearForm { no_bias: true, ..LinearForm::default() };
                Some(at.plain_linear("lm_head", (shape.c, info.vocabulary), form)?)
            }
        };
        let info = ModelInfo { has_lm_head: info.is_tied || vocabulary.is_some(), ..info };
        if info.has_lm_head {
            at.site(Site::head(), stream, "");
        }
        let weights = at.finish();
        Ok(T5 { weights, word, encoder: first, decoder: second, vocabulary, info, settings })
    }
    /// The layers `layers` of a stack, counted through.
    fn layers<'m>(
        &'m self,
        cx: &mut Cx<'m>,
        stack: &'m Stack,
        layers: Range<usize>,
        mut x: Act,
        memory: Option<&Act>,
    ) -> engine::Result<Act> {
        for l in layers {
            let memory = memory.cloned();
            x = cx.layer(l, x, move |cx, x| self.layer(cx, stack, l, x, memory.as_ref()))?;
        }
        Ok(x)
    }
    // a name that is assigned again lets go of what it held; one that is declared again would hold
    // it to the end
    fn layer<'m>(
        &'m self,
        cx: &mut Cx<'m>,
        stack: &'m Stack,
        l: usize,
        x: Act,
        memory: Option<&Act>,
    ) -> engine::Result<Act> {
        let (w, m, p) = (stack.layers[l - stack.first], &self.weights, self.settings.dropout);
        let mut x = cx.stream(Site::layer(l), x)?;
        let n = cx.norm(Site::attn(l, Point::Norm), &x, m.norm(w.own.ln))?;
        let a = self.attention(cx, (stack, l), w.own, n, None)?;
        let a = cx.drop_later(a, p, Site::attn(l, Point::O), 0);
        x = cx.close(Site::after_attn(l), a, &x, None)?; //                   x = x + Attn(RMS(x))
        if let (Some(cross), Some(memory)) = (w.cross, memory) {
            let n = cx.norm(Site::cross(l, Point::Norm), &x, m.norm(cross.ln))?;
            let a = self.attention(cx, (stack, l), cross, n, Some(memory))?;
            let a = cx.drop_later(a, p, Site::cross(l, Point::O), 0);
            x = cx.close(Site::after_cross(l), a, &x, None)?; //              x = x + Attn(RMS(x), memory)
        }
        let n = cx.norm(Site::ffn(l, Point::Norm), &x, m.norm(w.ln))?;
        let f = self.feed_forward(cx, l, w, n)?;
        let f = cx.drop_later(f, p, Site::ffn(l, Point::Down), 0);
        x = cx.close(Site::after_ffn(l), f, &x, None)?; //                    x = x + FFN(RMS(x))
        cx.stream(Site::behind(l), x)
    }
    /// f(n W₁ᵀ) W₂ᵀ, or (f(n W₀ᵀ) ∘ n W₁ᵀ) W₂ᵀ with a gate.
    fn feed_forward<'m>(&'m self, cx: &mut Cx<'m>, l: usize, w: Layer, n: Act) -> engine::Result<Act> {
        let (m, s) = (&self.weights, self.settings);
        let gate = match w.gate {
            Some(gate) => Some(cx.linear(Site::ffn(l, Point::Gate), &n, m.linear(gate))?),
            None => None,
        };
        let mut f = cx.linear(Site::ffn(l, Point::Up), &n, m.linear(w.up))?;
        drop(n);
        f = match gate {
            Some(gate) => cx.gated(&gate, s.act, &f)?,
            None => cx.activate_for(&f, s.act, &m.linear(w.down))?, //        (T, F)
        };
        f = cx.dropout(f, s.dropout, Site::ffn(l, Point::Up), 0)?;
        cx.linear(Site::ffn(l, Point::Down), &f, m.linear(w.down))
    }
    /// The rows of n attend to those of their own sequences, or to those of the memory.
    fn attention<'m>(
        &'m self,
        cx: &mut Cx<'m>,
        (stack, l): (&'m Stack, usize),
        w: Attention,
        n: Act,
        memory: Option<&Act>,
    ) -> engine::Result<Act> {
        let (m, s) = (&self.weights, self.settings);
        let at = |point| Site { layer: l, part: w.part, point };
        let q = cx.linear(at(Point::Q), &n, m.linear(w.q))?; //               (T, D)
        let kv = |cx: &mut Cx<'m>, x: &Act| {
            let k = cx.linear(at(Point::K), x, m.linear(w.k))?;
            Ok([k, cx.linear(at(Point::V), x, m.linear(w.v))?])
        };
        let [k, v] = match memory {
            None => kv(cx, &n)?,
            Some(memory) => cx.once(l, |cx| kv(cx, memory))?,
        };
        let prefix = cx.prefix(at(Point::Prefix), &n)?;
        drop(n);
        let is_causal = memory.is_none() && stack.first > 0;
        let bias = memory.is_none().then(|| {
            let longest = k.seqs().iter().map(|q| q.len + cx.place(q.item)).max().unwrap_or(0);
            let of = prefix.iter().flat_map(|p| &p.of);
            let front = of.map(|rows| rows.iter().map(Range::len).sum::<usize>()).max().unwrap_or(0);
            let (bucket, zero) = stack.buckets.up_to(longest + front);
            Relative { table: m.get(stack.bias), bucket, zero, prefix_counts: true }
        });
        let heads = Heads {
            count: s.heads,
            scale: Some(1.0),
            mask: if is_causal { Mask::Causal } else { Mask::None },
            dropout: s.dropout,
            ..Heads::default()
        };
        let x = Qkv { prefix: prefix.as_ref(), bias, ..Qkv::of(&q, &k, &v) };
        let a = cx.attend(at(Point::Probs), x, heads)?;
        drop((q, k, v));
        cx.linear(at(Point::O), &a, m.linear(w.o)) //                         (T, C)
    }
}
impl<P: Weight> Model for T5<P> {
    fn info(&self) -> &ModelInfo {
        &self.info
    }
    fn set_dropout(&mut self, p: f32) {
        self.settings.dropout = p;
        (self.info.dropout, self.info.attention_dropout, self.info.head_dropout) = (p, p, p);
    }
    fn sites(&self) -> &[SiteInfo] {
        self.weights.sites()
    }
    fn named(&self) -> Vec<(String, &Tensor)> {
        self.weights.named()
    }
    fn embed<'m>(&'m self, cx: &mut Cx<'m>, t: &Tokens) -> Result<Act> {
        t.check(&self.info)?;
        let words = cx.embed(&[(self.weights.get(self.word), &*t.ids)], t.seqs())?;
        let x = cx.stream(Site::WORDS, words)?;
        let x = cx.dropout(x, self.settings.dropout, Site::EMBED, 0)?;
        Ok(cx.stream(Site::EMBED, x)?)
    }
    fn run<'m>(&'m self, cx: &mut Cx<'m>, layers: Range<usize>, x: Act, _: &Rows) -> Result<Act> {
        Ok(self.layers(cx, &self.encoder, layers, x, None)?)
    }
    fn memory<'m>(&'m self, cx: &mut Cx<'m>, x: Act) -> Result<Act> {
        let (p, first) = (self.settings.dropout, self.decoder.first);
        let x = cx.norm(Site::memory(first, Point::Norm), &x, self.weights.norm(self.encoder.last))?;
        let x = cx.dropout(x, p, Site::memory(first, Point::Norm), 0)?;
        Ok(cx.stream(Site::memory(first, Point::Stream), x)?)
    }
    fn decode<'m>(&'m self, cx: &mut Cx<'m>, memory: Act, target: &Target, rows: &Rows) -> Result<Act> {
        let (m, p, first) = (&self.weights, self.settings.dropout, self.decoder.first);
        let y = cx.embed(&[(m.get(self.word), &*target.ids)], target.seqs())?;
        let y = cx.dropout(y, p, Site::memory(first, Point::Words), 0)?;
        let mut y = self.layers(cx, &self.decoder, first..self.info.layers, y, Some(&memory))?;
        drop(memory);
        cx.enter(Site::head());
        y = cx.take_rows(&y, rows)?;
        let y = cx.norm(Site::LAST_NORM, &y, m.norm(self.decoder.last))?;
        Ok(cx.dropout(y, p, Site::LAST_NORM, 0)?)
    }
    fn to_vocabulary<'m>(&'m self, cx: &mut Cx<'m>, x: &Act) -> Result<Option<(Act, LinearRef<'m>)>> {
        if !self.info.has_lm_head {
            return Ok(None);
        }
        let (x, w) = match self.vocabulary {
            Some(own) => (x.clone(), self.weights.linear(own)),
            None => {
                let w = LinearRef { w: self.weights.get(self.word), b: None, in_out: false };
                (cx.scale(x.clone(), (self.info.channels as f32).sqrt().recip())?, w)
            }
        };
        Ok(Some((cx.stream(Site::head(), x)?, w)))
    }
}
impl<P: Weight> Parameters for T5<P> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.weights.visit(f);
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.weights.visit_mut(f);
    }
}
