//! The ways to adapt a model, and the registry.
//!
//! A method is a file here: its configuration ([`Config`]), the module that it puts at a site
//! ([`Module`]) with the formula, and one row ([`Method`]) in [`METHODS`]. All of it is public: a
//! crate of its own can define a method just so, and hand its [`Config`] to
//! [`crate::Adapter::new`], or its row to [`Methods`].
mod bitfit;
mod bottleneck;
mod bottleneck_config;
mod bottleneck_module;
mod dora;
mod gate;
mod ia3;
mod ia3_module;
mod invertible;
mod ln_tuning;
pub mod lora;
mod lora_module;
mod magnitude;
mod own_weights;
mod parts;
mod peft_ia3;
pub(crate) mod peft_lora;
mod peft_prompt;
mod peft_targets;
mod peft_vera;
mod phm;
mod prefix;
mod prefix_module;
mod projection;
mod prompt;
mod reduction;
mod reft;
mod reft_module;
mod start;
mod union;
mod vera;
mod vera_module;

pub use bitfit::{Bias, BitFitConfig};
pub use bottleneck_config::{BnConfig, Placement, PostAdd, Residual, Scaling, Start, TrainedScaling};
pub use bottleneck_module::Bottleneck;
pub use ln_tuning::LnTuningConfig;
pub use lora::LoraConfig;
pub use lora_module::Lora;
pub use prefix::PrefixConfig;
pub use prompt::PromptConfig;
pub use reduction::Reduction;
pub use reft::ReftConfig;
pub use start::LoraStart;
pub use union::Union;

use crate::{Common, Error, Module, Place, Result, grammar, grammar::Fields};
use engraft_engine::{Site, SiteInfo, Source, checkpoint::TensorData};
use serde_json::Value;
use std::fmt;

/// A configuration, or why there is none.
pub type Configured = Result<Box<dyn Config>>;

/// A row of the registry.
#[derive(Debug)]
pub struct Method {
    /// The names under which configuration strings know it and its presets.
    pub names: &'static [&'static str],
    /// The value of `architecture` in AdapterHub's files; none if they have no such field. The
    /// first row with a value reads them.
    pub architecture: Option<&'static str>,
    /// One of the names, with fields that differ from what it stands for.
    pub preset: fn(name: &str, fields: Fields) -> Configured,
    /// The `config` of an `adapter_config.json` and the `version` beside it.
    pub read: fn(fields: Fields, version: Option<&str>) -> Configured,
    /// What PEFT's files call it (`peft_type`), and how such a file's fields are read; none if PEFT
    /// has no such method, or its files are not read.
    pub peft: Option<PeftMethod>,
}
/// How a method's PEFT files are read.
#[derive(Debug)]
pub struct PeftMethod {
    /// The value of `peft_type`.
    pub name: &'static str,
    /// The fields of an `adapter_config.json` that PEFT wrote.
    pub read: fn(Fields) -> Configured,
}
/// Every method; the first name of the first one is what is trained if nothing is said.
pub const METHODS: &[&Method] = &[
    &bottleneck::METHOD,
    &lora::METHOD,
    &dora::METHOD,
    &ia3::METHOD,
    &vera::METHOD,
    &bitfit::METHOD,
    &ln_tuning::METHOD,
    &prefix::METHOD,
    &prompt::METHOD,
    &reft::METHOD,
    &union::METHOD,
];

