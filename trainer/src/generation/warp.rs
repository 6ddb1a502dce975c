//! The distribution that a token is drawn from: `transformers`' logits warpers.
use super::{
    numbers::{NEVER, largest, softmax},
    settings::Settings,
};

/// x / temperature.
pub(super) fn temperature(s: &Settings, x: &mut [f32]) {
    if let Some(t) = s.temperature.filter(|t| *t != 1.0) {
        x.iter_mut().for_each(|x| *x /= t);
    }
}
/// The k largest scores (Fan et al. 2018), and those that equal the last of them.
pub(super) fn top_k(s: &Settings, x: &mut [f32]) {
    let Some(k) = s.top_k.map(|k| k.max(s.kept())).filter(|k| *k < x.len()) else { return };
    let mut sorted = x.to_vec();
    let (_, last, _) = sorted.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
    let last = *last;
    x.iter_mut().filter(|x| **x < last).for_each(|x| *x = NEVER);
}
/// The most probable tokens, which together have the probability (Holtzman et al. 2020).
pub(super) fn top_p(s: &Settings, x: &mut [f32]) {
    let Some(most) = s.top_p.filter(|p| *p < 1.0) else { return };
    let order = ascending(x);
    let (top, gone) = (largest(x), order.len().saturating_sub(s.kept()));
    let sum: f64 = order.iter().map(|i| f64::from((x[*i] - top).exp())).sum();
    let mut below = 0f32;
    for i in &order[..gone] {
        below += (x[*i] - top).exp() / sum as f32;
        if below <= 1.0 - most {
            x[*i] = NEVER;
        }
    }
}
/// Tokens with a share of the probability of the most probable one (Nguyen et al. 2024).
pub(super) fn min_p(s: &Settings, x: &mut [f32]) {
    let Some(least) = s.min_p else { return };
    let p = softmax(x);
    let least = least * largest(&p);
    let order = ascending(x);
    let gone = order.len().saturating_sub(s.kept());
    order[..gone].iter().filter(|i| p[**i] < least).for_each(|i| x[*i] = NEVER);
}
/// The places of the scores that can be chosen, from the smallest to the largest.
fn ascending(x: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..x.len()).filter(|i| x[*i] > NEVER).collect();
    order.sort_by(|a, b| x[*a].total_cmp(&x[*b]));
    order
}
