//! What a training step holds, by what it is held for: predicted on the Null device, or measured.
//!
//! Both are the same code, [`account`]: it loads a model, puts an adapter and a head on it, takes two steps on synthetic
//! tokens (from the second one on there is optimiser state) and reads the device's ledger. The Null device allocates and
//! computes nothing, so its ledger is a prediction, of every byte.
use crate::{
    Result,
    batch::Batch,
    classifier::{Backbone, Classifier, Opening, Trainer},
    config::ReductionFactor,
};
use clap::ValueEnum;
use engraft_adapters::{BnConfig, Reduction};
use engraft_engine::{Activations, AdamW, Class, Device, Keep, kernels::Usage};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Steps of an account.
const STEPS: u64 = 2;

/// What is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Method {
    /// The whole backbone and a head
    Full,
    /// Adapters after attention and after the feed-forward block (Houlsby et al. 2019)
    Houlsby,
    /// Adapters after the feed-forward block (Pfeiffer et al. 2020)
    Pfeiffer,
    /// Adapters beside the feed-forward block (He et al. 2021)
    Parallel,
    /// The same with a learned scale
    ScaledParallel,
    /// The head alone
    Head,
}

/// A step to account for.
#[derive(Clone, Debug)]
pub struct Question {
    /// The backbone's directory. The Null device needs its `config.json` only.
    pub model: PathBuf,
    /// What is trained.
    pub method: Method,
    /// What every layer keeps.
    pub keep: Keep,
    /// How the backbone is stored.
    pub opening: Opening,
    /// Texts in a batch.
    pub batch: usize,
    /// Tokens of each.
    pub length: usize,
    /// Width of the bottleneck ...
    pub bottleneck: Option<usize>,
    /// ... or hidden size divided by it; the preset's if neither is given.
    pub reduction_factor: Option<ReductionFactor>,
}

/// Bytes by what they are held for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bytes {
    /// Frozen weights.
    pub backbone: usize,
    /// Trained weights.
    pub adapter: usize,
    /// Gradients of trained weights.
    pub gradient: usize,
    /// Optimiser state.
    pub optimiser: usize,
    /// Activations kept for the backward pass.
    pub saved: usize,
    /// What lives for a moment.
    pub scratch: usize,
}
impl Bytes {
    fn of(f: impl Fn(Class) -> usize) -> Bytes {
        Bytes {
            backbone: f(Class::Backbone),
            adapter: f(Class::Adapter),
            gradient: f(Class::Grad),
            optimiser: f(Class::Optim),
            saved: f(Class::Saved),
            scratch: f(Class::Scratch),
        }
    }
    /// The most that was held for each purpose, at different moments.
    pub fn highest(u: &Usage) -> Bytes {
        Bytes::of(|c| u.peak(c))
    }
    /// What was held for each purpose when most was held in all.
    pub fn at_once(u: &Usage) -> Bytes {
        Bytes::of(|c| u.at_peak(c))
    }
    /// All of them, with their names.
    pub fn by_class(&self) -> [(&'static str, usize); 6] {
        let v = [self.backbone, self.adapter, self.gradient, self.optimiser, self.saved, self.scratch];
        std::array::from_fn(|i| (Class::ALL[i].name(), v[i]))
    }
    /// Their sum.
    pub fn total(&self) -> usize {
        self.by_class().iter().map(|(_, b)| b).sum()
    }
}

/// What steps held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Numbers that train.
    pub trainable_parameters: usize,
    /// The most held at any moment.
    pub total: usize,
    /// What that was.
    pub at_once: Bytes,
    /// The most held for each purpose, at different moments.
    pub highest: Bytes,
    /// Layer by layer; `saved` is what the layer keeps when the forward pass is over.
    pub layers: Vec<Bytes>,
    /// What is in no layer: embeddings, pooler, head, scratch memory, and what a layer that is being recomputed holds.
    pub rest: Bytes,
}

/// The layer that a weight belongs to: 3 of `bert.encoder.layer.3.output...`.
fn layer(name: &str) -> Option<usize> {
    let mut words = name.split('.');
    words.by_ref().find(|w| *w == "layer").and_then(|_| words.next())?.parse().ok()
}

