//! A setup without routing.
//!
//! Routing never mixes sequences, so it can be pulled to the top: Stack(c, BatchSplit(a, b)) gives
//! each sequence Stack(c, a) or Stack(c, b). What is left below is the same for every sequence that
//! it answers for ([`super::Tree`]), and a setup is, for each channel (one, unless there is a
//! Parallel) and each item of the batch, which of a few such setups answers.
use super::Setup;
use crate::{Error, Result};

impl Setup {
    /// For each channel and each of so many items the setup that answers, without routing. A child
    /// with one channel serves all channels of its siblings.
    fn channels(&self, items: usize) -> Result<Vec<Vec<Setup>>> {
        let zip = |of: &[Setup], make: &dyn Fn(Vec<Setup>) -> Setup| -> Result<Vec<Vec<Setup>>> {
            let kids = of.iter().map(|c| c.channels(items)).collect::<Result<Vec<_>>>()?;
            let n = common(&kids)?;
            let item = |ch: usize, i: usize| make(kids.iter().map(|k| k[ch % k.len()][i].clone()).collect());
            Ok((0..n).map(|ch| (0..items).map(|i| item(ch, i)).collect()).collect())
        };
        Ok(match self {
            Setup::Identity | Setup::One(_) => vec![vec![self.clone(); items]],
            Setup::Stack(of) => zip(of, &Setup::Stack)?,
            Setup::Fuse { of, name } => {
                // routed children are told apart from here on, the fusion is the same
                let name = Some(Setup::fusion_name(of, name.as_deref()));
                zip(of, &|of| Setup::Fuse { of, name: name.clone() })?
            }
            Setup::Average { of, weights } => zip(of, &|of| Setup::Average { of, weights: weights.clone() })?,
            Setup::Split { of, splits } => zip(of, &|of| Setup::Split { of, splits: splits.clone() })?,
            Setup::Parallel(of) => of.iter().map(|c| c.channels(items)).collect::<Result<Vec<_>>>()?.concat(),
            Setup::BatchSplit { of, batch_sizes } => {
                let sum: usize = batch_sizes.iter().sum();
                if sum != items {
                    return Err(Error::Config(format!(
                        "`batch_sizes` add up to {sum}, and the batch has {items} sequences"
                    )));
                }
                let each = of.iter().zip(batch_sizes);
                let kids = each.map(|(c, n)| c.channels(*n)).collect::<Result<Vec<_>>>()?;
                let n = common(&kids)?;
                (0..n).map(|ch| kids.iter().flat_map(|k| k[ch % k.len()].clone()).collect()).collect()
            }
        })
    }
    /// What a Parallel gives for each text: a setup for each of its answers; itself, if there is
    /// one. An error if they are for parts of a batch as well.
    pub fn answers(&self) -> Result<Vec<Setup>> {
        if !self.is_parallel() {
            return Ok(vec![self.clone()]);
        }
        if self.items().is_some() {
            let what = format!("in `{self}` adapters answer for parts of a batch, and several for each text");
            return Err(Error::Config(what));
        }
        Ok(self.channels(1)?.into_iter().flatten().collect())
    }
    fn is_parallel(&self) -> bool {
        matches!(self, Setup::Parallel(_)) || self.children().iter().any(Setup::is_parallel)
    }
    /// Setups without routing, and for each channel and item which of them answers. Within a
    /// channel they are distinct; what two channels have in common is there twice, so that a
    /// sequence and its copy are told apart.
    pub(super) fn normal(&self, items: usize) -> Result<(Vec<Setup>, Vec<Vec<usize>>)> {
        let (mut trees, mut channels): (Vec<Setup>, Vec<Vec<usize>>) = (vec![], vec![]);
        for channel in self.channels(items)? {
            let before = trees.len();
            let mut routes = vec![];
            for t in channel {
                routes.push(trees[before..].iter().position(|u| *u == t).map_or_else(
                    || {
                        trees.push(t);
                        trees.len() - 1
                    },
                    |i| before + i,
                ));
            }
            channels.push(routes);
        }
        Ok((trees, channels))
    }
}
/// How many channels siblings have.
fn common(kids: &[Vec<Vec<Setup>>]) -> Result<usize> {
    let n = kids.iter().map(Vec::len).max().unwrap_or(1);
    match kids.iter().all(|k| k.len() == 1 || k.len() == n) {
        true => Ok(n),
        false => Err(Error::Config("children of a block differ in the number of their channels".into())),
    }
}
