//! AdapterFusion (Pfeiffer et al. 2021): each token attends to the outputs U_i of the adapters.
//!
//! ```text
//! s_i = <W_q x + b_q, W_k U_i + b_k>      p = softmax_i(dropout(s) / T)      y = Σ p_i W_v U_i + residual
//! ```
//! It has one head and no 1/√d, as AdapterHub's; `heads` and `scaled` give it several and the
//! factor. It is computed in bottleneck space (see [`super::space`]): with P_i = [W_q | b_q]ᵀ (W_k
//! Û_i + [0 | b_k]), s_i = [x, 1] P_i â_i. Several heads, and values that hold the residual
//! (`residual_before`), lie outside of it and are computed as they are written above.
use super::{
    Child, Chosen, FusionConfig, Method, Mixed, Mixer, Mixture, Residuals, boxed,
    matrices::{computed, unit},
    space::{Space, scaled},
};
use crate::{
    Error, Here, Place, Result, State,
    grammar::Fields,
    methods::{overlaid, read, written},
};
use engraft_engine::{
    self as engine, Act, Cx, Frozen, Init, Linear, LinearRef, Param, Parameters, Role, SiteKind, Source,
    Tensor, W, Weight,
};
use serde::{Deserialize, Serialize};
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

/// The registry row.
pub(super) const METHOD: Method = Method {
    names: &["attention", "dynamic", "static"],
    preset: |name, fields| {
        let preset = AttentionConfig {
            value: name != "static",
            value_initialized: name != "static",
            ..Default::default()
        };
        boxed(overlaid(&preset, fields))
    },
    read: |fields| boxed(read::<AttentionConfig>(fields)),
};

