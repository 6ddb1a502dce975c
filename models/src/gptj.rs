//! GPT-J (Wang & Komatsuzaki 2021): attention and feed-forward network read the same norm and are
//! added to the residual stream together; rotary positions on the first channels of a head, in
//! neighbouring pairs; names as in Hugging Face `GPTJForCausalLM`.
//!
//! Dimensions in the comments: T tokens of all sequences, C channels, F channels of the
//! feed-forward network.
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
    name: "gptj",
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

/// GPT-J over frozen or trained weights.
#[derive(Debug)]
pub struct GptJ<P: Weight> {
    weights: Weights<P>,
    word: Id,
    layers: Vec<Layer>,
    ln_f: NormId,
    vocabulary: Vocabulary,
    info: ModelInfo,
    rope: Rope,
    act: Activation,
    heads: Heads,
    embedding_dropout: f32,
    residual_dropout: f32,
}
#[derive(Clone, Copy, Debug)]
struct Layer {
    ln: NormId,
    q: LinearId,
    k: LinearId,
    v: LinearId,
    o: LinearId,
    up: LinearId,
    down: LinearId,
}

fn build<P: Weight>(config: &Config, load: &mut Load<'_>) -> Result<Box<dyn Model>> {
    Ok(Box::new(GptJ::<P>::load(config, load)?))
}

impl<P: Weight> GptJ<P> {
    /// Loads the weights that a configuration describes.
    pub fn load(config: &Config, load: &mut Load<'_>) -> Result<GptJ<P>> {
        let (c, heads) = (config.count_or("n_embd", 4096)?, config.count_or("n_head", 16)?);
        config.whole_heads(("n_embd", c), ("n_head", heads))?;
        let (d, turned) = (c / heads, config.count_or("rotary_dim", 64)?);
        if turned > d.min(WIDEST) || !turned.is_multiple_of(2) {
            let what = format!("`rotary_dim` is {turned}, expected an even number of a head's {d} channels");
            return Err(config.error(what));
        }
        let positions = config.count_or("n_positions", 2048)?;
        let scaling = Scaling::plain(10000.0, turned, positions);
        let rope = Rope { scaling, pairs: Pairs::Neighbours, head_dim: d };
        let act = config.activation("activation_function", "gelu_new")?;
        let attention_dropout = config.probability("attn_pdrop", 0.0)?;
        let embedding_dropout = config.probability("embd_pdrop", 0.0)?;
        let residual_dropout = config.probability("resid_pdrop", 0.0)?;
        let (mask, dropout) = (Mask::Causal, attention_dropout);
        let heads = Heads { count: heads, mask, dropout, ..Heads::default() };
        let mut info = ModelInfo {
            family: FAMILY.name,
            kind: Kind::Decoder,
            channels: c,
            embedding: c,
            layers: config.layers("n_layer", 28)?,
            vocabulary: config.count_or("vocab_size", 50400)?,
            positions: Some(positions),
            segments: 1,
            class: "GPTJAdapterModel",
            dropout: embedding_dropout.max(attention_dropout).max(residual_dropout),
            attention_dropout,
            // the library looks for `classifier_dropout` and `hidden_dropout_prob`, which GPT-J
            // does not have
            head_dropout: config.probability_or_null("classifier_dropout", 0.0)?,
            summary: Rows::Last,
            has_pooler: false,
            has_lm_head: false,
            is_tied: config.flag("tie_word_embeddings", false)?,
            head_eps: 1e-12,
        };
        let f = config.count_or_null("n_inner", 4 * c)?;
        let eps = config.epsilon("layer_norm_epsilon", 1e-5)?;
        config.finish()?; // what is refused is refused before a weight is read

        let mut at = Layout::<P>::new(load);
        let (ln, stream) = (NormKind::Layer, SiteKind::Stream { channels: c });
        let table = ("transformer.wte.weight", info.is_tied);
        let word = pre_norm::embeddings(&mut at, table, (info.vocabulary, c))?;
        at.site(Site::WORDS, stream, "transformer");
        at.site(Site::EMBED, stream, "transformer");
        let layer = |at: &mut Layout<'_, '_, P>, l: usize| -> Result<Layer> {
            let p = |module: &str| format!("transformer.h.{l}.{module}");
            let linear = |at: &mut Layout<'_, '_, P>, site, module: &str, dims, bias: bool| {
                at.linear(site, &p(module), dims, LinearForm { no_bias: !bias, ..LinearForm::default() }, 1)
            };
            // the mask and what masks with it, which older files hold
            at.ignore(&p("attn.bias"));
            at.ignore(&p("attn.masked_bias"));
            at.site(Site::layer(l), stream, &format!("transformer.h.{l}"));
            let norm = at.norm(Some(Site::attn(l, Point::Norm)), &p("ln_1"), c, eps, ln)?;
            let q = linear(at, Site::attn(l, Point::Q), "attn.q_proj", (c, c), false)?;
            let k = linear(at, Site::attn(l, Point::K), "attn.k_proj", (c, c), false)?;
            let v = linear(at, Site::attn(l, Point::V), "attn.v_proj", (c, c), false)?;
            at.site(Site::attn(l, Point::Prefix), SiteKind::Prefix { channels: c }, &p("attn"));
            let o = linear(at, Site::attn(l, Point::O), "attn.out_proj", (c, c), false)?;
            at.close(Site::after_attn(l), c, &p("attention_adapters"), None);
            let up = linear(at, Site::ffn(l, Point::Up), "mlp.fc_in", (c, f), true)?;
            let down = linear(at, Site::ffn(l, Point::Down), "mlp.fc_out", (f, c), true)?;
            at.close(Site::after_ffn(l), c, &p("output_adapters"), None);
            at.site(Site::behind(l), stream, &p("reft_layer"));
            Ok(Layer { ln: norm, q, k, v, o, up, down })
        };
        let layers = (0..info.layers).map(|l| layer(&mut at, l)).collect::<Result<_>>()?;
        let ln_f = at.norm(Some(Site::LAST_NORM), "transformer.ln_f", c, eps, ln)?;
        let vocabulary = Vocabulary::load(&mut at, (word, info.is_tied), (c, info.vocabulary), true)?;
        info.has_lm_head = !vocabulary.is_missing();
        if info.has_lm_head {
            at.site(Site::head(), stream, "transformer");
        }
        let weights = at.finish();
        Ok(GptJ {
            weights,
            word,
            layers,
            ln_f,
            vocabulary,
            info,
            rope,
            act,
            heads,
            embedding_dropout,
            residual_dropout,
        })
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
        let (w, m, p) = (self.layers[l], &self.weights, self.residual_dropout);
        let mut x = cx.stream(Site::layer(l), x)?;
        let n = cx.norm(Site::attn(l, Point::Norm), &x, m.norm(w.ln))?;
        let mut queries = n.clone();
        if let Some(rows) = rows {
            (x, queries) = (cx.take_rows(&x, rows)?, cx.take_rows(&n, rows)?);
        }
        let a = self.attention(cx, l, (&queries, n), rows, turns)?;
        let mut f = cx.linear(Site::ffn(l, Point::Up), &queries, m.linear(w.up))?;
        drop(queries);
        f = cx.activate_for(&f, self.act, &m.linear(w.down))?; //            (T, F)
        f = cx.linear(Site::ffn(l, Point::Down), &f, m.linear(w.down))?;
        let a = cx.drop_later(a, p, Site::attn(l, Point::O), 0);
        let f = cx.drop_later(f, p, Site::ffn(l, Point::Down), 0);
        x = cx.close(Site::after_attn(l), a, &x, None)?;
        x = cx.close(Site::after_ffn(l), f, &x, None)?; // x = x + Attn(n) + FFN(n), n = LN(x)
        cx.stream(Site::behind(l), x)
    }
    /// The queries, which are these rows of n, attend to the rows of their sequences in front of
    /// them.
    fn attention<'m>(
        &'m self,
        cx: &mut Cx<'m>,
        l: usize,
        (queries, n): (&Act, Act),
        rows: Option<&Rows>,
        turns: &Arc<Turns>,
    ) -> engine::Result<Act> {
        let (w, m) = (self.layers[l], &self.weights);
        let turns = self.rope.of(cx, turns, &n)?;
        let mut q = cx.linear(Site::attn(l, Point::Q), queries, m.linear(w.q))?;
        let mut k = cx.linear(Site::attn(l, Point::K), &n, m.linear(w.k))?;
        let v = cx.linear(Site::attn(l, Point::V), &n, m.linear(w.v))?;
        let prefix = cx.prefix(Site::attn(l, Point::Prefix), &n)?;
        drop(n);
        let first = pre_norm::first_of(rows, k.seqs());
        q = self.rope.turn(cx, q, &turns, &first)?;
        k = self.rope.turn(cx, k, &turns, &vec![0; first.len()])?;
        let x = Qkv { first: Some(&*first), prefix: prefix.as_ref(), ..Qkv::of(&q, &k, &v) };
        let a = cx.attend(Site::attn(l, Point::Probs), x, self.heads)?;
        drop((q, k, v));
        cx.linear(Site::attn(l, Point::O), &a, m.linear(w.o))
    }
}

