//! ModernBERT (Warner et al. 2024, arXiv:2412.13663): a pre-norm encoder with rotary positions,
//! gated feed-forward networks and windows of attention. Names as in Hugging Face `ModernBertModel`
//! and `ModernBertForMaskedLM`.
//!
//! Every `global_attn_every_n_layers`-th layer, from the first on, sees whole sequences; the others
//! see `local_attention / 2` tokens on each side, and turn heads by angles of their own. AdapterHub
//! has no class for it: adapters are called as its interface for models of others calls them.
//!
//! Dimensions in the comments: T tokens of all sequences, C channels, F channels of the
//! feed-forward network.
use crate::{
    Config, Family, Kind, Model, ModelInfo, Result, Rows, Tokens,
    masked_lm::{MaskedLm, MaskedLmHead, Transform},
    pre_norm,
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
    name: "modernbert",
    prefix: "model.",
    aliases: &[("global_rope_theta", "rope_theta")],
    frozen: build::<Frozen>,
    trained: build::<Param>,
};

/// ModernBERT over frozen or trained weights.
#[derive(Debug)]
pub struct ModernBert<P: Weight> {
    weights: Weights<P>,
    word: Id,
    ln: NormId,
    layers: Vec<Layer>,
    last_ln: NormId,
    head: Option<Transform>,
    masked_lm: Option<MaskedLm>,
    info: ModelInfo,
    settings: Settings,
    /// Of global and local layers.
    ropes: [Rope; 2],
}
#[derive(Clone, Copy, Debug)]
struct Layer {
    /// None in the first layer.
    ln_1: Option<NormId>,
    qkv: LinearId,
    o: LinearId,
    ln_2: NormId,
    up: LinearId,
    down: LinearId,
}
#[derive(Clone, Copy, Debug)]
struct Settings {
    act: Activation,
    /// F.
    inner: usize,
    heads: usize,
    /// Every how many layers one sees whole sequences.
    global_every: usize,
    /// Tokens that the others see on each side.
    reach: usize,
    embedding_dropout: f32,
    attention_dropout: f32,
    ffn_dropout: f32,
}
impl Settings {
    /// 0: a layer that sees whole sequences; 1: a local one.
    fn kind(&self, layer: usize) -> usize {
        usize::from(!layer.is_multiple_of(self.global_every))
    }
    fn mask(&self, layer: usize) -> Mask {
        [Mask::None, Mask::Window { before: self.reach, after: self.reach }][self.kind(layer)]
    }
}

fn build<P: Weight>(config: &Config, load: &mut Load<'_>) -> Result<Box<dyn Model>> {
    Ok(Box::new(ModernBert::<P>::load(config, load)?))
}

