//! Several adapters' outputs, mixed by weights that train.
//!
//! Fusions can be mixed too: of a fusion with output y = m + residual, another one mixes m, what it
//! adds to the hidden states, as it mixes the output U of an adapter. All of them read what the last
//! adapter of the outermost one enters with, and the residual is added once, behind the outermost.
//!
//! A way to mix is a file here: its configuration ([`FusionConfig`]), what mixes at a site
//! ([`Mixer`]) with the formula, and one row ([`Method`]) in [`METHODS`].
mod attention;
mod files;
mod gating;
mod matrices;
mod mixer;
mod shares;
mod space;
mod weighted;

pub use attention::AttentionConfig;
pub use files::{Fusion, Member};
pub use gating::{GateFunction, GatingConfig};
pub use mixer::{Child, Chosen, Configured, FusionConfig, Method, Mixed, Mixer, Mixture, Residuals};
pub use shares::{AdapterShare, Shares, SiteShares};
pub use weighted::{WeightedConfig, WeightedStart};

use crate::{Error, Result, grammar, grammar::Fields};

/// Every way to mix.
pub const METHODS: &[&Method] = &[&attention::METHOD, &weighted::METHOD, &gating::METHOD];

/// What a configuration string describes, with more fields over those that it gives: `attention`,
/// `static`,
/// `attention[heads=8]`.
pub fn parse(text: &str, more: &Fields) -> Configured {
    let mut all = grammar::parse(text)?;
    let (Some(named), true) = (all.pop(), all.is_empty()) else {
        return Err(Error::Config(format!("`{text}` is more than one way to mix")));
    };
    let Some(method) = METHODS.iter().find(|m| m.names.contains(&named.name.as_str())) else {
        let known: Vec<_> = METHODS.iter().flat_map(|m| m.names).map(|n| format!("`{n}`")).collect();
        let (name, known) = (&named.name, known.join(", "));
        return Err(Error::Config(format!("`{name}` is not the name of a fusion; there are {known}")));
    };
    let mut fields = named.fields;
    fields.extend(more.clone());
    (method.preset)(&named.name, fields).map_err(|e| Error::Config(format!("`{}`: {e}", named.name)))
}

/// What the `config` of an `adapter_fusion_config.json` describes: AdapterHub's has no `method`.
pub(crate) fn read(mut fields: Fields) -> Configured {
    let name = match fields.remove("method") {
        None => attention::METHOD.names[0].to_string(),
        Some(serde_json::Value::String(name)) => name,
        Some(v) => return Err(Error::Config(format!("`method` is {v}, expected a text"))),
    };
    match METHODS.iter().find(|m| m.names[0] == name) {
        Some(method) => (method.read)(fields),
        None => Err(Error::Config(format!("`method` is `{name}`, which is no fusion"))),
    }
}

/// The result of this crate, where a method is made.
pub(crate) fn boxed<C: FusionConfig + 'static>(config: Result<C>) -> Configured {
    Ok(Box::new(config?))
}
