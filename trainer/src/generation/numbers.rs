//! Scores as probabilities, and the largest of them.

/// What cannot be chosen.
pub(super) const NEVER: f32 = f32::NEG_INFINITY;

/// The largest of some scores.
pub(super) fn largest(x: &[f32]) -> f32 {
    x.iter().copied().fold(NEVER, f32::max)
}
/// x = x - log Σ exp x.
pub(super) fn log_softmax(x: &mut [f32]) {
    let top = largest(x);
    let sum: f64 = x.iter().map(|x| f64::from((x - top).exp())).sum();
    let log = sum.ln() as f32;
    x.iter_mut().for_each(|x| *x = *x - top - log);
}
/// exp x / Σ exp x.
pub(super) fn softmax(x: &[f32]) -> Vec<f32> {
    let top = largest(x);
    let mut p: Vec<f32> = x.iter().map(|x| (x - top).exp()).collect();
    let sum = p.iter().map(|p| f64::from(*p)).sum::<f64>() as f32;
    p.iter_mut().for_each(|p| *p /= sum);
    p
}
/// The place of the largest score, the first of several; none if no score is a number above -∞.
pub(super) fn argmax(x: &[f32]) -> Option<usize> {
    let mut best = (NEVER, None);
    for (i, x) in x.iter().enumerate() {
        if *x > best.0 {
            best = (*x, Some(i));
        }
    }
    best.1
}
/// The largest `k` with their numbers, the largest first, of equal ones the first first; NaN is
/// left out.
pub(super) fn top(k: usize, x: impl Iterator<Item = f32>) -> Vec<(usize, f32)> {
    let mut best: Vec<(usize, f32)> = Vec::with_capacity(k + 1);
    for (i, x) in x.enumerate() {
        let worst = best.last().map_or(NEVER, |b| b.1);
        if x.is_nan() || k == 0 || (best.len() >= k && x <= worst) {
            continue;
        }
        let at = best.partition_point(|b| b.1 >= x);
        best.insert(at, (i, x));
        best.truncate(k);
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_come_first() {
        let x = [1.0, 3.0, f32::NAN, 3.0, NEVER, 2.0];
        assert_eq!(top(3, x.into_iter()), [(1, 3.0), (3, 3.0), (5, 2.0)]);
        assert_eq!(top(9, x.into_iter()).len(), 5);
        assert_eq!((argmax(&x), argmax(&[NEVER, f32::NAN])), (Some(1), None));
        let mut l = [1.0, 2.0, NEVER];
        let p = softmax(&l);
        log_softmax(&mut l);
        assert!((p[0] + p[1] - 1.0).abs() < 1e-6 && p[2] == 0.0 && (l[1].exp() - p[1]).abs() < 1e-6);
    }
}
