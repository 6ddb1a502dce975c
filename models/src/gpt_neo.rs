//! GPT-Neo (Black et al. 2021): pre-norm, every query sees all tokens in front of it or a window of
//! them, by layer, and scores are not divided by √d; names as in Hugging Face `GPTNeoForCausalLM`.
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
    name: "gpt_neo",
    prefix: "transformer.",
    aliases: &[("num_heads", "num_attention_heads"), ("num_layers", "num_hidden_layers")],
    frozen: build::<Frozen>,
    trained: build::<Param>,
};

/// GPT-Neo over frozen or trained weights.
#[derive(Debug)]
pub struct GptNeo<P: Weight> {
    weights: Weights<P>,
    word: Id,
    position: Id,
    layers: Vec<Layer>,
    ln_f: NormId,
    vocabulary: Vocabulary,
    info: ModelInfo,
    act: Activation,
    heads: Heads,
    embedding_dropout: f32,
    residual_dropout: f32,
}
#[derive(Clone, Copy, Debug)]
struct Layer {
    ln_1: NormId,
    q: LinearId,
    k: LinearId,
    v: LinearId,
    o: LinearId,
    ln_2: NormId,
    up: LinearId,
    down: LinearId,
    mask: Mask,
}

fn build<P: Weight>(config: &Config, load: &mut Load<'_>) -> Result<Box<dyn Model>> {
    Ok(Box::new(GptNeo::<P>::load(config, load)?))
}

/// What the queries of every layer see: `attention_types` are pairs of kinds of layers and how
/// often they follow each other.
fn masks(config: &Config, layers: usize) -> Result<Vec<Mask>> {
    let window = config.count_or("window_size", 256)?;
    let wrong = |what: &str| config.error(format!("`attention_types`: {what}"));
    let mut names: Vec<String> = vec![];
    match config.value("attention_types") {
        None => names.extend(["global", "local"].into_iter().cycle().take(24).map(String::from)),
        Some(v) => {
            let all: Vec<(Vec<String>, usize)> = serde_json::from_value(v.clone())
                .map_err(|_| wrong("expected pairs of a list of names and a number"))?;
            for (kinds, times) in all {
                if times.saturating_mul(kinds.len()) > layers {
                    return Err(wrong(&format!("they are more than `num_layers`, {layers}")));
                }
                names.extend((0..times).flat_map(|_| kinds.clone()));
            }
        }
    }
    if names.len() != layers {
        let n = names.len();
        return Err(wrong(&format!("they are {n} layers, and `num_layers` is {layers}")));
    }
    // what they come to, which the library writes beside them
    if config.texts("attention_layers")?.is_some_and(|all| all != names) {
        return Err(config.error("`attention_layers` are others than `attention_types` say"));
    }
    let one = |name: &String| match &**name {
        "global" => Ok(Mask::Causal),
        "local" => Ok(Mask::Window { before: window - 1, after: 0 }),
        other => Err(wrong(&format!("`{other}` is neither `global` nor `local`"))),
    };
    names.iter().map(one).collect()
}