/// What two steps hold on a device.
pub fn account(q: &Question, device: &Device) -> Result<Account> {
    let labels = ["0", "1"].map(String::from);
    let full = q.method == Method::Full;
    let backbone = match full {
        true => Backbone::open_to_train(&q.model, device, q.opening)?,
        false => Backbone::open(&q.model, device, q.opening)?,
    };
    let channels = backbone.model().channels();
    let preset = match q.method {
        Method::Full | Method::Head => None,
        Method::Houlsby => Some(BnConfig::houlsby()),
        Method::Pfeiffer => Some(BnConfig::pfeiffer()),
        Method::Parallel => Some(BnConfig::parallel()),
        Method::ScaledParallel => Some(BnConfig::scaled_parallel()),
    };
    let reduction = match (q.bottleneck, &q.reduction_factor) {
        (Some(width), _) => Some(Reduction::to_width(channels, width)),
        (None, Some(r)) => Some(crate::train::reduction(r, backbone.model().layers())?),
        (None, None) => None,
    };
    let adapter = preset.map(|c| BnConfig { reduction_factor: reduction.unwrap_or(c.reduction_factor), ..c });
    let head = backbone.linear_head(&labels);
    let vocabulary = backbone.model().vocabulary();
    let mut c = backbone.classifier("memory", adapter, head, 0)?;
    let mut trainer = Trainer::new(AdamW::new(0.01), 1.0, 0).with_activations(Activations::all(q.keep));
    let mut batch = Batch::blank(&vec![q.length; q.batch]);
    batch.ids.iter_mut().enumerate().for_each(|(i, id)| *id = (i * 7919 % vocabulary) as u32);
    batch.labels.iter_mut().enumerate().for_each(|(i, l)| *l = i as u32 % 2);
    for _ in 0..STEPS {
        trainer.step(&mut c, std::slice::from_ref(&batch), 1e-4)?;
    }
    Ok(sum_up(&c, trainer.kept_by_layer(), &device.ledger().usage()))
}

fn sum_up(c: &Classifier, kept: &[usize], usage: &Usage) -> Account {
    let mut layers = vec![Bytes::default(); c.backbone().model().layers()];
    let mut rest = Bytes::default();
    let mut trainable_parameters = 0;
    {
        let mut at = |name: &str, f: &dyn Fn(&mut Bytes)| {
            f(layer(name).and_then(|l| layers.get_mut(l)).unwrap_or(&mut rest));
        };
        let added = c.adapter().map(|a| a.named()).unwrap_or_default();
        for (name, t) in c.backbone().model().named().into_iter().chain(added).chain(c.head().named()) {
            at(&name, &|b| match t.buffer().class() {
                Class::Backbone => b.backbone += t.bytes(),
                _ => b.adapter += t.bytes(),
            });
        }
        c.visit(&mut |p| {
            let bytes = p.tensor().buffer().bytes();
            trainable_parameters += p.tensor().buffer().len();
            // AdamW's mean and mean square
            at(p.name(), &|b| (b.gradient, b.optimiser) = (b.gradient + bytes, b.optimiser + 2 * bytes));
        });
    }
    layers.iter_mut().zip(kept).for_each(|(l, k)| l.saved = *k);
    let highest = Bytes::highest(usage);
    rest.saved = highest.saved.saturating_sub(kept.iter().sum());
    rest.scratch = highest.scratch;
    let (total, at_once) = (usage.peak_total(), Bytes::at_once(usage));
    Account { trainable_parameters, total, at_once, highest, layers, rest }
}

/// Bytes to read: `12.3 MiB`.
pub fn show(bytes: usize) -> String {
    let b = bytes as f64;
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", b / 1024.0),
        _ => format!("{:.1} MiB", b / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_know_their_layer() {
        assert_eq!(layer("bert.encoder.layer.11.output.adapters.a.adapter_up.weight"), Some(11));
        assert_eq!(layer("bert.embeddings.word_embeddings.weight"), None);
        assert_eq!(layer("heads.layer.x.weight"), None);
    }

    #[test]
    fn bytes_read_well() {
        assert_eq!([show(5), show(2048), show(3 << 19)], ["5 B", "2.0 KiB", "1.5 MiB"]);
    }
}