/// AdapterFusion, as AdapterHub describes it (its `DynamicAdapterFusionConfig` is the default),
/// with heads of ours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AttentionConfig {
    /// Dropout of the scores while training; none: that of the model's attention.
    pub dropout_prob: Option<f64>,
    /// Keys are projected.
    pub key: bool,
    /// Queries are projected.
    pub query: bool,
    /// The query is the sub-layer's output, before residual and norm.
    pub query_before_ln: bool,
    /// 0.01 ‖I - W_v‖² is added to the loss. AdapterHub adds it whatever the field says.
    pub regularization: bool,
    /// The values hold the residual, which is not added again.
    pub residual_before: bool,
    /// Scores are divided by a temperature, which falls from 50 to 1 by 0.05 with each pass of
    /// training.
    pub temperature: bool,
    /// The temperature that training has reached, which counts when nothing trains. AdapterHub does
    /// not save it.
    #[serde(skip_serializing_if = "Reached::is_start")]
    pub temperature_reached: Reached,
    /// Values are projected.
    pub value: bool,
    /// Values are projected before they are mixed: the same result either way.
    pub value_before_softmax: bool,
    /// The projection of values starts near the identity instead of at random.
    pub value_initialized: bool,
    /// Heads. AdapterHub has one.
    #[serde(skip_serializing_if = "is_one")]
    pub heads: usize,
    /// Scores are divided by √d, d being the channels of a head. AdapterHub's are not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub scaled: bool,
    /// Scores are multiplied with a number that trains, from 1 on. AdapterHub has none.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub learned_temperature: bool,
}
/// A temperature that falls while training.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "f32")]
pub struct Reached(Arc<AtomicU32>);
impl Reached {
    const START: f32 = 50.0;
    /// What it has reached.
    pub fn get(&self) -> f32 {
        f32::from_bits(self.0.load(Relaxed))
    }
    fn is_start(&self) -> bool {
        self.get() == Reached::START
    }
    /// The temperature of a pass: of training, if it has a number.
    fn of_pass(&self, number: Option<u64>) -> f32 {
        if let Some(n) = number {
            let t = (f64::from(Reached::START) - 0.05 * n as f64).max(1.0) as f32;
            self.0.store(t.to_bits(), Relaxed);
        }
        self.get()
    }
}
impl Default for Reached {
    fn default() -> Reached {
        Reached::START.into()
    }
}
impl From<f32> for Reached {
    fn from(t: f32) -> Reached {
        Reached(Arc::new(AtomicU32::new(t.to_bits())))
    }
}
impl PartialEq for Reached {
    fn eq(&self, other: &Reached) -> bool {
        self.get() == other.get()
    }
}
impl Serialize for Reached {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_f32(self.get())
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_one(n: &usize) -> bool {
    *n == 1
}
impl Default for AttentionConfig {
    fn default() -> AttentionConfig {
        AttentionConfig {
            dropout_prob: None,
            key: true,
            query: true,
            query_before_ln: false,
            regularization: true,
            residual_before: false,
            temperature: false,
            temperature_reached: Reached::default(),
            value: true,
            value_before_softmax: true,
            value_initialized: true,
            heads: 1,
            scaled: false,
            learned_temperature: false,
        }
    }
}
impl FusionConfig for AttentionConfig {
    fn check(&self) -> Result<()> {
        let reached = self.temperature_reached.get();
        if !(1.0..=Reached::START).contains(&reached) {
            return Err(Error::Config(format!("`temperature_reached` is {reached}, expected 1 to 50")));
        }
        if let Some(p) = self.dropout_prob.filter(|p| !(0.0..1.0).contains(p)) {
            return Err(Error::Config(format!("`dropout_prob` is {p}, expected 0 to below 1")));
        }
        match self.heads {
            0 => Err(Error::Config("`heads` is 0, expected 1 or more".into())),
            _ => Ok(()),
        }
    }
    fn build(
        &self,
        place: &Place<'_>,
        path: &str,
        _children: usize,
        from: &mut Source<'_, '_>,
    ) -> Result<Box<dyn Mixer>> {
        let SiteKind::Close { channels } = place.info.kind else {
            return Err(Error::Config("a fusion stands at the end of a sub-layer".into()));
        };
        if !channels.is_multiple_of(self.heads) {
            let n = self.heads;
            return Err(Error::Config(format!("`heads` is {n}, which does not divide {channels} channels")));
        }
        let dropout = self.dropout_prob.map_or(place.base.attention_dropout, |p| p as f32);
        Ok(match place.trains {
            true => Box::new(Attention::<Param>::build(self, dropout, channels, path, from)?),
            false => Box::new(Attention::<Frozen>::build(self, dropout, channels, path, from)?),
        })
    }
    fn fields(&self) -> Result<Fields> {
        written(self)
    }
}

/// An attention over adapters at one site.
#[derive(Debug)]
struct Attention<P: Weight> {
    config: Arc<AttentionConfig>,
    dropout: f32,
    query: Option<Linear<P>>,
    key: Option<Linear<P>>,
    value: Option<P>,
    temperature: Option<P>,
}
impl<P: Weight> Attention<P> {
    fn build(
        config: &AttentionConfig,
        dropout: f32,
        c: usize,
        path: &str,
        from: &mut Source<'_, '_>,
    ) -> Result<Attention<P>> {
        let (start, zero) = (Init::Normal(0.02), Some(Init::Constant(0.0)));
        let linear = |from: &mut Source<'_, '_>, is_there: bool, name: &str| {
            is_there.then(|| from.linear(&format!("{path}.{name}"), (c, c), start, zero)).transpose()
        };
        let query = linear(from, config.query, "query")?;
        let key = linear(from, config.key, "key")?;
        let near = Init::Diagonal { diagonal: 1.0, elsewhere: 1e-6 };
        let start = if config.value_initialized { near } else { start };
        let value = match config.value {
            true => Some(from.get(&format!("{path}.value.weight"), &[c, c], Role::WEIGHT, start)?),
            false => None,
        };
        let temperature = match config.learned_temperature {
            true => Some(from.get(&format!("{path}.temperature"), &[1], Role::BIAS, Init::Constant(1.0))?),
            false => None,
        };
        Ok(Attention { config: Arc::new(config.clone()), dropout, query, key, value, temperature })
    }
    /// The scores: s_i of a token and its heads, (T, adapters * heads), to shares.
    fn shares<'m>(&'m self, cx: &mut Cx<'m>, here: Here<'m>, mut scores: Act) -> engine::Result<Act> {
        if let Some(t) = &self.temperature {
            scores = cx.mul_row(&scores, t.get())?;
        }
        let scores = cx.dropout(scores, self.dropout, here.site, 2)?;
        let scores = match self.config.temperature {
            true => cx.scale(scores, 1.0 / self.config.temperature_reached.of_pass(cx.training_pass()))?,
            false => scores,
        };
        cx.softmax(&scores, self.config.heads)
    }
    fn in_bottleneck_space<'m>(
        &'m self,
        cx: &mut Cx<'m>,
        here: Here<'m>,
        query: &Act,
        children: &[Child<'m>],
    ) -> engine::Result<Mixed> {
        let space = Space::of(cx, children)?;
        // (W_k Û + [0 | b_k])ᵀ, (R, C)
        let keys = match self.key.as_ref().map(Linear::get) {
            Some(LinearRef { w, b: Some(b), .. }) => {
                let keys = cx.matmul(&space.up, LinearRef { w, b: None, in_out: false })?;
                cx.matmul_plus(&space.biases, LinearRef { w: b, b: None, in_out: true }, &keys)?
            }
            Some(LinearRef { w, .. }) => cx.matmul(&space.up, LinearRef { w, b: None, in_out: false })?,
            None => space.up.clone(),
        };
        // Pᵀ: (R, C), and what the query's bias makes of the keys: (R, 1)
        let (keys, bias) = match self.query.as_ref().map(Linear::get) {
            Some(LinearRef { w, b, .. }) => {
                let bias = match b {
                    Some(w) => Some(cx.matmul(&keys, LinearRef { w, b: None, in_out: false })?),
                    None => None,
                };
                (cx.matmul(&keys, LinearRef { w, b: None, in_out: true })?, bias)
            }
            None => (keys, None),
        };
        let projected = LinearRef { b: bias.map(W::Computed), ..computed(&keys, false) };
        let q = cx.matmul(query, projected)?; // (T, R)
        let mut scores = cx.group_dots(&q, &space.a, &space.widths)?;
        if self.config.scaled {
            scores = cx.scale(scores, 1.0 / (query.cols() as f32).sqrt())?;
        }
        let shares = self.shares(cx, here, scores)?;
        let value = self.value.as_ref().map(P::get);
        Ok(Mixed { of: space.mix(cx, &shares, value)?, shares })
    }
    /// As it is written in the paper.
    fn plain<'m>(
        &'m self,
        cx: &mut Cx<'m>,
        here: Here<'m>,
        query: &Act,
        residuals: Residuals,
        children: &[Child<'m>],
    ) -> engine::Result<Mixed> {
        let (heads, c) = (self.config.heads, query.cols());
        let q = match &self.query {
            Some(w) => cx.matmul(query, w.get())?,
            None => query.clone(),
        };
        let (mut keys, mut values) = (vec![], vec![]);
        for child in children {
            let u = cx.matmul(&child.a, child.up.layer.clone())?;
            let u = scaled(cx, u, child.up.scaling.clone())?;
            keys.push(match &self.key {
                Some(w) => cx.matmul(&u, w.get())?,
                None => u.clone(),
            });
            let u = if self.config.residual_before { cx.add(&u, &residuals.of_each)? } else { u };
            values.push(match &self.value {
                Some(w) => cx.matmul(&u, LinearRef { w: w.get(), b: None, in_out: false })?,
                None => u,
            });
        }
        let widths: Arc<[usize]> = vec![c / heads; heads * children.len()].into();
        let [q, k, v] = [vec![&q; children.len()], keys.iter().collect(), values.iter().collect()]
            .map(|all| cx.join_columns(&all));
        let mut scores = cx.group_dots(&q?, &k?, &widths)?;
        if self.config.scaled {
            scores = cx.scale(scores, 1.0 / ((c / heads) as f32).sqrt())?;
        }
        let shares = self.shares(cx, here, scores)?;
        let mixed = cx.spread(&v?, &shares, &widths)?;
        let mut y = (!self.config.residual_before).then_some(residuals.after);
        for i in 0..children.len() {
            let part = cx.take_columns(&mixed, i * c..(i + 1) * c)?;
            y = Some(match y {
                Some(y) => cx.add(&y, &part)?,
                None => part,
            });
        }
        match y {
            Some(y) => Ok(Mixed { of: Mixture::Whole(y), shares }),
            None => Err(engine::Error::Shape { op: "fusion", left: vec![0], right: vec![1] }),
        }
    }
}
impl<P: Weight> Mixer for Attention<P> {
    fn mix<'m>(
        &'m self,
        cx: &mut Cx<'m>,
        here: Here<'m>,
        (h, entered): (&Act, &State),
        residuals: Residuals,
        children: &[Child<'m>],
        _: Option<&Chosen>,
    ) -> engine::Result<Mixed> {
        let c = &self.config;
        let is_parallel = children.last().is_some_and(|c| c.is_parallel);
        let query = if c.query_before_ln && !is_parallel { h } else { &entered.x };
        match c.heads > 1 || c.residual_before {
            true => self.plain(cx, here, query, residuals, children),
            false => self.in_bottleneck_space(cx, here, query, children),
        }
    }
    /// 0.01 ‖I - W_v‖²
    fn penalty<'m>(&'m self, cx: &mut Cx<'m>) -> engine::Result<Option<Act>> {
        let Some(value) = self.value.as_ref().filter(|_| P::TRAINABLE && self.config.regularization) else {
            return Ok(None);
        };
        let w = cx.values(value.get())?;
        let c = w.cols();
        let (sum, _) = cx.squared_error(&w, &unit(c, c))?;
        cx.scale(sum, 0.01).map(Some)
    }
    fn each<'a>(&'a self, f: &mut dyn FnMut(String, &'a Tensor)) {
        let f = &mut |name, w: &'a P| f(name, w.tensor());
        self.query.iter().for_each(|w| w.each("query", f));
        self.key.iter().for_each(|w| w.each("key", f));
        self.value.iter().for_each(|w| f("value.weight".into(), w));
        self.temperature.iter().for_each(|w| f("temperature".into(), w));
    }
    fn freeze(self: Box<Self>) -> Box<dyn Mixer> {
        let Attention { config, dropout, query, key, value, temperature } = *self;
        Box::new(Attention {
            config,
            dropout,
            query: query.map(Linear::freeze),
            key: key.map(Linear::freeze),
            value: value.map(P::freeze),
            temperature: temperature.map(P::freeze),
        })
    }
}
impl<P: Weight> Parameters for Attention<P> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.query.iter().for_each(|w| w.visit(f));
        self.key.iter().for_each(|w| w.visit(f));
        self.value.iter().for_each(|w| w.visit(f));
        self.temperature.iter().for_each(|w| w.visit(f));
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.query.iter_mut().for_each(|w| w.visit_mut(f));
        self.key.iter_mut().for_each(|w| w.visit_mut(f));
        self.value.iter_mut().for_each(|w| w.visit_mut(f));
        self.temperature.iter_mut().for_each(|w| w.visit_mut(f));
    }
}
