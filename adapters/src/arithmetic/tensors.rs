//! Several tensors made into one, element by element.
//!
//! ```text
//! sum       Σ wᵢ tᵢ                               task arithmetic (Ilharco et al. 2023)
//! elected   the mean of wᵢ tᵢ over the tᵢ of the elected sign     TIES (Yadav et al. 2023)
//! ```
//! The tensors may be thinned out before: to their largest elements, or at random, what is left
//! being divided by the share that is kept (DARE, Yu et al. 2024). The rules are those of PEFT's
//! `merge_utils.py`.
use crate::{Error, Result};

/// Which sign an element gets (`majority_sign_method`), whose weights do not count for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Majority {
    /// That of the sum.
    #[default]
    Total,
    /// That of more tensors.
    Frequency,
}
impl Majority {
    /// Both, by their names.
    pub const ALL: [(&'static str, Majority); 2] =
        [("total", Majority::Total), ("frequency", Majority::Frequency)];
}

/// Refuses a share of elements to keep that is not above 0 and at most 1.
pub fn check_density(density: f64) -> Result<()> {
    match density > 0.0 && density <= 1.0 {
        true => Ok(()),
        false => Err(Error::Config(format!("`density` is {density}, expected above 0 and at most 1"))),
    }
}
/// Sets all but the largest elements to 0: the whole part of `density` times their number stays. Of
/// equal ones the first stay.
pub fn largest(t: &mut [f64], density: f64) {
    let keep = ((density * t.len() as f64) as usize).min(t.len());
    let mut order: Vec<usize> = (0..t.len()).collect();
    order.sort_by(|a, b| t[*b].abs().total_cmp(&t[*a].abs()).then(a.cmp(b)));
    order[keep..].iter().for_each(|i| t[*i] = 0.0);
}
/// Sets the elements to 0 that `keep` says no to, one after the other, and divides the others by
/// `density`. At a density of 1 nobody is asked.
pub fn thinned(t: &mut [f64], density: f64, mut keep: impl FnMut() -> bool) {
    if density < 1.0 {
        t.iter_mut().for_each(|x| *x = if keep() { *x / density } else { 0.0 });
    }
}
/// Σ wᵢ tᵢ of tensors of one length.
pub fn sum(of: &[Vec<f64>], weights: &[f64]) -> Vec<f64> {
    let mut sum = vec![0.0; of.first().map_or(0, Vec::len)];
    for (t, w) in of.iter().zip(weights) {
        sum.iter_mut().zip(t).for_each(|(s, x)| *s += w * x);
    }
    sum
}
/// For each element the mean of wᵢ tᵢ over the tensors that have the elected sign there; 0 where
/// nobody has.
pub fn elected(of: &[Vec<f64>], weights: &[f64], majority: Majority) -> Vec<f64> {
    let sign = |x: f64| if x == 0.0 { 0.0 } else { x.signum() };
    let one = |j: usize| {
        let votes: f64 = match majority {
            Majority::Total => of.iter().map(|t| t[j]).sum(),
            Majority::Frequency => of.iter().map(|t| sign(t[j])).sum(),
        };
        let elected = if votes >= 0.0 { 1.0 } else { -1.0 };
        let (mut sum, mut count) = (0.0, 0usize);
        for (t, w) in of.iter().zip(weights).filter(|(t, _)| sign(t[j]) == elected) {
            sum += w * t[j];
            count += 1;
        }
        sum / count.max(1) as f64
    };
    (0..of.first().map_or(0, Vec::len)).map(one).collect()
}
