//! What every model offers.
use crate::{Error, Result};
use engraft_engine::{Act, Cx, LinearRef, Parameters, Rows, Seq, SiteInfo, Tensor, pack};
use std::{ops::Range, sync::Arc};

/// A batch of token sequences, one after the other, without padding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Token ids of all sequences.
    pub ids: Vec<u32>,
    /// Segment (token type) of every token.
    pub types: Vec<u32>,
    /// Tokens of each sequence.
    pub lengths: Vec<usize>,
    /// What the decoder of an encoder-decoder reads, a sequence for each of those.
    pub target: Option<Target>,
}
/// The sequences that a decoder reads beside those of its encoder, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Token ids of all sequences.
    pub ids: Vec<u32>,
    /// Tokens of each sequence.
    pub lengths: Vec<usize>,
}
impl Target {
    /// Packs sequences.
    pub fn new<S: AsRef<[u32]>>(sequences: &[S]) -> Target {
        let ids = sequences.iter().flat_map(|s| s.as_ref()).copied().collect();
        Target { ids, lengths: sequences.iter().map(|s| s.as_ref().len()).collect() }
    }
    /// How they are packed.
    pub fn seqs(&self) -> Arc<[Seq]> {
        pack(self.lengths.iter().copied())
    }
}
impl Tokens {
    /// Packs sequences of one segment.
    pub fn new<S: AsRef<[u32]>>(sequences: &[S]) -> Tokens {
        let ids: Vec<u32> = sequences.iter().flat_map(|s| s.as_ref()).copied().collect();
        Tokens {
            types: vec![0; ids.len()],
            ids,
            lengths: sequences.iter().map(|s| s.as_ref().len()).collect(),
            target: None,
        }
    }
    /// The same, with what the decoder of an encoder-decoder reads.
    pub fn with_target<S: AsRef<[u32]>>(self, sequences: &[S]) -> Tokens {
        Tokens { target: Some(Target::new(sequences)), ..self }
    }
    /// Of each sequence the rows of last hidden states: its tokens, or those of its target.
    pub fn outputs(&self) -> &[usize] {
        self.target.as_ref().map_or(&self.lengths, |t| &t.lengths)
    }
    /// How they are packed.
    pub fn seqs(&self) -> Arc<[Seq]> {
        pack(self.lengths.iter().copied())
    }
    /// The segment and the position of every row of x, which holds the embeddings of these tokens,
    /// and perhaps prompts in front of them: those are of the first segment. A pass that remembers
    /// counts on from the rows before.
    pub(crate) fn beside(&self, cx: &Cx<'_>, x: &Act, model: &ModelInfo) -> Result<(Vec<u32>, Vec<u32>)> {
        let starts: Vec<usize> =
            self.lengths.iter().scan(0, |at, n| Some(std::mem::replace(at, *at + n))).collect();
        let (mut types, mut positions) = (vec![], vec![]);
        for s in x.seqs().iter() {
            let (start, tokens) = (starts.get(s.item).copied().unwrap_or(0), s.len.saturating_sub(s.extra));
            if self.lengths.get(s.item) != Some(&tokens) {
                return Err(Error::Input(format!(
                    "item {} of the batch has {tokens} rows of tokens",
                    s.item
                )));
            }
            types.extend(std::iter::repeat_n(0, s.len - tokens));
            types.extend(&self.types[start..start + tokens]);
            let places = s.place + cx.place(s.item)..s.place + cx.place(s.item) + s.len;
            if let Some(most) = model.positions.filter(|most| places.end > *most) {
                let place = places.start.max(most);
                return Err(Error::Input(format!("a token at place {place}; the model takes {most}")));
            }
            positions.extend(places.map(|p| p as u32));
        }
        Ok((types, positions))
    }
    /// Makes positions of those that [`Tokens::beside`] gives, as fairseq and RoBERTa count: from
    /// one behind the number of the padding token on, where a token that is it in the middle of a
    /// text has its number for a position and does not count. In sequences that have rows of other
    /// kinds all rows count.
    pub(crate) fn count_behind(&self, padding: u32, seqs: &[Seq], positions: &mut [u32]) {
        let starts: Vec<usize> =
            self.lengths.iter().scan(0, |at, n| Some(std::mem::replace(at, *at + n))).collect();
        for s in seqs {
            let (Some(start), Some(rows)) = (starts.get(s.item), positions.get_mut(s.start..s.start + s.len))
            else {
                continue;
            };
            let ids = if s.extra == 0 { self.ids.get(*start..).unwrap_or_default() } else { &[] };
            let mut skipped = 0;
            for (i, p) in rows.iter_mut().enumerate() {
                let is_padding = ids.get(i) == Some(&padding);
                skipped += u32::from(is_padding);
                *p = if is_padding { padding } else { *p + padding + 1 - skipped };
            }
        }
    }
    /// Refuses what such a model cannot take.
    pub(crate) fn check(&self, model: &ModelInfo) -> Result<()> {
        if self.lengths.is_empty() {
            return Err(Error::Input("there is no sequence in the batch".into()));
        }
        let most = model.positions.unwrap_or(usize::MAX);
        if let Some(i) = self.lengths.iter().position(|n| *n == 0 || *n > most) {
            let n = self.lengths[i];
            let limits = model.positions.map_or("at least 1".into(), |most| format!("1 to {most}"));
            return Err(Error::Input(format!("sequence {i} has {n} tokens; the model takes {limits}")));
        }
        self.check_target(model)?;
        let total: usize = self.lengths.iter().sum();
        if self.ids.len() != total || self.types.len() != total {
            return Err(Error::Input(format!(
                "{} ids and {} token types for {total} tokens",
                self.ids.len(),
                self.types.len()
            )));
        }
        let target = self.target.iter().flat_map(|t| &t.ids);
        if let Some(id) = self.ids.iter().chain(target).find(|id| **id as usize >= model.vocabulary) {
            let n = model.vocabulary;
            return Err(Error::Input(format!("token id {id} is not in the model's vocabulary of {n}")));
        }
        if let Some(t) = self.types.iter().find(|t| **t as usize >= model.segments) {
            let n = model.segments;
            return Err(Error::Input(format!("token type {t} is not among the model's {n}")));
        }
        Ok(())
    }
    /// An encoder-decoder has a target for each sequence, and no other model has one.
    fn check_target(&self, model: &ModelInfo) -> Result<()> {
        let wrong = |what: String| Err(Error::Input(what));
        let target = match (&self.target, model.kind) {
            (Some(target), Kind::EncoderDecoder { .. }) => target,
            (None, Kind::EncoderDecoder { .. }) => {
                return wrong(format!("{} reads a target beside its input, and there is none", model.family));
            }
            (Some(_), _) => return wrong(format!("{} has no decoder that reads a target", model.family)),
            (None, _) => return Ok(()),
        };
        let total: usize = target.lengths.iter().sum();
        if target.lengths.len() != self.lengths.len() || target.ids.len() != total {
            let (n, ids) = (target.lengths.len(), target.ids.len());
            let of = self.lengths.len();
            return wrong(format!("{n} targets of {total} tokens, {ids} ids, for {of} sequences"));
        }
        match target.lengths.iter().position(|n| *n == 0) {
            Some(i) => wrong(format!("the target of sequence {i} has no tokens")),
            None => Ok(()),
        }
    }
}

