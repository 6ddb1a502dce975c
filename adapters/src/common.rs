//! Weights that the modules of one adapter share.
use crate::{Error, Result, base::Place};
use engraft_engine::{Frozen, Init, Param, Parameters, Role, Source, Tensor, W, Weight};

/// Weights that the modules of one adapter share: the generator of all prefixes, the rule of all hypercomplex products.
///
/// In AdapterHub's checkpoints they are `{model}.{collection}.{adapter}.{tensor}`. Modules ask for the collection and the tensor.
#[derive(Debug, Default)]
pub struct Common(Vec<Shared>);

#[derive(Debug)]
struct Shared {
    key: Key<String>,
    /// The tensor's name in checkpoints, behind that of the adapter.
    name: String,
    weight: SharedWeight,
}
/// (collection, tensor)
type Key<S> = (&'static str, S);

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
impl SharedWeight {
    fn tensor(&self) -> &Tensor {
        match self {
            SharedWeight::Frozen(w) => w.tensor(),
            SharedWeight::Param(w) => w.tensor(),
        }
    }
}

impl Common {
    /// One more: new, or loaded under its name in AdapterHub's checkpoints. `place` is that of the embeddings.
    pub fn get(
        &mut self,
        place: &Place<'_>,
        key: Key<&str>,
        how: (&[usize], Role, Init),
        from: &mut Source<'_, '_>,
    ) -> Result<()> {
        let name = format!("{}.{}", place.module(key.0), key.1);
        self.get_named(place, key, &name, how, from)
    }
    /// The same under a name that is not made of the key.
    pub fn get_named(
        &mut self,
        place: &Place<'_>,
        (collection, tensor): Key<&str>,
        name: &str,
        (shape, role, init): (&[usize], Role, Init),
        from: &mut Source<'_, '_>,
    ) -> Result<()> {
        match place.trains {
            true => self.put((collection, tensor), tensor, from.get::<Param>(name, shape, role, init)?),
            false => self.put((collection, tensor), tensor, from.get::<Frozen>(name, shape, role, init)?),
        }
    }
    /// One more that is there already, with a name of its own.
    pub fn put(&mut self, key: Key<&str>, name: &str, weight: impl Into<SharedWeight>) -> Result<()> {
        if self.find(key).is_some() {
            let what = format!("two members of a union share a weight `{}.{}`", key.0, key.1);
            return Err(Error::Config(what));
        }
        let (key, name) = ((key.0, key.1.to_string()), name.to_string());
        self.0.push(Shared { key, name, weight: weight.into() });
        Ok(())
    }
    fn find(&self, key: Key<&str>) -> Option<&SharedWeight> {
        self.0.iter().find(|s| (s.key.0, s.key.1.as_str()) == key).map(|s| &s.weight)
    }
    /// A weight: whoever builds a module that asks has put it here.
    pub fn weight(&self, key: Key<&str>) -> W<'_> {
        match self.find(key) {
            Some(SharedWeight::Frozen(w)) => w.get(),
            Some(SharedWeight::Param(w)) => w.get(),
            None => unreachable!("{key:?} is shared"),
        }
    }
    /// The values of a weight, if it is there.
    pub fn tensor(&self, key: Key<&str>) -> Option<&Tensor> {
        self.find(key).map(SharedWeight::tensor)
    }
    /// Calls `f` on every tensor, with its collection and its name.
    pub fn each<'a>(&'a self, f: &mut dyn FnMut(&'static str, &'a str, &'a Tensor)) {
        self.0.iter().for_each(|s| f(s.key.0, &s.name, s.weight.tensor()));
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
