//! The passes of a generation.
use crate::{
    Error, Result,
    learner::{Backbone, Learner},
};
use engraft_engine::{Cx, Hooks, KvCache, Pass, Rows};
use engraft_models::{Kind, Tokens};

/// Sequences that a learner continues. Sequence i of one pass is that of the pass before, until
/// [`Decoder::select`] says otherwise.
pub(super) struct Decoder<'l> {
    learner: &'l Learner,
    /// None where what an adapter answers depends on later tokens or on places: then each pass
    /// computes everything.
    cache: Option<KvCache>,
    /// Tokens of each sequence that the cache remembers.
    read: Vec<usize>,
}

impl<'l> Decoder<'l> {
    /// For at most so many sequences at once; without a cache each pass computes all tokens.
    pub fn new(learner: &'l Learner, sequences: usize, use_cache: bool) -> Result<Decoder<'l>> {
        let hooks = learner.active_above(1, 0)?;
        let layers = learner.backbone().model().info().layers;
        let whole = (0..layers).any(|l| hooks.reads_places(l));
        let cache = (use_cache && !whole).then(|| KvCache::new(sequences, usize::MAX));
        Ok(Decoder { learner, cache, read: vec![] })
    }
    /// The scores of the token behind each of these sequences: (sequences, vocabulary).
    pub fn next(&mut self, sequences: &[&[u32]]) -> Result<Vec<f32>> {
        self.read.resize(sequences.len(), 0);
        let new = |(s, read): (&&[u32], &usize)| s.get(*read..).unwrap_or_default().to_vec();
        let tokens = Tokens::new(&sequences.iter().zip(&self.read).map(new).collect::<Vec<_>>());
        let (learner, cache) = (self.learner, self.cache.take());
        let (backbone, remembers) = (learner.backbone(), cache.is_some());
        let device = backbone.device();
        let (scores, cache) = device.install(|| {
            let active = learner.active_above(sequences.len(), 0)?;
            let mut cx = Cx::new(device, &active, Pass::infer());
            if let Some(cache) = cache {
                cx = cx.with_cache(cache)?;
            }
            let x = backbone.model().forward(&mut cx, &tokens, &Rows::Last)?;
            let scores = learner.top().logits(&mut cx, &x)?.read()?;
            Ok::<_, Error>((scores, cx.into_cache()))
        })?;
        self.cache = cache;
        if remembers {
            self.read = sequences.iter().map(|s| s.len()).collect();
        }
        Ok(scores)
    }
    /// Sequence i goes on from what was sequence `order[i]`.
    pub fn select(&mut self, order: &[usize]) -> Result<()> {
        if order.len() == self.read.len() && order.iter().enumerate().all(|(i, from)| i == *from) {
            return Ok(());
        }
        if let Some(cache) = &mut self.cache {
            cache.select(self.learner.backbone().device(), order)?;
        }
        self.read = order.iter().map(|i| self.read.get(*i).copied().unwrap_or(0)).collect();
        Ok(())
    }
}

/// Refuses a model that does not read from left to right.
pub fn can_generate(backbone: &Backbone) -> Result<()> {
    match backbone.model().info().kind {
        Kind::Decoder => Ok(()),
        Kind::Encoder => {
            let why = "is an encoder: it reads a text as a whole, and cannot generate";
            Err(Error::Model(format!("{} {why}", backbone.directory().display())))
        }
        Kind::EncoderDecoder { .. } => {
            let why = "is an encoder-decoder: generation with one is not supported yet";
            Err(Error::Model(format!("{} {why}", backbone.directory().display())))
        }
    }
}
/// Refuses a learner that says nothing of the next token, or not of one text at a time.
pub(super) fn check(learner: &Learner) -> Result<()> {
    let (backbone, setup) = (learner.backbone(), learner.setup());
    can_generate(backbone)?;
    let has_head = match learner.head() {
        Some(head) => head.config().says_tokens(),
        None => backbone.model().info().has_lm_head,
    };
    if !has_head {
        let why = "has no language-modelling head here: it says nothing of the next token";
        return Err(Error::Model(format!("{} {why}", backbone.directory().display())));
    }
    match setup.items() {
        None => Ok(()),
        Some(items) => {
            let why = format!("it is for a batch of {items} texts, and here each text has the same adapters");
            Err(Error::Option { option: "setup", value: setup.to_string(), why })
        }
    }
}