impl<P: Weight> ModernBert<P> {
    /// Loads the weights that a configuration describes.
    pub fn load(config: &Config, load: &mut Load<'_>) -> Result<ModernBert<P>> {
        let (c, heads) = (config.count_or("hidden_size", 768)?, config.count_or("num_attention_heads", 12)?);
        if !c.is_multiple_of(2 * heads) {
            let what = format!("`hidden_size` {c} is no even number of channels for each of {heads} heads");
            return Err(config.error(what));
        }
        let head_dim = c / heads;
        if head_dim > WIDEST {
            return Err(config.error(format!("a head has {head_dim} channels: more than can be turned")));
        }
        let global = Scaling::base(config, "global_rope_theta", 160_000.0)?;
        let local = match config.is_null("local_rope_theta") {
            true => global,
            false => Scaling::base(config, "local_rope_theta", 10_000.0)?,
        };
        let positions = config.count_or("max_position_embeddings", 8192)?;
        let rope = |base| -> Result<Rope> {
            let scaling = Scaling::of(config, base, head_dim, positions)?;
            Ok(Rope { scaling, pairs: Pairs::Halves, head_dim })
        };
        let ropes = [rope(global)?, rope(local)?];
        let settings = Settings {
            act: config.activation("hidden_activation", "gelu")?,
            inner: config.count_or("intermediate_size", 1152)?,
            heads,
            global_every: config.count_or("global_attn_every_n_layers", 3)?,
            reach: config.count_or("local_attention", 128)? / 2,
            embedding_dropout: config.probability("embedding_dropout", 0.0)?,
            attention_dropout: config.probability("attention_dropout", 0.0)?,
            ffn_dropout: config.probability("mlp_dropout", 0.0)?,
        };
        let mut info = ModelInfo {
            family: FAMILY.name,
            kind: Kind::Encoder,
            channels: c,
            embedding: c,
            layers: config.layers("num_hidden_layers", 22)?,
            vocabulary: config.count_or("vocab_size", 50368)?,
            positions: Some(ropes[0].scaling.positions),
            segments: 1,
            class: "ModernBertModel",
            dropout: settings.embedding_dropout.max(settings.attention_dropout).max(settings.ffn_dropout),
            attention_dropout: settings.attention_dropout,
            head_dropout: config.probability("classifier_dropout", 0.0)?,
            summary: Rows::First,
            has_pooler: false,
            has_lm_head: false,
            is_tied: config.flag("tie_word_embeddings", true)?,
            head_eps: config.epsilon("norm_eps", 1e-5)?,
        };
        let (eps, f, norm_bias) = (info.head_eps, settings.inner, config.flag("norm_bias", false)?);
        let form = |field: &str| -> Result<LinearForm> {
            Ok(LinearForm { no_bias: !config.flag(field, false)?, ..LinearForm::default() })
        };
        let (attention, mlp) = (form("attention_bias")?, form("mlp_bias")?);
        let head = MaskedLmHead {
            dense: "head.dense",
            dense_bias: config.flag("classifier_bias", false)?,
            act: config.activation("classifier_activation", "gelu")?,
            norm: "head.norm",
            norm_bias,
            decoder: "decoder",
            last_bias: config.flag("decoder_bias", true)?.then_some("decoder.bias"),
            beside_decoder: false,
        };
        let pooling = config.text("classifier_pooling", "cls")?;
        if !["cls", "mean"].contains(&&*pooling) {
            return Err(
                config.error(format!("`classifier_pooling` is `{pooling}`, expected `cls` or `mean`"))
            );
        }
        config.only("partial_rotary_factor", "1.0")?;
        config.only("head_dim", "null")?;
        config.finish()?; // what is refused is refused before a weight is read

        let mut at = Layout::<P>::new(load);
        let norm = |at: &mut Layout<'_, '_, P>, site, path: &str| match norm_bias {
            true => at.norm(site, path, c, eps, NormKind::Layer),
            false => at.norm_without_bias(site, path, c, eps),
        };
        let is_masked_lm = config.is_of(&["ModernBertForMaskedLM"]);
        let copies = if is_masked_lm { head.copies(info.is_tied) } else { vec![] };
        let copies: Vec<&str> = copies.iter().map(String::as_str).collect();
        let table = "model.embeddings.tok_embeddings.weight";
        let word = at.tied_table(table, &copies, info.vocabulary, c)?;
        let stream = SiteKind::Stream { channels: c };
        at.site(Site::WORDS, stream, "model");
        let ln = norm(&mut at, Some(Site::EMBED_NORM), "model.embeddings.norm")?;
        at.site(Site::EMBED, stream, "model");
        let layer = |at: &mut Layout<'_, '_, P>, l: usize| -> Result<Layer> {
            let p = |module: &str| format!("model.layers.{l}.{module}");
            at.site(Site::layer(l), stream, &format!("model.layers.{l}"));
            let ln_1 = match l {
                0 => None,
                _ => Some(norm(at, Some(Site::attn(l, Point::Norm)), &p("attn_norm"))?),
            };
            let qkv = at.linear(Site::attn(l, Point::Qkv), &p("attn.Wqkv"), (c, 3 * c), attention, 3)?;
            at.site(Site::attn(l, Point::Prefix), SiteKind::Prefix { channels: c }, &p("attn"));
            let o = at.linear(Site::attn(l, Point::O), &p("attn.Wo"), (c, c), attention, 1)?;
            at.close(Site::after_attn(l), c, &p("attention_adapters"), None);
            let ln_2 = norm(at, Some(Site::ffn(l, Point::Norm)), &p("mlp_norm"))?;
            let up = at.linear(Site::ffn(l, Point::Up), &p("mlp.Wi"), (c, 2 * f), mlp, 1)?;
            let down = at.linear(Site::ffn(l, Point::Down), &p("mlp.Wo"), (f, c), mlp, 1)?;
            at.close(Site::after_ffn(l), c, &p("output_adapters"), None);
            at.site(Site::behind(l), stream, &p("reft_layer"));
            Ok(Layer { ln_1, qkv, o, ln_2, up, down })
        };
        let layers = (0..info.layers).map(|l| layer(&mut at, l)).collect::<Result<_>>()?;
        let last_ln = norm(&mut at, Some(Site::LAST_NORM), "model.final_norm")?;
        // a classifier of transformers has the same layers in front of its last one
        let masked_lm = match is_masked_lm {
            true => MaskedLm::load(&head, &mut at, &info, (c, c), word)?,
            false => None,
        };
        let head = match &masked_lm {
            Some(m) => Some(m.transform),
            None => Transform::load(&head, &mut at, &info, (c, c))?,
        };
        (info.has_lm_head, info.has_pooler) = (masked_lm.is_some(), head.is_some() && pooling == "cls");
        at.site(Site::head(), stream, "model");
        let weights = at.finish();
        Ok(ModernBert { weights, word, ln, layers, last_ln, head, masked_lm, info, settings, ropes })
    }
    // a name that is assigned again lets go of what it held; one that is declared again would hold
    // it to the end
    fn layer<'m>(
        &'m self,
        cx: &mut Cx<'m>,
        l: usize,
        x: Act,
        turns: Arc<Turns>,
        rows: Option<&Rows>,
    ) -> engine::Result<Act> {
        let (w, m, s) = (self.layers[l], &self.weights, self.settings);
        let mut x = cx.stream(Site::layer(l), x)?;
        let n = match w.ln_1 {
            Some(ln) => cx.norm(Site::attn(l, Point::Norm), &x, m.norm(ln))?,
            None => x.clone(),
        };
        let a = self.attention(cx, l, n, turns, rows)?;
        if let Some(rows) = rows {
            x = cx.take_rows(&x, rows)?;
        }
        let a = cx.drop_later(a, s.attention_dropout, Site::attn(l, Point::O), 0);
        x = cx.close(Site::after_attn(l), a, &x, None)?; //                  x = x + Attn(LN(x))
        let n = cx.norm(Site::ffn(l, Point::Norm), &x, m.norm(w.ln_2))?;
        let f = cx.linear(Site::ffn(l, Point::Up), &n, m.linear(w.up))?; //  (T, 2F)
        drop(n);
        let (a, gate) = (cx.take_columns(&f, 0..s.inner)?, cx.take_columns(&f, s.inner..2 * s.inner)?);
        drop(f);
        let f = cx.gated(&a, s.act, &gate)?; //                              (T, F)
        drop((a, gate));
        let f = cx.dropout(f, s.ffn_dropout, Site::ffn(l, Point::Up), 0)?;
        let f = cx.linear(Site::ffn(l, Point::Down), &f, m.linear(w.down))?;
        let f = cx.drop_later(f, 0.0, Site::ffn(l, Point::Down), 0);
        x = cx.close(Site::after_ffn(l), f, &x, None)?; //                   x = x + FFN(LN(x))
        cx.stream(Site::behind(l), x)
    }
    /// These rows attend to those of their sequences that the layer sees.
    fn attention<'m>(
        &'m self,
        cx: &mut Cx<'m>,
        l: usize,
        n: Act,
        turns: Arc<Turns>,
        rows: Option<&Rows>,
    ) -> engine::Result<Act> {
        let (w, m, s, c) = (self.layers[l], &self.weights, self.settings, self.info.channels);
        let (mask, dropout) = (s.mask(l), s.attention_dropout);
        let heads = Heads { count: s.heads, mask, dropout, ..Heads::default() };
        let qkv = cx.linear(Site::attn(l, Point::Qkv), &n, m.linear(w.qkv))?; // (T, 3C)
        let prefix = cx.prefix(Site::attn(l, Point::Prefix), &n)?;
        drop(n);
        let rope = &self.ropes[s.kind(l)];
        let (turns, all) = (rope.of(cx, &turns, &qkv)?, vec![0; qkv.seqs().len()]);
        let qkv = rope.turn_columns(cx, qkv, &turns, &all, 0..2 * c)?;
        let q = match rows {
            Some(rows) => cx.take_rows(&qkv, rows)?,
            None => qkv.clone(),
        };
        let mut x = Qkv::fused(&qkv, &heads)?;
        x.q = q.cols_of(0..c)?;
        let first = pre_norm::first_of(rows, qkv.seqs());
        (x.first, x.prefix) = (Some(&*first), prefix.as_ref());
        let a = cx.attend(Site::attn(l, Point::Probs), x, heads)?;
        drop((q, qkv));
        cx.linear(Site::attn(l, Point::O), &a, m.linear(w.o))
    }
}

