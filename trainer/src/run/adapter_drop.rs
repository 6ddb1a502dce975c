//! AdapterDrop while training (Rücklé et al. 2021, section 3): in every step the adapters of the
//! first k layers are left out, k being drawn anew, so that as many may be left out later without
//! much loss.
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::{fmt, str::FromStr};

/// From how many layers to how many adapters are left out of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdapterDrop {
    /// The fewest.
    pub least: usize,
    /// The most.
    pub most: usize,
}

/// A stream of random numbers of its own.
const STREAM: u64 = 0x6164_6472_6f70;

impl AdapterDrop {
    /// Always as many.
    pub fn always(k: usize) -> AdapterDrop {
        AdapterDrop { least: k, most: k }
    }
    /// How many are left out of a step, counted from 0: each number is as likely. The same seed and
    /// step give the same number, so that a run that was stopped goes on as it would have.
    pub fn at(self, seed: u64, step: u64) -> usize {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ STREAM);
        rng.set_stream(step);
        let choices = (self.most - self.least + 1) as u128;
        self.least + ((u128::from(rng.next_u64()) * choices) >> 64) as usize
    }
}
impl FromStr for AdapterDrop {
    type Err = String;

    /// `N`, which is `0-N`, or `A-B`.
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |n: &str| n.trim().parse::<usize>().ok();
        let range = match text.split_once('-') {
            Some((least, most)) => number(least).zip(number(most)),
            None => number(text).map(|most| (0, most)),
        };
        match range {
            Some((least, most)) if least <= most => Ok(AdapterDrop { least, most }),
            _ => Err(format!("`{text}` is no number of layers as 5, and no range of them as 1-5")),
        }
    }
}
impl fmt::Display for AdapterDrop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.least {
            0 => write!(f, "{}", self.most),
            least => write!(f, "{least}-{}", self.most),
        }
    }
}
by_text!(AdapterDrop);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_drawn_about_as_often() {
        let drop: AdapterDrop = "1-4".parse().unwrap();
        let mut counts = [0; 6];
        (0..4000).for_each(|step| counts[drop.at(42, step)] += 1);
        assert_eq!((counts[0], counts[5]), (0, 0));
        // within five standard deviations
        assert!(counts[1..5].iter().all(|n| (*n as f64 - 1000.0).abs() < 5.0 * 27.4), "{counts:?}");
        assert_eq!(drop.at(42, 17), drop.at(42, 17));
        assert!((0..50).any(|step| drop.at(42, step) != drop.at(43, step)));
        assert_eq!(AdapterDrop::always(3).at(1, 2), 3);
    }
    #[test]
    fn ranges_are_read_and_written() {
        for (text, least, most) in [("5", 0, 5), ("0", 0, 0), ("1-5", 1, 5), ("3-3", 3, 3)] {
            let drop: AdapterDrop = text.parse().unwrap();
            assert_eq!((drop.least, drop.most, drop.to_string().as_str()), (least, most, text));
        }
        for text in ["", "-1", "5-2", "a", "1-2-3", "1,2"] {
            assert!(text.parse::<AdapterDrop>().is_err(), "{text}");
        }
    }
}
