//! Several adapters made into one: averages and task arithmetic of their weights.
//!
//! Two libraries have such methods, and mean different things by `linear`: their names here say
//! whose it is.
//!
//! ```text
//! adapterhub_linear            every tensor Σ wᵢ tᵢ, of any method: average_adapter("linear")
//! lora_linear_only_negate_b    the same, but A with |wᵢ|                  Zhang et al. 2023
//! lora_delta_w_svd             the nearest product to Σ wᵢ Bᵢ Aᵢ of a rank
//! peft_linear                  A with √|wᵢ sᵢ| and its sign, B with √|wᵢ sᵢ|: PEFT's "linear"
//! cat                          all Aᵢ wᵢ sᵢ and Bᵢ side by side: exactly Σ wᵢ ΔWᵢ
//! svd                          the nearest product to Σ wᵢ ΔWᵢ of a rank
//! ties, dare_.., magnitude_..  on A and B as peft_linear, with ..._svd on ΔWᵢ: see [`tensors`]
//! ```
//! ΔWᵢ = sᵢ Bᵢ Aᵢ. Of adapters that are no LoRA the last row works on every matrix by itself, with
//! the weights as they are; what is no matrix (biases, norms, factors) has no zero to be pruned to,
//! and becomes the mean with the weights brought to a sum of one.
mod low_rank;
pub mod tensors;
mod whole;

use crate::{Adapter, Compat, Error, Head, Host, Result};
use engraft_engine::Tensor;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use tensors::{Majority, check_density, elected, largest, sum, thinned};

/// What is added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    /// Every tensor of the files.
    Tensors,
    /// The same, A with weights that are positive.
    NegatedB,
    /// A and B of a LoRA, or the matrices of what is no LoRA.
    Factors,
    /// A and B of a LoRA, side by side.
    Stacked,
    /// What a LoRA adds to a weight.
    Delta,
    /// What a LoRA adds, without its own factor.
    Products,
}
/// What is left out of each before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Prune {
    Nothing,
    Small,
    Random,
}

/// A way to make adapters into one.
#[derive(Debug, PartialEq, Eq)]
pub struct Strategy {
    /// Its name: that of the library, with the library in front where both have it.
    pub name: &'static str,
    /// What it does, in a line.
    pub help: &'static str,
    on: On,
    prune: Prune,
    elects: bool,
    /// Whether weights are brought to a sum of one unless the caller says otherwise: AdapterHub's
    /// way, not PEFT's.
    pub normalises: bool,
}
const fn hub(name: &'static str, on: On, help: &'static str) -> Strategy {
    Strategy { name, help, on, prune: Prune::Nothing, elects: false, normalises: true }
}
const fn peft(name: &'static str, on: On, prune: Prune, elects: bool, help: &'static str) -> Strategy {
    Strategy { name, help, on, prune, elects, normalises: false }
}
/// Every way.
pub const STRATEGIES: &[Strategy] = &[
    hub("adapterhub_linear", On::Tensors, "every tensor, of any adapters of one configuration"),
    hub(
        "lora_linear_only_negate_b",
        On::NegatedB,
        "the same for LoRA, where a negative weight negates B alone",
    ),
    hub(
        "lora_delta_w_svd",
        On::Products,
        "the product of a given rank that is nearest to the sum of products",
    ),
    peft(
        "peft_linear",
        On::Factors,
        Prune::Nothing,
        false,
        "A and B of LoRA, each with the root of the weight",
    ),
    peft("cat", On::Stacked, Prune::Nothing, false, "LoRA of all ranks together: exactly the sum"),
    peft("svd", On::Delta, Prune::Nothing, false, "LoRA of a rank that is nearest to the sum"),
    peft("ties", On::Factors, Prune::Small, true, "the largest elements, those of the elected sign"),
    peft("ties_svd", On::Delta, Prune::Small, true, "the same of what LoRA adds"),
    peft("dare_linear", On::Factors, Prune::Random, false, "random elements, scaled up"),
    peft("dare_ties", On::Factors, Prune::Random, true, "random elements, those of the elected sign"),
    peft("dare_linear_svd", On::Delta, Prune::Random, false, "random elements of what LoRA adds"),
    peft("dare_ties_svd", On::Delta, Prune::Random, true, "the same, those of the elected sign"),
    peft("magnitude_prune", On::Factors, Prune::Small, false, "the largest elements"),
    peft("magnitude_prune_svd", On::Delta, Prune::Small, false, "the largest elements of what LoRA adds"),
];
impl Strategy {
    /// The one of a name.
    pub fn named(name: &str) -> Result<&'static Strategy> {
        if name == "linear" {
            let what = "`linear` is two things: `adapterhub_linear` adds up every tensor, `peft_linear` takes roots of weights for A and B";
            return Err(Error::Config(what.into()));
        }
        STRATEGIES.iter().find(|s| s.name == name).ok_or_else(|| {
            let known: Vec<_> = STRATEGIES.iter().map(|s| s.name).collect();
            Error::Config(format!("`{name}` is no way to merge adapters; there are {}", known.join(", ")))
        })
    }
}

/// How adapters are made into one.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The way.
    pub strategy: &'static Strategy,
    /// One for each adapter, negative ones too; the same for all if none are given, which only
    /// AdapterHub's ways allow.
    pub weights: Option<Vec<f64>>,
    /// Whether the weights are brought to a sum of one; as the strategy says if it is none.
    pub normalise: Option<bool>,
    /// The rank of the result of a decomposition; the largest of the adapters' if it is none, where
    /// the strategy allows that.
    pub rank: Option<usize>,
    /// The share of elements that is kept, for strategies that prune.
    pub density: Option<f64>,
    /// How a sign is elected, for strategies that do; [`Majority::Total`] if it is none.
    pub majority: Option<Majority>,
    /// Decides the random choices, for strategies that make some; 0 if it is none.
    pub seed: Option<u64>,
    /// Whose result counts: AdapterHub's `lora_delta_w_svd` keeps α when the rank changes, and so
    /// changes what is added.
    pub compat: Compat,
}

