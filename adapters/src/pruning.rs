//! Neurons of bottlenecks left out for good: smaller adapters that compute nearly the same.
//!
//! ```text
//! a neuron k of a bottleneck adds      W_u[:, k] f(W_d[k, :] x + b_d[k])
//! magnitude                            |W_d[k, :]| |W_u[:, k]|                 (Euclidean norms)
//! effect                               mean over batches of |Σ_c W_u[c, k] dL/dW_u[c, k]|
//! ```
//! The effect is what the loss changes by to first order if the neuron is left out (Molchanov et al.
//! 2017). In AdapterHub's files all bottlenecks of a layer have one width, so as many neurons are kept
//! of each of them. A neuron that reads nothing, because its row of W_d is zero, adds a constant,
//! which goes into b_u.
use crate::{
    Adapter, Error, Format, Host, Module, Reduction, Result,
    files::{CONFIG, Card, own},
};
use engraft_engine::{
    Activation, Param, Site, SiteInfo,
    checkpoint::{TensorData, serialize_with},
    kernels::activation::value,
};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// How much each neuron of a bottleneck is worth, in the order of its rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Neurons {
    /// Where the bottleneck stands.
    pub site: Site,
    /// A number from 0 for each neuron.
    pub worth: Vec<f64>,
}

/// W_d (width, C) and W_u (C, width) of a bottleneck.
struct Layers {
    down: Vec<f32>,
    up: Vec<f32>,
    width: usize,
    /// What the first is called: `adapter_down.0`, or `.1` behind a norm.
    path: String,
}
impl Layers {
    fn of(info: &SiteInfo, m: &dyn Module) -> Result<Layers> {
        let refused = |why: &str| Err(Error::Config(format!("`{}` cannot be pruned: {why}", info.path)));
        let all = m.adapterhub()?;
        let find = |name: &str| {
            all.iter().find(|(n, t)| n.starts_with(name) && n.ends_with(".weight") && t.shape().len() == 2)
        };
        let (Some((path, down)), Some((_, up))) = (find("adapter_down."), find("adapter_up.")) else {
            return refused("only plain bottlenecks have neurons, and this is none");
        };
        let path = path.trim_end_matches(".weight").to_string();
        let (width, channels) = (down.shape()[0], down.shape()[1]);
        match up.shape() == [channels, width] {
            true => Ok(Layers { down: down.to_f32()?, up: up.to_f32()?, width, path }),
            false => refused("its two layers do not belong together"),
        }
    }
    fn channels(&self) -> usize {
        self.down.len() / self.width
    }
    fn row(&self, neuron: usize) -> &[f32] {
        &self.down[neuron * self.channels()..][..self.channels()]
    }
    fn column(&self, neuron: usize) -> impl Iterator<Item = f32> + '_ {
        self.up.iter().skip(neuron).step_by(self.width).copied()
    }
}

