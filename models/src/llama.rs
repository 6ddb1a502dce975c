//! LLaMA (Touvron et al. 2023) and the kin that share its body: pre-norm with RMSNorm, rotary
//! positions, grouped queries, a gated feed-forward network; names as in Hugging Face
//! `LlamaForCausalLM`.
//!
//! Dimensions in the comments: T tokens of all sequences, C channels, H heads of d channels of
//! which K have keys and values, F channels of the feed-forward network.
use crate::{
    Config, Family, Kind, Model, ModelInfo, Result, Rows, Tokens,
    pre_norm::{self, Vocabulary},
    rope::{Rope, Turns},
    rope_scaling::{Scaling, WIDEST},
    weights::{Id, Layout, LinearId, NormId, Weights},
};
use engraft_engine::{
    self as engine, Act, Activation, Cx, Frozen, LinearForm, LinearRef, Load, NormKind, Param, Parameters,
    Point, Site, SiteInfo, SiteKind, Tensor, Weight,
    kernels::rotary::Pairs,
    ops::{Heads, Mask, Qkv},
};
use std::{ops::Range, sync::Arc};

/// The registry row.
pub const FAMILY: Family = Family {
    name: "llama",
    prefix: "model.",
    aliases: &[],
    frozen: build::<Frozen>,
    trained: build::<Param>,
};

/// LLaMA, or one of its kin, over frozen or trained weights.
#[derive(Debug)]
pub struct Llama<P: Weight> {
    weights: Weights<P>,
    word: Id,
    layers: Vec<Layer>,
    norm: NormId,
    vocabulary: Vocabulary,
    info: ModelInfo,
    rope: Rope,
    act: Activation,
    heads: Heads,
}
#[derive(Clone, Copy, Debug)]
struct Layer {
    ln_1: NormId,
    q: LinearId,
    k: LinearId,
    v: LinearId,
    /// Norms of every head of queries and of keys.
    qk_norms: Option<[NormId; 2]>,
    o: LinearId,
    ln_2: NormId,
    gate: LinearId,
    up: LinearId,
    down: LinearId,
    mask: Mask,
}

/// What tells a family of this body from the others.
pub(crate) struct Kin {
    /// `model_type`.
    pub family: &'static str,
    /// AdapterHub's class of the model with heads.
    pub class: &'static str,
    /// Biases of the query, key and value projections.
    pub qkv_bias: bool,
    /// A bias of the output projection.
    pub o_bias: bool,
    /// Biases of the feed-forward network.
    pub mlp_bias: bool,
    /// Queries and keys have norms.
    pub qk_norms: bool,
    /// What AdapterHub takes `up_proj` and `down_proj` for.
    pub feed_forward: [Point; 2],
    /// Channels of a head, if they are not the model's channels by heads.
    pub head_dim: Option<usize>,
    /// The tokens that a query sees, its own included, by layer; none: all those before it.
    pub windows: Vec<Option<usize>>,
    /// Values of fields that a file leaves out.
    pub defaults: Defaults,
}
/// Values of fields that a file leaves out, in the family's class of configurations.
pub(crate) struct Defaults {
    pub vocab_size: usize,
    pub intermediate_size: usize,
    /// None: as many as `num_attention_heads`.
    pub num_key_value_heads: Option<usize>,
    pub max_position_embeddings: usize,
}
/// Layers of a model of this body.
pub(crate) fn layers(config: &Config) -> Result<usize> {
    config.layers("num_hidden_layers", 32)
}

fn build<P: Weight>(config: &Config, load: &mut Load<'_>) -> Result<Box<dyn Model>> {
    let bias = config.flag("attention_bias", false)?;
    let kin = Kin {
        family: FAMILY.name,
        class: "LlamaAdapterModel",
        qkv_bias: bias,
        o_bias: bias,
        mlp_bias: config.flag("mlp_bias", false)?,
        qk_norms: false,
        feed_forward: [Point::Down, Point::Up],
        head_dim: config.value("head_dim").map(|_| config.count("head_dim")).transpose()?,
        windows: vec![None; layers(config)?],
        defaults: Defaults {
            vocab_size: 32000,
            intermediate_size: 11008,
            num_key_value_heads: None,
            max_position_embeddings: 2048,
        },
    };
    Ok(Box::new(Llama::<P>::load(config, load, kin)?))
}

