//! T5 (Raffel et al. 2020) and mT5, an encoder and a decoder with relative positions and RMSNorm in
//! front of every sub-layer; names as in Hugging Face `T5ForConditionalGeneration`.
//!
//! Dimensions in the comments: T tokens of all sequences, S tokens of all targets, C channels, D
//! channels of all heads, F channels of the feed-forward network. Layers count through: those of the
//! decoder follow those of the encoder.
use crate::{
    Config, Family, Kind, Model, ModelInfo, Result, Rows, Target, Tokens,
    buckets::Buckets,
    weights::{Id, Layout, LinearId, NormId, Weights},
};
use engraft_engine::{
    self as engine, Act, Activation, Cx, Frozen, LinearForm, LinearRef, Load, NormKind, Param, Parameters,
    Part, Point, Site, SiteInfo, SiteKind, Tensor, Weight,
    ops::{Heads, Mask, Qkv, Relative},
};
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
/// What a configuration means where it says nothing.
struct Defaults {
    family: &'static str,
    class: &'static str,
    vocabulary: usize,
    feed_forward: (usize, &'static str),
    layers: usize,
    heads: usize,
    is_tied: bool,
}
const OF_T5: Defaults = Defaults {
    family: "t5",
    class: "T5AdapterModel",
    vocabulary: 32128,
    feed_forward: (2048, "relu"),
    layers: 6,
    heads: 8,
    is_tied: true,
};
const OF_MT5: Defaults = Defaults {
    family: "mt5",
    class: "MT5AdapterModel",
    vocabulary: 250_112,
    feed_forward: (1024, "gated-gelu"),
    layers: 8,
    heads: 6,
    is_tied: false,
};

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
#[derive(Debug)]
struct Stack {
    /// The number of its first layer.
    first: usize,
    layers: Vec<Layer>,
    /// Relative positions: (buckets, heads).
    bias: Id,
    buckets: Buckets,
    last: NormId,
}
#[derive(Clone, Copy, Debug)]
struct Layer {
    own: Attention,
    cross: Option<Attention>,
    ln: NormId,
    up: LinearId,
    gate: Option<LinearId>,
    down: LinearId,
}
#[derive(Clone, Copy, Debug)]
struct Attention {
    part: Part,
    ln: NormId,
    q: LinearId,
    k: LinearId,
    v: LinearId,
    o: LinearId,
}
#[derive(Clone, Copy, Debug)]
struct Settings {
    act: Activation,
    heads: usize,
    dropout: f32,
}
/// What shapes the layers.
#[derive(Clone, Copy)]
struct Shape {
    c: usize,
    d: usize,
    f: usize,
    heads: usize,
    is_gated: bool,
    eps: f32,
    /// Buckets of relative positions, and the distance from which on all are one.
    buckets: (usize, usize),
}

fn build<P: Weight>(config: &Config, load: &mut Load<'_>, or: &Defaults) -> Result<Box<dyn Model>> {
    Ok(Box::new(T5::<P>::load(config, load, or)?))
}

impl<P: Weight> T5<P> {
    fn load(config: &Config, load: &mut Load<'_>, or: &Defaults) -> Result<T5<P>> {
        let heads = config.count_or("num_heads", or.heads)?;
        let (act, is_gated) = feed_forward(config, or.feed_forward.1)?;
        let shape = Shape {
            c: config.count_or("d_model", 512)?,
            d: heads * config.count_or("d_kv", 64)?,
            f: config.count_or("d_ff", or.feed_forward.0)?,
            heads,
            is_gated,
            eps: config.epsilon("layer_norm_epsilon", 1e-6)?,
            buckets: (
                config.count_or("relative_attention_num_buckets", 32)?,
                config.count_or("relative_attention_max_distance", 128)?,
            ),
        };
        let encoder = config.layers("num_layers", or.layers)?;
        let decoder = match config.is_null("num_decoder_layers") {
            true => encoder,
            false => config.layers("num_decoder_layers", encoder)?,
        };
        let dropout = config.probability("dropout_rate", 0.1)?;
        let start = config.token("decoder_start_token_id")?;
        config.only("is_encoder_decoder", "true")?;
        config.only("is_decoder", "false")?;
        config.known("n_positions"); // transformers' own files have it, and nothing reads it
        config.known("output_past");
        let info = ModelInfo {
            family: or.family,
            kind: Kind::EncoderDecoder { encoder, start },
            channels: shape.c,
            layers: encoder + decoder,
            vocabulary: config.count_or("vocab_size", or.vocabulary)?,
            positions: None,
            segments: 1,
            class: or.class,
            dropout,
            attention_dropout: dropout,
            head_dropout: config.probability("classifier_dropout", 0.0)?,
            summary: Rows::Last,
            has_pooler: false,
            has_lm_head: false,
            is_tied: config.flag("tie_word_embeddings", or.is_tied)?,
            head_eps: 1e-12,
        };
        let buckets = |both_ways| {
            Buckets::new(shape.buckets.0, shape.buckets.1, both_ways).ok_or_else(|| {
                let (n, far) = shape.buckets;
                config.error(format!(
                    "`relative_attention_num_buckets` {n} and `relative_attention_max_distance` {far} leave no bucket \
                     for far distances"
                ))
            })
        };
        let buckets = (buckets(true)?, buckets(false)?);
        config.finish()?; // what is refused is refused before a weight is read

        let mut at = Layout::<P>::new(load).inside("transformer");
        let copies = ["shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"];
        let name = copies.into_iter().find(|name| at.has(name)).unwrap_or(copies[0]);
        let word = at.table_as(copies[0], name, info.vocabulary, shape.c)?;
        copies.iter().for_each(|name| at.ignore(name));
        let stream = SiteKind::Stream { channels: shape.c };
        at.site(Site::WORDS, stream, "encoder");
        at.site(Site::EMBED, stream, "");
        let first = stack(&mut at, "encoder", 0..encoder, buckets.0, &shape)?;
        at.site(Site::memory(encoder, Point::Stream), stream, "encoder");
        let second = stack(&mut at, "decoder", encoder..encoder + decoder, buckets.1, &shape)?;
        // a table that older files hold and that nothing reads
        at.ignore("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight");
        let vocabulary = match info.is_tied || !at.has("lm_head.weight") {
            true => {
                at.ignore("lm_head.weight"); // a copy of the embeddings
                None
            }
            false => {
                let form = LinearForm { no_bias: true, ..LinearForm::default() };
                Some(at.plain_linear("lm_head", (shape.c, info.vocabulary), form)?)
            }
        };
        let info = ModelInfo { has_lm_head: info.is_tied || vocabulary.is_some(), ..info };
        if info.has_lm_head {
            at.site(Site::head(), stream, "");
        }
        let (weights, settings) = (at.finish(), Settings { act, heads, dropout });
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
        let keys = memory.unwrap_or(&n);
        let q = cx.linear(at(Point::Q), &n, m.linear(w.q))?; //               (T, D)
        let k = cx.linear(at(Point::K), keys, m.linear(w.k))?;
        let v = cx.linear(at(Point::V), keys, m.linear(w.v))?;
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
/// The layers of an encoder or a decoder.
fn stack<P: Weight>(
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
    let bias = at.table(&bias, shape.buckets.0, shape.heads)?;
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
/// f of the feed-forward network, and whether there is a gate: `gated-F` or `F`.
fn feed_forward(config: &Config, default: &str) -> Result<(Activation, bool)> {
    let text = config.text("feed_forward_proj", default)?;
    let (name, is_gated) = text.strip_prefix("gated-").map_or((&*text, false), |name| (name, true));
    let name = if text == "gated-gelu" { "gelu_new" } else { name };
    // transformers writes what it made of the name, and reads that again
    let name = config.text("dense_act_fn", name)?;
    let is_gated = config.flag("is_gated_act", is_gated)?;
    let act = Activation::from_name(&name)
        .ok_or_else(|| config.error(format!("`feed_forward_proj` is `{text}`, which is not supported")))?;
    Ok((act, is_gated))
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
    fn decode<'m>(&'m self, cx: &mut Cx<'m>, x: Act, target: &Target, rows: &Rows) -> Result<Act> {
        let (m, p, first) = (&self.weights, self.settings.dropout, self.decoder.first);
        let x = cx.norm(Site::memory(first, Point::Norm), &x, m.norm(self.encoder.last))?;
        let x = cx.dropout(x, p, Site::memory(first, Point::Norm), 0)?;
        let memory = cx.stream(Site::memory(first, Point::Stream), x)?;
        let y = cx.embed(&[(m.get(self.word), &*target.ids)], target.seqs())?;
        let y = cx.dropout(y, p, Site::memory(first, Point::Words), 0)?;
        let mut y = self.layers(cx, &self.decoder, first..self.info.layers, y, Some(&memory))?;
        drop(memory);
        cx.enter(Site::head());
        y = cx.take_rows(&y, rows)?;
        let y = cx.norm(Site::LAST_NORM, &y, m.norm(self.decoder.last))?;
        Ok(cx.dropout(y, p, Site::LAST_NORM, 0)?)
    }
    fn pool<'m>(&'m self, _: &mut Cx<'m>, x: &Act) -> Result<Act> {
        Ok(x.clone())
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
