//! How sure a score is, and whether two runs on the same examples differ by more than chance.
//!
//! What is resampled are *statistics* of examples: numbers whose sums over any examples give the
//! score of these examples. For a mean they are the value and 1 ([`mean`]); for F1 what is right,
//! predicted and true ([`f1`]); [`bleu`](super::bleu) and [`chrf`](super::chrf) have their own.
//!
//! ```
//! use engraft::reports::scores::significance::{draws, mean, mcnemar, paired_bootstrap, wilson};
//! // of 13 questions that only one of two runs answers right, A has 10
//! assert!((mcnemar(10, 3) - 0.092_285_156_25).abs() < 1e-12);
//! let accuracy = wilson(90, 100).unwrap();
//! assert!(accuracy.low < 0.9 && accuracy.high > 0.9);
//!
//! let a: Vec<[f64; 2]> = (0..50).map(|i| [f64::from(i % 5 != 0), 1.0]).collect();
//! let b: Vec<[f64; 2]> = (0..50).map(|i| [f64::from(i % 2 == 0), 1.0]).collect();
//! let test = paired_bootstrap(&a, &b, mean, 1000, draws(42)).unwrap();
//! assert_eq!((test.a, test.b), (0.8, 0.5));
//! assert!(test.p < 0.05 && test.difference.low > 0.0);
//! ```
use crate::text::shuffle;
use std::f64::consts::{FRAC_2_PI, FRAC_PI_2};

/// The 97.5th percentile of the normal distribution: 95 % lie within it on both sides.
const NORMAL: f64 = 1.959_963_984_540_054;

/// Where a value lies with a confidence of 95 %.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// A score that was resampled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Resampled {
    /// The score of the examples themselves.
    pub score: f64,
    /// The mean over all samples.
    pub mean: f64,
    /// Where the middle 95 % of the samples lie: of the sorted n the one behind the first n / 40,
    /// to the one in front of the last n / 40, as sacreBLEU has them.
    pub interval: Interval,
}

/// Two runs that were compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Paired {
    /// The score of the first.
    pub a: f64,
    /// The score of the second.
    pub b: f64,
    /// How probable a difference of this size would be if there were none.
    pub p: f64,
    /// Where the difference, A - B, lies.
    pub difference: Interval,
}

/// The mean of statistics that are [value, 1].
pub fn mean(sums: &[f64]) -> f64 {
    super::ngrams::share(sums[0], sums[1])
}
/// F1 of statistics that are [right, predicted, true]; 0 where there is nothing.
pub fn f1(sums: &[f64]) -> f64 {
    super::ngrams::share(2.0 * sums[0], sums[1] + sums[2])
}

/// Random whole numbers below what is asked for, the same for ever for a seed.
pub fn draws(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut random = shuffle::numbers(seed, 0);
    move |n| shuffle::below(&mut random, n)
}

/// McNemar's exact test on what only one of two runs has right, `only_a` and `only_b` examples:
/// p = min(1, 2 sum over i <= min(b, c) of C(b + c, i) / 2^(b + c)).
pub fn mcnemar(only_a: u64, only_b: u64) -> f64 {
    let (least, n) = (only_a.min(only_b), only_a + only_b);
    // C(n, least) / 2^n, halved on the way so that nothing grows beyond f64
    let (mut term, mut halvings) = (1.0, n);
    for i in 1..=least {
        term *= (n - least + i) as f64 / i as f64;
        while term > 1.0 && halvings > 0 {
            term /= 2.0;
            halvings -= 1;
        }
    }
    let mut sum = 0.0;
    term *= 0.5_f64.powf(halvings as f64);
    for i in (0..=least).rev() {
        sum += term;
        term *= i as f64 / (n - i + 1) as f64;
    }
    (2.0 * sum).min(1.0)
}

/// Wilson's interval of a share, such as an accuracy (Wilson 1927); none of nothing.
pub fn wilson(right: u64, total: u64) -> Option<Interval> {
    assert!(right <= total, "a part of the whole");
    if total == 0 {
        return None;
    }
    let (n, z2) = (total as f64, NORMAL * NORMAL);
    let p = right as f64 / n;
    let middle = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = NORMAL / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    let low = if right == 0 { 0.0 } else { middle - half };
    let high = if right == total { 1.0 } else { middle + half };
    Some(Interval { low, high })
}

