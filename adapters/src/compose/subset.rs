//! What is left of a setup where only some of its adapters answer.
use super::Setup;
use crate::{Error, Result};

impl Setup {
    /// The same with those of its adapters that have these names; an error if a name is not among
    /// them, or nothing is left. A fusion keeps its name, and averages the shares of what is left.
    pub fn only(&self, names: &[&str]) -> Result<Setup> {
        let known = self.distinct();
        if let Some(other) = names.iter().find(|n| !known.contains(n)) {
            let known = known.join("`, `");
            return Err(Error::Config(format!("there is no `{other}` in `{self}`; there are `{known}`")));
        }
        self.reduced(names).ok_or_else(|| Error::Config(format!("nothing of `{self}` is left")))
    }
    fn reduced(&self, names: &[&str]) -> Option<Setup> {
        // what is left of the children, and their numbers
        let left = |of: &[Setup]| -> (Vec<usize>, Vec<Setup>) {
            of.iter().enumerate().filter_map(|(i, s)| Some((i, s.reduced(names)?))).unzip()
        };
        let numbers = |of: &[usize], at: &[usize]| at.iter().map(|i| of[*i]).collect();
        let made = match self {
            Setup::Identity => return Some(Setup::Identity),
            Setup::One(name) => return names.contains(&name.as_str()).then(|| self.clone()),
            Setup::Stack(of) => Setup::Stack(left(of).1),
            Setup::Parallel(of) => Setup::Parallel(left(of).1),
            Setup::Fuse { of, name } => {
                let name = Some(Setup::fusion_name(of, name.as_deref()));
                Setup::Fuse { of: left(of).1, name }
            }
            Setup::Average { of, weights } => {
                let (at, of) = left(of);
                let sum: f64 = at.iter().map(|i| weights[*i]).sum();
                let before: f64 = weights.iter().sum();
                let by = if sum == 0.0 { 1.0 } else { before / sum };
                Setup::Average { of, weights: at.iter().map(|i| weights[*i] * by).collect() }
            }
            Setup::Split { of, splits } => {
                let (at, of) = left(of);
                Setup::Split { of, splits: numbers(splits, &at) }
            }
            Setup::BatchSplit { of, batch_sizes } => {
                let (at, of) = left(of);
                Setup::BatchSplit { of, batch_sizes: numbers(batch_sizes, &at) }
            }
        };
        (!made.children().is_empty()).then_some(made)
    }
}
