//! How much each adapter of a fusion contributes, layer by layer: what is looked at to see which
//! adapters were of use.
use super::Fusion;
use engraft_engine::{self as engine, Act, Site};
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// Sums over the tokens of the passes that were looked at.
#[derive(Debug, Default)]
struct Sums {
    /// The names of the fusion's adapters.
    names: Vec<String>,
    tokens: usize,
    /// Of the shares, for each adapter.
    shares: Vec<f64>,
    /// Tokens of which its share is the largest, for each adapter.
    largest: Vec<usize>,
    /// Whether it was mixed here at all.
    here: Vec<bool>,
}

/// Collects the shares of adapters while passes run: see [`crate::Active::with_shares`].
#[derive(Debug, Default)]
pub struct Shares(Mutex<BTreeMap<(String, Site), Sums>>);

/// What the adapters of a fusion contributed at one site, on the average of all tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct SiteShares {
    /// The name of the fusion.
    pub fusion: String,
    /// Where.
    pub site: Site,
    /// Tokens that were looked at.
    pub tokens: usize,
    /// The adapters of the fusion that were mixed there.
    pub adapters: Vec<AdapterShare>,
}
/// What one of them contributed.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterShare {
    /// Its name.
    pub name: String,
    /// The mean of its share.
    pub mean: f64,
    /// The part of the tokens in which its share is the largest.
    pub largest: f64,
}

impl Shares {
    /// Nothing was looked at yet.
    pub fn new() -> Shares {
        Shares::default()
    }
    /// Adds what a fusion mixed at a site: the adapters by their numbers, and their shares, (T,
    /// adapters * heads). Those of several heads are averaged; of equal shares that of the first
    /// adapter counts as the largest.
    pub(crate) fn add(
        &self,
        fusion: &Fusion,
        site: Site,
        adapters: &[usize],
        shares: &Act,
    ) -> engine::Result<()> {
        let (values, all) = (shares.read()?, fusion.adapters());
        let heads = shares.cols() / adapters.len().max(1);
        // a thread that panicked while it added left numbers that are no worse than they were
        let mut sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let s = sums.entry((fusion.name().into(), site)).or_insert_with(|| {
            let n = all.len();
            let (shares, largest, here) = (vec![0.0; n], vec![0; n], vec![false; n]);
            Sums { names: all.to_vec(), tokens: 0, shares, largest, here }
        });
        adapters.iter().for_each(|i| s.here[*i] = true);
        for row in values.chunks_exact(shares.cols().max(1)) {
            let mean = |own: &[f32]| own.iter().map(|x| f64::from(*x)).sum::<f64>() / heads as f64;
            let own: Vec<f64> = row.chunks_exact(heads.max(1)).map(mean).collect();
            adapters.iter().zip(&own).for_each(|(i, x)| s.shares[*i] += x);
            let largest = (0..own.len()).rev().max_by(|a, b| own[*a].total_cmp(&own[*b]));
            largest.iter().for_each(|i| s.largest[adapters[*i]] += 1);
            s.tokens += 1;
        }
        Ok(())
    }
    /// What was found: fusion by fusion, in the order of the model.
    pub fn found(&self) -> Vec<SiteShares> {
        let sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let site = |((fusion, site), s): (&(String, Site), &Sums)| {
            let tokens = s.tokens.max(1) as f64;
            let one = |i: usize| {
                let (mean, largest) = (s.shares[i] / tokens, s.largest[i] as f64 / tokens);
                AdapterShare { name: s.names[i].clone(), mean, largest }
            };
            let adapters = (0..s.names.len()).filter(|i| s.here[*i]).map(one).collect();
            SiteShares { fusion: fusion.clone(), site: *site, tokens: s.tokens, adapters }
        };
        sums.iter().map(site).collect()
    }
}
