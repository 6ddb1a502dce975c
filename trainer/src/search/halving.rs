//! Successive halving (Jamieson and Talwalkar 2016): many configurations on a small budget, the
//! best of them on a larger one, and so on.

/// Of n trials the best n / eta go on to eta times the budget, until one is left with the whole of
/// it.
///
/// ```
/// let halving = engraft::search::Halving::new(3, 16);
/// assert_eq!(halving.rungs(), 3);
/// assert_eq!([0, 1, 2].map(|rung| halving.trials(rung)), [16, 5, 1]);
/// assert_eq!(halving.share(2), 1.0);
/// assert!((halving.share(0) - 1.0 / 9.0).abs() < 1e-12);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Halving {
    eta: usize,
    trials: usize,
}
impl Halving {
    /// With `eta` of at least 2, for so many trials, one at least.
    pub fn new(eta: usize, trials: usize) -> Halving {
        Halving { eta: eta.max(2), trials: trials.max(1) }
    }
    /// How many budgets there are.
    pub fn rungs(&self) -> usize {
        let (mut left, mut rungs) = (self.trials, 1);
        while left >= self.eta {
            (left, rungs) = (left / self.eta, rungs + 1);
        }
        rungs
    }
    /// How many trials have the budget of a rung, counted from 0.
    pub fn trials(&self, rung: usize) -> usize {
        (0..rung).fold(self.trials, |left, _| left / self.eta)
    }
    /// The budget of a rung, as a share of the whole.
    pub fn share(&self, rung: usize) -> f64 {
        (self.eta as f64).powi(rung as i32 + 1 - self.rungs() as i32)
    }
}