impl<P: Weight> Llama<P> {
    /// Loads the weights that a configuration describes.
    pub(crate) fn load(config: &Config, load: &mut Load<'_>, kin: Kin) -> Result<Llama<P>> {
        let (c, heads) = (config.count_or("hidden_size", 4096)?, config.count_or("num_attention_heads", 32)?);
        let kv = match (config.has("num_key_value_heads"), kin.defaults.num_key_value_heads) {
            (false, Some(kv)) => kv,
            _ => config.count_or_null("num_key_value_heads", heads)?,
        };
        if !heads.is_multiple_of(kv) {
            let what =
                format!("`num_attention_heads` {heads} is not a multiple of `num_key_value_heads` {kv}");
            return Err(config.error(what));
        }
        let d = kin.head_dim.unwrap_or(c / heads);
        if d == 0 || !d.is_multiple_of(2) || d > WIDEST {
            return Err(config.error(format!("a head has {d} channels: no pairs of them can be turned")));
        }
        if config.number("partial_rotary_factor", 1.0)? != 1.0 {
            return Err(config.error("`partial_rotary_factor`: only 1 is supported"));
        }
        let act = config.activation("hidden_act", "silu")?;
        let most = config.count_or("max_position_embeddings", kin.defaults.max_position_embeddings)?;
        let rope = Rope { scaling: Scaling::read(config, d, most)?, pairs: Pairs::Halves, head_dim: d };
        let dropout = config.probability("attention_dropout", 0.0)?;
        let heads = Heads { count: heads, kv: Some(kv), dropout, ..Heads::default() };
        let mut info = ModelInfo {
            family: kin.family,
            kind: Kind::Decoder,
            channels: c,
            embedding: c,
            layers: kin.windows.len(),
            vocabulary: config.count_or("vocab_size", kin.defaults.vocab_size)?,
            positions: Some(rope.scaling.positions),
            segments: 1,
            class: kin.class,
            dropout,
            attention_dropout: dropout,
            // the library looks for `classifier_dropout` and `hidden_dropout_prob`, which these
            // models do not have
            head_dropout: config.probability_or_null("classifier_dropout", 0.0)?,
            summary: Rows::Last,
            has_pooler: false,
            has_lm_head: false,
            is_tied: config.flag("tie_word_embeddings", false)?,
            head_eps: 1e-12,
        };
        let f = config.count_or("intermediate_size", kin.defaults.intermediate_size)?;
        let eps = config.epsilon("rms_norm_eps", 1e-6)?;
        config.finish()?; // what is refused is refused before a weight is read

        let mut at = Layout::<P>::new(load);
        let (rms, stream) = (NormKind::Rms, SiteKind::Stream { channels: c });
        let table = ("model.embed_tokens.weight", info.is_tied);
        let word = pre_norm::embeddings(&mut at, table, (info.vocabulary, c))?;
        at.site(Site::WORDS, stream, "model");
        at.site(Site::EMBED, stream, "model");
        let layer = |at: &mut Layout<'_, '_, P>, l: usize, window: &Option<usize>| -> Result<Layer> {
            let p = |module: &str| format!("model.layers.{l}.{module}");
            let linear = |at: &mut Layout<'_, '_, P>, site, module: &str, dims, bias: bool| {
                let form = LinearForm { no_bias: !bias, ..LinearForm::default() };
                at.linear(site, &p(module), dims, form, 1)
            };
            let (of_q, of_kv) = (heads.count * d, kv * d);
            at.ignore(&p("self_attn.rotary_emb.inv_freq")); // which older files hold
            at.site(Site::layer(l), stream, &format!("model.layers.{l}"));
            let ln_1 = at.norm(Some(Site::attn(l, Point::Norm)), &p("input_layernorm"), c, eps, rms)?;
            let q = linear(at, Site::attn(l, Point::Q), "self_attn.q_proj", (c, of_q), kin.qkv_bias)?;
            let k = linear(at, Site::attn(l, Point::K), "self_attn.k_proj", (c, of_kv), kin.qkv_bias)?;
            let v = linear(at, Site::attn(l, Point::V), "self_attn.v_proj", (c, of_kv), kin.qkv_bias)?;
            let mut head_norm = |name: &str| at.norm(None, &p(name), d, eps, rms);
            let qk_norms = match kin.qk_norms {
                true => Some([head_norm("self_attn.q_norm")?, head_norm("self_attn.k_norm")?]),
                false => None,
            };
            at.site(Site::attn(l, Point::Prefix), SiteKind::Prefix { channels: of_kv }, &p("self_attn"));
            let o = linear(at, Site::attn(l, Point::O), "self_attn.o_proj", (of_q, c), kin.o_bias)?;
            at.close(Site::after_attn(l), c, &p("attention_adapters"), None);
            let ln_2 =
                at.norm(Some(Site::ffn(l, Point::Norm)), &p("post_attention_layernorm"), c, eps, rms)?;
            let gate = linear(at, Site::ffn(l, Point::Gate), "mlp.gate_proj", (c, f), kin.mlp_bias)?;
            let up = linear(at, Site::ffn(l, Point::Up), "mlp.up_proj", (c, f), kin.mlp_bias)?;
            at.known_as(kin.feed_forward[0]);
            let down = linear(at, Site::ffn(l, Point::Down), "mlp.down_proj", (f, c), kin.mlp_bias)?;
            at.known_as(kin.feed_forward[1]);
            at.close(Site::after_ffn(l), c, &p("output_adapters"), None);
            at.site(Site::behind(l), stream, &p("reft_layer"));
            let mask = window.map_or(Mask::Causal, |n| Mask::Window { before: n - 1, after: 0 });
            Ok(Layer { ln_1, q, k, v, qk_norms, o, ln_2, gate, up, down, mask })
        };
        let windows = kin.windows.iter().enumerate();
        let layers = windows.map(|(l, window)| layer(&mut at, l, window)).collect::<Result<_>>()?;
        let norm = at.norm(Some(Site::LAST_NORM), "model.norm", c, eps, rms)?;
        let vocabulary = Vocabulary::load(&mut at, (word, info.is_tied), (c, info.vocabulary), false)?;
        info.has_lm_head = !vocabulary.is_missing();
        if info.has_lm_head {
            at.site(Site::head(), stream, "model");
        }
        let weights = at.finish();
        Ok(Llama { weights, word, layers, norm, vocabulary, info, rope, act, heads })
    }
    // a name that is assigned again lets go of what it held; one that is declared again would hold
    // it to the end
    fn layer<'m>(
        &'m self,
        cx: &mut Cx<'m>,
        l: usize,
        x: Act,
        rows: Option<&Rows>,
        turns: &Arc<Turns>,
    ) -> engine::Result<Act> {
        let (w, m) = (self.layers[l], &self.weights);
        let mut x = cx.stream(Site::layer(l), x)?;
        let n = cx.norm(Site::attn(l, Point::Norm), &x, m.norm(w.ln_1))?;
        let a = self.attention(cx, l, n, rows, turns)?;
        if let Some(rows) = rows {
            x = cx.take_rows(&x, rows)?;
        }
        let a = cx.drop_later(a, 0.0, Site::attn(l, Point::O), 0);
        x = cx.close(Site::after_attn(l), a, &x, None)?; //                  x = x + Attn(RMS(x))
        let n = cx.norm(Site::ffn(l, Point::Norm), &x, m.norm(w.ln_2))?;
        let gate = cx.linear(Site::ffn(l, Point::Gate), &n, m.linear(w.gate))?;
        let up = cx.linear(Site::ffn(l, Point::Up), &n, m.linear(w.up))?;
        drop(n);
        let mut f = cx.gated(&gate, self.act, &up)?; //                      (T, F)
        drop((gate, up));
        f = cx.linear(Site::ffn(l, Point::Down), &f, m.linear(w.down))?;
        let f = cx.drop_later(f, 0.0, Site::ffn(l, Point::Down), 0);
        x = cx.close(Site::after_ffn(l), f, &x, None)?; //                   x = x + FFN(RMS(x))
        cx.stream(Site::behind(l), x)
    }
    /// These rows attend to those of their sequences in front of them.
    fn attention<'m>(
        &'m self,
        cx: &mut Cx<'m>,
        l: usize,
        n: Act,
        rows: Option<&Rows>,
        turns: &Arc<Turns>,
    ) -> engine::Result<Act> {
        let (w, m) = (self.layers[l], &self.weights);
        let turns = self.rope.of(cx, turns, &n)?;
        let queries = match rows {
            Some(rows) => cx.take_rows(&n, rows)?,
            None => n.clone(),
        };
        let mut q = cx.linear(Site::attn(l, Point::Q), &queries, m.linear(w.q))?; // (T, H d)
        let mut k = cx.linear(Site::attn(l, Point::K), &n, m.linear(w.k))?; //       (T, K d)
        let v = cx.linear(Site::attn(l, Point::V), &n, m.linear(w.v))?;
        let prefix = cx.prefix(Site::attn(l, Point::Prefix), &n)?;
        drop((n, queries));
        if let Some([of_q, of_k]) = w.qk_norms {
            q = cx.normalise_heads(&q, m.norm(of_q))?;
            k = cx.normalise_heads(&k, m.norm(of_k))?;
        }
        let first = pre_norm::first_of(rows, k.seqs());
        q = self.rope.turn(cx, q, &turns, &first)?;
        k = self.rope.turn(cx, k, &turns, &vec![0; first.len()])?;
        let x = Qkv { first: Some(&*first), prefix: prefix.as_ref(), ..Qkv::of(&q, &k, &v) };
        let a = cx.attend(Site::attn(l, Point::Probs), x, Heads { mask: w.mask, ..self.heads })?;
        drop((q, k, v));
        cx.linear(Site::attn(l, Point::O), &a, m.linear(w.o))
    }
}

