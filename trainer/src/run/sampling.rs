//! Several tasks in one order: how often each of them is drawn, and which of its examples comes next.
//!
//! With e_t examples of task t and r_t = min(e_t, K) a task is drawn with the probability
//! p_t = r_t^(1/T) / sum_n r_n^(1/T): without a cap K and at the temperature T = 1 in proportion to
//! its examples, at a temperature without end all alike (Raffel et al. 2020, "Exploring the limits of
//! transfer learning", section 3.5.2).
use super::{
    mixture::packed,
    source::{Source, hash_of},
};
use crate::{
    Error, Result,
    text::{
        batch::{Batch, BatchSize, Order, fill},
        examples::Examples,
        shuffle::{below, numbers, shuffle},
    },
};
use std::{cmp::Reverse, fmt, str::FromStr};

/// How often tasks are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// More examples of a task than these do not count.
    cap: Option<u64>,
    /// At 1 examples count as they are, at infinity all tasks alike.
    temperature: f64,
}

/// Whole numbers in the place of probabilities, whose sum is about that.
const WHOLE: f64 = (1u64 << 40) as f64;

impl Sampling {
    /// In proportion to the examples of each task.
    pub const PROPORTIONAL: Sampling = Sampling { cap: None, temperature: 1.0 };

    /// Numbers in proportion to which tasks with so many examples are drawn.
    fn weights(&self, examples: &[usize]) -> Vec<u64> {
        let counted = |n: &usize| (*n as u64).min(self.cap.unwrap_or(u64::MAX));
        let counted: Vec<u64> = examples.iter().map(counted).collect();
        if self.temperature == 1.0 {
            return counted;
        }
        let power = |n: u64| if n == 0 { 0.0 } else { (n as f64).powf(1.0 / self.temperature) };
        let sum: f64 = counted.iter().map(|n| power(*n)).sum();
        let weight = |n: &u64| if *n == 0 { 0 } else { ((WHOLE * power(*n) / sum).round() as u64).max(1) };
        counted.iter().map(weight).collect()
    }
}
impl FromStr for Sampling {
    type Err = String;

    /// `proportional`, `uniform`, `temperature=T`, `capped=K`, or `capped=K,temperature=T`.
    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || {
            format!(
                "`{text}` is none of proportional, uniform, temperature=T with T from 1, capped=K with K from 1, and \
                 capped=K,temperature=T"
            )
        };
        let mut sampling = Sampling::PROPORTIONAL;
        match text {
            "proportional" => return Ok(sampling),
            "uniform" => return Ok(Sampling { cap: None, temperature: f64::INFINITY }),
            _ => {}
        }
        let mut seen = [false; 2];
        for part in text.split(',') {
            let (name, value) = part.trim().split_once('=').ok_or_else(refused)?;
            let which = match name {
                "temperature" => {
                    let is_one = |t: &f64| t.is_finite() && *t >= 1.0;
                    sampling.temperature = value.parse().ok().filter(is_one).ok_or_else(refused)?;
                    0
                }
                "capped" => {
                    sampling.cap = Some(value.parse().ok().filter(|k| *k > 0).ok_or_else(refused)?);
                    1
                }
                _ => return Err(refused()),
            };
            if std::mem::replace(&mut seen[which], true) {
                return Err(refused());
            }
        }
        Ok(sampling)
    }
}
impl fmt::Display for Sampling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.cap, self.temperature) {
            (None, 1.0) => f.write_str("proportional"),
            (None, f64::INFINITY) => f.write_str("uniform"),
            (None, t) => write!(f, "temperature={t}"),
            (Some(k), 1.0) => write!(f, "capped={k}"),
            (Some(k), t) => write!(f, "capped={k},temperature={t}"),
        }
    }
}
by_text!(Sampling);

/// The examples of several tasks, drawn task by task.
///
/// An epoch has as many draws as there are examples. Each draws a task, and takes that one's next
/// example: a task goes through its examples in an order of its own, which is another one each time,
/// and goes on in the next epoch where it stood. All of that follows from the seed and the number of
/// the epoch. Without shuffling all examples come once, those of each task in their order and evenly
/// among the others. Within a batch those of one task stand together.
#[derive(Clone, Debug)]
pub struct Drawn {
    of_each: Vec<Examples>,
    weights: Vec<u64>,
    /// How many examples the tasks before each have.
    before: Vec<usize>,
    len: usize,
}

/// Whose an example is, and its number among those of that task.
type Draw = (usize, usize);

