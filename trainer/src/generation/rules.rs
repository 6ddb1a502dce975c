//! What may come next, and what is made less likely: `transformers`' logits processors.
use super::{numbers::NEVER, settings::Settings};
use std::collections::BTreeSet;

/// Where a sequence stands.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Its tokens so far, those that it begins with in front.
    pub ids: &'a [u32],
    /// How many it begins with: the tokens of the prompt, or the one that starts what a decoder
    /// beside an encoder says.
    pub begin: usize,
    /// The prompt, which may be the input of an encoder.
    pub source: &'a [u32],
    /// The most tokens that it will have.
    pub longest: usize,
}

/// No token of these; those that the model does not have are no matter.
fn forbid(x: &mut [f32], tokens: &[u32]) {
    for id in tokens {
        if let Some(x) = x.get_mut(*id as usize) {
            *x = NEVER;
        }
    }
}
/// These tokens alone.
fn force(x: &mut [f32], tokens: &[u32]) {
    x.fill(NEVER);
    for id in tokens {
        if let Some(x) = x.get_mut(*id as usize) {
            *x = 0.0;
        }
    }
}

/// Scores of tokens, each once, divided by a penalty where they are positive, else multiplied.
pub(super) fn repetition(penalty: f32, tokens: &[u32], x: &mut [f32]) {
    if penalty == 1.0 {
        return;
    }
    for id in tokens.iter().collect::<BTreeSet<_>>() {
        if let Some(x) = x.get_mut(*id as usize) {
            *x = if *x < 0.0 { *x * penalty } else { *x / penalty };
        }
    }
}
/// No token that would end `n` tokens which stand among `tokens` in the same order.
pub(super) fn no_repeat(n: usize, tokens: &[u32], ids: &[u32], x: &mut [f32]) {
    if n == 0 || ids.len() + 1 < n {
        return;
    }
    let end = &ids[ids.len() + 1 - n..];
    for gram in tokens.windows(n).filter(|gram| gram.starts_with(end)) {
        forbid(x, &gram[n - 1..]);
    }
}
/// No token that would end one of the sequences.
pub(super) fn bad_words(s: &Settings, ids: &[u32], x: &mut [f32]) {
    for word in &s.bad_words_ids {
        let Some((last, before)) = word.split_last() else { continue };
        // what ends a sequence stays
        let is_end = before.is_empty() && s.eos_token_id.contains(last);
        if !is_end && word.len() <= ids.len().max(1) && ids.ends_with(before) {
            forbid(x, &[*last]);
        }
    }
}
/// No end before the least length.
pub(super) fn least_length(s: &Settings, at: &Place<'_>, x: &mut [f32]) {
    if at.ids.len() < s.shortest(at.begin) {
        forbid(x, &s.eos_token_id);
    }
}
/// The token behind a beginning of one.
pub(super) fn forced_begin(s: &Settings, at: &Place<'_>, x: &mut [f32]) {
    if let Some(id) = s.forced_bos_token_id.filter(|_| at.ids.len() == 1) {
        force(x, &[id]);
    }
}
/// The last token of the greatest length.
pub(super) fn forced_end(s: &Settings, at: &Place<'_>, x: &mut [f32]) {
    if !s.forced_eos_token_id.is_empty() && at.ids.len() + 1 == at.longest {
        force(x, &s.forced_eos_token_id);
    }
}
/// Finite numbers instead of others.
pub(super) fn valid(s: &Settings, x: &mut [f32]) {
    if s.remove_invalid_values {
        x.iter_mut().for_each(|x| *x = if x.is_nan() { 0.0 } else { x.clamp(f32::MIN, f32::MAX) });
    }
}
/// x + |x| · (factorⁿ - 1) for what ends a sequence, n tokens behind the start.
pub(super) fn decay(s: &Settings, at: &Place<'_>, x: &mut [f32]) {
    let Some((start, factor)) = s.exponential_decay_length_penalty else { return };
    let Some(n) = at.ids.len().checked_sub(at.begin + start).filter(|n| *n > 0) else { return };
    let grown = (factor.powf(n as f64) - 1.0) as f32;
    for id in &s.eos_token_id {
        if let Some(x) = x.get_mut(*id as usize) {
            *x += x.abs() * grown;
        }
    }
}
/// Tokens that never come.
pub(super) fn suppressed(s: &Settings, x: &mut [f32]) {
    forbid(x, &s.suppress_tokens);
}
/// Tokens that do not come first: behind the beginning, or behind the token that is forced there.
pub(super) fn suppressed_first(s: &Settings, at: &Place<'_>, x: &mut [f32]) {
    let forced = usize::from(at.begin <= 1 && s.forced_bos_token_id.is_some());
    if at.ids.len() == at.begin + forced {
        forbid(x, &s.begin_suppress_tokens);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grams_and_words_that_would_come_again() {
        let allowed = |x: &[f32]| x.iter().map(|x| *x > NEVER).collect::<Vec<_>>();
        let mut x = [0.0; 5];
        no_repeat(2, &[1, 2, 1, 3, 1], &[1, 2, 1, 3, 1], &mut x);
        assert_eq!(allowed(&x), [true, true, false, false, true]);
        let mut x = [0.0; 5];
        no_repeat(1, &[4], &[4], &mut x);
        no_repeat(3, &[4], &[4], &mut x);
        assert_eq!(allowed(&x), [true, true, true, true, false]);
        let s = Settings {
            bad_words_ids: vec![vec![0], vec![2], vec![3, 1], vec![3, 4, 4]],
            eos_token_id: vec![2],
            ..Settings::default()
        };
        let mut x = [0.0; 5];
        bad_words(&s, &[1, 3], &mut x);
        assert_eq!(allowed(&x), [false, false, true, true, true]);
    }
}
