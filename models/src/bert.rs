//! BERT (Devlin et al. 2018), post-norm; names as in Hugging Face `BertModel`.
//!
//! Dimensions in the comments: T tokens of all sequences, C channels, F channels of the feed-forward network.
use crate::{Config, Model, Result, Rows, Tokens};
use engraft_engine::{
    self as engine, Act, Activation, Cx, Linear, Load, Norm, Param, Parameters, Point, Site, SiteInfo,
    SiteKind, Tensor, Weight, ops::Heads,
};
use std::ops::Range;

/// BERT over frozen or trained weights.
#[derive(Debug)]
pub struct Bert<P: Weight> {
    word: P,
    position: P,
    kind: P,
    ln: Norm<P>,
    layers: Vec<Layer<P>>,
    pooler: Option<Linear<P>>,
    how: Settings,
}
#[derive(Debug)]
struct Layer<P: Weight> {
    q: Linear<P>,
    k: Linear<P>,
    v: Linear<P>,
    o: Linear<P>,
    ln_1: Norm<P>,
    up: Linear<P>,
    down: Linear<P>,
    ln_2: Norm<P>,
}
#[derive(Debug)]
struct Settings {
    vocabulary: usize,
    positions: usize,
    segments: usize,
    channels: usize,
    inner: usize,
    act: Activation,
    heads: Heads,
    dropout: f32,
    head_dropout: f32,
}

pub(crate) fn build<P: Weight>(config: &Config, load: &mut Load<'_>) -> Result<Box<dyn Model>> {
    Ok(Box::new(Bert::<P>::load(config, load)?))
}

impl<P: Weight> Bert<P> {
    /// Loads the weights that a configuration describes.
    pub fn load(config: &Config, load: &mut Load<'_>) -> Result<Bert<P>> {
        let (layers, heads) = (config.count("num_hidden_layers")?, config.count("num_attention_heads")?);
        let name = config.text("hidden_act", "gelu")?;
        let act = Activation::from_name(&name)
            .ok_or_else(|| config.error(format!("`hidden_act` is `{name}`, which is not supported")))?;
        let dropout = config.probability("hidden_dropout_prob", 0.1)?;
        let how = Settings {
            vocabulary: config.count("vocab_size")?,
            positions: config.count("max_position_embeddings")?,
            segments: config.count("type_vocab_size")?,
            channels: config.count("hidden_size")?,
            inner: config.count("intermediate_size")?,
            act,
            heads: Heads { count: heads, dropout: config.probability("attention_probs_dropout_prob", 0.1)? },
            dropout,
            head_dropout: config.probability("classifier_dropout", f64::from(dropout))?,
        };
        let eps = config.epsilon("layer_norm_eps", 1e-12)?;
        let position = config.text("position_embedding_type", "absolute")?;
        if position != "absolute" {
            return Err(config
                .error(format!("`position_embedding_type` is `{position}`; only `absolute` is supported")));
        }
        if !how.channels.is_multiple_of(heads) {
            return Err(config.error(format!(
                "`hidden_size` {} is not a multiple of `num_attention_heads` {heads}",
                how.channels
            )));
        }
        config.finish()?;

        let (c, f) = (how.channels, how.inner);
        let b = if load.checkpoint().has("bert.embeddings.word_embeddings.weight") { "bert." } else { "" };
        let e = format!("{b}embeddings");
        let layer = |load: &mut Load<'_>, n: usize| -> Result<Layer<P>> {
            let p = format!("{b}encoder.layer.{n}");
            Ok(Layer {
                q: load.linear(&format!("{p}.attention.self.query"), c, c)?,
                k: load.linear(&format!("{p}.attention.self.key"), c, c)?,
                v: load.linear(&format!("{p}.attention.self.value"), c, c)?,
                o: load.linear(&format!("{p}.attention.output.dense"), c, c)?,
                ln_1: load.norm(&format!("{p}.attention.output.LayerNorm"), c, eps)?,
                up: load.linear(&format!("{p}.intermediate.dense"), c, f)?,
                down: load.linear(&format!("{p}.output.dense"), f, c)?,
                ln_2: load.norm(&format!("{p}.output.LayerNorm"), c, eps)?,
            })
        };
        let pooler = format!("{b}pooler.dense");
        Ok(Bert {
            word: load.get(&format!("{e}.word_embeddings.weight"), &[how.vocabulary, c])?,
            position: load.get(&format!("{e}.position_embeddings.weight"), &[how.positions, c])?,
            kind: load.get(&format!("{e}.token_type_embeddings.weight"), &[how.segments, c])?,
            ln: load.norm(&format!("{e}.LayerNorm"), c, eps)?,
            layers: (0..layers).map(|n| layer(load, n)).collect::<Result<_>>()?,
            pooler: match load.checkpoint().has(&format!("{pooler}.weight")) {
                true => Some(load.linear(&pooler, c, c)?),
                false => None,
            },
            how,
        })
    }
    // a name that is assigned again lets go of what it held; one that is declared again would hold it to the end
    fn layer<'m>(
        &'m self,
        cx: &mut Cx<'m>,
        l: usize,
        w: &'m Layer<P>,
        x: Act,
        rows: Rows,
    ) -> engine::Result<Act> {
        let keys = cx.stream(Site::layer(l), x)?;
        let mut x = rows.of(cx, &keys)?;
        let a = self.attention(cx, l, w, &x, keys)?;
        let a = cx.drop_later(a, self.how.dropout, Site::attn(l, Point::O), 0);
        x = cx.close(Site::after_attn(l), a, &x, Some(w.ln_1.get()))?; // x = LN(x + Attn(x))
        let mut f = cx.linear(Site::ffn(l, Point::Up), &x, w.up.get())?;
        f = cx.activate_for(&f, self.how.act, w.down.get())?; //          (T, F)
        f = cx.linear(Site::ffn(l, Point::Down), &f, w.down.get())?;
        let f = cx.drop_later(f, self.how.dropout, Site::ffn(l, Point::Down), 0);
        cx.close(Site::after_ffn(l), f, &x, Some(w.ln_2.get())) //        x = LN(x + FFN(x))
    }
    /// The rows of x attend to those of their sequences in `keys`.
    fn attention<'m>(
        &'m self,
        cx: &mut Cx<'m>,
        l: usize,
        w: &'m Layer<P>,
        x: &Act,
        keys: Act,
    ) -> engine::Result<Act> {
        let q = cx.linear(Site::attn(l, Point::Q), x, w.q.get())?;
        let k = cx.linear(Site::attn(l, Point::K), &keys, w.k.get())?;
        let v = cx.linear(Site::attn(l, Point::V), &keys, w.v.get())?;
        drop(keys);
        let a = cx.attend(Site::attn(l, Point::Probs), &q, &k, &v, self.how.heads)?;
        cx.linear(Site::attn(l, Point::O), &a, w.o.get())
    }
}

