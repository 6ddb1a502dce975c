//! What a family says of a post-norm encoder: names, sizes and settings.
use crate::{Config, Kind, ModelInfo, Result, Rows, masked_lm::MaskedLmHead};
use engraft_engine::{Activation, ops::Heads};

/// A post-norm encoder as its family's file describes it.
#[derive(Clone, Debug)]
pub(crate) struct Encoder {
    /// What it is, less what only its weights tell.
    pub info: ModelInfo,
    /// What its modules are called.
    pub names: Names,
    /// The module of each layer, in the order in which they run. One that has run before has its
    /// weights.
    pub layers: Vec<String>,
    /// Channels of the embeddings.
    pub embedding: usize,
    /// The layer between embeddings and channels, under the root.
    pub project: Option<&'static str>,
    /// How tokens are counted.
    pub positions: Positions,
    /// The table of positions stays as it is, also where all weights train.
    pub fixed_positions: bool,
    /// Channels of the feed-forward network.
    pub inner: usize,
    /// Between its layers.
    pub act: Activation,
    /// Of the attention, with the dropout of its probabilities.
    pub heads: Heads,
    /// Dropout behind the embeddings.
    pub embedding_dropout: f32,
    /// Dropout behind the attention.
    pub attention_dropout: f32,
    /// Dropout behind the feed-forward network.
    pub ffn_dropout: f32,
    /// AdapterHub hands adapters behind the attention the input of the sub-layer as if it were the
    /// output, and the other way round.
    pub turns_residual: bool,
    /// The head of a masked language model, if the class of the model has one.
    pub masked_lm: Option<MaskedLmHead>,
}
/// What modules are called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names {
    /// The model without heads.
    pub root: &'static str,
    /// The table of token types, under the root.
    pub kinds: Option<&'static str>,
    /// The layer between the first token and a head, under the root.
    pub pooler: Option<&'static str>,
    /// Under a layer.
    pub layer: LayerNames,
}
/// What the modules of a layer are called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LayerNames {
    pub q: &'static str,
    pub k: &'static str,
    pub v: &'static str,
    /// Where AdapterHub keeps a prefix.
    pub keys: &'static str,
    pub o: &'static str,
    pub ln_1: &'static str,
    /// Where AdapterHub keeps what hangs behind the attention.
    pub after_attn: &'static str,
    pub up: &'static str,
    pub down: &'static str,
    pub ln_2: &'static str,
    /// Where AdapterHub keeps what hangs behind the feed-forward network.
    pub after_ffn: &'static str,
}
/// The token types of most families.
pub(crate) const KINDS: Option<&str> = Some("embeddings.token_type_embeddings.weight");
/// BERT's names, which most families have.
pub(crate) const BERT_LAYER: LayerNames = LayerNames {
    q: "attention.self.query",
    k: "attention.self.key",
    v: "attention.self.value",
    keys: "attention.self",
    o: "attention.output.dense",
    ln_1: "attention.output.LayerNorm",
    after_attn: "attention.output",
    up: "intermediate.dense",
    down: "output.dense",
    ln_2: "output.LayerNorm",
    after_ffn: "output",
};

/// How tokens are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Positions {
    /// From 0 on.
    FromZero,
    /// From one behind the number of the padding token on, which is itself the position of such a
    /// token.
    Behind(u32),
}
impl Positions {
    /// Rows of the table of positions.
    pub fn rows(self, info: &ModelInfo) -> usize {
        let behind = match self {
            Positions::FromZero => 0,
            Positions::Behind(padding) => padding as usize + 1,
        };
        info.positions.unwrap_or_default() + behind
    }
}

/// What fields of `config.json` are where they are missing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Defaults {
    pub channels: usize,
    pub layers: usize,
    pub heads: usize,
    pub inner: usize,
    pub vocabulary: usize,
    pub act: &'static str,
    pub dropout: f64,
}
/// BERT's.
pub(crate) const BERT: Defaults = Defaults {
    channels: 768,
    layers: 12,
    heads: 12,
    inner: 3072,
    vocabulary: 30522,
    act: "gelu",
    dropout: 0.1,
};

impl Encoder {
    /// The encoder of a configuration whose fields have BERT's names, with layers called
    /// `{root}.encoder.layer.{l}`; the file of the family changes what is different. `class` is
    /// AdapterHub's.
    pub fn like_bert(
        config: &Config,
        family: &'static str,
        class: &'static str,
        names: Names,
        d: Defaults,
    ) -> Result<Encoder> {
        let dropout = config.probability("hidden_dropout_prob", d.dropout)?;
        let heads = Heads {
            count: config.count_or("num_attention_heads", d.heads)?,
            dropout: config.probability("attention_probs_dropout_prob", d.dropout)?,
            ..Heads::default()
        };
        let info = ModelInfo {
            family,
            kind: Kind::Encoder,
            channels: config.count_or("hidden_size", d.channels)?,
            embedding: config.count_or("hidden_size", d.channels)?,
            layers: config.layers("num_hidden_layers", d.layers)?,
            vocabulary: config.count_or("vocab_size", d.vocabulary)?,
            positions: Some(config.count_or("max_position_embeddings", 512)?),
            segments: config.count_or("type_vocab_size", 2)?,
            class,
            dropout: dropout.max(heads.dropout),
            attention_dropout: heads.dropout,
            head_dropout: dropout,
            summary: Rows::First,
            has_pooler: false,
            has_lm_head: false,
            is_tied: config.flag("tie_word_embeddings", true)?,
            head_eps: config.epsilon("layer_norm_eps", 1e-12)?,
        };
        config.only("position_embedding_type", "\"absolute\"")?;
        let encoder = Encoder {
            names,
            layers: (0..info.layers).map(|l| format!("{}.encoder.layer.{l}", names.root)).collect(),
            embedding: info.channels,
            project: None,
            positions: Positions::FromZero,
            fixed_positions: false,
            inner: config.count_or("intermediate_size", d.inner)?,
            act: config.activation("hidden_act", d.act)?,
            heads,
            embedding_dropout: dropout,
            attention_dropout: dropout,
            ffn_dropout: dropout,
            turns_residual: false,
            masked_lm: None,
            info,
        };
        let (c, n) = (encoder.info.channels, encoder.heads.count);
        config.whole_heads(("hidden_size", c), ("num_attention_heads", n))?;
        Ok(encoder)
    }
    /// Refuses a model that is part of a decoder.
    pub fn is_no_decoder(config: &Config) -> Result<()> {
        config.only("is_decoder", "false")?;
        config.only("add_cross_attention", "false")
    }
    /// Replaces every dropout probability.
    pub fn set_dropout(&mut self, p: f32) {
        (self.embedding_dropout, self.attention_dropout, self.ffn_dropout) = (p, p, p);
        (self.heads.dropout, self.info.attention_dropout) = (p, p);
        (self.info.dropout, self.info.head_dropout) = (p, p);
    }
}
