//! BERT (Devlin et al. 2018), post-norm; names as in Hugging Face `BertModel`.
//!
//! Dimensions in the comments: T tokens of all sequences, C channels, F channels of the
//! feed-forward network.
use crate::{
    Config, Family, Kind, Model, ModelInfo, Result, Rows, Tokens,
    weights::{Id, Layout, LinearId, NormId, Weights},
};
use engraft_engine::{
    self as engine, Act, Activation, Cx, Frozen, LinearForm, LinearRef, Load, NormKind, Param, Parameters,
    Point, Site, SiteInfo, SiteKind, Tensor, Weight,
    ops::{Heads, Qkv},
};
use std::ops::Range;

/// The registry row.
pub const FAMILY: Family =
    Family { name: "bert", prefix: "bert.", aliases: &[], frozen: build::<Frozen>, trained: build::<Param> };

/// BERT over frozen or trained weights.
#[derive(Debug)]
pub struct Bert<P: Weight> {
    weights: Weights<P>,
    word: Id,
    position: Id,
    kind: Id,
    ln: NormId,
    layers: Vec<Layer>,
    pooler: Option<LinearId>,
    info: ModelInfo,
    act: Activation,
    heads: Heads,
    dropout: f32,
}
#[derive(Clone, Copy, Debug)]
struct Layer {
    q: LinearId,
    k: LinearId,
    v: LinearId,
    o: LinearId,
    ln_1: NormId,
    up: LinearId,
    down: LinearId,
    ln_2: NormId,
}

fn build<P: Weight>(config: &Config, load: &mut Load<'_>) -> Result<Box<dyn Model>> {
    Ok(Box::new(Bert::<P>::load(config, load)?))
}

