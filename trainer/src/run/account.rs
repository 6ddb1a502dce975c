//! What a training step holds, by what it is held for: predicted on the Null device, or measured.
//!
//! Both are the same code, [`account`]: it takes two steps (from the second one on there is
//! optimiser state) and reads the ledger of the device that the model lives on. The Null device
//! allocates and computes nothing, so its ledger is a prediction, of every byte.
use super::{adapter_drop::AdapterDrop, step::Trainer};
use crate::{
    Result,
    learner::{Learner, Places},
    reports::bytes::Bytes,
    text::batch::Batch,
};
use engraft_engine::{Activations, AdamW, Class, Keep, kernels::Usage};
use serde::{Deserialize, Serialize};

/// Steps of an account.
const STEPS: u64 = 2;

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
    /// What is in no layer: embeddings, pooler, head, scratch memory, and what a layer that is
    /// being recomputed holds.
    pub rest: Bytes,
}

/// What two steps on a batch hold in all since the device was opened, with layers that keep what
/// `keep` says. Of steps that leave out adapters of lower layers those that leave out the fewest.
pub fn account(c: &mut Learner, batch: &Batch, keep: Keep, dropped: Option<AdapterDrop>) -> Result<Account> {
    c.check_adapter_drop(dropped)?;
    let optimiser = AdamW::new(0.01).clipping(1.0);
    let trainer = Trainer::new(optimiser, 0).with_activations(Activations::all(keep));
    let mut trainer = trainer.with_adapter_drop(dropped.map(|drop| AdapterDrop::always(drop.least)));
    for _ in 0..STEPS {
        trainer.step(c, std::slice::from_ref(batch), 1e-4)?;
    }
    let usage = c.backbone().device().ledger().usage();
    Ok(sum_up(c, trainer.kept_by_layer(), &usage))
}

fn sum_up(c: &Learner, kept: &[usize], usage: &Usage) -> Account {
    let mut layers = vec![Bytes::default(); c.backbone().model().info().layers];
    let mut rest = Bytes::default();
    let places = Places::of(c.backbone().model().sites());
    let mut trainable_parameters = 0;
    {
        let mut at = |name: &str, f: &dyn Fn(&mut Bytes)| {
            f(places.layer(name).and_then(|l| layers.get_mut(l)).unwrap_or(&mut rest));
        };
        for (name, t) in c.named() {
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
