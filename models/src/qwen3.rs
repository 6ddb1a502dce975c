//! Qwen3 (Yang et al. 2025): LLaMA's body with norms of every head of queries and keys, and windows
//! in some layers.
use crate::{
    Config, Family, Model, Result,
    llama::{Kin, Llama},
    qwen2,
};
use engraft_engine::{Frozen, Load, Param, Point, Weight};

/// The registry row.
pub const FAMILY: Family = Family {
    name: "qwen3",
    prefix: "model.",
    aliases: &[],
    frozen: build::<Frozen>,
    trained: build::<Param>,
};

fn build<P: Weight>(config: &Config, load: &mut Load<'_>) -> Result<Box<dyn Model>> {
    let bias = config.flag("attention_bias", false)?;
    let kin = Kin {
        family: FAMILY.name,
        class: "Qwen3AdapterModel", // after the pattern: AdapterHub has none
        qkv_bias: bias,
        o_bias: bias,
        mlp_bias: false,
        qk_norms: true,
        feed_forward: [Point::Up, Point::Down],
        head_dim: Some(config.count_or("head_dim", 128)?),
        windows: qwen2::windows(config)?,
        defaults: qwen2::DEFAULTS,
    };
    Ok(Box::new(Llama::<P>::load(config, load, kin)?))
}
