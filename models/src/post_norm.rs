//! Encoders whose sub-layers end with a norm, x = LN(x + f(x)) (Vaswani et al. 2017, section 3.1):
//! BERT (Devlin et al. 2018) and its relatives. They differ in names, in what is added to the
//! embeddings of words, in where there is dropout, and in whether layers share their weights. A
//! family's file says that, as an [`Encoder`]; the forward pass is here.
//!
//! Dimensions in the comments: T tokens of all sequences, E channels of the embeddings, C channels,
//! F channels of the feed-forward network, V tokens of the vocabulary.
use crate::{
    Model, ModelInfo, Result, Rows, Tokens,
    encoder::{Encoder, Positions},
    masked_lm::MaskedLm,
    weights::{Id, Layout, LinearId, NormId, Weights},
};
use engraft_engine::{
    self as engine, Act, Activation, Cx, LinearForm, LinearRef, Load, NormKind, Param, Parameters, Point,
    Site, SiteInfo, SiteKind, Tensor, Weight, ops::Qkv,
};
use std::ops::Range;

/// A post-norm encoder over frozen or trained weights.
#[derive(Debug)]
pub struct PostNorm<P: Weight> {
    weights: Weights<P>,
    word: Id,
    position: Id,
    kind: Option<Id>,
    ln: NormId,
    project: Option<LinearId>,
    layers: Vec<Layer>,
    pooler: Option<LinearId>,
    masked_lm: Option<MaskedLm>,
    about: Encoder,
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

impl<P: Weight> PostNorm<P> {
    /// Loads the weights that a family describes.
    pub(crate) fn load(mut about: Encoder, load: &mut Load<'_>) -> Result<PostNorm<P>> {
        let (info, names) = (&about.info, about.names);
        let (c, e, f, eps) = (info.channels, about.embedding, about.inner, info.head_eps);
        let mut at = Layout::<P>::new(load);
        let (plain, ln) = (LinearForm::default(), NormKind::Layer);
        let p = |module: &str| format!("{}.{module}", names.root);
        let copies = about.masked_lm.as_ref().map_or(vec![], |head| head.copies(info.is_tied));
        let copies: Vec<&str> = copies.iter().map(String::as_str).collect();
        let word = at.tied_table(&p("embeddings.word_embeddings.weight"), &copies, info.vocabulary, e)?;
        let position =
            at.table(&p("embeddings.position_embeddings.weight"), about.positions.rows(info), e)?;
        let kind = match names.kinds {
            Some(kinds) => Some(at.table(&p(kinds), info.segments, e)?),
            None => None,
        };
        let embedded = at.norm(Some(Site::EMBED_NORM), &p("embeddings.LayerNorm"), e, eps, ln)?;
        at.site(Site::WORDS, SiteKind::Stream { channels: e }, names.root);
        at.site(Site::EMBED, SiteKind::Stream { channels: e }, names.root);
        let project = match about.project {
            Some(module) => Some(at.plain_linear(&p(module), (e, c), plain)?),
            None => None,
        };
        let mut layers: Vec<Layer> = vec![];
        for (l, path) in about.layers.iter().enumerate() {
            // a layer that was there before has its weights
            if let Some(first) = about.layers[..l].iter().position(|before| before == path) {
                at.repeat(first, l);
                layers.push(layers[first]);
                continue;
            }
            let n = names.layer;
            let p = |module: &str| format!("{path}.{module}");
            let linear = |at: &mut Layout<'_, '_, P>, site, module: &str, dims| {
                at.linear(site, &p(module), dims, plain, 1)
            };
            let stream = SiteKind::Stream { channels: c };
            at.site(Site::layer(l), stream, path);
            let q = linear(&mut at, Site::attn(l, Point::Q), n.q, (c, c))?;
            let k = linear(&mut at, Site::attn(l, Point::K), n.k, (c, c))?;
            let v = linear(&mut at, Site::attn(l, Point::V), n.v, (c, c))?;
            at.site(Site::attn(l, Point::Prefix), SiteKind::Prefix { channels: c }, &p(n.keys));
            let o = linear(&mut at, Site::attn(l, Point::O), n.o, (c, c))?;
            let ln_1 = at.norm(None, &p(n.ln_1), c, eps, ln)?;
            at.close(Site::after_attn(l), c, &p(n.after_attn), Some(&p(n.ln_1)));
            let up = linear(&mut at, Site::ffn(l, Point::Up), n.up, (c, f))?;
            let down = linear(&mut at, Site::ffn(l, Point::Down), n.down, (f, c))?;
            let ln_2 = at.norm(None, &p(n.ln_2), c, eps, ln)?;
            at.close(Site::after_ffn(l), c, &p(n.after_ffn), Some(&p(n.ln_2)));
            at.site(Site::behind(l), stream, &p("reft_layer"));
            layers.push(Layer { q, k, v, o, ln_1, up, down, ln_2 });
        }
        let pooler = names.pooler.map(&p).filter(|path| at.has(&format!("{path}.weight")));
        let pooler = pooler.map(|path| at.plain_linear(&path, (c, c), plain)).transpose()?;
        let masked_lm = match &about.masked_lm {
            Some(head) => MaskedLm::load(head, &mut at, info, (c, e), word)?,
            None => None,
        };
        // a head of its own, or another one
        at.site(Site::head(), SiteKind::Stream { channels: e }, names.root);
        let weights = at.finish();
        about.info.embedding = e;
        about.info.has_pooler = pooler.is_some();
        about.info.has_lm_head = masked_lm.is_some();
        Ok(PostNorm {
            weights,
            word,
            position,
            kind,
            ln: embedded,
            project,
            layers,
            pooler,
            masked_lm,
            about,
        })
    }
    // a name that is assigned again lets go of what it held; one that is declared again would hold
    // it to the end
    fn layer<'m>(&'m self, cx: &mut Cx<'m>, l: usize, x: Act, rows: Option<&Rows>) -> engine::Result<Act> {
        let (w, m, s) = (self.layers[l], &self.weights, &self.about);
        let keys = cx.stream(Site::layer(l), x)?;
        let mut x = match rows {
            Some(rows) => cx.take_rows(&keys, rows)?,
            None => keys.clone(),
        };
        let a = self.attention(cx, l, &x, keys)?;
        let mut a = cx.drop_later(a, s.attention_dropout, Site::attn(l, Point::O), 0);
        if s.turns_residual {
            let output = cx.dropped(a)?;
            (a, x) = (cx.drop_later(x, 0.0, Site::after_attn(l), 0), output);
        }
        x = cx.close(Site::after_attn(l), a, &x, Some(m.norm(w.ln_1)))?; //    x = LN(x + Attn(x))
        let mut f = cx.linear(Site::ffn(l, Point::Up), &x, m.linear(w.up))?;
        f = cx.activate_for(&f, s.act, &m.linear(w.down))?; //                 (T, F)
        f = cx.linear(Site::ffn(l, Point::Down), &f, m.linear(w.down))?;
        let f = cx.drop_later(f, s.ffn_dropout, Site::ffn(l, Point::Down), 0);
        x = cx.close(Site::after_ffn(l), f, &x, Some(m.norm(w.ln_2)))?; //     x = LN(x + FFN(x))
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
        let a = cx.attend(Site::attn(l, Point::Probs), x, self.about.heads)?;
        cx.linear(Site::attn(l, Point::O), &a, m.linear(w.o))
    }
}