impl<P: Weight> Model for Bert<P> {
    fn model_type(&self) -> &'static str {
        "bert"
    }
    fn channels(&self) -> usize {
        self.how.channels
    }
    fn layers(&self) -> usize {
        self.layers.len()
    }
    fn vocabulary(&self) -> usize {
        self.how.vocabulary
    }
    fn positions(&self) -> usize {
        self.how.positions
    }
    fn head_dropout(&self) -> f32 {
        self.how.head_dropout
    }
    fn checkpoint_class(&self) -> &'static str {
        "BertAdapterModel"
    }
    fn set_dropout(&mut self, p: f32) {
        self.how.dropout = p;
        self.how.heads.dropout = p;
        self.how.head_dropout = p;
    }
    fn has_pooler(&self) -> bool {
        self.pooler.is_some()
    }
    fn dropout(&self) -> f32 {
        self.how.dropout.max(self.how.heads.dropout)
    }
    fn embed<'m>(&'m self, cx: &mut Cx<'m>, t: &Tokens) -> Result<Act> {
        t.check(self.how.vocabulary, self.how.positions, self.how.segments)?;
        let tables = [
            (self.word.get(), &*t.ids),
            (self.kind.get(), &*t.types),
            (self.position.get(), &*t.positions()),
        ];
        let x = cx.embed(&tables, t.seqs())?;
        let x = cx.norm(&x, self.ln.get())?;
        let x = cx.dropout(x, self.how.dropout, Site::EMBED, 0)?;
        Ok(cx.stream(Site::EMBED, x)?)
    }
    fn run<'m>(&'m self, cx: &mut Cx<'m>, layers: Range<usize>, mut x: Act, rows: Rows) -> Result<Act> {
        for (l, w) in self.layers.iter().enumerate().take(layers.end).skip(layers.start) {
            let rows = if l + 1 == self.layers.len() { rows } else { Rows::All };
            x = cx.layer(l, x, move |cx, x| self.layer(cx, l, w, x, rows))?;
        }
        Ok(x)
    }
    fn pool<'m>(&'m self, cx: &mut Cx<'m>, hidden: &Act, pooler: bool) -> Result<Act> {
        cx.enter(Site::head());
        let first = cx.first_tokens(hidden)?;
        match &self.pooler {
            Some(w) if pooler => {
                let y = cx.matmul(&first, w.get())?;
                Ok(cx.activate(&y, Activation::Tanh)?)
            }
            _ => Ok(first),
        }
    }
    fn sites(&self) -> Vec<SiteInfo> {
        let (c, f) = (self.how.channels, self.how.inner);
        let mut v = vec![SiteInfo { site: Site::EMBED, kind: SiteKind::Stream, path: "bert".into() }];
        for l in 0..self.layers.len() {
            let mut add = |site, kind, path: &str| {
                v.push(SiteInfo { site, kind, path: format!("bert.encoder.layer.{l}.{path}") });
            };
            let linear = |input, output| SiteKind::Linear { input, output };
            add(Site::attn(l, Point::Q), linear(c, c), "attention.self.query");
            add(Site::attn(l, Point::K), linear(c, c), "attention.self.key");
            add(Site::attn(l, Point::V), linear(c, c), "attention.self.value");
            add(Site::attn(l, Point::O), linear(c, c), "attention.output.dense");
            add(Site::after_attn(l), SiteKind::Close { channels: c }, "attention.output");
            add(Site::ffn(l, Point::Up), linear(c, f), "intermediate.dense");
            add(Site::ffn(l, Point::Down), linear(f, c), "output.dense");
            add(Site::after_ffn(l), SiteKind::Close { channels: c }, "output");
        }
        v
    }
    fn named(&self) -> Vec<(String, &Tensor)> {
        let mut v = vec![];
        self.each(&mut |name, w| v.push((name, w.get().tensor)));
        v
    }
}
impl<P: Weight> Bert<P> {
    /// Every weight under its checkpoint name.
    fn each<'a>(&'a self, f: &mut dyn FnMut(String, &'a P)) {
        f("bert.embeddings.word_embeddings.weight".into(), &self.word);
        f("bert.embeddings.position_embeddings.weight".into(), &self.position);
        f("bert.embeddings.token_type_embeddings.weight".into(), &self.kind);
        self.ln.each("bert.embeddings.LayerNorm", f);
        for (l, w) in self.layers.iter().enumerate() {
            let p = format!("bert.encoder.layer.{l}");
            w.q.each(&format!("{p}.attention.self.query"), f);
            w.k.each(&format!("{p}.attention.self.key"), f);
            w.v.each(&format!("{p}.attention.self.value"), f);
            w.o.each(&format!("{p}.attention.output.dense"), f);
            w.ln_1.each(&format!("{p}.attention.output.LayerNorm"), f);
            w.up.each(&format!("{p}.intermediate.dense"), f);
            w.down.each(&format!("{p}.output.dense"), f);
            w.ln_2.each(&format!("{p}.output.LayerNorm"), f);
        }
        self.pooler.iter().for_each(|w| w.each("bert.pooler.dense", f));
    }
}
impl<P: Weight> Parameters for Bert<P> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.each(&mut |_, w| w.visit(f));
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        let Bert { word, position, kind, ln, layers, pooler, .. } = self;
        let mut v: Vec<&mut dyn Parameters> = vec![word, position, kind, ln];
        for w in layers {
            v.extend(
                [&mut w.q, &mut w.k, &mut w.v, &mut w.o, &mut w.up, &mut w.down]
                    .map(|m| m as &mut dyn Parameters),
            );
            v.extend([&mut w.ln_1, &mut w.ln_2].map(|m| m as &mut dyn Parameters));
        }
        v.extend(pooler.iter_mut().map(|m| m as &mut dyn Parameters));
        v.into_iter().for_each(|m| m.visit_mut(f));
    }
}