impl<P: Weight> Model for ModernBert<P> {
    fn info(&self) -> &ModelInfo {
        &self.info
    }
    fn set_dropout(&mut self, p: f32) {
        let s = &mut self.settings;
        (s.embedding_dropout, s.attention_dropout, s.ffn_dropout) = (p, p, p);
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
        let x = cx.norm(Site::EMBED_NORM, &x, m.norm(self.ln))?;
        let x = cx.dropout(x, self.settings.embedding_dropout, Site::EMBED, 0)?;
        Ok(cx.stream(Site::EMBED, x)?)
    }
    fn run<'m>(&'m self, cx: &mut Cx<'m>, layers: Range<usize>, x: Act, rows: &Rows) -> Result<Act> {
        let (of, norm) = (self.layers.len(), self.weights.norm(self.last_ln));
        let turns = [self.ropes[0].start(cx, &x)?, self.ropes[1].start(cx, &x)?];
        let mask = self.settings.mask(of.saturating_sub(1));
        let layer = move |cx: &mut Cx<'m>, l, x, rows: Option<&Rows>| {
            self.layer(cx, l, x, turns[self.settings.kind(l)].clone(), rows)
        };
        Ok(pre_norm::run(cx, (layers, of), x, (rows, mask), norm, layer)?)
    }
    fn pool<'m>(&'m self, cx: &mut Cx<'m>, x: &Act) -> Result<Act> {
        cx.enter(Site::head());
        match &self.head {
            Some(head) if self.info.has_pooler => head.forward(cx, x, &self.weights),
            _ => Ok(x.clone()),
        }
    }
    fn to_vocabulary<'m>(&'m self, cx: &mut Cx<'m>, x: &Act) -> Result<Option<(Act, LinearRef<'m>)>> {
        let Some(head) = &self.masked_lm else { return Ok(None) };
        Ok(Some(head.forward(cx, x, &self.weights)?))
    }
    fn to_embeddings<'m>(&'m self, cx: &mut Cx<'m>, x: &Act) -> Result<Option<(Act, LinearRef<'m>)>> {
        MaskedLm::of_embeddings(cx, x, self.word, &self.weights).map(Some)
    }
}
impl<P: Weight> Parameters for ModernBert<P> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.weights.visit(f);
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.weights.visit_mut(f);
    }
}