impl<P: Weight> Model for Llama<P> {
    fn info(&self) -> &ModelInfo {
        &self.info
    }
    fn set_dropout(&mut self, p: f32) {
        self.heads.dropout = p;
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
        t.beside(cx, &x, &self.info)?; // refuses what is too long
        Ok(cx.stream(Site::EMBED, x)?)
    }
    fn run<'m>(&'m self, cx: &mut Cx<'m>, layers: Range<usize>, x: Act, rows: &Rows) -> Result<Act> {
        let (of, norm, turns) = (self.layers.len(), self.weights.norm(self.norm), self.rope.start(cx, &x)?);
        let layer = move |cx: &mut Cx<'m>, l, x, rows: Option<&Rows>| self.layer(cx, l, x, rows, &turns);
        Ok(pre_norm::run(cx, (layers, of), x, (rows, Mask::Causal), norm, layer)?)
    }
    fn to_vocabulary<'m>(&'m self, cx: &mut Cx<'m>, x: &Act) -> Result<Option<(Act, LinearRef<'m>)>> {
        let Some(w) = self.vocabulary.get(&self.weights) else { return Ok(None) };
        Ok(Some((cx.stream(Site::head(), x.clone())?, w)))
    }
}
impl<P: Weight> Parameters for Llama<P> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.weights.visit(f);
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.weights.visit_mut(f);
    }
}
