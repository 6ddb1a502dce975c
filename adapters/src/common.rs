//! Weights that the modules of one adapter share.
use crate::{Error, Result};
use engraft_engine::{Frozen, Init, Param, Parameters, Role, Source, Tensor, W, Weight};

/// Weights that the modules of one adapter share: the generator of all prefixes, the rule of all hypercomplex products.
#[derive(Debug, Default)]
pub struct Common(Vec<Shared>);

#[derive(Debug)]
struct Shared {
    /// What modules ask for.
    key: String,
    /// Under which name checkpoints have it.
    name: String,
    weight: SharedWeight,
}
/// A weight that trains or does not.
#[derive(Debug)]
pub enum SharedWeight {
    /// It does not.
    Frozen(Frozen),
    /// It does.
    Param(Param),
}
impl From<Frozen> for SharedWeight {
    fn from(w: Frozen) -> SharedWeight {
        SharedWeight::Frozen(w)
    }
}
impl From<Param> for SharedWeight {
    fn from(w: Param) -> SharedWeight {
        SharedWeight::Param(w)
    }
}

impl Common {
    /// One more: new, or loaded under its checkpoint name. Modules ask for the `key`.
    pub fn get(
        &mut self,
        key: &str,
        name: &str,
        (shape, role, init): (&[usize], Role, Init),
        trains: bool,
        from: &mut Source<'_, '_>,
    ) -> Result<()> {
        match trains {
            true => self.put(key, name, from.get::<Param>(name, shape, role, init)?),
            false => self.put(key, name, from.get::<Frozen>(name, shape, role, init)?),
        }
    }
    /// One more that is there already.
    pub fn put(&mut self, key: &str, name: &str, weight: impl Into<SharedWeight>) -> Result<()> {
        if self.find(key).is_some() {
            return Err(Error::Config(format!("two members of a union share a weight `{key}`")));
        }
        self.0.push(Shared { key: key.into(), name: name.into(), weight: weight.into() });
        Ok(())
    }
    fn find(&self, key: &str) -> Option<&Shared> {
        self.0.iter().find(|s| s.key == key)
    }
    /// The weight that modules know by this key: whoever builds a module that asks has put it here.
    pub fn weight(&self, key: &str) -> W<'_> {
        match self.find(key).map(|s| &s.weight) {
            Some(SharedWeight::Frozen(w)) => w.get(),
            Some(SharedWeight::Param(w)) => w.get(),
            None => unreachable!("`{key}` is shared"),
        }
    }
    /// Calls `f` on every tensor, with its name in checkpoints.
    pub fn each<'a>(&'a self, f: &mut dyn FnMut(String, &'a Tensor)) {
        for s in &self.0 {
            match &s.weight {
                SharedWeight::Frozen(w) => f(s.name.clone(), w.tensor()),
                SharedWeight::Param(w) => f(s.name.clone(), w.tensor()),
            }
        }
    }
    /// Trains no more.
    pub fn freeze(self) -> Common {
        let freeze = |s: Shared| match s.weight {
            SharedWeight::Param(w) => Shared { weight: SharedWeight::Frozen(w.freeze()), ..s },
            SharedWeight::Frozen(_) => s,
        };
        Common(self.0.into_iter().map(freeze).collect())
    }
}
impl Parameters for Common {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        for s in &self.0 {
            if let SharedWeight::Param(w) = &s.weight {
                f(w);
            }
        }
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        for s in &mut self.0 {
            if let SharedWeight::Param(w) = &mut s.weight {
                f(w);
            }
        }
    }
}