impl<P: Weight> Model for PostNorm<P> {
    fn info(&self) -> &ModelInfo {
        &self.about.info
    }
    fn set_dropout(&mut self, p: f32) {
        self.about.set_dropout(p);
    }
    fn sites(&self) -> &[SiteInfo] {
        self.weights.sites()
    }
    fn named(&self) -> Vec<(String, &Tensor)> {
        self.weights.named()
    }
    fn embed<'m>(&'m self, cx: &mut Cx<'m>, t: &Tokens) -> Result<Act> {
        let info = &self.about.info;
        t.check(info)?;
        let m = &self.weights;
        let words = cx.embed(&[(m.get(self.word), &*t.ids)], t.seqs())?;
        let x = cx.stream(Site::WORDS, words)?; //                             (T, E)
        let (types, mut positions) = t.beside(cx, &x, info)?;
        if let Positions::Behind(padding) = self.about.positions {
            t.count_behind(padding, x.seqs(), &mut positions);
        }
        let table = match self.about.fixed_positions {
            true => m.constant(self.position),
            false => m.get(self.position),
        };
        let position = (table, &*positions);
        let x = match self.kind {
            Some(kind) => cx.embed_onto(x, &[(m.get(kind), &*types), position])?,
            None => cx.embed_onto(x, &[position])?,
        };
        let x = cx.norm(Site::EMBED_NORM, &x, m.norm(self.ln))?;
        let x = cx.dropout(x, self.about.embedding_dropout, Site::EMBED, 0)?;
        let x = cx.stream(Site::EMBED, x)?;
        let Some(project) = self.project else { return Ok(x) };
        Ok(cx.matmul(&x, m.linear(project))?) //                               (T, C)
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
    fn to_vocabulary<'m>(&'m self, cx: &mut Cx<'m>, x: &Act) -> Result<Option<(Act, LinearRef<'m>)>> {
        let Some(head) = &self.masked_lm else { return Ok(None) };
        Ok(Some(head.forward(cx, x, &self.weights)?))
    }
    fn to_embeddings<'m>(&'m self, cx: &mut Cx<'m>, x: &Act) -> Result<Option<(Act, LinearRef<'m>)>> {
        MaskedLm::of_embeddings(cx, x, self.word, &self.weights).map(Some)
    }
}
impl<P: Weight> Parameters for PostNorm<P> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.weights.visit(f);
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.weights.visit_mut(f);
    }
}