/// How a model reads its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Every token sees all others.
    Encoder,
    /// A token sees those before it.
    Decoder,
    /// An encoder of the input, and a decoder that reads a target and the encoder's output.
    EncoderDecoder {
        /// Layers of the encoder; those of the decoder count on.
        encoder: usize,
        /// The token that stands in front of a target (`decoder_start_token_id`), if it is known.
        start: Option<u32>,
        /// The token that a target has where nothing is known of it (`pad_token_id`).
        padding: Option<u32>,
    },
}

/// What a model is, for those who do not know its family.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelInfo {
    /// `model_type` in `config.json`.
    pub family: &'static str,
    /// How it reads its tokens.
    pub kind: Kind,
    /// Channels of the residual stream.
    pub channels: usize,
    /// Channels of the embeddings of words.
    pub embedding: usize,
    /// Layers.
    pub layers: usize,
    /// Token ids.
    pub vocabulary: usize,
    /// The longest sequence; none if any length will do.
    pub positions: Option<usize>,
    /// Segments (token types).
    pub segments: usize,
    /// The class under which AdapterHub's files name this kind of model with heads.
    pub class: &'static str,
    /// The largest dropout probability below the head while training.
    pub dropout: f32,
    /// Dropout of attention probabilities while training.
    pub attention_dropout: f32,
    /// Dropout of a task head while training, where the head names none itself.
    pub head_dropout: f32,
    /// The token that stands for its sequence in classification.
    pub summary: Rows,
    /// True if there is a pooler, a layer between that token and a classification head.
    pub has_pooler: bool,
    /// True if there is a language-modelling head of the model's own: [`Model::to_vocabulary`].
    pub has_lm_head: bool,
    /// True if a language model's last layer is the table of embeddings.
    pub is_tied: bool,
    /// What the norms of heads add to a variance: `layer_norm_eps` in `config.json`, 1e-12 where
    /// there is no such field.
    pub head_eps: f32,
}