fn norm(values: impl Iterator<Item = f32>) -> f64 {
    values.map(|x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
}

/// The magnitudes of all neurons. An error if the adapter has something else than bottlenecks.
pub fn magnitudes(adapter: &Adapter) -> Result<Vec<Neurons>> {
    let one = |(info, m): (&SiteInfo, &dyn Module)| {
        let l = Layers::of(info, m)?;
        let worth = |k| norm(l.row(k).iter().copied()) * norm(l.column(k));
        Ok(Neurons { site: info.site, worth: (0..l.width).map(worth).collect() })
    };
    adapter.modules().map(one).collect()
}

/// The effects of all neurons on the loss of one batch, from the gradients of the adapter's weights,
/// of which there is one for each that trains.
pub fn effects(adapter: &Adapter, gradient: impl Fn(&Param) -> Result<Vec<f32>>) -> Result<Vec<Neurons>> {
    let mut all = magnitudes(adapter)?;
    for (found, (info, m)) in all.iter_mut().zip(adapter.modules()) {
        let layers = Layers::of(info, m)?;
        let mut of_up = None;
        m.visit(&mut |p| {
            if p.name().ends_with("adapter_up.weight") {
                of_up = Some(gradient(p));
            }
        });
        let missing = || Error::Config(format!("`{}` does not train, so nothing is known of it", info.path));
        let gradient = of_up.ok_or_else(missing)??;
        for (k, worth) in found.worth.iter_mut().enumerate() {
            let of_k = gradient.iter().skip(k).step_by(layers.width);
            *worth = layers.column(k).zip(of_k).map(|(w, g)| f64::from(w) * f64::from(*g)).sum::<f64>().abs();
        }
    }
    Ok(all)
}

/// The widths of each layer's bottlenecks, if so large a share of all neurons is left out: those that
/// are worth least, at least one of each bottleneck being kept. `across` layers, or of each the same
/// share.
pub fn widths(neurons: &[Neurons], share: f64, across: bool) -> BTreeMap<usize, usize> {
    let mut layers: BTreeMap<usize, Vec<Vec<f64>>> = BTreeMap::new();
    for n in neurons {
        let mut sorted = n.worth.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        layers.entry(n.site.layer).or_default().push(sorted);
    }
    // of a layer the r-th best of each bottleneck stay or go together
    let ranked = layers.iter().flat_map(|(layer, all)| {
        let width = all.iter().map(Vec::len).min().unwrap_or(0);
        (0..width).map(move |r| {
            let worth = all.iter().map(|sorted| sorted[r]).sum::<f64>() / all.len() as f64;
            (*layer, r, worth, all.len())
        })
    });
    let ranked: Vec<(usize, usize, f64, usize)> = ranked.collect();
    let mut kept: BTreeMap<usize, usize> = layers.keys().map(|layer| (*layer, 0)).collect();
    ranked.iter().for_each(|(layer, ..)| *kept.entry(*layer).or_default() += 1);
    if !across {
        let less = |width: &mut usize| {
            *width = ((*width as f64 * (1.0 - share)).round() as usize).clamp(1, (*width).max(1));
        };
        kept.values_mut().for_each(less);
        return kept;
    }
    let all: usize = ranked.iter().map(|(.., of)| of).sum();
    let mut rest = (all as f64 * share).round() as usize;
    let mut order: Vec<_> = ranked.iter().filter(|(_, r, ..)| *r > 0).collect();
    order.sort_by(|a, b| a.2.total_cmp(&b.2).then(b.1.cmp(&a.1)));
    for (layer, _, _, of) in order {
        if *of > rest {
            break;
        }
        rest -= of;
        kept.entry(*layer).and_modify(|width| *width -= 1);
    }
    kept
}

/// The files of an adapter whose bottlenecks have these widths, by layer: of each the neurons that are
/// worth most, in their order. `activation` is the adapter's. An error if the adapter is more than
/// plain bottlenecks.
pub fn prune(
    adapter: &Adapter,
    neurons: &[Neurons],
    widths: &BTreeMap<usize, usize>,
    host: &Host,
) -> Result<Vec<(String, Vec<u8>)>> {
    if adapter.format() != Format::AdapterHub {
        return Err(Error::Config("only adapters in AdapterHub's format have bottlenecks".into()));
    }
    let mut fields = adapter.config().adapterhub()?;
    let Some(name) = fields.get("non_linearity").and_then(Value::as_str).map(String::from) else {
        return Err(Error::Config("the adapter is no bottleneck, so it has no neurons".into()));
    };
    let activation = Activation::from_name(&name)
        .ok_or_else(|| Error::Config(format!("`non_linearity` is `{name}`, which is not known")))?;
    let (mut factors, mut tensors) = (Map::new(), vec![]);
    if let Some(factor) = fields.get("reduction_factor").filter(|f| f.is_number()) {
        factors.insert("default".into(), factor.clone());
    }
    for ((info, m), of) in adapter.modules().zip(neurons) {
        let layers = Layers::of(info, m)?;
        let width = widths.get(&info.site.layer).copied().unwrap_or(layers.width).clamp(1, layers.width);
        let mut order: Vec<usize> = (0..layers.width).collect();
        order.sort_by(|a, b| of.worth[*b].total_cmp(&of.worth[*a]).then(a.cmp(b)));
        let (kept, gone) = order.split_at(width);
        let mut kept = kept.to_vec();
        kept.sort_unstable();
        let Reduction::Factor(factor) = Reduction::to_width(layers.channels(), width) else { continue };
        factors.insert(info.site.layer.to_string(), factor.into());
        let path = format!("{}.{}.{}", m.home(info), m.collection(), adapter.name());
        let constant = constant(&layers, m, gone, activation)?;
        for (tensor, data) in m.adapterhub()? {
            let data = smaller(&tensor, &data, &layers, &kept, &constant)?;
            tensors.push((own::of_model(&host.model_type, format!("{path}.{tensor}")), data));
        }
    }
    fields.insert("reduction_factor".into(), Value::Object(factors));
    let card = Card::new(fields, host, adapter.name());
    let data = serialize_with(&tensors, host.note().as_deref())?;
    Ok(vec![(CONFIG.into(), card.bytes()?), (Format::AdapterHub.tensors().into(), data)])
}

/// What neurons that read nothing add to every output: Σ W_u[:, k] f(b_d[k]).
fn constant(layers: &Layers, m: &dyn Module, gone: &[usize], f: Activation) -> Result<Vec<f32>> {
    let mut sum = vec![0.0; layers.channels()];
    let name = format!("{}.bias", layers.path);
    let all = m.adapterhub()?;
    let Some((_, bias)) = all.iter().find(|(n, _)| *n == name) else { return Ok(sum) };
    let bias = bias.to_f32()?;
    for &k in gone.iter().filter(|k| layers.row(**k).iter().all(|x| *x == 0.0)) {
        let a = value(f, f64::from(bias[k])) as f32;
        sum.iter_mut().zip(layers.column(k)).for_each(|(s, w)| *s += w * a);
    }
    Ok(sum)
}

/// A tensor of a bottleneck with only some of its neurons.
fn smaller<'a>(
    name: &str,
    data: &TensorData<'a>,
    layers: &Layers,
    kept: &[usize],
    constant: &[f32],
) -> Result<TensorData<'a>> {
    let (shape, values) = (data.shape().to_vec(), data.to_f32()?);
    let (width, channels) = (layers.width, layers.channels());
    Ok(match name.strip_prefix(&layers.path) {
        Some(".weight") => {
            let values: Vec<f32> = kept.iter().flat_map(|k| layers.row(*k)).copied().collect();
            TensorData::f32(&values, &[kept.len(), channels])
        }
        Some(".bias") => TensorData::f32(&kept.iter().map(|k| values[*k]).collect::<Vec<_>>(), &[kept.len()]),
        _ if name == "adapter_up.weight" => {
            let of_row = |c: usize| kept.iter().map(move |k| layers.up[c * width + k]);
            TensorData::f32(&(0..channels).flat_map(of_row).collect::<Vec<_>>(), &[channels, kept.len()])
        }
        _ if name == "adapter_up.bias" => {
            let sum: Vec<f32> = values.iter().zip(constant).map(|(b, c)| b + c).collect();
            TensorData::f32(&sum, &[channels])
        }
        _ => TensorData::f32(&values, &shape),
    })
}