impl<P: Weight> Model for GptJ<P> {
    fn info(&self) -> &ModelInfo {
        &self.info
    }
    fn set_dropout(&mut self, p: f32) {
        (self.embedding_dropout, self.residual_dropout, self.heads.dropout) = (p, p, p);
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
        t.beside(cx, &x, &self.info)?; // refuses what is too long
        let x = cx.dropout(x, self.embedding_dropout, Site::EMBED, 0)?;
        Ok(cx.stream(Site::EMBED, x)?)
    }
    fn run<'m>(&'m self, cx: &mut Cx<'m>, layers: Range<usize>, x: Act, rows: &Rows) -> Result<Act> {
        let (of, norm, turns) = (self.layers.len(), self.weights.norm(self.ln_f), self.rope.start(cx, &x)?);
        let layer = move |cx: &mut Cx<'m>, l, x, rows: Option<&Rows>| self.layer(cx, l, x, rows, &turns);
        Ok(pre_norm::run(cx, (layers, of), x, (rows, Mask::Causal), norm, layer)?)
    }
    fn to_vocabulary<'m>(&'m self, cx: &mut Cx<'m>, x: &Act) -> Result<Option<(Act, LinearRef<'m>)>> {
        let Some(w) = self.vocabulary.get(&self.weights) else { return Ok(None) };
        Ok(Some((cx.stream(Site::head(), x.clone())?, w)))
    }
}
impl<P: Weight> Parameters for GptJ<P> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.weights.visit(f);
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.weights.visit_mut(f);
    }
}
