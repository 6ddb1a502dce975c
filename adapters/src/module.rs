//! What a method puts at a site of a model, and how the hooks of that site ask it.
use crate::{Common, Error, Result};
use engraft_engine::{
    self as engine, Act, Activation, Cx, LinearRef, NormRef, Parameters, Prefix, Site, SiteInfo, Tensor,
    checkpoint::TensorData,
};
use std::fmt;

/// What stands at one site.
pub trait Module: Parameters + fmt::Debug + Send + Sync {
    /// What it does there.
    fn view(&self) -> View<'_>;
    /// What AdapterHub's checkpoints call the modules of its kind: its tensors are
    /// `{site}.{collection}.{adapter}.{tensor}`.
    fn collection(&self) -> &'static str;
    /// The path of the model's module that it belongs to, under which checkpoints name it.
    fn home<'i>(&self, info: &'i SiteInfo) -> &'i str {
        &info.path
    }
    /// Calls `f` on every tensor, with its name within the module.
    fn each<'a>(&'a self, f: &mut dyn FnMut(String, &'a Tensor));
    /// Its tensors in AdapterHub's checkpoints, with their names within the module: all of them as
    /// they are.
    fn adapterhub(&self) -> Result<Vec<(String, TensorData<'_>)>> {
        let mut all = vec![];
        self.each(&mut |name, t| all.push((name, t)));
        let one = |(name, t): (String, &Tensor)| Ok((name, TensorData::f32(&t.to_f32()?, t.shape())));
        all.into_iter().map(one).collect()
    }
    /// Its tensors in PEFT's checkpoints, where they are `base_model.model.{site}.{tensor}`.
    fn peft(&self) -> Result<Vec<(&'static str, TensorData<'_>)>> {
        Err(not_in_peft())
    }
    /// What takes the place of weights of the model's module at its home; nothing, if it does more
    /// than that.
    fn replaces(&self) -> Result<Vec<Replaced>> {
        Ok(vec![])
    }
    /// Trains no more.
    fn freeze(self: Box<Self>) -> Box<dyn Module>;
}

pub(crate) fn not_in_peft() -> Error {
    Error::Config("this module cannot be written in PEFT's format".into())
}
/// Values that take the place of a weight of the model, or of a part of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Replaced {
    /// The tensor: `weight` or `bias`.
    pub tensor: &'static str,
    /// Its first element that is replaced.
    pub at: usize,
    /// What it becomes from there on.
    pub values: Vec<f32>,
}

/// A module as the hook sees it that it answers.
#[derive(Clone, Copy)]
pub enum View<'a> {
    /// On the residual stream.
    Stream(&'a dyn AtStream),
    /// At a linear layer.
    Linear(&'a dyn AtLinear),
    /// Beside the keys and values of an attention.
    Prefix(&'a dyn AtPrefix),
    /// At the end of a sub-layer.
    Close(&'a dyn AtClose),
    /// At a norm, by itself or at the end of a sub-layer.
    Norm(&'a dyn AtNorm),
}

/// Where a module is asked.
#[derive(Clone, Copy, Debug)]
pub struct Here<'m> {
    /// The site.
    pub site: Site,
    /// What the modules of its adapter share.
    pub common: &'m Common,
}

/// A module on the residual stream.
pub trait AtStream: Send + Sync {
    /// What becomes of x, (T, C): other values, and perhaps other rows, packed in another way.
    fn stream<'m>(&'m self, cx: &mut Cx<'m>, here: Here<'m>, x: Act) -> engine::Result<Act>;
}

/// A linear layer without the module that is asked: the model's product, and what other modules
/// make of it.
pub type Inner<'i, 'm> = &'i mut dyn FnMut(&mut Cx<'m>, &Act) -> engine::Result<Act>;

/// A module at a linear layer.
pub trait AtLinear: Send + Sync {
    /// What becomes of y = x Wᵀ + b, which is `inner(x)`. (T, in) to (T, out)
    fn linear<'m>(
        &'m self,
        cx: &mut Cx<'m>,
        here: Here<'m>,
        x: &Act,
        w: &LinearRef<'m>,
        inner: Inner<'_, 'm>,
    ) -> engine::Result<Act>;
    /// Puts what it does into a copy of the layer's own weights; an error if there are none that do
    /// it.
    fn merge(&self, _here: Here<'_>, _into: &mut Dense) -> Result<()> {
        Err(Error::Config("it is no other weight of the layer".into()))
    }
    /// The two matrices whose product it adds to W, if it does nothing else.
    fn factors(&self) -> Option<Factors<'_>> {
        None
    }
}
/// Two narrow matrices whose product is added to the weight of a linear layer.
#[derive(Clone, Copy, Debug)]
pub struct Factors<'a> {
    /// A (n r, in), of n parts.
    pub a: &'a Tensor,
    /// B (n out, r).
    pub b: &'a Tensor,
    /// The factor of the product, and the parts.
    pub how: &'a engine::LowRank,
}
/// A copy of a linear layer's weights, that modules are merged into.
#[derive(Clone, Debug, PartialEq)]
pub struct Dense {
    /// W (out, in), row by row.
    pub w: Vec<f32>,
    /// b (out), if there is one.
    pub b: Option<Vec<f32>>,
}