impl Recipe {
    /// One with nothing but its strategy.
    pub fn new(strategy: &'static Strategy) -> Recipe {
        Recipe {
            strategy,
            weights: None,
            normalise: None,
            rank: None,
            density: None,
            majority: None,
            seed: None,
            compat: Compat::Documented,
        }
    }
    /// The files of a new adapter made of these, by name, in the format of the first. Heads are no
    /// part of it: see [`Recipe::head`]. An error if the strategy cannot make one of them, or has
    /// no use for a setting that is given.
    pub fn merge(&self, name: &str, of: &[&Adapter], host: &Host) -> Result<Vec<(String, Vec<u8>)>> {
        crate::adapter::check_name(name)?;
        self.check(of.len())?;
        let is_lora = of.iter().all(|a| low_rank::is_lora(a));
        match self.strategy.on {
            On::Tensors => whole::merge(self, name, of, host),
            On::Factors if !is_lora && self.strategy.prune != Prune::Nothing => {
                whole::merge(self, name, of, host)
            }
            _ if !is_lora => {
                Err(Error::Config(format!("`{}` is for LoRA, and not all of these are", self.strategy.name)))
            }
            On::NegatedB => whole::merge(self, name, of, host),
            _ => low_rank::merge(self, name, of, host),
        }
    }
    /// The files of a new head, the mean of these with the weights: AdapterHub's `average_head`. An
    /// error if they are not alike.
    pub fn head(&self, name: &str, of: &[&Head], host: &Host) -> Result<Vec<(String, Vec<u8>)>> {
        let weights = self.weights_with(of.len(), self.normalise.unwrap_or(true))?;
        Head::sum(name, of, &weights, host)
    }
    fn check(&self, n: usize) -> Result<()> {
        let s = self.strategy;
        let unused = |what: &str| Err(Error::Config(format!("`{}` has no use for a {what}", s.name)));
        let decomposes = matches!(s.on, On::Delta | On::Products);
        match () {
            () if n == 0 => return Err(Error::Config("there are no adapters to merge".into())),
            () if self.rank.is_some() && !decomposes => return unused("rank"),
            () if self.density.is_some() && s.prune == Prune::Nothing => return unused("density"),
            () if self.majority.is_some() && !s.elects => return unused("majority sign"),
            () if self.seed.is_some() && s.prune != Prune::Random => return unused("seed"),
            () if self.rank.is_none() && s.on == On::Products => {
                return Err(Error::Config(format!("`{}` needs a rank", s.name)));
            }
            () => {}
        }
        match (s.prune, self.density) {
            (Prune::Nothing, _) => Ok(()),
            (_, Some(density)) => check_density(density),
            (_, None) => Err(Error::Config(format!("`{}` needs a density", s.name))),
        }
    }
    /// The weights of so many adapters, as they are multiplied.
    fn weights(&self, n: usize) -> Result<Vec<f64>> {
        if self.weights.is_none() && !self.strategy.normalises {
            return Err(Error::Config(format!("`{}` needs weights", self.strategy.name)));
        }
        self.weights_with(n, self.normalise.unwrap_or(self.strategy.normalises))
    }
    fn weights_with(&self, n: usize, normalise: bool) -> Result<Vec<f64>> {
        let Some(given) = &self.weights else { return Ok(vec![1.0 / n as f64; n]) };
        if given.len() != n {
            return Err(Error::Config(format!("there are {} weights for {n} adapters", given.len())));
        }
        if let Some(w) = given.iter().find(|w| !w.is_finite()) {
            return Err(Error::Config(format!("a weight is {w}, expected a finite number")));
        }
        let total: f64 = if normalise { given.iter().sum() } else { 1.0 };
        match total.is_normal() {
            true => Ok(given.iter().map(|w| w / total).collect()),
            false => Err(Error::Config(format!("the weights add up to {total}: they cannot be normalised"))),
        }
    }
    /// Tensors of one length made into one; `number` tells the tensors of an adapter apart.
    fn mixed(&self, mut of: Vec<Vec<f64>>, weights: &[f64], number: usize) -> Vec<f64> {
        let (s, density) = (self.strategy, self.density.unwrap_or(1.0));
        for (i, t) in of.iter_mut().enumerate() {
            match s.prune {
                Prune::Nothing => {}
                Prune::Small if density >= 1.0 => {}
                Prune::Small => largest(t, density),
                Prune::Random => {
                    let mut rng = ChaCha8Rng::seed_from_u64(self.seed.unwrap_or(0));
                    rng.set_stream((number as u64) << 32 | i as u64);
                    let unit = 1.0 / (1u64 << 32) as f64;
                    thinned(t, density, || f64::from(rng.next_u32()) * unit < density);
                }
            }
        }
        match s.elects {
            true => elected(&of, weights, self.majority.unwrap_or_default()),
            false => sum(&of, weights),
        }
    }
}

/// The values of a tensor in f64.
fn values(t: &Tensor) -> Result<Vec<f64>> {
    Ok(t.to_f32()?.into_iter().map(f64::from).collect())
}
fn to_f32(v: &[f64]) -> Vec<f32> {
    v.iter().map(|x| *x as f32).collect()
}