/// The interval of the mean of a cross-validation's scores, one for each fold, of which `test` and
/// `train` say how many examples each has: mean +- t(k - 1, .975) sqrt(s^2 (1/k + test/train))
/// (Nadeau and Bengio 2003). Folds share examples of training, so that s / sqrt(k) would be too
/// narrow; with `test` 0 that is what it is, as for runs of several seeds on data of their own.
/// None of fewer than two scores.
pub fn mean_interval(scores: &[f64], test: f64, train: f64) -> Option<Interval> {
    let k = scores.len() as f64;
    if scores.len() < 2 {
        return None;
    }
    let mean = scores.iter().sum::<f64>() / k;
    let variance = scores.iter().map(|s| (s - mean) * (s - mean)).sum::<f64>() / (k - 1.0);
    let half = student(scores.len() as u64 - 1) * (variance * (1.0 / k + test / train)).sqrt();
    half.is_finite().then_some(Interval { low: mean - half, high: mean + half })
}

/// The 97.5th percentile of Student's t with so many degrees of freedom, at least one. For whole
/// degrees the share within +-t is a finite sum in the angle atan(t / sqrt(degrees)) (Abramowitz
/// and Stegun 26.7.3, 26.7.4), which is searched by halving; beyond 10,000 degrees the expansion of
/// 26.7.5 around the normal distribution is exact to the last digits.
pub fn student(degrees: u64) -> f64 {
    assert!(degrees > 0, "at least one degree of freedom");
    let n = degrees as f64;
    if degrees > 10_000 {
        let z = NORMAL;
        let (z3, z5) = (z.powi(3), z.powi(5));
        let first = (z3 + z) / 4.0;
        let second = (5.0 * z5 + 16.0 * z3 + 3.0 * z) / 96.0;
        return z + first / n + second / (n * n);
    }
    let within = |angle: f64| {
        let (sin, cos) = angle.sin_cos();
        let is_odd = degrees % 2 == 1;
        let (mut term, mut sum) = (if is_odd { cos } else { 1.0 }, 0.0);
        let mut i = if is_odd { 1 } else { 0 };
        while i + 2 <= degrees {
            sum += term;
            i += 2;
            term *= cos * cos * (i - 1) as f64 / i as f64;
        }
        if is_odd { FRAC_2_PI * (angle + sin * sum) } else { sin * sum }
    };
    let (mut low, mut high) = (0.0, FRAC_PI_2);
    for _ in 0..100 {
        let middle = (low + high) / 2.0;
        if within(middle) < 0.95 { low = middle } else { high = middle }
    }
    n.sqrt() * low.tan()
}

/// Holm's correction of the p-values of several comparisons (Holm 1979), in their order: the i-th
/// smallest of n is multiplied by n - i + 1, and none is less than a smaller one.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&i, &j| p[i].total_cmp(&p[j]));
    let (mut corrected, mut least) = (vec![0.0; p.len()], 0.0_f64);
    for (rank, &i) in order.iter().enumerate() {
        least = least.max((p[i] * (p.len() - rank) as f64).min(1.0));
        corrected[i] = least;
    }
    corrected
}

/// Resamples a score: `trials` times as many examples as there are, drawn with repetition. None
/// without examples or trials.
pub fn bootstrap<S: AsRef<[f64]>>(
    examples: &[S],
    score: impl Fn(&[f64]) -> f64,
    trials: usize,
    mut draw: impl FnMut(u64) -> u64,
) -> Option<Resampled> {
    let sums = |draw: &mut dyn FnMut() -> usize| {
        let mut sums = Sums::of(examples);
        examples.iter().for_each(|_| sums.add(&examples[draw()]));
        score(&sums.0)
    };
    let mut next = 0;
    let whole = (!examples.is_empty()).then(|| sums(&mut || (next, next += 1).0))?;
    let mut any = || draw(examples.len() as u64) as usize;
    let mut samples: Vec<f64> = (0..trials).map(|_| sums(&mut any)).collect();
    let mean = samples.iter().sum::<f64>() / trials as f64;
    middle(&mut samples).map(|interval| Resampled { score: whole, mean, interval })
}

