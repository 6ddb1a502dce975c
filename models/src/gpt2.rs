//! GPT-2 (Radford et al. 2019), pre-norm; names as in Hugging Face `GPT2LMHeadModel`.
//!
//! Dimensions in the comments: T tokens of all sequences, C channels, F channels of the
//! feed-forward network.
use crate::{
    Config, Family, Kind, Model, ModelInfo, Result, Rows, Tokens,
    pre_norm::{self, Vocabulary},
    weights::{Id, Layout, LinearId, NormId, Weights},
};
use engraft_engine::{
    self as engine, Act, Activation, Cx, Frozen, LinearForm, LinearRef, Load, NormKind, Param, Parameters,
    Point, Site, SiteInfo, SiteKind, Tensor, Weight,
    ops::{Heads, Mask, Qkv},
};
use std::ops::Range;

/// The registry row.
pub const FAMILY: Family = Family {
    name: "gpt2",
    prefix: "transformer.",
    aliases: &[
        ("n_embd", "hidden_size"),
        ("n_head", "num_attention_heads"),
        ("n_layer", "num_hidden_layers"),
        ("n_positions", "max_position_embeddings"),
    ],
    frozen: build::<Frozen>,
    trained: build::<Param>,
};

/// GPT-2 over frozen or trained weights.
#[derive(Debug)]
pub struct Gpt2<P: Weight> {
    weights: Weights<P>,
    word: Id,
    position: Id,
    layers: Vec<Layer>,
    ln_f: NormId,
    vocabulary: Vocabulary,
    info: ModelInfo,
    settings: Settings,
}
#[derive(Clone, Copy, Debug)]
struct Layer {
    ln_1: NormId,
    qkv: LinearId,
    o: LinearId,
    ln_2: NormId,
    up: LinearId,
    down: LinearId,
}
#[derive(Clone, Copy, Debug)]
struct Settings {
    act: Activation,
    heads: usize,
    /// What the scores of the first layer are multiplied by.
    scale: f32,
    /// Layer l, counted from 1, divides its scores by l.
    divides_by_layer: bool,
    embedding_dropout: f32,
    attention_dropout: f32,
    residual_dropout: f32,
}

fn build<P: Weight>(config: &Config, load: &mut Load<'_>) -> Result<Box<dyn Model>> {
    Ok(Box::new(Gpt2::<P>::load(config, load)?))
}