/// A module beside the keys and values of an attention.
pub trait AtPrefix: Send + Sync {
    /// The keys and values that it adds to those of the tokens; x is what the attention reads, (T,
    /// C).
    fn prefix<'m>(&'m self, cx: &mut Cx<'m>, here: Here<'m>, x: &Act) -> engine::Result<Prefix>;
}

/// A module that replaces the weights of a norm.
pub trait AtNorm: Send + Sync {
    /// The norm that takes the place of `n`.
    fn norm<'m>(&'m self, cx: &mut Cx<'m>, here: Here<'m>, n: NormRef<'m>) -> engine::Result<NormRef<'m>>;
}

/// A module at the end of a sub-layer with output h and residual r, in three steps, so that several
/// can follow each other: the next one enters with what the one before gave.
pub trait AtClose: Send + Sync {
    /// What it reads, and what it adds to.
    fn enter<'m>(&'m self, cx: &mut Cx<'m>, h: &Act, at: &At<'_, 'm>) -> engine::Result<State>;
    /// Its work. (T, C)
    fn run<'m>(&'m self, cx: &mut Cx<'m>, here: Here<'m>, state: State) -> engine::Result<Act>;
    /// Back into the model: what is left of norm(x + r). `h` is what the sub-layer gave.
    fn leave<'m>(&'m self, cx: &mut Cx<'m>, x: Act, h: &Act, at: &At<'_, 'm>) -> engine::Result<Act>;
    /// What [`AtClose::run`] would give if the module added nothing.
    fn idle<'m>(&'m self, _cx: &mut Cx<'m>, state: State) -> engine::Result<Act> {
        Ok(state.res)
    }
    /// Its parts, if it is a bottleneck: what a fusion mixes, and what many adapters compute
    /// together.
    fn narrow(&self) -> Option<&dyn Narrow> {
        None
    }
}
/// What flows through the modules at the end of a sub-layer.
#[derive(Clone, Debug)]
pub struct State {
    /// What the module reads.
    pub x: Act,
    /// What its output is added to.
    pub res: Act,
}
/// The model's own side of the end of a sub-layer.
#[derive(Clone, Debug)]
pub struct At<'a, 'm> {
    /// The residual.
    pub r: &'a Act,
    /// The norm behind it; none in a pre-norm model.
    pub norm: Option<NormRef<'m>>,
}

/// The parts of a bottleneck: U(x) = s (W_u a + b_u) with a = f(W_d x + b_d).
pub trait Narrow: Send + Sync {
    /// a: (T, C) to (T, B).
    fn hidden<'m>(&'m self, cx: &mut Cx<'m>, here: Here<'m>, x: &Act) -> engine::Result<Act>;
    /// What a is multiplied with.
    fn up<'m>(&'m self, cx: &mut Cx<'m>, here: Here<'m>) -> engine::Result<Up<'m>>;
    /// True if it stands beside the sub-layer, so that its residual is added when it leaves.
    fn is_parallel(&self) -> bool;
    /// Its two layers and what is between them, if [`AtClose::run`] is nothing but the residual
    /// plus those.
    fn layers<'m>(&'m self) -> Option<(LinearRef<'m>, Activation, LinearRef<'m>)> {
        None
    }
    /// How it enters and leaves, if that depends on nothing else: two that do so alike can do it
    /// together.
    fn rules(&self) -> Option<Rules> {
        None
    }
}
/// How a bottleneck enters and leaves the end of a sub-layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// It reads norm(h + r).
    pub norm_before: bool,
    /// Its output is added to h; otherwise to what it reads.
    pub adds_to_output: bool,
    /// What comes of that is added to r and goes through the norm.
    pub norm_after: bool,
}
/// The way up of a bottleneck.
#[derive(Clone, Debug)]
pub struct Up<'m> {
    /// W_u (C, B) and b_u (C).
    pub layer: LinearRef<'m>,
    /// s.
    pub scaling: Scale<'m>,
}
/// What a bottleneck's output is multiplied with.
#[derive(Clone, Debug)]
pub enum Scale<'m> {
    /// A constant.
    Fixed(f32),
    /// One number, or one for each channel.
    Row(engine::W<'m>),
}