impl Drawn {
    /// The examples of each task, drawn so often. An error if a task has none.
    pub fn new(of_each: Vec<Examples>, sampling: Sampling) -> Result<Drawn> {
        if of_each.is_empty() || of_each.iter().any(Examples::is_empty) {
            return Err(Error::Labels("every task has examples to be drawn".into()));
        }
        let counts: Vec<usize> = of_each.iter().map(Examples::len).collect();
        let weights = sampling.weights(&counts);
        let before = counts.iter().scan(0, |sum, n| Some(std::mem::replace(sum, *sum + n))).collect();
        Ok(Drawn { of_each, weights, before, len: counts.iter().sum() })
    }
    fn tokens(&self, (task, item): Draw) -> usize {
        self.of_each[task].length(item)
    }
    /// The task of each draw of an epoch.
    fn tasks(&self, seed: u64, epoch: u64) -> impl Iterator<Item = usize> + '_ {
        let (mut rng, sum) = (numbers(seed, epoch), self.weights.iter().sum());
        let mut one = move || {
            let mut left = below(&mut rng, sum);
            let task = self.weights.iter().position(|weight| match left.checked_sub(*weight) {
                Some(rest) => {
                    left = rest;
                    false
                }
                None => true,
            });
            task.unwrap_or_default()
        };
        (0..self.len).map(move |_| one())
    }
    /// The draws of an epoch.
    fn draws(&self, order: Order) -> Vec<Draw> {
        match order {
            Order::File { .. } => self.evenly(),
            Order::Longest => {
                let mut all = self.evenly();
                all.sort_by_key(|draw| Reverse(self.tokens(*draw)));
                all
            }
            Order::Shuffled { seed, epoch } => {
                let mut passed = vec![0u64; self.of_each.len()]; // draws of each task
                for earlier in 0..epoch {
                    self.tasks(seed, earlier).for_each(|task| passed[task] += 1);
                }
                let mut orders: Vec<Option<(u64, Vec<usize>)>> = vec![None; passed.len()];
                let mut next = |task: usize| {
                    let n = self.of_each[task].len() as u64;
                    let (round, place) = (passed[task] / n, (passed[task] % n) as usize);
                    passed[task] += 1;
                    let known = orders[task].take().filter(|(of, _)| *of == round);
                    let (_, order) = orders[task].insert(known.unwrap_or_else(|| {
                        let mut order: Vec<usize> = (0..n as usize).collect();
                        shuffle(&mut order, &mut numbers(of_task(seed, task), round));
                        (round, order)
                    }));
                    (task, order[place])
                };
                self.tasks(seed, epoch).map(&mut next).collect()
            }
        }
    }
    /// Every example once, in the order of each task and evenly among the others: example i of e
    /// stands at (2 i + 1) / 2 e.
    fn evenly(&self) -> Vec<Draw> {
        let of = |(task, e): (usize, &Examples)| (0..e.len()).map(move |item| (task, item));
        let mut all: Vec<Draw> = self.of_each.iter().enumerate().flat_map(of).collect();
        let place = |(task, item): Draw| ((2 * item + 1) as u128, self.of_each[task].len() as u128);
        all.sort_by(|a, b| {
            let ((x, of_x), (y, of_y)) = (place(*a), place(*b));
            (x * of_y).cmp(&(y * of_x))
        });
        all
    }
    fn items(&self, size: BatchSize, order: Order) -> impl Iterator<Item = Vec<Draw>> + '_ {
        let mut left = self.draws(order).into_iter().peekable();
        std::iter::from_fn(move || {
            let mut batch = fill(&mut left, size, |draw| self.tokens(*draw));
            batch.sort_by_key(|(task, _)| *task);
            (!batch.is_empty()).then_some(batch)
        })
    }
}

/// The seed of a task's own orders.
fn of_task(seed: u64, task: usize) -> u64 {
    seed ^ (task as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Source for Drawn {
    fn batches(&self, size: BatchSize, order: Order) -> Box<dyn Iterator<Item = Result<Batch>> + '_> {
        let place = |(task, item): Draw| (self.before[task] + item, task, item);
        let batches = self.items(size, order);
        Box::new(batches.map(move |items| Ok(packed(&self.of_each, items.into_iter().map(place)))))
    }
    fn count(&self, size: BatchSize, order: Order) -> Result<u64> {
        match size {
            BatchSize::Examples(n) => Ok(self.len.div_ceil(n) as u64),
            BatchSize::Tokens(_) => Ok(self.items(size, order).count() as u64),
        }
    }
    /// Of the examples of each, and of how often they are drawn.
    fn hash(&self) -> String {
        let weights = hash_of(self.weights.iter().flat_map(|weight| weight.to_le_bytes()));
        self.of_each.iter().map(Source::hash).chain([weights]).collect::<Vec<_>>().join(" ")
    }
    fn bytes(&self) -> usize {
        let examples: usize = self.of_each.iter().map(Examples::bytes).sum();
        examples + self.len * size_of::<Draw>()
    }
}

#[cfg(test)]
mod tests;
