//! The passes of a generation.
use super::start::Start;
use crate::{
    Error, Result,
    learner::{Backbone, Learner},
};
use engraft_engine::{Act, Cx, Hooks, KvCache, Pass, Rows, Seq};
use engraft_models::{Kind, Target, Tokens};

/// Sequences that a learner continues. Sequence i of one pass is that of the pass before, until
/// [`Decoder::select`] says otherwise.
pub(super) struct Decoder<'l> {
    learner: &'l Learner,
    /// None of a model without an encoder, whose sequences have their prompts in them.
    memory: Option<Memory>,
    /// None where what an adapter answers depends on later tokens or on places: then each pass
    /// computes everything but the memory.
    cache: Option<KvCache>,
    /// Tokens of each sequence that the cache remembers.
    read: Vec<usize>,
}
/// What an encoder has made of prompts, once.
struct Memory {
    /// (tokens of all prompts, channels)
    made: Act,
    /// Which of them each sequence reads.
    prompts: Vec<usize>,
}

impl Memory {
    fn of(learner: &Learner, starts: &[Start<'_>]) -> Result<Memory> {
        let (model, device) = (learner.backbone().model(), learner.backbone().device());
        let (prompts, begins): (Vec<&[u32]>, Vec<&[u32]>) =
            starts.iter().map(|s| (s.prompt, s.begin)).unzip();
        let tokens = Tokens::new(&prompts).with_target(&begins);
        let made = device.install(|| {
            let active = learner.active_above(starts.len(), 0)?;
            let mut cx = Cx::new(device, &active, Pass::infer());
            let x = model.embed(&mut cx, &tokens)?;
            let x = model.run(&mut cx, 0..model.info().input_layers(), x, &Rows::All)?;
            Ok::<_, Error>(model.memory(&mut cx, x)?)
        })?;
        Ok(Memory { made, prompts: (0..starts.len()).collect() })
    }
    /// For each sequence what its prompt has become.
    fn of_each<'m>(&self, cx: &mut Cx<'m>) -> Result<Act> {
        let all = cx.take_sequences(&self.made, &self.prompts)?;
        let own = |(item, s): (usize, &Seq)| Seq { item, ..s.clone() };
        let seqs = all.seqs().iter().enumerate().map(own).collect();
        Ok(all.repacked(seqs)?)
    }
}

impl<'l> Decoder<'l> {
    /// For at most so many sequences at once; without a cache each pass computes all their tokens.
    pub fn new(
        learner: &'l Learner,
        starts: &[Start<'_>],
        sequences: usize,
        use_cache: bool,
    ) -> Result<Decoder<'l>> {
        let (hooks, model) = (learner.active_above(1, 0)?, learner.backbone().model().info());
        let (memory, decoder) = match model.kind {
            // it reads a prompt as a whole in any case
            Kind::EncoderDecoder { encoder, .. } => (Some(Memory::of(learner, starts)?), encoder),
            Kind::Encoder | Kind::Decoder => (None, 0),
        };
        let whole = (decoder..model.layers).any(|l| hooks.reads_places(l));
        let cache = (use_cache && !whole).then(|| KvCache::new(sequences, usize::MAX));
        Ok(Decoder { learner, memory, cache, read: vec![] })
    }
    /// The scores of the token behind each of these sequences: (sequences, vocabulary).
    pub fn next(&mut self, sequences: &[&[u32]]) -> Result<Vec<f32>> {
        self.read.resize(sequences.len(), 0);
        let new = |(s, read): (&&[u32], &usize)| s.get(*read..).unwrap_or_default().to_vec();
        let new: Vec<Vec<u32>> = sequences.iter().zip(&self.read).map(new).collect();
        let (learner, memory, cache) = (self.learner, self.memory.as_ref(), self.cache.take());
        let (model, device, remembers) =
            (learner.backbone().model(), learner.backbone().device(), cache.is_some());
        let (scores, cache) = device.install(|| {
            let active = learner.active_above(sequences.len(), 0)?;
            let mut cx = Cx::new(device, &active, Pass::infer());
            if let Some(cache) = cache {
                cx = cx.with_cache(cache)?;
            }
            let x = match memory {
                None => model.forward(&mut cx, &Tokens::new(&new), &Rows::Last)?,
                Some(memory) => {
                    // the first pass remembers what it becomes in each layer, and whose it is
                    let of_each = if remembers { memory.made.clone() } else { memory.of_each(&mut cx)? };
                    model.decode(&mut cx, of_each, &Target::new(&new), &Rows::Last)?
                }
            };
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
        let of = |all: &[usize]| order.iter().map(|i| all.get(*i).copied().unwrap_or(0)).collect();
        self.read = of(&self.read);
        if let Some(memory) = &mut self.memory {
            memory.prompts = of(&memory.prompts);
        }
        Ok(())
    }
}

/// Refuses a model that does not say one token after the other.
pub fn can_generate(backbone: &Backbone) -> Result<()> {
    match backbone.model().info().kind {
        Kind::Decoder | Kind::EncoderDecoder { .. } => Ok(()),
        Kind::Encoder => {
            let why = "is an encoder: it reads a text as a whole, and cannot generate";
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