/// Compares two runs on the same examples by resampling both alike (Koehn 2004), as sacreBLEU does:
/// with d the size of the difference of the scores and d* those of the samples,
/// `p = (#(d* - mean d* > d) + 1) / (trials + 1)`. Where the scores are equal p is 1; sacreBLEU
/// would say 1 / (trials + 1) of the same run twice. None without examples or trials.
pub fn paired_bootstrap<S: AsRef<[f64]>>(
    a: &[S],
    b: &[S],
    score: impl Fn(&[f64]) -> f64,
    trials: usize,
    mut draw: impl FnMut(u64) -> u64,
) -> Option<Paired> {
    let pair = Pair::of(a, b, &score)?;
    let mut samples: Vec<f64> = (0..trials)
        .map(|_| {
            let (mut of_a, mut of_b) = (Sums::of(a), Sums::of(b));
            for _ in 0..a.len() {
                let i = draw(a.len() as u64) as usize;
                of_a.add(&a[i]);
                of_b.add(&b[i]);
            }
            score(&of_a.0) - score(&of_b.0)
        })
        .collect();
    let mean = samples.iter().map(|d| d.abs()).sum::<f64>() / trials as f64;
    let larger = samples.iter().filter(|d| d.abs() - mean > pair.size()).count();
    let p = if pair.size() == 0.0 { 1.0 } else { (larger + 1) as f64 / (trials + 1) as f64 };
    middle(&mut samples).map(|difference| Paired { a: pair.0, b: pair.1, p, difference })
}

/// Compares two runs on the same examples by exchanging what they have of each example, or not,
/// with equal probability (approximate randomisation, Noreen 1989), with d and d* as above:
/// `p = (#(d* >= d) + 1) / (trials + 1)`. sacreBLEU counts d* > d, which is the same unless
/// differences repeat; those of accuracies do, and one example in a hundred would be significant.
/// None without examples or trials.
pub fn paired_randomisation<S: AsRef<[f64]>>(
    a: &[S],
    b: &[S],
    score: impl Fn(&[f64]) -> f64,
    trials: usize,
    mut draw: impl FnMut(u64) -> u64,
) -> Option<f64> {
    let pair = Pair::of(a, b, &score).filter(|_| trials > 0)?;
    // equal but for rounding
    let least = pair.size() - 1e-12 * pair.0.abs().max(pair.1.abs());
    let mut large = 0;
    for _ in 0..trials {
        let (mut one, mut other) = (Sums::of(a), Sums::of(b));
        for (a, b) in a.iter().zip(b) {
            let (a, b) = if draw(2) == 1 { (a, b) } else { (b, a) };
            one.add(a);
            other.add(b);
        }
        large += usize::from((score(&one.0) - score(&other.0)).abs() >= least);
    }
    Some((large + 1) as f64 / (trials + 1) as f64)
}

/// The scores of both on the examples themselves.
struct Pair(f64, f64);
impl Pair {
    fn of<S: AsRef<[f64]>>(a: &[S], b: &[S], score: impl Fn(&[f64]) -> f64) -> Option<Pair> {
        assert_eq!(a.len(), b.len(), "the same examples");
        let whole = |all: &[S]| {
            let mut sums = Sums::of(all);
            all.iter().for_each(|one| sums.add(one));
            score(&sums.0)
        };
        (!a.is_empty()).then(|| Pair(whole(a), whole(b)))
    }
    fn size(&self) -> f64 {
        (self.0 - self.1).abs()
    }
}

/// Sums of statistics.
struct Sums(Vec<f64>);
impl Sums {
    fn of<S: AsRef<[f64]>>(all: &[S]) -> Sums {
        Sums(vec![0.0; all.first().map_or(0, |one| one.as_ref().len())])
    }
    fn add(&mut self, one: &impl AsRef<[f64]>) {
        self.0.iter_mut().zip(one.as_ref()).for_each(|(sum, x)| *sum += x);
    }
}

