//! ELECTRA (Clark et al. 2020): BERT with embeddings of a width of their own and without a pooler.
//! Names as in Hugging Face `ElectraModel`, which generators and discriminators share, and
//! `ElectraForMaskedLM`, the generator.
use crate::{
    Config, Family, Model, Result,
    encoder::{BERT, BERT_LAYER, Defaults, Encoder, KINDS, Names},
    masked_lm::MaskedLmHead,
    post_norm::PostNorm,
};
use engraft_engine::{Activation, Frozen, Load, Param, Weight};

/// The registry row.
pub const FAMILY: Family = Family {
    name: "electra",
    prefix: "electra.",
    aliases: &[],
    frozen: build::<Frozen>,
    trained: build::<Param>,
};

const NAMES: Names = Names { root: "electra", kinds: KINDS, pooler: None, layer: BERT_LAYER };
const DEFAULTS: Defaults = Defaults { channels: 256, heads: 4, inner: 1024, ..BERT };

fn build<P: Weight>(config: &Config, load: &mut Load<'_>) -> Result<Box<dyn Model>> {
    let mut e = Encoder::like_bert(config, FAMILY.name, "ElectraAdapterModel", NAMES, DEFAULTS)?;
    Encoder::is_no_decoder(config)?;
    e.info.head_dropout = config.probability_or_null("classifier_dropout", e.info.head_dropout.into())?;
    e.embedding = config.count_or("embedding_size", 128)?;
    e.project = (e.embedding != e.info.channels).then_some("embeddings_project");
    let masked_lm = MaskedLmHead {
        dense: "generator_predictions.dense",
        dense_bias: true,
        act: Activation::Gelu,
        norm: "generator_predictions.LayerNorm",
        norm_bias: true,
        decoder: "generator_lm_head",
        last_bias: Some("generator_lm_head.bias"),
        beside_decoder: false,
    };
    e.masked_lm = config.is_of(&["ElectraForMaskedLM"]).then_some(masked_lm);
    config.finish()?; // what is refused is refused before a weight is read
    Ok(Box::new(PostNorm::<P>::load(e, load)?))
}