impl<P: Weight> Gpt2<P> {
    /// Loads the weights that a configuration describes.
    pub fn load(config: &Config, load: &mut Load<'_>) -> Result<Gpt2<P>> {
        let (c, heads) = (config.count_or("n_embd", 768)?, config.count_or("n_head", 12)?);
        config.whole_heads(("n_embd", c), ("n_head", heads))?;
        let act = config.activation("activation_function", "gelu_new")?;
        let divides = config.flag("scale_attn_weights", true)?;
        let settings = Settings {
            act,
            heads,
            scale: if divides { 1.0 / ((c / heads) as f32).sqrt() } else { 1.0 },
            divides_by_layer: config.flag("scale_attn_by_inverse_layer_idx", false)?,
            embedding_dropout: config.probability("embd_pdrop", 0.1)?,
            attention_dropout: config.probability("attn_pdrop", 0.1)?,
            residual_dropout: config.probability("resid_pdrop", 0.1)?,
        };
        let mut info = ModelInfo {
            family: FAMILY.name,
            kind: Kind::Decoder,
            channels: c,
            embedding: c,
            layers: config.layers("n_layer", 12)?,
            vocabulary: config.count_or("vocab_size", 50257)?,
            positions: Some(config.count_or("n_positions", 1024)?),
            segments: 1,
            class: "GPT2AdapterModel",
            dropout: settings
                .embedding_dropout
                .max(settings.attention_dropout)
                .max(settings.residual_dropout),
            attention_dropout: settings.attention_dropout,
            // the library looks for `classifier_dropout` and `hidden_dropout_prob`, which GPT-2
            // does not have
            head_dropout: config.probability_or_null("classifier_dropout", 0.0)?,
            summary: Rows::Last,
            has_pooler: false,
            has_lm_head: false,
            is_tied: config.flag("tie_word_embeddings", true)?,
            head_eps: 1e-12,
        };
        let f = config.count_or_null("n_inner", 4 * c)?;
        let eps = config.epsilon("layer_norm_epsilon", 1e-5)?;
        // another order of the same operations, and f32 for what is f32 here
        config.flag("reorder_and_upcast_attn", false)?;
        config.only("add_cross_attention", "false")?;
        let is_tied = info.is_tied;
        config.finish()?; // what is refused is refused before a weight is read

        let mut at = Layout::<P>::new(load);
        let ln = NormKind::Layer;
        let table = ("transformer.wte.weight", info.is_tied);
        let word = pre_norm::embeddings(&mut at, table, (info.vocabulary, c))?;
        let position = at.table("transformer.wpe.weight", info.positions.unwrap_or_default(), c)?;
        at.site(Site::WORDS, SiteKind::Stream { channels: c }, "transformer");
        at.site(Site::EMBED, SiteKind::Stream { channels: c }, "transformer");
        let layer = |at: &mut Layout<'_, '_, P>, l: usize| -> Result<Layer> {
            let p = |module: &str| format!("transformer.h.{l}.{module}");
            let form = LinearForm { in_out: true, ..LinearForm::default() };
            let stream = SiteKind::Stream { channels: c };
            // the causal mask and what masks with it, which older files hold
            at.ignore(&p("attn.bias"));
            at.ignore(&p("attn.masked_bias"));
            at.site(Site::layer(l), stream, &format!("transformer.h.{l}"));
            let ln_1 = at.norm(Some(Site::attn(l, Point::Norm)), &p("ln_1"), c, eps, ln)?;
            let qkv = at.linear(Site::attn(l, Point::Qkv), &p("attn.c_attn"), (c, 3 * c), form, 3)?;
            at.site(Site::attn(l, Point::Prefix), SiteKind::Prefix { channels: c }, &p("attn"));
            let o = at.linear(Site::attn(l, Point::O), &p("attn.c_proj"), (c, c), form, 1)?;
            at.close(Site::after_attn(l), c, &p("attention_adapters"), None);
            let ln_2 = at.norm(Some(Site::ffn(l, Point::Norm)), &p("ln_2"), c, eps, ln)?;
            let up = at.linear(Site::ffn(l, Point::Up), &p("mlp.c_fc"), (c, f), form, 1)?;
            let down = at.linear(Site::ffn(l, Point::Down), &p("mlp.c_proj"), (f, c), form, 1)?;
            at.close(Site::after_ffn(l), c, &p("output_adapters"), None);
            at.site(Site::behind(l), stream, &p("reft_layer"));
            Ok(Layer { ln_1, qkv, o, ln_2, up, down })
        };
        let layers = (0..info.layers).map(|l| layer(&mut at, l)).collect::<Result<_>>()?;
        let ln_f = at.norm(Some(Site::LAST_NORM), "transformer.ln_f", c, eps, ln)?;
        let vocabulary = Vocabulary::load(&mut at, (word, is_tied), (c, info.vocabulary), false)?;
        info.has_lm_head = !vocabulary.is_missing();
        if info.has_lm_head {
            at.site(Site::head(), SiteKind::Stream { channels: c }, "transformer");
        }
        let weights = at.finish();
        Ok(Gpt2 { weights, word, position, layers, ln_f, vocabulary, info, settings })
    }
    // a name that is assigned again lets go of what it held; one that is declared again would hold
    // it to the end
    fn layer<'m>(&'m self, cx: &mut Cx<'m>, l: usize, x: Act, rows: Option<&Rows>) -> engine::Result<Act> {
        let (w, m, p) = (self.layers[l], &self.weights, self.settings.residual_dropout);
        let mut x = cx.stream(Site::layer(l), x)?;
        let n = cx.norm(Site::attn(l, Point::Norm), &x, m.norm(w.ln_1))?;
        let a = self.attention(cx, l, n, rows)?;
        if let Some(rows) = rows {
            x = cx.take_rows(&x, rows)?;
        }
        let a = cx.drop_later(a, p, Site::attn(l, Point::O), 0);
        x = cx.close(Site::after_attn(l), a, &x, None)?; //                  x = x + Attn(LN(x))
        let n = cx.norm(Site::ffn(l, Point::Norm), &x, m.norm(w.ln_2))?;
        let mut f = cx.linear(Site::ffn(l, Point::Up), &n, m.linear(w.up))?;
        drop(n);
        f = cx.activate_for(&f, self.settings.act, &m.linear(w.down))?; //   (T, F)
        f = cx.linear(Site::ffn(l, Point::Down), &f, m.linear(w.down))?;
        let f = cx.drop_later(f, p, Site::ffn(l, Point::Down), 0);
        x = cx.close(Site::after_ffn(l), f, &x, None)?; //                   x = x + FFN(LN(x))
        cx.stream(Site::behind(l), x)
    }
    /// These rows attend to those of their sequences in front of them.
    fn attention<'m>(
        &'m self,
        cx: &mut Cx<'m>,
        l: usize,
        n: Act,
        rows: Option<&Rows>,
    ) -> engine::Result<Act> {
        let (w, m, s) = (self.layers[l], &self.weights, self.settings);
        let divisor = if s.divides_by_layer { (l + 1) as f32 } else { 1.0 };
        let heads = Heads {
            count: s.heads,
            scale: Some(s.scale / divisor),
            mask: Mask::Causal,
            dropout: s.attention_dropout,
            ..Heads::default()
        };
        let qkv = cx.linear(Site::attn(l, Point::Qkv), &n, m.linear(w.qkv))?; // (T, 3C)
        let prefix = cx.prefix(Site::attn(l, Point::Prefix), &n)?;
        drop(n);
        let q = match rows {
            Some(rows) => cx.take_rows(&qkv, rows)?,
            None => qkv.clone(),
        };
        let mut x = Qkv::fused(&qkv, &heads)?;
        x.q = q.cols_of(0..self.info.channels)?;
        let first = pre_norm::first_of(rows, qkv.seqs());
        (x.first, x.prefix) = (Some(&*first), prefix.as_ref());
        let a = cx.attend(Site::attn(l, Point::Probs), x, heads)?;
        drop((q, qkv));
        cx.linear(Site::attn(l, Point::O), &a, m.linear(w.o))
    }
}

