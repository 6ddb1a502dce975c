//! What a configuration of T5 or mT5 says.
use crate::{Config, Kind, ModelInfo, Result, Rows, buckets::Buckets};
use engraft_engine::Activation;

/// What a configuration means where it says nothing.
pub(super) struct Defaults {
    family: &'static str,
    class: &'static str,
    vocabulary: usize,
    feed_forward: (usize, &'static str),
    layers: usize,
    heads: usize,
    is_tied: bool,
}
pub(super) const OF_T5: Defaults = Defaults {
    family: "t5",
    class: "T5AdapterModel",
    vocabulary: 32128,
    feed_forward: (2048, "relu"),
    layers: 6,
    heads: 8,
    is_tied: true,
};
pub(super) const OF_MT5: Defaults = Defaults {
    family: "mt5",
    class: "MT5AdapterModel",
    vocabulary: 250_112,
    feed_forward: (1024, "gated-gelu"),
    layers: 8,
    heads: 6,
    is_tied: false,
};

/// What shapes the layers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub c: usize,
    pub d: usize,
    pub f: usize,
    pub heads: usize,
    pub is_gated: bool,
    pub eps: f32,
    /// Buckets of relative positions, and the distance from which on all are one.
    pub buckets: (usize, usize),
}

/// What a pass needs beside weights.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub act: Activation,
    pub heads: usize,
    pub dropout: f32,
}
/// A configuration, read.
#[derive(Debug)]
pub(super) struct Read {
    pub info: ModelInfo,
    pub shape: Shape,
    pub settings: Settings,
    /// Layers of the encoder.
    pub encoder: usize,
    /// Of the encoder and of the decoder.
    pub buckets: (Buckets, Buckets),
}
impl Read {
    /// Reads and checks it: what is refused is refused before a weight is read.
    pub fn of(config: &Config, or: &Defaults) -> Result<Read> {
        let heads = config.count_or("num_heads", or.heads)?;
        let (act, is_gated) = feed_forward(config, or.feed_forward.1)?;
        let shape = Shape {
            c: config.count_or("d_model", 512)?,
            d: heads * config.count_or("d_kv", 64)?,
            f: config.count_or("d_ff", or.feed_forward.0)?,
            heads,
            is_gated,
            eps: config.epsilon("layer_norm_epsilon", 1e-6)?,
            buckets: (
                config.count_or("relative_attention_num_buckets", 32)?,
                config.count_or("relative_attention_max_distance", 128)?,
            ),
        };
        let encoder = config.layers("num_layers", or.layers)?;
        let decoder = match config.is_null("num_decoder_layers") {
            true => encoder,
            false => config.layers("num_decoder_layers", encoder)?,
        };
        let dropout = config.probability("dropout_rate", 0.1)?;
        let start = config.token_if("decoder_start_token_id")?;
        let padding = config.token_if("pad_token_id")?.or(Some(0));
        config.only("is_encoder_decoder", "true")?;
        config.only("is_decoder", "false")?;
        config.known("n_positions"); // transformers' own files have it, and nothing reads it
        config.known("output_past");
        let info = ModelInfo {
            family: or.family,
            kind: Kind::EncoderDecoder { encoder, start, padding },
            channels: shape.c,
            embedding: shape.c,
            layers: encoder + decoder,
            vocabulary: config.count_or("vocab_size", or.vocabulary)?,
            positions: None,
            segments: 1,
            class: or.class,
            dropout,
            attention_dropout: dropout,
            head_dropout: config.probability("classifier_dropout", 0.0)?,
            summary: Rows::Last,
            has_pooler: false,
            has_lm_head: false,
            is_tied: config.flag("tie_word_embeddings", or.is_tied)?,
            head_eps: 1e-12,
        };
        let buckets = |both_ways| {
            Buckets::new(shape.buckets.0, shape.buckets.1, both_ways).ok_or_else(|| {
                let (n, far) = shape.buckets;
                config.error(format!(
                    "`relative_attention_num_buckets` {n} and `relative_attention_max_distance` {far} leave no bucket \
                     for far distances"
                ))
            })
        };
        let buckets = (buckets(true)?, buckets(false)?);
        config.finish()?;
        Ok(Read { info, shape, settings: Settings { act, heads, dropout }, encoder, buckets })
    }
}
/// f of the feed-forward network, and whether there is a gate: `gated-F` or `F`.
fn feed_forward(config: &Config, default: &str) -> Result<(Activation, bool)> {
    let text = config.text("feed_forward_proj", default)?;
    let (name, is_gated) = text.strip_prefix("gated-").map_or((&*text, false), |name| (name, true));
    let name = if text == "gated-gelu" { "gelu_new" } else { name };
    // transformers writes what it made of the name, and reads that again
    let name = config.text("dense_act_fn", name)?;
    let is_gated = config.flag("is_gated_act", is_gated)?;
    let act = Activation::from_name(&name)
        .ok_or_else(|| config.error(format!("`feed_forward_proj` is `{text}`, which is not supported")))?;
    Ok((act, is_gated))
}