impl ModelInfo {
    /// Layers that read the input alone: all of them, but for a decoder beside an encoder.
    pub fn input_layers(&self) -> usize {
        match self.kind {
            Kind::EncoderDecoder { encoder, .. } => encoder,
            Kind::Encoder | Kind::Decoder => self.layers,
        }
    }
    /// True if it predicts the next token with a head of its own: that of a masked language model
    /// predicts those that it cannot see.
    pub fn predicts_next(&self) -> bool {
        self.has_lm_head && self.kind != Kind::Encoder
    }
}

/// A model over frozen or trained weights.
pub trait Model: Parameters + Send + Sync {
    /// What it is.
    fn info(&self) -> &ModelInfo;
    /// Replaces every dropout probability of the configuration.
    fn set_dropout(&mut self, p: f32);
    /// Where hooks are called: every place, and no others.
    fn sites(&self) -> &[SiteInfo];
    /// Every weight under its checkpoint name.
    fn named(&self) -> Vec<(String, &Tensor)>;
    /// Tokens to the residual stream in front of the first layer: (tokens, channels).
    fn embed<'m>(&'m self, cx: &mut Cx<'m>, tokens: &Tokens) -> Result<Act>;
    /// Some of the layers that read the input ([`ModelInfo::input_layers`]), in order; x is the
    /// residual stream in front of them, and the result is that behind them: (tokens, channels).
    /// Behind the last layer of the model the last hidden states of these rows: (rows, channels);
    /// nothing is computed for others where that can be left out.
    fn run<'m>(&'m self, cx: &mut Cx<'m>, layers: Range<usize>, x: Act, rows: &Rows) -> Result<Act>;
    /// What the decoder beside an encoder attends to, of the stream behind the layers of the
    /// encoder: (tokens, channels). Other models have no such part, and give x back.
    fn memory<'m>(&'m self, cx: &mut Cx<'m>, x: Act) -> Result<Act> {
        let _ = cx;
        Ok(x)
    }
    /// The decoder beside an encoder: x is what [`Model::memory`] gives, the result the last hidden
    /// states of these rows of the target: (rows, channels). A pass that remembers reads x once,
    /// and counts the tokens of the target on from those before. Other models give x back.
    fn decode<'m>(&'m self, cx: &mut Cx<'m>, x: Act, target: &Target, rows: &Rows) -> Result<Act> {
        let _ = (cx, target, rows);
        Ok(x)
    }
    /// What is left of a pass from the stream in front of one of the layers that read the input:
    /// the last hidden states of these rows, (rows, channels).
    fn finish<'m>(
        &'m self,
        cx: &mut Cx<'m>,
        from: usize,
        x: Act,
        tokens: &Tokens,
        rows: &Rows,
    ) -> Result<Act> {
        let x = self.run(cx, from..self.info().input_layers(), x, rows)?;
        match &tokens.target {
            Some(target) => {
                let memory = self.memory(cx, x)?;
                self.decode(cx, memory, target, rows)
            }
            None => Ok(x),
        }
    }
    /// Tokens to the last hidden states of these rows: (rows, channels).
    fn forward<'m>(&'m self, cx: &mut Cx<'m>, tokens: &Tokens, rows: &Rows) -> Result<Act> {
        let x = self.embed(cx, tokens)?;
        self.finish(cx, 0, x, tokens, rows)
    }
    /// The pooler over last hidden states, row by row; x itself where there is none. (rows,
    /// channels)
    fn pool<'m>(&'m self, cx: &mut Cx<'m>, x: &Act) -> Result<Act> {
        let _ = cx;
        Ok(x.clone())
    }
    /// Last hidden states as the model's own language-modelling head multiplies them with its
    /// vocabulary, and that product's weight: (rows, channels) and a layer from channels to the
    /// vocabulary. None for a model without such a head.
    fn to_vocabulary<'m>(&'m self, cx: &mut Cx<'m>, x: &Act) -> Result<Option<(Act, LinearRef<'m>)>>;
    /// The same of an encoder for a head that is not its own and shares its embeddings: what is
    /// changed behind them is undone in x, and their table is the layer. (rows, E) and a layer from E
    /// to the vocabulary; none for other models.
    fn to_embeddings<'m>(&'m self, cx: &mut Cx<'m>, x: &Act) -> Result<Option<(Act, LinearRef<'m>)>> {
        let _ = (cx, x);
        Ok(None)
    }
}