impl<P: Weight> Bert<P> {
    /// Loads the weights that a configuration describes.
    pub fn load(config: &Config, load: &mut Load<'_>) -> Result<Bert<P>> {
        let heads = config.count_or("num_attention_heads", 12)?;
        let name = config.text("hidden_act", "gelu")?;
        let act = Activation::from_name(&name)
            .ok_or_else(|| config.error(format!("`hidden_act` is `{name}`, which is not supported")))?;
        let dropout = config.probability("hidden_dropout_prob", 0.1)?;
        let heads = Heads {
            count: heads,
            dropout: config.probability("attention_probs_dropout_prob", 0.1)?,
            ..Heads::default()
        };
        let mut info = ModelInfo {
            family: FAMILY.name,
            kind: Kind::Encoder,
            channels: config.count_or("hidden_size", 768)?,
            layers: config.layers("num_hidden_layers", 12)?,
            vocabulary: config.count_or("vocab_size", 30522)?,
            positions: Some(config.count_or("max_position_embeddings", 512)?),
            segments: config.count_or("type_vocab_size", 2)?,
            class: "BertAdapterModel",
            dropout: dropout.max(heads.dropout),
            attention_dropout: heads.dropout,
            head_dropout: config.probability_or_null("classifier_dropout", f64::from(dropout))?,
            summary: Rows::First,
            has_pooler: false,
            has_lm_head: false,
            is_tied: config.flag("tie_word_embeddings", true)?,
            head_eps: config.epsilon("layer_norm_eps", 1e-12)?,
        };
        let (c, f) = (info.channels, config.count_or("intermediate_size", 3072)?);
        let eps = info.head_eps;
        config.only("position_embedding_type", "\"absolute\"")?;
        config.only("is_decoder", "false")?;
        config.only("add_cross_attention", "false")?;
        if !c.is_multiple_of(heads.count) {
            let n = heads.count;
            return Err(
                config.error(format!("`hidden_size` {c} is not a multiple of `num_attention_heads` {n}"))
            );
        }
        config.finish()?; // what is refused is refused before a weight is read

        let mut at = Layout::<P>::new(load);
        let ln = NormKind::Layer;
        let e = "bert.embeddings";
        let word = at.table(&format!("{e}.word_embeddings.weight"), info.vocabulary, c)?;
        let positions = info.positions.unwrap_or_default();
        let position = at.table(&format!("{e}.position_embeddings.weight"), positions, c)?;
        let kind = at.table(&format!("{e}.token_type_embeddings.weight"), info.segments, c)?;
        let embedded = at.norm(Some(Site::EMBED_NORM), &format!("{e}.LayerNorm"), c, eps, ln)?;
        at.site(Site::WORDS, SiteKind::Stream { channels: c }, "bert");
        at.site(Site::EMBED, SiteKind::Stream { channels: c }, "bert");
        let layer = |at: &mut Layout<'_, '_, P>, l: usize| -> Result<Layer> {
            let p = |module: &str| format!("bert.encoder.layer.{l}.{module}");
            let linear = |at: &mut Layout<'_, '_, P>, site, module: &str, dims| {
                at.linear(site, &p(module), dims, LinearForm::default(), 1)
            };
            let stream = SiteKind::Stream { channels: c };
            at.site(Site::layer(l), stream, &format!("bert.encoder.layer.{l}"));
            let q = linear(at, Site::attn(l, Point::Q), "attention.self.query", (c, c))?;
            let k = linear(at, Site::attn(l, Point::K), "attention.self.key", (c, c))?;
            let v = linear(at, Site::attn(l, Point::V), "attention.self.value", (c, c))?;
            let keys = SiteKind::Prefix { channels: c };
            at.site(Site::attn(l, Point::Prefix), keys, &p("attention.self"));
            let o = linear(at, Site::attn(l, Point::O), "attention.output.dense", (c, c))?;
            let norm = p("attention.output.LayerNorm");
            let ln_1 = at.norm(None, &norm, c, eps, ln)?;
            at.close(Site::after_attn(l), c, &p("attention.output"), Some(&norm));
            let up = linear(at, Site::ffn(l, Point::Up), "intermediate.dense", (c, f))?;
            let down = linear(at, Site::ffn(l, Point::Down), "output.dense", (f, c))?;
            let norm = p("output.LayerNorm");
            let ln_2 = at.norm(None, &norm, c, eps, ln)?;
            at.close(Site::after_ffn(l), c, &p("output"), Some(&norm));
            at.site(Site::behind(l), stream, &p("reft_layer"));
            Ok(Layer { q, k, v, o, ln_1, up, down, ln_2 })
        };
        let layers = (0..info.layers).map(|l| layer(&mut at, l)).collect::<Result<_>>()?;
        info.has_pooler = at.has("bert.pooler.dense.weight");
        let pooler = match info.has_pooler {
            true => Some(at.plain_linear("bert.pooler.dense", (c, c), LinearForm::default())?),
            false => None,
        };
        let weights = at.finish();
        Ok(Bert { weights, word, position, kind, ln: embedded, layers, pooler, info, act, heads, dropout })
    }
    // a name that is assigned again lets go of what it held; one that is declared again would hold
    // it to the end
    fn layer<'m>(&'m self, cx: &mut Cx<'m>, l: usize, x: Act, rows: Option<&Rows>) -> engine::Result<Act> {
        let (w, m) = (self.layers[l], &self.weights);
        let keys = cx.stream(Site::layer(l), x)?;
        let mut x = match rows {
            Some(rows) => cx.take_rows(&keys, rows)?,
            None => keys.clone(),
        };
        let a = self.attention(cx, l, &x, keys)?;
        let a = cx.drop_later(a, self.dropout, Site::attn(l, Point::O), 0);
        x = cx.close(Site::after_attn(l), a, &x, Some(m.norm(w.ln_1)))?; // x = LN(x + Attn(x))
        let mut f = cx.linear(Site::ffn(l, Point::Up), &x, m.linear(w.up))?;
        f = cx.activate_for(&f, self.act, &m.linear(w.down))?; //            (T, F)
        f = cx.linear(Site::ffn(l, Point::Down), &f, m.linear(w.down))?;
        let f = cx.drop_later(f, self.dropout, Site::ffn(l, Point::Down), 0);
        x = cx.close(Site::after_ffn(l), f, &x, Some(m.norm(w.ln_2)))?; //   x = LN(x + FFN(x))
        cx.stream(Site::behind(l), x)
    }
    /// The rows of x attend to those of their sequences in `keys`.
    fn attention<'m>(&'m self, cx: &mut Cx<'m>, l: usize, x: &Act, keys: Act) -> engine::Result<Act> {
        let (w, m) = (self.layers[l], &self.weights);
        let q = cx.linear(Site::attn(l, Point::Q), x, m.linear(w.q))?;
        let k = cx.linear(Site::attn(l, Point::K), &keys, m.linear(w.k))?;
        let v = cx.linear(Site::attn(l, Point::V), &keys, m.linear(w.v))?;
        let prefix = cx.prefix(Site::attn(l, Point::Prefix), &keys)?;
        drop(keys);
        let x = Qkv { prefix: prefix.as_ref(), ..Qkv::of(&q, &k, &v) };
        let a = cx.attend(Site::attn(l, Point::Probs), x, self.heads)?;
        cx.linear(Site::attn(l, Point::O), &a, m.linear(w.o))
    }
}

