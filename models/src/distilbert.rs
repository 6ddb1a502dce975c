//! DistilBERT (Sanh et al. 2019): BERT without token types and without a pooler. Names as in
//! Hugging Face `DistilBertModel` and `DistilBertForMaskedLM`.
use crate::{
    Config, Family, Kind, Model, ModelInfo, Result, Rows,
    encoder::{Encoder, LayerNames, Names, Positions},
    masked_lm::MaskedLmHead,
    post_norm::PostNorm,
};
use engraft_engine::{Frozen, Load, Param, Weight, ops::Heads};

/// The registry row.
pub const FAMILY: Family = Family {
    name: "distilbert",
    prefix: "distilbert.",
    aliases: &[("dim", "hidden_size"), ("n_heads", "num_attention_heads"), ("n_layers", "num_hidden_layers")],
    frozen: build::<Frozen>,
    trained: build::<Param>,
};

const NAMES: Names = Names {
    root: "distilbert",
    kinds: None,
    pooler: None,
    layer: LayerNames {
        q: "attention.q_lin",
        k: "attention.k_lin",
        v: "attention.v_lin",
        keys: "attention",
        o: "attention.out_lin",
        ln_1: "sa_layer_norm",
        after_attn: "attention_adapters",
        up: "ffn.lin1",
        down: "ffn.lin2",
        ln_2: "output_layer_norm",
        after_ffn: "output_adapters",
    },
};

fn build<P: Weight>(config: &Config, load: &mut Load<'_>) -> Result<Box<dyn Model>> {
    let dropout = config.probability("dropout", 0.1)?;
    let heads = Heads {
        count: config.count_or("n_heads", 12)?,
        dropout: config.probability("attention_dropout", 0.1)?,
        ..Heads::default()
    };
    let info = ModelInfo {
        family: FAMILY.name,
        kind: Kind::Encoder,
        channels: config.count_or("dim", 768)?,
        embedding: config.count_or("dim", 768)?,
        layers: config.layers("n_layers", 6)?,
        vocabulary: config.count_or("vocab_size", 30522)?,
        positions: Some(config.count_or("max_position_embeddings", 512)?),
        segments: 1,
        class: "DistilBertAdapterModel",
        dropout: dropout.max(heads.dropout),
        attention_dropout: heads.dropout,
        head_dropout: config.probability("seq_classif_dropout", 0.2)?,
        summary: Rows::First,
        has_pooler: false,
        has_lm_head: false,
        is_tied: config.flag("tie_word_embeddings", true)?,
        head_eps: 1e-12, // of every norm
    };
    let act = config.activation("activation", "gelu")?;
    let masked_lm = MaskedLmHead {
        dense: "vocab_transform",
        dense_bias: true,
        act,
        norm: "vocab_layer_norm",
        norm_bias: true,
        decoder: "vocab_projector",
        last_bias: Some("vocab_projector.bias"),
        beside_decoder: false,
    };
    let encoder = Encoder {
        names: NAMES,
        layers: (0..info.layers).map(|l| format!("{}.transformer.layer.{l}", NAMES.root)).collect(),
        embedding: info.channels,
        project: None,
        positions: Positions::FromZero,
        // sinusoids are what the table starts as, and stays; it is in the files whatever it holds
        fixed_positions: config.flag("sinusoidal_pos_embds", false)?,
        inner: config.count_or("hidden_dim", 3072)?,
        act,
        heads,
        embedding_dropout: dropout,
        attention_dropout: 0.0,
        ffn_dropout: dropout,
        turns_residual: false,
        masked_lm: config.is_of(&["DistilBertForMaskedLM"]).then_some(masked_lm),
        info,
    };
    config.whole_heads(("dim", encoder.info.channels), ("n_heads", encoder.heads.count))?;
    config.finish()?; // what is refused is refused before a weight is read
    Ok(Box::new(PostNorm::<P>::load(encoder, load)?))
}