impl<P: Weight> Model for Gpt2<P> {
    fn info(&self) -> &ModelInfo {
        &self.info
    }
    fn set_dropout(&mut self, p: f32) {
        let s = &mut self.settings;
        (s.embedding_dropout, s.attention_dropout, s.residual_dropout) = (p, p, p);
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
        let m = &self.weights;
        let words = cx.embed(&[(m.get(self.word), &*t.ids)], t.seqs())?;
        let x = cx.stream(Site::WORDS, words)?;
        let (_, positions) = t.beside(cx, &x, &self.info)?;
        let x = cx.embed_onto(x, &[(m.get(self.position), &*positions)])?;
        let x = cx.dropout(x, self.settings.embedding_dropout, Site::EMBED, 0)?;
        Ok(cx.stream(Site::EMBED, x)?)
    }
    fn run<'m>(&'m self, cx: &mut Cx<'m>, layers: Range<usize>, x: Act, rows: &Rows) -> Result<Act> {
        let (of, norm) = (self.layers.len(), self.weights.norm(self.ln_f));
        let layer = move |cx: &mut Cx<'m>, l, x, rows: Option<&Rows>| self.layer(cx, l, x, rows);
        Ok(pre_norm::run(cx, (layers, of), x, (rows, Mask::Causal), norm, layer)?)
    }
    fn to_vocabulary<'m>(&'m self, cx: &mut Cx<'m>, x: &Act) -> Result<Option<(Act, LinearRef<'m>)>> {
        let Some(w) = self.vocabulary.get(&self.weights) else { return Ok(None) };
        Ok(Some((cx.stream(Site::head(), x.clone())?, w)))
    }
}
impl<P: Weight> Parameters for Gpt2<P> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.weights.visit(f);
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.weights.visit_mut(f);
    }
}
