//! Qwen2 (Yang et al. 2024): LLaMA's body with biases of queries, keys and values, and windows in
//! some layers.
use crate::{
    Config, Family, Model, Result,
    llama::{self, Defaults, Kin, Llama},
};
use engraft_engine::{Frozen, Load, Param, Point, Weight};

/// The registry row.
pub const FAMILY: Family = Family {
    name: "qwen2",
    prefix: "model.",
    aliases: &[],
    frozen: build::<Frozen>,
    trained: build::<Param>,
};

fn build<P: Weight>(config: &Config, load: &mut Load<'_>) -> Result<Box<dyn Model>> {
    let kin = Kin {
        family: FAMILY.name,
        class: "Qwen2AdapterModel", // after the pattern: AdapterHub has none
        qkv_bias: true,
        o_bias: false,
        mlp_bias: false,
        qk_norms: false,
        feed_forward: [Point::Up, Point::Down],
        head_dim: config.has("head_dim").then(|| config.count("head_dim")).transpose()?,
        windows: windows(config)?,
        defaults: DEFAULTS,
    };
    Ok(Box::new(Llama::<P>::load(config, load, kin)?))
}

/// Values of fields that a file leaves out, here and in Qwen3.
pub(crate) const DEFAULTS: Defaults = Defaults {
    vocab_size: 151936,
    intermediate_size: 22016,
    num_key_value_heads: Some(32),
    max_position_embeddings: 32768,
};

/// The window of every layer: by `layer_types`, or of the layers from `max_window_layers` on.
pub(crate) fn windows(config: &Config) -> Result<Vec<Option<usize>>> {
    let (layers, uses) = (llama::layers(config)?, config.flag("use_sliding_window", false)?);
    let size = match (uses, config.has("sliding_window")) {
        (true, true) => config.value("sliding_window").map(|_| config.count("sliding_window")).transpose()?,
        (true, false) => Some(4096),
        (false, _) => {
            config.value("sliding_window"); // read, and not used
            None
        }
    };
    let from = config.count_from_0("max_window_layers", 28)?;
    let Some(types) = config.texts("layer_types")? else {
        return Ok((0..layers).map(|l| size.filter(|_| l >= from)).collect());
    };
    if types.len() != layers {
        let what = format!("`layer_types` has {} layers, `num_hidden_layers` is {layers}", types.len());
        return Err(config.error(what));
    }
    let one = |name: &String| match (&**name, size) {
        ("full_attention", _) => Ok(None),
        ("sliding_attention", Some(n)) => Ok(Some(n)),
        ("sliding_attention", None) => {
            Err(config.error("`layer_types` has `sliding_attention`, and there is no `sliding_window`"))
        }
        (other, _) => Err(config.error(format!("`layer_types` has `{other}`, which is not supported"))),
    };
    types.iter().map(one).collect()
}