/// The methods that strings and files may name: those of [`METHODS`], and perhaps others.
#[derive(Clone, Debug)]
pub struct Methods(Vec<&'static Method>);
impl Default for Methods {
    fn default() -> Methods {
        Methods(METHODS.to_vec())
    }
}
impl Methods {
    /// One more.
    pub fn with(mut self, method: &'static Method) -> Methods {
        self.0.push(method);
        self
    }
    /// What a configuration string describes (see [`grammar`]), with more fields over those that it
    /// gives: where it names several methods, over those of each.
    pub fn parse(&self, text: &str, more: &Fields) -> Configured {
        let one = |named: grammar::Named| {
            let Some(m) = self.0.iter().find(|m| m.names.contains(&named.name.as_str())) else {
                let known: Vec<_> = self.0.iter().flat_map(|m| m.names).map(|n| format!("`{n}`")).collect();
                let (name, known) = (&named.name, known.join(", "));
                return Err(Error::Config(format!(
                    "`{name}` is not the name of a method; there are {known}"
                )));
            };
            let mut fields = named.fields;
            fields.extend(more.clone());
            let config = (m.preset)(&named.name, fields);
            config.map_err(|e| Error::Config(format!("`{}`: {e}", named.name)))
        };
        let mut all = grammar::parse(text)?.into_iter().map(one).collect::<Result<Vec<_>>>()?;
        match all.len() {
            1 => Ok(all.remove(0)),
            _ => Ok(Box::new(Union::new(all)?)),
        }
    }
    /// What the `config` of an `adapter_config.json` of AdapterHub describes: fields, a
    /// configuration string, or nothing, which is the library's default.
    pub(crate) fn read(&self, config: Value, version: Option<&str>) -> Configured {
        let mut fields = match config {
            Value::Object(fields) => fields,
            Value::Null => return self.parse("seq_bn", &Fields::new()),
            Value::String(text) => return self.parse(&text, &Fields::new()),
            other => return Err(Error::Config(format!("`config` is {other}, expected fields or a text"))),
        };
        let architecture = match fields.remove("architecture") {
            None | Some(Value::Null) => None,
            Some(Value::String(s)) => Some(s),
            Some(v) => return Err(Error::Config(format!("`architecture` is {v}, expected a text"))),
        };
        if architecture.as_deref() == Some(union::ARCHITECTURE) {
            return Ok(Box::new(Union::read(self, fields, version)?));
        }
        match self.0.iter().find(|m| m.architecture == architecture.as_deref()) {
            Some(m) => (m.read)(fields, version),
            None => {
                let mut known: Vec<_> = self.0.iter().filter_map(|m| m.architecture).collect();
                known.dedup(); // rows of one architecture stand together
                Err(Error::Config(format!(
                    "`architecture` is `{}`; supported are {} and bottlenecks, which have none",
                    architecture.unwrap_or_default(),
                    known.join(", ")
                )))
            }
        }
    }
    /// What the `adapter_config.json` of PEFT describes.
    pub(crate) fn read_peft(&self, fields: Fields) -> Configured {
        let name = match fields.get("peft_type") {
            Some(Value::String(s)) => s.clone(),
            other => return Err(Error::Config(format!("`peft_type` is {other:?}, expected a text"))),
        };
        let mut known = self.0.iter().filter_map(|m| m.peft.as_ref());
        match known.find(|p| p.name == name) {
            Some(p) => (p.read)(fields),
            None => Err(Error::Config(format!("PEFT's {name} is not supported yet"))),
        }
    }
}
/// What a configuration string describes: [`Methods::parse`] with the methods of this crate.
pub fn parse(text: &str, more: &Fields) -> Configured {
    Methods::default().parse(text, more)
}

/// The configuration of a method: what it puts where.
pub trait Config: fmt::Debug + Send + Sync {
    /// Refuses what cannot be computed, whatever the model.
    fn check(&self) -> Result<()> {
        Ok(())
    }
    /// Layers that it names as those without modules: a model must have them.
    fn leave_out(&self) -> Vec<usize> {
        vec![]
    }
    /// Whether what its modules do in a layer depends on the place of a row in its sequence.
    fn reads_places(&self, _layer: usize) -> bool {
        false
    }
    /// The weights that its modules share: asked for once, at the embeddings, before any module.
    fn common(&self, _place: &Place<'_>, _to: &mut Common, _from: &mut Source<'_, '_>) -> Result<()> {
        Ok(())
    }
    /// The modules at a site: none where the method does nothing. It is asked for every site of a
    /// model, in order.
    fn build(&self, place: &Place<'_>, from: &mut Source<'_, '_>) -> Result<Vec<Box<dyn Module>>>;
    /// The `config` of AdapterHub's `adapter_config.json`; an error if its format cannot say it.
    fn adapterhub(&self) -> Result<Fields>;
    /// The same for an adapter with modules at `own` of the sites of a model.
    fn adapterhub_at(&self, _sites: &[SiteInfo], _own: &[Site]) -> Result<Fields> {
        self.adapterhub()
    }
    /// The `adapter_config.json` of PEFT on a model with these sites; an error if its format cannot
    /// say it.
    fn peft(&self, _sites: &[SiteInfo]) -> Result<Fields> {
        Err(Error::Config("PEFT has no such method: its format cannot say it".into()))
    }
    /// The tensors of PEFT's checkpoint that stand for the whole model, made of the weights that
    /// its modules share.
    fn peft_tensors<'c>(&self, _common: &'c Common) -> Result<Vec<(String, TensorData<'c>)>> {
        Ok(vec![])
    }
}

impl<C: Config + 'static> From<C> for Box<dyn Config> {
    fn from(config: C) -> Box<dyn Config> {
        Box::new(config)
    }
}

/// Fields over the ones of a preset, as the configuration they describe.
pub fn overlaid<C: serde::Serialize + serde::de::DeserializeOwned>(preset: &C, fields: Fields) -> Result<C> {
    match serde_json::to_value(preset) {
        Ok(Value::Object(mut all)) => {
            all.extend(fields);
            read(all)
        }
        _ => Err(Error::Config("a configuration is an object".into())),
    }
}
/// Fields as the configuration they describe.
pub fn read<C: serde::de::DeserializeOwned>(fields: Fields) -> Result<C> {
    serde_json::from_value(Value::Object(fields)).map_err(|e| Error::Config(e.to_string()))
}
/// A configuration as AdapterHub writes it.
pub fn written<C: serde::Serialize>(config: &C) -> Result<Fields> {
    match serde_json::to_value(config) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(Error::Config("a configuration is an object".into())),
        Err(e) => Err(Error::Config(e.to_string())),
    }
}
