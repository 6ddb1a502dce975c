//! A share of each adapter that depends on what it reads: y = Σ g_i U_i + residual.
//!
//! ```text
//! of a token       g = softmax(W_g x + b_g), or each g_i = σ((W_g x + b_g)_i)
//! `top_k`          x is the mean over the tokens of a sequence; the k adapters with the highest scores are computed for the
//!                  sequence, and no others; a softmax goes over those k
//! ```
//! Which adapters are computed for which sequences decides the shapes of what follows, so the scores
//! of `top_k` are read in the middle of a pass: a number for each sequence and adapter. The Null
//! device has no scores; there the choice is one that takes as many bytes as any.
use super::{
    Child, Chosen, FusionConfig, Method, Mixed, Mixer, Mixture, Residuals, boxed,
    matrices::constant,
    space::{Space, columns},
};
use crate::{
    Error, Here, Place, Result, State,
    grammar::Fields,
    methods::{overlaid, read, written},
};
use engraft_engine::{
    self as engine, Act, Activation, Cx, Frozen, Init, Linear, Param, Parameters, SiteKind, Source, Tensor,
    Weight,
};
use serde::{Deserialize, Serialize};

/// The registry row.
pub(super) const METHOD: Method = Method {
    names: &["gating"],
    preset: |_, fields| boxed(overlaid(&GatingConfig::default(), fields)),
    read: |fields| boxed(read::<GatingConfig>(fields)),
};

/// What makes shares of scores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GateFunction {
    /// They add up to one.
    #[default]
    Softmax,
    /// Each by itself, between 0 and 1.
    Sigmoid,
}

/// A gate for each adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GatingConfig {
    /// The gate has a bias.
    pub bias: bool,
    /// What makes shares of scores.
    pub function: GateFunction,
    /// So many adapters are computed for a sequence; none: all of them, with shares for each token.
    pub top_k: Option<usize>,
}
impl Default for GatingConfig {
    fn default() -> GatingConfig {
        GatingConfig { bias: true, function: GateFunction::Softmax, top_k: None }
    }
}
impl FusionConfig for GatingConfig {
    fn check(&self) -> Result<()> {
        match self.top_k {
            Some(0) => Err(Error::Config("`top_k` is 0, expected 1 or more".into())),
            _ => Ok(()),
        }
    }
    fn build(
        &self,
        place: &Place<'_>,
        path: &str,
        n: usize,
        from: &mut Source<'_, '_>,
    ) -> Result<Box<dyn Mixer>> {
        let SiteKind::Close { channels } = place.info.kind else {
            return Err(Error::Config("a fusion stands at the end of a sub-layer".into()));
        };
        if let Some(k) = self.top_k.filter(|k| *k > n) {
            return Err(Error::Config(format!("`top_k` is {k}, and there are {n} adapters")));
        }
        let (path, start) = (format!("{path}.gate"), Init::Normal(0.02));
        let bias = self.bias.then_some(Init::Constant(0.0));
        Ok(match place.trains {
            true => {
                let gate = from.linear::<Param>(&path, (channels, n), start, bias)?;
                Box::new(Gating { config: self.clone(), gate })
            }
            false => {
                let gate = from.linear::<Frozen>(&path, (channels, n), start, bias)?;
                Box::new(Gating { config: self.clone(), gate })
            }
        })
    }
    fn fields(&self) -> Result<Fields> {
        let mut fields = written(self)?;
        fields.insert("method".into(), METHOD.names[0].into());
        Ok(fields)
    }
}

