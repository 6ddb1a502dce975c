//! Weights that the modules of one adapter share.
use crate::{Error, Result, base::Place};
use engraft_engine::{Frozen, Init, Param, Parameters, Role, Site, Source, Tensor, W, Weight};

/// Weights that the modules of one adapter share: the generator of all prefixes, the rule of all
/// hypercomplex products.
///
/// In AdapterHub's checkpoints they are `{model}.{collection}.{adapter}.{tensor}`. Modules ask for
/// the collection and the tensor.
#[derive(Debug, Default)]
pub struct Common(Vec<Shared>);

#[derive(Debug)]
struct Shared {
    key: Key<String>,
    /// The tensor's name in checkpoints, behind that of the adapter.
    name: String,
    /// Where it hangs there: the embeddings, or their words.
    home: Site,
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
    /// New, or loaded under its checkpoint name.
    pub fn get(
        trains: bool,
        name: &str,
        (shape, role, init): (&[usize], Role, Init),
        from: &mut Source<'_, '_>,
    ) -> Result<SharedWeight> {
        Ok(match trains {
            true => from.get::<Param>(name, shape, role, init)?.into(),
            false => from.get::<Frozen>(name, shape, role, init)?.into(),
        })
    }
    /// At its point of use.
    pub fn at_use(&self) -> W<'_> {
        match self {
            SharedWeight::Frozen(w) => w.get(),
            SharedWeight::Param(w) => w.get(),
        }
    }
    /// Its values.
    pub fn tensor(&self) -> &Tensor {
        match self {
            SharedWeight::Frozen(w) => w.tensor(),
            SharedWeight::Param(w) => w.tensor(),
        }
    }
    /// Trains no more.
    pub fn freeze(self) -> SharedWeight {
        match self {
            SharedWeight::Param(w) => w.freeze().into(),
            frozen => frozen,
        }
    }
}
impl Parameters for SharedWeight {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        if let SharedWeight::Param(w) = self {
            f(w);
        }
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        if let SharedWeight::Param(w) = self {
            f(w);
        }
    }
}

impl Common {
    /// One more: new, or loaded under its name in AdapterHub's checkpoints. `place` is that of the
    /// embeddings, or of their words.
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
        what: (&[usize], Role, Init),
        from: &mut Source<'_, '_>,
    ) -> Result<()> {
        let weight = SharedWeight::get(place.trains, name, what, from)?;
        self.put_at(place.info.site, (collection, tensor), tensor, weight)
    }
    /// One more that is there already, with a name of its own.
    pub fn put(&mut self, key: Key<&str>, name: &str, weight: impl Into<SharedWeight>) -> Result<()> {
        self.put_at(Site::EMBED, key, name, weight.into())
    }
    fn put_at(&mut self, home: Site, key: Key<&str>, name: &str, weight: SharedWeight) -> Result<()> {
        if self.find(key).is_some() {
            let what = format!("two members of a union share a weight `{}.{}`", key.0, key.1);
            return Err(Error::Config(what));
        }
        let (key, name) = ((key.0, key.1.to_string()), name.to_string());
        self.0.push(Shared { key, name, home, weight });
        Ok(())
    }
    fn find(&self, key: Key<&str>) -> Option<&SharedWeight> {
        self.0.iter().find(|s| (s.key.0, s.key.1.as_str()) == key).map(|s| &s.weight)
    }
    /// A weight: whoever builds a module that asks has put it here.
    pub fn weight(&self, key: Key<&str>) -> W<'_> {
        match self.find(key) {
            Some(w) => w.at_use(),
            None => unreachable!("{key:?} is shared"),
        }
    }
    /// The values of a weight, if it is there.
    pub fn tensor(&self, key: Key<&str>) -> Option<&Tensor> {
        self.find(key).map(SharedWeight::tensor)
    }
    /// Calls `f` on every tensor, with the site at which it hangs, its collection and its name.
    pub fn each<'a>(&'a self, f: &mut dyn FnMut(Site, &'static str, &'a str, &'a Tensor)) {
        self.0.iter().for_each(|s| f(s.home, s.key.0, &s.name, s.weight.tensor()));
    }
    /// Trains no more.
    pub fn freeze(self) -> Common {
        Common(self.0.into_iter().map(|s| Shared { weight: s.weight.freeze(), ..s }).collect())
    }
}
impl Parameters for Common {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.0.iter().for_each(|s| s.weight.visit(f));
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.0.iter_mut().for_each(|s| s.weight.visit_mut(f));
    }
}
