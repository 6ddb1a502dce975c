//! Several methods under one name, at different sites or in different ways: AdapterHub's
//! `ConfigUnion`.
use super::{BnConfig, Config, LoraConfig, Method, Methods, PrefixConfig};
use crate::{Common, Error, Module, Place, Result, grammar::Fields};
use engraft_engine::Source;
use serde_json::Value;

pub(super) const ARCHITECTURE: &str = "union";

/// The registry row.
pub(super) const METHOD: Method = Method {
    names: &["mam", "unipelt"],
    architecture: Some(ARCHITECTURE),
    preset: |name, fields| {
        if let Some(field) = fields.keys().next() {
            let what = format!("`{field}` is a field of a member: write the members, with `|` between them");
            return Err(Error::Config(what));
        }
        Ok(Box::new(match name {
            "mam" => Union::mix_and_match()?,
            _ => Union::unipelt()?,
        }))
    },
    // its members are read by whoever knows all methods
    read: |_, _| Err(nested()),
    peft: None,
};

fn nested() -> Error {
    Error::Config("a union within a union is not supported: write its members, with `|` between them".into())
}

/// Several configurations as one.
#[derive(Debug)]
pub struct Union(Vec<Box<dyn Config>>);

impl Union {
    /// Of two or more.
    pub fn new(members: Vec<Box<dyn Config>>) -> Result<Union> {
        match members.len() {
            0 | 1 => Err(Error::Config("a union has two members or more".into())),
            _ => Ok(Union(members)),
        }
    }
    /// A prefix and a parallel bottleneck (He et al. 2022).
    fn mix_and_match() -> Result<Union> {
        let prefix = PrefixConfig { bottleneck_size: 800, ..PrefixConfig::default() };
        Union::new(vec![prefix.into(), BnConfig::parallel().into()])
    }
    /// A prefix, a bottleneck and a LoRA, each behind a gate (Mao et al. 2022).
    fn unipelt() -> Result<Union> {
        let prefix = PrefixConfig { prefix_length: 10, use_gating: true, ..PrefixConfig::default() };
        let bottleneck = BnConfig { use_gating: true, ..BnConfig::pfeiffer() };
        let lora = LoraConfig { alpha: 2.0, use_gating: true, ..LoraConfig::default() };
        Union::new(vec![prefix.into(), bottleneck.into(), lora.into()])
    }
    pub(super) fn read(methods: &Methods, mut fields: Fields, version: Option<&str>) -> Result<Union> {
        let Some(Value::Array(members)) = fields.remove("configs") else {
            return Err(Error::Config("a union needs the list `configs`".into()));
        };
        if let Some(other) = fields.keys().next() {
            return Err(Error::Config(format!("unknown field `{other}` of a union")));
        }
        let is_nested = |m: &Value| m["architecture"] == ARCHITECTURE;
        if members.iter().any(is_nested) {
            return Err(nested());
        }
        Union::new(members.into_iter().map(|m| methods.read(m, version)).collect::<Result<_>>()?)
    }
}
impl Config for Union {
    fn check(&self) -> Result<()> {
        // a configuration that only PEFT's format can say is no union
        let is_union = |c: &dyn Config| {
            c.adapterhub().is_ok_and(|f| f.get("architecture") == Some(&ARCHITECTURE.into()))
        };
        match self.0.iter().any(|c| is_union(&**c)) {
            true => Err(nested()),
            false => self.0.iter().try_for_each(|c| c.check()),
        }
    }
    fn leave_out(&self) -> Vec<usize> {
        self.0.iter().flat_map(|c| c.leave_out()).collect()
    }
    fn reads_places(&self, layer: usize) -> bool {
        self.0.iter().any(|c| c.reads_places(layer))
    }
    fn common(&self, place: &Place<'_>, to: &mut Common, from: &mut Source<'_, '_>) -> Result<()> {
        self.0.iter().try_for_each(|c| c.common(place, to, from))
    }
    fn build(&self, place: &Place<'_>, from: &mut Source<'_, '_>) -> Result<Vec<Box<dyn Module>>> {
        let mut all: Vec<Box<dyn Module>> = vec![];
        for member in &self.0 {
            let here = member.build(place, from)?;
            if let Some(two) = here.iter().find(|m| all.iter().any(|o| o.collection() == m.collection())) {
                let (kind, path) = (two.collection(), &place.info.path);
                return Err(Error::Config(format!("two members of a union have `{kind}` at `{path}`")));
            }
            all.extend(here);
        }
        Ok(all)
    }
    fn adapterhub(&self) -> Result<Fields> {
        let members = self.0.iter().map(|c| c.adapterhub().map(Value::Object)).collect::<Result<Vec<_>>>()?;
        let fields = [("architecture", ARCHITECTURE.into()), ("configs", Value::Array(members))];
        Ok(fields.map(|(k, v)| (k.to_string(), v)).into_iter().collect())
    }
}
