//! What a way to mix is made of.
use crate::{Common, Here, Narrow, Place, Result, State, grammar::Fields};
use engraft_engine::{self as engine, Act, Cx, Parameters, Source, Tensor};
use std::fmt;

/// A configuration, or why there is none.
pub type Configured = Result<Box<dyn FusionConfig>>;

/// A row of the registry.
#[derive(Debug)]
pub struct Method {
    /// The names under which configuration strings know it and its presets; the first one is its
    /// name in files.
    pub names: &'static [&'static str],
    /// One of the names, with fields that differ from what it stands for.
    pub preset: fn(name: &str, fields: Fields) -> Configured,
    /// The `config` of an `adapter_fusion_config.json`, without `method`.
    pub read: fn(fields: Fields) -> Configured,
}

/// The configuration of a way to mix.
pub trait FusionConfig: fmt::Debug + Send + Sync {
    /// Refuses what cannot be computed, whatever the model.
    fn check(&self) -> Result<()> {
        Ok(())
    }
    /// True if its only weights are those that all sites share.
    fn is_shared(&self) -> bool {
        false
    }
    /// The weights that all sites share, for so many adapters: asked for once, at the embeddings,
    /// before any site; their names are `{path}.{tensor}`.
    fn common(
        &self,
        _place: &Place<'_>,
        _path: &str,
        _children: usize,
        _to: &mut Common,
        _from: &mut Source<'_, '_>,
    ) -> Result<()> {
        Ok(())
    }
    /// What mixes so many adapters at the end of a sub-layer; its tensors are named
    /// `{path}.{tensor}`.
    fn build(
        &self,
        place: &Place<'_>,
        path: &str,
        children: usize,
        from: &mut Source<'_, '_>,
    ) -> Result<Box<dyn Mixer>>;
    /// The `config` of an `adapter_fusion_config.json`.
    fn fields(&self) -> Result<Fields>;
}

/// A fused adapter, as a fusion sees it at the end of a sub-layer: what it computes in its
/// bottleneck, and the way up.
#[derive(Clone)]
pub struct Child<'m> {
    /// Which of the fusion's adapters it is.
    pub index: usize,
    /// What it computes in its bottleneck, (T, B): of those sequences alone for which it was
    /// chosen.
    pub a: Act,
    /// Its bottleneck.
    pub narrow: &'m dyn Narrow,
    /// What the bottleneck is told.
    pub here: Here<'m>,
}

/// What a mixture is added to.
#[derive(Clone, Debug)]
pub struct Residuals {
    /// What the mixture is added to: nothing but zeros where that is done when the last adapter
    /// leaves.
    pub after: Act,
    /// What is part of each adapter's output where a fusion wants that.
    pub of_each: Act,
}

/// Which adapters are computed for which sequences.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// The fusion's adapters that were asked for, by their numbers.
    pub adapters: Vec<usize>,
    /// The share of each of them in each sequence: (sequences, adapters), 0 for one that is not
    /// chosen.
    pub shares: Act,
    /// For each of the fusion's adapters the sequences for which it is chosen, by their numbers.
    pub sequences: Vec<Vec<usize>>,
}

/// What a fusion gives at the end of a sub-layer.
#[derive(Clone, Debug)]
pub struct Mixed {
    /// The mixture, with its residual. (T, C)
    pub y: Act,
    /// The share of each adapter, for each head if there are several: (T, adapters * heads).
    pub shares: Act,
}

/// What mixes adapters' outputs at the end of a sub-layer.
pub trait Mixer: Parameters + fmt::Debug + Send + Sync {
    /// The adapters that are worth computing for each sequence, of those with these numbers; none:
    /// all of them. What is `read` is as for [`Mixer::mix`].
    fn choose<'m>(
        &'m self,
        _cx: &mut Cx<'m>,
        _here: Here<'m>,
        _read: (&Act, &State),
        _adapters: &[usize],
    ) -> engine::Result<Option<Chosen>> {
        Ok(None)
    }
    /// The mixture. What is `read`: the sub-layer's output, and what the last of the adapters
    /// entered with.
    fn mix<'m>(
        &'m self,
        cx: &mut Cx<'m>,
        here: Here<'m>,
        read: (&Act, &State),
        residuals: Residuals,
        children: &[Child<'m>],
        chosen: Option<&Chosen>,
    ) -> engine::Result<Mixed>;
    /// What is added to the loss, if anything is. (1, 1)
    fn penalty<'m>(&'m self, _cx: &mut Cx<'m>) -> engine::Result<Option<Act>> {
        Ok(None)
    }
    /// Calls `f` on every tensor, with its name within the fusion.
    fn each<'a>(&'a self, f: &mut dyn FnMut(String, &'a Tensor));
    /// Trains no more.
    fn freeze(self: Box<Self>) -> Box<dyn Mixer>;
}