impl<P: Weight> GptNeo<P> {
    /// Loads the weights that a configuration describes.
    pub fn load(config: &Config, load: &mut Load<'_>) -> Result<GptNeo<P>> {
        let (c, heads) = (config.count_or("hidden_size", 2048)?, config.count_or("num_heads", 16)?);
        config.whole_heads(("hidden_size", c), ("num_heads", heads))?;
        let act = config.activation("activation_function", "gelu_new")?;
        let masks = masks(config, config.layers("num_layers", 24)?)?;
        let attention_dropout = config.probability("attention_dropout", 0.0)?;
        let embedding_dropout = config.probability("embed_dropout", 0.0)?;
        let residual_dropout = config.probability("resid_dropout", 0.0)?;
        let heads = Heads { count: heads, scale: Some(1.0), dropout: attention_dropout, ..Heads::default() };
        let mut info = ModelInfo {
            family: FAMILY.name,
            kind: Kind::Decoder,
            channels: c,
            embedding: c,
            layers: masks.len(),
            vocabulary: config.count_or("vocab_size", 50257)?,
            positions: Some(config.count_or("max_position_embeddings", 2048)?),
            segments: 1,
            class: "GPTNeoAdapterModel", // after the pattern: AdapterHub has none
            dropout: embedding_dropout.max(attention_dropout).max(residual_dropout),
            attention_dropout,
            head_dropout: config.probability_or_null("classifier_dropout", 0.1)?,
            summary: Rows::Last,
            has_pooler: false,
            has_lm_head: false,
            is_tied: config.flag("tie_word_embeddings", true)?,
            head_eps: 1e-12,
        };
        let f = config.count_or_null("intermediate_size", 4 * c)?;
        let eps = config.epsilon("layer_norm_epsilon", 1e-5)?;
        config.finish()?; // what is refused is refused before a weight is read

        let mut at = Layout::<P>::new(load);
        let (ln, stream) = (NormKind::Layer, SiteKind::Stream { channels: c });
        let table = ("transformer.wte.weight", info.is_tied);
        let word = pre_norm::embeddings(&mut at, table, (info.vocabulary, c))?;
        let position = at.table("transformer.wpe.weight", info.positions.unwrap_or_default(), c)?;
        at.site(Site::WORDS, stream, "transformer");
        at.site(Site::EMBED, stream, "transformer");
        let layer = |at: &mut Layout<'_, '_, P>, l: usize, mask: Mask| -> Result<Layer> {
            let p = |module: &str| format!("transformer.h.{l}.{module}");
            let linear = |at: &mut Layout<'_, '_, P>, site, module: &str, dims, bias: bool| {
                at.linear(site, &p(module), dims, LinearForm { no_bias: !bias, ..LinearForm::default() }, 1)
            };
            // the mask and what masks with it, which older files hold
            at.ignore(&p("attn.attention.bias"));
            at.ignore(&p("attn.attention.masked_bias"));
            at.site(Site::layer(l), stream, &format!("transformer.h.{l}"));
            let ln_1 = at.norm(Some(Site::attn(l, Point::Norm)), &p("ln_1"), c, eps, ln)?;
            let q = linear(at, Site::attn(l, Point::Q), "attn.attention.q_proj", (c, c), false)?;
            let k = linear(at, Site::attn(l, Point::K), "attn.attention.k_proj", (c, c), false)?;
            let v = linear(at, Site::attn(l, Point::V), "attn.attention.v_proj", (c, c), false)?;
            at.site(Site::attn(l, Point::Prefix), SiteKind::Prefix { channels: c }, &p("attn.attention"));
            let o = linear(at, Site::attn(l, Point::O), "attn.attention.out_proj", (c, c), true)?;
            at.close(Site::after_attn(l), c, &p("attention_adapters"), None);
            let ln_2 = at.norm(Some(Site::ffn(l, Point::Norm)), &p("ln_2"), c, eps, ln)?;
            let up = linear(at, Site::ffn(l, Point::Up), "mlp.c_fc", (c, f), true)?;
            let down = linear(at, Site::ffn(l, Point::Down), "mlp.c_proj", (f, c), true)?;
            at.close(Site::after_ffn(l), c, &p("output_adapters"), None);
            at.site(Site::behind(l), stream, &p("reft_layer"));
            Ok(Layer { ln_1, q, k, v, o, ln_2, up, down, mask })
        };
        let layers = masks.iter().enumerate().map(|(l, mask)| layer(&mut at, l, *mask));
        let layers = layers.collect::<Result<_>>()?;
        let ln_f = at.norm(Some(Site::LAST_NORM), "transformer.ln_f", c, eps, ln)?;
        let vocabulary = Vocabulary::load(&mut at, (word, info.is_tied), (c, info.vocabulary), false)?;
        info.has_lm_head = !vocabulary.is_missing();
        if info.has_lm_head {
            at.site(Site::head(), stream, "transformer");
        }
        let weights = at.finish();
        Ok(GptNeo {
            weights,
            word,
            position,
            layers,
            ln_f,
            vocabulary,
            info,
            act,
            heads,
            embedding_dropout,
            residual_dropout,
        })
    }
    // a name that is assigned again lets go of what it held; one that is declared again would hold
    // it to the end
    fn layer<'m>(&'m self, cx: &mut Cx<'m>, l: usize, x: Act, rows: Option<&Rows>) -> engine::Result<Act> {
        let (w, m, p) = (self.layers[l], &self.weights, self.residual_dropout);
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
        f = cx.activate_for(&f, self.act, &m.linear(w.down))?; //            (T, F)
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
        let (w, m) = (self.layers[l], &self.weights);
        let queries = match rows {
            Some(rows) => cx.take_rows(&n, rows)?,
            None => n.clone(),
        };
        let q = cx.linear(Site::attn(l, Point::Q), &queries, m.linear(w.q))?;
        let k = cx.linear(Site::attn(l, Point::K), &n, m.linear(w.k))?;
        let v = cx.linear(Site::attn(l, Point::V), &n, m.linear(w.v))?;
        let prefix = cx.prefix(Site::attn(l, Point::Prefix), &n)?;
        drop((n, queries));
        let first = pre_norm::first_of(rows, k.seqs());
        let x = Qkv { first: Some(&*first), prefix: prefix.as_ref(), ..Qkv::of(&q, &k, &v) };
        let a = cx.attend(Site::attn(l, Point::Probs), x, Heads { mask: w.mask, ..self.heads })?;
        drop((q, k, v));
        cx.linear(Site::attn(l, Point::O), &a, m.linear(w.o))
    }
}

impl<P: Weight> Model for GptNeo<P> {
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
        let (_, positions) = t.beside(cx, &x, &self.info)?;
        let x = cx.embed_onto(x, &[(m.get(self.position), &*positions)])?;
        let x = cx.dropout(x, self.embedding_dropout, Site::EMBED, 0)?;
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
impl<P: Weight> Parameters for GptNeo<P> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.weights.visit(f);
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.weights.visit_mut(f);
    }
}
