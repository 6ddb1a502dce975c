//! What a way to mix is made of.
use super::matrices::{computed, constant, unit};
use crate::{Common, Here, Place, Result, Scale, State, Up, grammar::Fields};
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

/// What is fused, as a fusion sees it at the end of a sub-layer: an adapter by what it computes in
/// its bottleneck and the way up, and another fusion by what it mixes in bottleneck space.
#[derive(Clone)]
pub struct Child<'m> {
    /// Which of the fusion's members it is.
    pub index: usize,
    /// What is multiplied with the way up, (T, B): of those sequences alone for which it was
    /// chosen.
    pub a: Act,
    /// The way up, (B, C) if it is seen as a matrix.
    pub up: Up<'m>,
    /// True if its last adapter stands beside the sub-layer.
    pub is_parallel: bool,
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
    /// The mixture.
    pub of: Mixture,
    /// The share of each member, for each head if there are several: (T, members * heads).
    pub shares: Act,
}
/// A mixture: y = m + residual, (T, C), of which m is what is mixed.
#[derive(Clone, Debug)]
pub enum Mixture {
    /// m = a U, in bottleneck space.
    Narrow {
        /// a, (T, R).
        a: Act,
        /// U, (R, C).
        up: Act,
    },
    /// y.
    Whole(Act),
}
impl Mixture {
    /// y. (T, C)
    pub(crate) fn added<'m>(self, cx: &mut Cx<'m>, residual: &Act) -> engine::Result<Act> {
        match self {
            Mixture::Narrow { a, up } => cx.matmul_plus(&a, computed(&up, true), residual),
            Mixture::Whole(y) => Ok(y),
        }
    }
    /// m, as another fusion takes it: what is multiplied with the way up, and the way up. Out of
    /// bottleneck space these are y - residual and the identity.
    pub(crate) fn raised<'m>(self, cx: &mut Cx<'m>, residual: &Act) -> engine::Result<(Act, Up<'m>)> {
        let (a, up) = match self {
            Mixture::Narrow { a, up } => (a, up),
            Mixture::Whole(y) => {
                let less = cx.scale(residual.clone(), -1.0)?;
                (cx.add(&y, &less)?, constant(cx, &unit(y.cols(), y.cols()), y.cols())?)
            }
        };
        Ok((a, Up { layer: computed(&up, true), scaling: Scale::Fixed(1.0) }))
    }
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