/// The gate of one site.
#[derive(Debug)]
struct Gating<P: Weight> {
    config: GatingConfig,
    gate: Linear<P>,
}
impl<P: Weight> Gating<P> {
    /// The scores of these adapters for each row of x: (rows, adapters).
    fn scores<'m>(&'m self, cx: &mut Cx<'m>, x: &Act, adapters: &[usize]) -> engine::Result<Act> {
        let all = cx.matmul(x, self.gate.get())?;
        columns(cx, &all, adapters)
    }
    /// Shares, of the scores that `mask` leaves: 1 for one that counts.
    fn shares<'m>(&'m self, cx: &mut Cx<'m>, scores: &Act, mask: Option<&[f32]>) -> engine::Result<Act> {
        let mask = |cx: &mut Cx<'m>, f: fn(f32) -> f32| match mask {
            Some(m) => {
                let values: Vec<f32> = m.iter().map(|x| f(*x)).collect();
                constant(cx, &values, scores.cols()).map(Some)
            }
            None => Ok(None),
        };
        match self.config.function {
            GateFunction::Softmax => {
                // far below every score, so that e to it is 0
                let below = mask(cx, |x| if x > 0.0 { 0.0 } else { -1e30 })?;
                let scores = match &below {
                    Some(below) => cx.add(scores, below)?,
                    None => scores.clone(),
                };
                cx.softmax(&scores, 1)
            }
            GateFunction::Sigmoid => {
                let y = cx.activate(scores, Activation::Sigmoid)?;
                let each = vec![1; scores.cols()].into();
                match mask(cx, |x| x)? {
                    Some(m) => cx.spread(&y, &m, &each),
                    None => Ok(y),
                }
            }
        }
    }
}
impl<P: Weight> Mixer for Gating<P> {
    fn choose<'m>(
        &'m self,
        cx: &mut Cx<'m>,
        _: Here<'m>,
        (_, entered): (&Act, &State),
        adapters: &[usize],
    ) -> engine::Result<Option<Chosen>> {
        let Some(k) = self.config.top_k else { return Ok(None) };
        let means = cx.sequence_means(&entered.x)?;
        let scores = self.scores(cx, &means, adapters)?;
        let n = adapters.len();
        let mut mask = vec![0f32; scores.rows() * n];
        let mut sequences = vec![vec![]; self.gate.get().dims().1];
        for (s, row) in scores.read()?.chunks(n.max(1)).enumerate() {
            let mut order: Vec<usize> = (0..n).collect();
            match cx.device().is_null() {
                true => order.rotate_left(s * k % n.max(1)),
                // of equal scores that of the first adapter
                false => order.sort_by(|a, b| row[*b].total_cmp(&row[*a])),
            }
            for i in order.into_iter().take(k) {
                mask[s * n + i] = 1.0;
                sequences[adapters[i]].push(s);
            }
        }
        let adapters = adapters.to_vec();
        Ok(Some(Chosen { adapters, shares: self.shares(cx, &scores, Some(&mask))?, sequences }))
    }
    fn mix<'m>(
        &'m self,
        cx: &mut Cx<'m>,
        _: Here<'m>,
        (_, entered): (&Act, &State),
        residuals: Residuals,
        children: &[Child<'m>],
        chosen: Option<&Chosen>,
    ) -> engine::Result<Mixed> {
        let Some(chosen) = chosen else {
            let adapters: Vec<usize> = children.iter().map(|c| c.index).collect();
            let scores = self.scores(cx, &entered.x, &adapters)?;
            let shares = self.shares(cx, &scores, None)?;
            let space = Space::of(cx, children)?;
            return Ok(Mixed { of: space.mix(cx, &shares, None)?, shares });
        };
        let mut y = residuals.after;
        for child in children {
            let column = chosen.adapters.iter().position(|i| *i == child.index);
            let (Some(own), Some(column)) = (chosen.sequences.get(child.index), column) else { continue };
            let share = cx.take_columns(&chosen.shares, column..column + 1)?;
            let share = cx.take_sequences(&share, own)?;
            let share = cx.to_rows(&share, &child.a)?;
            let space = Space::of(cx, std::slice::from_ref(child))?;
            let residual = cx.take_sequences(&y, own)?;
            let mixed = space.mix(cx, &share, None)?.added(cx, &residual)?;
            let others: Vec<usize> = (0..y.seqs().len()).filter(|i| own.binary_search(i).is_err()).collect();
            let rest = cx.take_sequences(&y, &others)?;
            y = match others.is_empty() {
                true => mixed,
                false => cx.merge_sequences(&[(&mixed, own), (&rest, &others)])?,
            };
        }
        let shares = cx.to_rows(&chosen.shares, &y)?;
        Ok(Mixed { of: Mixture::Whole(y), shares })
    }
    fn each<'a>(&'a self, f: &mut dyn FnMut(String, &'a Tensor)) {
        self.gate.each("gate", &mut |name, w: &'a P| f(name, w.tensor()));
    }
    fn freeze(self: Box<Self>) -> Box<dyn Mixer> {
        Box::new(Gating { config: self.config, gate: self.gate.freeze() })
    }
}
impl<P: Weight> Parameters for Gating<P> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.gate.visit(f);
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.gate.visit_mut(f);
    }
}
