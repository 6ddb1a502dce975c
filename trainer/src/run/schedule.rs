//! The learning rate, step by step: transformers' `get_linear_schedule_with_warmup`,
//! `get_cosine_schedule_with_warmup` and `get_constant_schedule_with_warmup`.

use std::f64::consts::PI;

choices! {
    /// The shape of the schedule after its warm-up.
    pub enum Decay {
        /// Straight down to zero
        Linear = "linear",
        /// Half a cosine down to zero
        Cosine = "cosine",
        /// No decay
        Constant = "constant",
    }
}

/// Steps of warm-up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Warmup {
    /// A share of all steps, rounded up.
    Ratio(f64),
    /// That many.
    Steps(u64),
}

/// A factor for the learning rate at every step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    decay: Decay,
    warmup: u64,
    total: u64,
}

impl Schedule {
    /// A schedule over `total` optimiser steps.
    pub fn new(decay: Decay, warmup: Warmup, total: u64) -> Self {
        let warmup = match warmup {
            Warmup::Ratio(ratio) => (total as f64 * ratio).ceil() as u64,
            Warmup::Steps(steps) => steps,
        };
        Self { decay, warmup, total }
    }

    /// What the learning rate is multiplied with at `step`, counted from 0: with w steps of warm-up
    /// and T in all, step / w below w; from there, with p = (step - w) / (T - w), linear 1 - p,
    /// cosine (1 + cos(pi p)) / 2, constant 1. The first step of a warm-up has the factor 0.
    pub fn factor(&self, step: u64) -> f64 {
        if step < self.warmup {
            return step as f64 / self.warmup.max(1) as f64;
        }
        let decay = self.total.saturating_sub(self.warmup).max(1) as f64;
        match self.decay {
            Decay::Linear => self.total.saturating_sub(step) as f64 / decay,
            Decay::Cosine => 0.5 * (1.0 + (PI * ((step - self.warmup) as f64 / decay)).cos()),
            Decay::Constant => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(decay: Decay, warmup: u64, total: u64, expected: &[f64]) {
        let schedule = Schedule::new(decay, Warmup::Steps(warmup), total);
        for (step, expected) in expected.iter().enumerate() {
            let factor = schedule.factor(step as u64);
            assert!(
                (factor - expected).abs() < 1e-15,
                "{decay:?}, step {step}: {factor}, expected {expected}"
            );
        }
    }

    /// `scheduler.get_last_lr()` at base rate 1, one step after the other, with transformers
    /// 4.57.6.
    #[test]
    fn equals_transformers() {
        // get_linear_schedule_with_warmup(o, 3, 10)
        let up = [0.0, 0.3333333333333333, 0.6666666666666666, 1.0];
        check(Decay::Linear, 3, 10, &up);
        let down = [
            0.8571428571428571,
            0.7142857142857143,
            0.5714285714285714,
            0.42857142857142855,
            0.2857142857142857,
            0.14285714285714285,
            0.0,
            0.0,
        ];
        check(Decay::Linear, 3, 10, &[&up[..], &down].concat());
        // get_cosine_schedule_with_warmup(o, 3, 10)
        let down = [
            0.9504844339512095,
            0.8117449009293668,
            0.6112604669781572,
            0.38873953302184283,
            0.18825509907063326,
            0.04951556604879048,
            0.0,
            0.04951556604879043,
        ];
        check(Decay::Cosine, 3, 10, &[&up[..], &down].concat());
        // get_constant_schedule_with_warmup(o, 3)
        check(Decay::Constant, 3, 10, &[&up[..], &[1.0, 1.0]].concat());
        // get_linear_schedule_with_warmup(o, 0, 2), get_cosine_schedule_with_warmup(o, 2, 2)
        check(Decay::Linear, 0, 2, &[1.0, 0.5, 0.0]);
        check(Decay::Cosine, 2, 2, &[0.0, 0.5, 1.0]);
    }

    /// `TrainingArguments(warmup_ratio=0.06).get_warmup_steps(total)`.
    #[test]
    fn warmup_is_rounded_up() {
        for (total, steps) in [(50, 3), (100, 6), (10, 1), (7, 1), (1, 1), (650, 39), (33, 2)] {
            assert_eq!(Schedule::new(Decay::Linear, Warmup::Ratio(0.06), total).warmup, steps, "of {total}");
        }
    }
}
