//! Adapters added to a copy of a model's weights, W + ΔW, or put in the place of some of them, so that the plain model computes what model and adapter did.
use crate::{Adapter, Error, Result, View};
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

impl Merged {
    /// A copy of weights under their checkpoint names. What is quantised becomes the f32 values that it stands for.
    pub fn copy(named: &[(String, &Tensor)]) -> Result<Merged> {
        let one = |(n, t): &(String, &Tensor)| {
            Ok((n.clone(), Values { shape: t.shape().to_vec(), values: t.to_f32()? }))
        };
        let tensors = named.iter().map(one).collect::<Result<_>>()?;
        Ok(Merged { tensors, before: BTreeMap::new(), adapter: None })
    }
    /// Adds what an adapter does to the weights, or puts its own in their place. An error if there is an adapter in them already,
    /// or if it does more than that (a bottleneck does); then nothing has changed.
    pub fn merge(&mut self, adapter: &Adapter) -> Result<()> {
        if let Some(other) = &self.adapter {
            return Err(Error::Config(format!("`{other}` is merged already: take it out first")));
        }
        let mut sums: BTreeMap<String, Vec<f32>> = BTreeMap::new();
        for (info, module) in adapter.modules() {
            let cannot = |what: &str| {
                Error::Config(format!("`{}` cannot be merged at `{}`: {what}", adapter.name(), info.path))
            };
            let own = module.replaces()?;
            for part in &own {
                let name = self.name(module.home(info), part.tensor);
                let name = name.ok_or_else(|| cannot("the model has no such weight"))?;
                let mut w = sums.remove(&name).unwrap_or_else(|| self.tensors[&name].values.clone());
                let to = w.get_mut(part.at..part.at + part.values.len());
                to.ok_or_else(|| cannot("the weight is shorter"))?.copy_from_slice(&part.values);
                sums.insert(name, w);
            }
            if !own.is_empty() {
                continue;
            }
            let (SiteKind::Linear { input, output, in_out, .. }, View::Linear(m)) =
                (info.kind, module.view())
            else {
                return Err(cannot("it is more than a sum with weights"));
            };
            let name =
                self.name(&info.path, "weight").ok_or_else(|| cannot("the model has no such weight"))?;
            let (w, delta) = (&self.tensors[&name], m.delta().map_err(|e| cannot(&e.to_string()))?);
            let shape = if in_out { [input, output] } else { [output, input] };
            if w.shape != shape || delta.len() != input * output {
                return Err(cannot(&format!("the weight is {:?}", w.shape)));
            }
            let mut sum = sums.remove(&name).unwrap_or_else(|| w.values.clone());
            for (i, w) in sum.iter_mut().enumerate() {
                *w += delta[if in_out { i % output * input + i / output } else { i }];
            }
            sums.insert(name, sum);
        }
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