/// The middle 95 % of samples.
fn middle(samples: &mut [f64]) -> Option<Interval> {
    samples.sort_by(f64::total_cmp);
    let cut = samples.len() / 40;
    let high = samples.len().checked_sub(cut + 1)?;
    Some(Interval { low: samples[cut], high: samples[high] })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-9, "{a}, expected {b}");
    }

    #[test]
    fn exact_tests() {
        near(mcnemar(10, 3), 0.09228515625);
        near(mcnemar(3, 10), 0.09228515625);
        assert_eq!((mcnemar(0, 0), mcnemar(7, 7), mcnemar(1, 0)), (1.0, 1.0, 1.0));
        assert!(mcnemar(100_000, 100_500) > 0.2 && mcnemar(100_000, 0) == 0.0);
    }
    #[test]
    fn percentiles_of_t() {
        for (degrees, t) in [(1, 12.7062047362), (2, 4.3026527297), (4, 2.7764451052), (9, 2.2621571628)] {
            near(student(degrees), t);
        }
        near(student(10_000), 1.960201239890626);
        near(student(10_001), 1.960201216164641);
        assert_eq!(student(u64::MAX), NORMAL);
    }
    #[test]
    fn intervals() {
        assert_eq!(wilson(0, 0), None);
        let Interval { low, high } = wilson(0, 10).unwrap();
        assert_eq!(low, 0.0);
        near(high, 0.2775327998628892);
        assert_eq!(mean_interval(&[0.5], 1.0, 9.0), None);
        let Interval { low, high } = mean_interval(&[0.8, 0.9, 0.7, 0.8], 25.0, 75.0).unwrap();
        near((low + high) / 2.0, 0.8);
        near((high - low) / 2.0, 3.182446305284263 * (0.02_f64 / 3.0 * (0.25 + 1.0 / 3.0)).sqrt());
    }
    #[test]
    fn several_comparisons() {
        let corrected = holm(&[0.01, 0.04, 0.03, 0.005]);
        corrected.iter().zip([0.03, 0.06, 0.06, 0.02]).for_each(|(a, b)| near(*a, b));
        assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
    }
    #[test]
    fn the_same_run_does_not_differ_from_itself() {
        let a: Vec<[f64; 3]> = (0..30).map(|i| [f64::from(i % 3), 2.0, 3.0]).collect();
        let paired = paired_bootstrap(&a, &a, f1, 100, draws(1)).unwrap();
        assert_eq!((paired.p, paired.difference), (1.0, Interval { low: 0.0, high: 0.0 }));
        assert_eq!(paired_randomisation(&a, &a, f1, 100, draws(1)), Some(1.0));
    }
    #[test]
    fn one_example_in_a_hundred_is_no_difference() {
        let run = |right: u32| (0..100).map(|i| [f64::from(i < right), 1.0]).collect::<Vec<_>>();
        assert_eq!(paired_randomisation(&run(80), &run(81), mean, 1000, draws(3)), Some(1.0));
        assert!(paired_bootstrap(&run(80), &run(81), mean, 1000, draws(3)).unwrap().p > 0.05);
        assert!(paired_randomisation(&run(60), &run(80), mean, 1000, draws(3)).unwrap() < 0.01);
    }
    #[test]
    fn samples_lie_around_the_score() {
        let all: Vec<[f64; 2]> = (0..200).map(|i| [f64::from(i % 4 == 0), 1.0]).collect();
        let r = bootstrap(&all, mean, 1000, draws(5)).unwrap();
        let wilson = wilson(50, 200).unwrap();
        assert!(r.score == 0.25 && (r.mean - 0.25).abs() < 0.01);
        assert!((r.interval.low - wilson.low).abs() < 0.02 && (r.interval.high - wilson.high).abs() < 0.02);
        assert_eq!(bootstrap(&all, mean, 1000, draws(5)), Some(r), "the same for a seed");
        assert_eq!(bootstrap(&all, mean, 0, draws(5)), None);
        assert_eq!(bootstrap::<[f64; 2]>(&[], mean, 9, draws(5)), None);
    }
}
