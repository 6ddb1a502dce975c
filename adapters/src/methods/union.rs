//! Several methods under one name, at different sites or in different ways: AdapterHub's `ConfigUnion`.
use super::{Config, Methods};
use crate::{Common, Error, Module, Place, Result, grammar::Fields};
use engraft_engine::Source;
use serde_json::Value;

pub(super) const ARCHITECTURE: &str = "union";

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
    pub(super) fn read(methods: &Methods, mut fields: Fields, version: Option<&str>) -> Result<Union> {
        let Some(Value::Array(members)) = fields.remove("configs") else {
            return Err(Error::Config("a union needs the list `configs`".into()));
        };
        if let Some(other) = fields.keys().next() {
            return Err(Error::Config(format!("unknown field `{other}` of a union")));
        }
        let is_nested = |m: &Value| m["architecture"] == ARCHITECTURE;
        if members.iter().any(is_nested) {
            return Err(Error::Config("a union within a union is not supported".into()));
        }
        Union::new(members.into_iter().map(|m| methods.read(m, version)).collect::<Result<_>>()?)
    }
}
impl Config for Union {
    fn check(&self) -> Result<()> {
        self.0.iter().try_for_each(|c| c.check())
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
