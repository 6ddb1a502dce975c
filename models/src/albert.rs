//! ALBERT (Lan et al. 2019): BERT with embeddings of a width of their own and layers that share
//! their weights. Names as in Hugging Face `AlbertModel` and `AlbertForMaskedLM`.
//!
//! There are `num_hidden_groups` groups of `inner_group_num` layers; a group runs several times,
//! `num_hidden_layers` times all of them together.
use crate::{
    Config, Family, Model, Result,
    encoder::{Defaults, Encoder, KINDS, LayerNames, Names},
    masked_lm::MaskedLmHead,
    post_norm::PostNorm,
};
use engraft_engine::{Frozen, Load, Param, Weight};

/// The registry row.
pub const FAMILY: Family = Family {
    name: "albert",
    prefix: "albert.",
    aliases: &[],
    frozen: build::<Frozen>,
    trained: build::<Param>,
};

const NAMES: Names = Names {
    root: "albert",
    kinds: KINDS,
    pooler: Some("pooler"),
    layer: LayerNames {
        q: "attention.query",
        k: "attention.key",
        v: "attention.value",
        keys: "attention",
        o: "attention.dense",
        ln_1: "attention.LayerNorm",
        after_attn: "attention.attention_adapters",
        up: "ffn",
        down: "ffn_output",
        ln_2: "full_layer_layer_norm",
        after_ffn: "output_adapters",
    },
};
const DEFAULTS: Defaults = Defaults {
    channels: 4096,
    layers: 12,
    heads: 64,
    inner: 16384,
    vocabulary: 30000,
    act: "gelu_new",
    dropout: 0.0,
};

fn build<P: Weight>(config: &Config, load: &mut Load<'_>) -> Result<Box<dyn Model>> {
    let mut e = Encoder::like_bert(config, FAMILY.name, "AlbertAdapterModel", NAMES, DEFAULTS)?;
    let dropout = if config.has("classifier_dropout_prob") { e.info.head_dropout.into() } else { 0.1 };
    e.info.head_dropout = config.probability_or_null("classifier_dropout_prob", dropout)?;
    e.embedding = config.count_or("embedding_size", 128)?;
    e.project = Some("encoder.embedding_hidden_mapping_in");
    let (passes, groups) = (e.info.layers, config.layers("num_hidden_groups", 1)?);
    let inner = config.layers("inner_group_num", 1)?;
    e.info.layers = config.as_layers("inner_group_num", passes * inner)?;
    let group = |pass: usize| (pass as f64 / (passes as f64 / groups as f64)) as usize;
    let layer = |g, i| format!("{}.encoder.albert_layer_groups.{g}.albert_layers.{i}", NAMES.root);
    e.layers = (0..passes).flat_map(|pass| (0..inner).map(move |i| layer(group(pass), i))).collect();
    e.ffn_dropout = 0.0;
    e.turns_residual = true;
    let masked_lm = MaskedLmHead {
        dense: "predictions.dense",
        dense_bias: true,
        act: config.activation("hidden_act", DEFAULTS.act)?,
        norm: "predictions.LayerNorm",
        norm_bias: true,
        decoder: "predictions.decoder",
        last_bias: Some("predictions.bias"),
        beside_decoder: true,
    };
    e.masked_lm = config.is_of(&["AlbertForMaskedLM", "AlbertForPreTraining"]).then_some(masked_lm);
    config.finish()?; // what is refused is refused before a weight is read
    Ok(Box::new(PostNorm::<P>::load(e, load)?))
}
