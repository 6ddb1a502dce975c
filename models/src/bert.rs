//! BERT (Devlin et al. 2018); names as in Hugging Face `BertModel` and `BertForMaskedLM`. The
//! forward pass is that of [`PostNorm`].
use crate::{
    Config, Family, Model, Result,
    encoder::{BERT, BERT_LAYER, Encoder, KINDS, Names},
    masked_lm::MaskedLmHead,
    post_norm::PostNorm,
};
use engraft_engine::{Frozen, Load, Param, Weight};

/// The registry row.
pub const FAMILY: Family =
    Family { name: "bert", prefix: "bert.", aliases: &[], frozen: build::<Frozen>, trained: build::<Param> };

const NAMES: Names = Names { root: "bert", kinds: KINDS, pooler: Some("pooler.dense"), layer: BERT_LAYER };

fn build<P: Weight>(config: &Config, load: &mut Load<'_>) -> Result<Box<dyn Model>> {
    let mut e = Encoder::like_bert(config, FAMILY.name, "BertAdapterModel", NAMES, BERT)?;
    Encoder::is_no_decoder(config)?;
    e.info.head_dropout = config.probability_or_null("classifier_dropout", e.info.head_dropout.into())?;
    let masked_lm = MaskedLmHead {
        dense: "cls.predictions.transform.dense",
        dense_bias: true,
        act: config.activation("hidden_act", BERT.act)?,
        norm: "cls.predictions.transform.LayerNorm",
        norm_bias: true,
        decoder: "cls.predictions.decoder",
        last_bias: Some("cls.predictions.bias"),
        beside_decoder: false,
    };
    e.masked_lm =
        config.is_of(&["BertForMaskedLM", "BertForPreTraining", "BertLMHeadModel"]).then_some(masked_lm);
    config.finish()?; // what is refused is refused before a weight is read
    Ok(Box::new(PostNorm::<P>::load(e, load)?))
}
