//! Mistral (Jiang et al. 2023): LLaMA's body with a window in every layer.
use crate::{
    Config, Family, Model, Result,
    llama::{self, Defaults, Kin, Llama},
};
use engraft_engine::{Frozen, Load, Param, Point, Weight};

/// The registry row.
pub const FAMILY: Family = Family {
    name: "mistral",
    prefix: "model.",
    aliases: &[],
    frozen: build::<Frozen>,
    trained: build::<Param>,
};

fn build<P: Weight>(config: &Config, load: &mut Load<'_>) -> Result<Box<dyn Model>> {
    config.only("layer_types", "null")?; // the library's cache reads them, its masks do not
    let window = match config.has("sliding_window") {
        true => config.value("sliding_window").map(|_| config.count("sliding_window")).transpose()?,
        false => Some(4096),
    };
    let kin = Kin {
        family: FAMILY.name,
        class: "MistralAdapterModel",
        qkv_bias: false,
        o_bias: false,
        mlp_bias: false,
        qk_norms: false,
        feed_forward: [Point::Down, Point::Up],
        head_dim: config.value("head_dim").map(|_| config.count("head_dim")).transpose()?,
        windows: vec![window; llama::layers(config)?],
        defaults: Defaults {
            vocab_size: 32000,
            intermediate_size: 14336,
            num_key_value_heads: Some(8),
            max_position_embeddings: 4096 * 32,
        },
    };
    Ok(Box::new(Llama::<P>::load(config, load, kin)?))
}
