//! Adapters put into a copy of a model's weights, so that the plain model computes what model and
//! adapter did: W + ΔW, other lengths of W's rows, or weights in the place of the model's.
use crate::{Adapter, Dense, Error, Replaced, Result, View};
use engraft_engine::{SiteKind, Tensor, checkpoint::TensorData};
use std::collections::BTreeMap;

/// A model's weights in f32, with or without an adapter in them. The model itself is not touched.
#[derive(Clone, Debug)]
pub struct Merged {
    tensors: BTreeMap<String, Values>,
    /// What they were before.
    before: BTreeMap<String, Vec<f32>>,
    adapter: Option<String>,
}
#[derive(Clone, Debug)]
struct Values {
    shape: Vec<usize>,
    values: Vec<f32>,
}
/// Weights as a merge leaves them.
struct Changed<'w> {
    of: &'w BTreeMap<String, Values>,
    to: BTreeMap<String, Vec<f32>>,
}
impl Changed<'_> {
    fn get(&self, name: &str) -> Vec<f32> {
        self.to.get(name).unwrap_or(&self.of[name].values).clone()
    }
    /// What took the place of a weight is added where another module has changed that weight
    /// before.
    fn replace(&mut self, name: &str, part: &Replaced) -> Option<()> {
        let (range, mut w) = (part.at..part.at + part.values.len(), self.get(name));
        let (to, before) = (w.get_mut(range.clone())?, self.of[name].values.get(range)?);
        for ((to, before), own) in to.iter_mut().zip(before).zip(&part.values) {
            *to = if to == before { *own } else { *to + (own - before) };
        }
        self.to.insert(name.into(), w);
        Some(())
    }
}
/// (rows, cols) to (cols, rows).
fn transposed(w: &[f32], [rows, cols]: [usize; 2]) -> Vec<f32> {
    (0..rows * cols).map(|i| w[i % rows * cols + i / rows]).collect()
}

impl Merged {
    /// A copy of weights under their checkpoint names. What is quantised becomes the f32 values
    /// that it stands for.
    pub fn copy(named: &[(String, &Tensor)]) -> Result<Merged> {
        let one = |(n, t): &(String, &Tensor)| {
            Ok((n.clone(), Values { shape: t.shape().to_vec(), values: t.to_f32()? }))
        };
        let tensors = named.iter().map(one).collect::<Result<_>>()?;
        Ok(Merged { tensors, before: BTreeMap::new(), adapter: None })
    }
    /// Puts what an adapter does into the weights. An error if there is an adapter in them already,
    /// or if it does more than that (a bottleneck does); then nothing has changed.
    pub fn merge(&mut self, adapter: &Adapter) -> Result<()> {
        if let Some(other) = &self.adapter {
            return Err(Error::Config(format!("`{other}` is merged already: take it out first")));
        }
        let mut changed = Changed { of: &self.tensors, to: BTreeMap::new() };
        for (info, module) in adapter.modules() {
            let cannot = |what: &str| {
                Error::Config(format!("`{}` cannot be merged at `{}`: {what}", adapter.name(), info.path))
            };
            let own = module.replaces()?;
            for part in &own {
                let name = self.name(module.home(info), part.tensor);
                let name = name.ok_or_else(|| cannot("the model has no such weight"))?;
                changed.replace(&name, part).ok_or_else(|| cannot("the weight is shorter"))?;
            }
            if !own.is_empty() {
                continue;
            }
            let (SiteKind::Linear { input, output, in_out, .. }, View::Linear(m)) =
                (info.kind, module.view())
            else {
                return Err(cannot("it is more than a change of weights"));
            };
            let name =
                self.name(&info.path, "weight").ok_or_else(|| cannot("the model has no such weight"))?;
            let (shape, found) = ([output, input], &self.tensors[&name].shape);
            if *found != if in_out { [input, output] } else { shape } {
                return Err(cannot(&format!("the weight is {found:?}")));
            }
            let (bias, w) = (self.name(&info.path, "bias"), changed.get(&name));
            let w = if in_out { transposed(&w, [input, output]) } else { w };
            let mut dense = Dense { w, b: bias.as_ref().map(|b| changed.get(b)) };
            m.merge(adapter.here(info.site), &mut dense).map_err(|e| cannot(&e.to_string()))?;
            let Dense { w, b } = dense;
            changed.to.insert(name, if in_out { transposed(&w, shape) } else { w });
            changed.to.extend(bias.zip(b));
        }
        let sums = changed.to;
        for (name, sum) in sums {
            if let Some(w) = self.tensors.get_mut(&name) {
                self.before.insert(name, std::mem::replace(&mut w.values, sum));
            }
        }
        self.adapter = Some(adapter.name().into());
        Ok(())
    }
    /// The weights as they were, bit by bit.
    pub fn unmerge(&mut self) {
        for (name, values) in std::mem::take(&mut self.before) {
            if let Some(w) = self.tensors.get_mut(&name) {
                w.values = values;
            }
        }
        self.adapter = None;
    }
    /// The adapter that is in the weights.
    pub fn adapter(&self) -> Option<&str> {
        self.adapter.as_deref()
    }
    /// The values of a weight.
    pub fn get(&self, name: &str) -> Option<&[f32]> {
        self.tensors.get(name).map(|w| w.values.as_slice())
    }
    /// The weights under their names.
    pub fn tensors(&self) -> Vec<(String, TensorData<'static>)> {
        let data = |(n, w): (&String, &Values)| (n.clone(), TensorData::f32(&w.values, &w.shape));
        self.tensors.iter().map(data).collect()
    }
    /// The weights as a `model.safetensors`.
    pub fn file(&self) -> Result<Vec<u8>> {
        Ok(engraft_engine::checkpoint::serialize(&self.tensors())?)
    }
    /// The name of a module's tensor: checkpoints of a plain model have no first part.
    fn name(&self, path: &str, tensor: &str) -> Option<String> {
        let short = path.split_once('.').map_or(path, |(_, rest)| rest);
        [path, short].map(|p| format!("{p}.{tensor}")).into_iter().find(|n| self.tensors.contains_key(n))
    }
}
