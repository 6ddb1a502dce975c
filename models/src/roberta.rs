//! RoBERTa (Liu et al. 2019) and XLM-RoBERTa (Conneau et al. 2020): BERT's layers, and positions
//! that begin behind the number of the padding token. Names as in Hugging Face `RobertaModel` and
//! `RobertaForMaskedLM`, which are those of the XLM classes too.
use crate::{
    Config, Family, Model, Result,
    encoder::{BERT, BERT_LAYER, Defaults, Encoder, KINDS, Names, Positions},
    masked_lm::MaskedLmHead,
    post_norm::PostNorm,
};
use engraft_engine::{Activation, Frozen, Load, Param, Weight};

/// The registry row.
pub const FAMILY: Family = Family {
    name: "roberta",
    prefix: "roberta.",
    aliases: &[],
    frozen: roberta::<Frozen>,
    trained: roberta::<Param>,
};
/// The registry row of XLM-RoBERTa.
pub const XLM: Family =
    Family { name: "xlm-roberta", frozen: xlm::<Frozen>, trained: xlm::<Param>, ..FAMILY };

const NAMES: Names = Names { root: "roberta", kinds: KINDS, pooler: Some("pooler.dense"), layer: BERT_LAYER };

fn roberta<P: Weight>(config: &Config, load: &mut Load<'_>) -> Result<Box<dyn Model>> {
    let defaults = Defaults { vocabulary: 50265, ..BERT };
    build::<P>(config, load, FAMILY.name, "RobertaAdapterModel", defaults)
}
fn xlm<P: Weight>(config: &Config, load: &mut Load<'_>) -> Result<Box<dyn Model>> {
    build::<P>(config, load, XLM.name, "XLMRobertaAdapterModel", BERT)
}
fn build<P: Weight>(
    config: &Config,
    load: &mut Load<'_>,
    family: &'static str,
    class: &'static str,
    defaults: Defaults,
) -> Result<Box<dyn Model>> {
    let mut e = Encoder::like_bert(config, family, class, NAMES, defaults)?;
    Encoder::is_no_decoder(config)?;
    e.info.head_dropout = config.probability_or_null("classifier_dropout", e.info.head_dropout.into())?;
    let (padding, rows) = (config.token("pad_token_id", 1)?, e.positions.rows(&e.info));
    let longest = rows.checked_sub(padding as usize + 1).filter(|n| *n > 0).ok_or_else(|| {
        config.error(format!(
            "`max_position_embeddings` is {rows}: positions begin behind `pad_token_id`, which is {padding}"
        ))
    })?;
    (e.positions, e.info.positions) = (Positions::Behind(padding), Some(longest));
    let masked_lm = MaskedLmHead {
        dense: "lm_head.dense",
        dense_bias: true,
        act: Activation::Gelu,
        norm: "lm_head.layer_norm",
        norm_bias: true,
        decoder: "lm_head.decoder",
        last_bias: Some("lm_head.bias"),
        beside_decoder: true,
    };
    e.masked_lm = config.is_of(&["RobertaForMaskedLM", "XLMRobertaForMaskedLM"]).then_some(masked_lm);
    config.finish()?; // what is refused is refused before a weight is read
    Ok(Box::new(PostNorm::<P>::load(e, load)?))
}