impl<P: Weight> Model for Bert<P> {
    fn info(&self) -> &ModelInfo {
        &self.info
    }
    fn set_dropout(&mut self, p: f32) {
        self.dropout = p;
        self.heads.dropout = p;
        self.info.dropout = p;
        self.info.attention_dropout = p;
        self.info.head_dropout = p;
    }
    fn sites(&self) -> &[SiteInfo] {
        self.weights.sites()
    }
    fn named(&self) -> Vec<(String, &Tensor)> {
        self.weights.named()
    }
    fn embed<'m>(&'m self, cx: &mut Cx<'m>, t: &Tokens) -> Result<Act> {
        t.check(&self.info)?;
        let m = &self.weights;
        let words = cx.embed(&[(m.get(self.word), &*t.ids)], t.seqs())?;
        let x = cx.stream(Site::WORDS, words)?;
        let (types, positions) = t.beside(cx, &x, &self.info)?;
        let x = cx.embed_onto(x, &[(m.get(self.kind), &*types), (m.get(self.position), &*positions)])?;
        let x = cx.norm(Site::EMBED_NORM, &x, m.norm(self.ln))?;
        let x = cx.dropout(x, self.dropout, Site::EMBED, 0)?;
        Ok(cx.stream(Site::EMBED, x)?)
    }
    fn run<'m>(&'m self, cx: &mut Cx<'m>, layers: Range<usize>, mut x: Act, rows: &Rows) -> Result<Act> {
        for l in layers {
            let is_last = l + 1 == self.layers.len();
            let early = (is_last && !cx.reads_places(l)).then(|| rows.clone());
            let late = is_last && early.is_none();
            x = cx.layer(l, x, move |cx, x| self.layer(cx, l, x, early.as_ref()))?;
            if late {
                x = cx.take_rows(&x, rows)?;
            }
        }
        Ok(x)
    }
    fn pool<'m>(&'m self, cx: &mut Cx<'m>, x: &Act) -> Result<Act> {
        cx.enter(Site::head());
        let Some(w) = self.pooler else { return Ok(x.clone()) };
        let y = cx.matmul(x, self.weights.linear(w))?;
        Ok(cx.activate(&y, Activation::Tanh)?)
    }
    fn to_vocabulary<'m>(&'m self, _: &mut Cx<'m>, _: &Act) -> Result<Option<(Act, LinearRef<'m>)>> {
        Ok(None) // the masked-language-model head is not loaded
    }
}
impl<P: Weight> Parameters for Bert<P> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.weights.visit(f);
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.weights.visit_mut(f);
    }
}
