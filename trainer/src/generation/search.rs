//! One token after the other: the most probable one, or one that is drawn.
use super::{
    decoder::Decoder,
    numbers::{argmax, softmax},
    said::{Generated, Said},
    scores::process,
    settings::Settings,
    start::Start,
};
use crate::{Error, Result};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

/// A sequence that is being continued.
struct Running {
    prompt: usize,
    sequence: usize,
    ids: Vec<u32>,
    random: ChaCha8Rng,
}

/// The random numbers of a sequence: they depend on the seed, its prompt and its number among those
/// of the prompt, and on no others in the batch.
pub(super) fn numbers(seed: u64, prompt: &[u32], sequence: usize) -> ChaCha8Rng {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update((sequence as u64).to_le_bytes());
    prompt.iter().for_each(|id| hash.update(id.to_le_bytes()));
    ChaCha8Rng::from_seed(hash.finalize().into())
}
/// A number in [0, 1).
pub(super) fn uniform(random: &mut ChaCha8Rng) -> f64 {
    (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}
/// A token drawn with the probabilities softmax(x).
fn draw(x: &[f32], random: &mut ChaCha8Rng) -> Option<usize> {
    let p = softmax(x);
    let sum: f64 = p.iter().map(|p| f64::from(*p)).sum();
    let mut left = uniform(random) * sum;
    let mut last = None;
    for (i, p) in p.iter().enumerate().filter(|(_, p)| **p > 0.0) {
        last = Some(i);
        left -= f64::from(*p);
        if left < 0.0 {
            break;
        }
    }
    last
}
/// What the error says if no token can be chosen.
pub(super) fn nothing(prompt: usize) -> Error {
    Error::Model(format!("no token can follow prompt {prompt}: all scores are -inf or not a number"))
}

/// Continues prompts.
pub(super) fn run(
    mut decoder: Decoder<'_>,
    starts: &[Start<'_>],
    s: &Settings,
    hear: &mut dyn FnMut(Said) -> Result<()>,
) -> Result<Vec<Vec<Generated>>> {
    let n = s.num_return_sequences;
    let empty = Generated { ids: vec![], score: None };
    let mut done: Vec<Vec<Generated>> = vec![vec![empty; n]; starts.len()];
    // each prompt is read once; its sequences part behind it
    let mut rows: Vec<usize> = (0..starts.len()).flat_map(|i| std::iter::repeat_n(i, n)).collect();
    let new = |(i, prompt): (usize, usize)| {
        let (start, sequence) = (starts[prompt], i % n);
        let random = numbers(s.seed, start.prompt, sequence);
        Running { prompt, sequence, ids: start.begin.to_vec(), random }
    };
    let mut running: Vec<Running> = rows.iter().copied().enumerate().map(new).collect();
    let mut scores = decoder.next(&starts.iter().map(|start| start.begin).collect::<Vec<_>>())?;
    let vocabulary = scores.len() / starts.len().max(1);
    loop {
        let mut ended = vec![false; running.len()];
        for ((i, r), row) in running.iter_mut().enumerate().zip(&rows) {
            let start = &starts[r.prompt];
            let mut own;
            let all = &mut scores[row * vocabulary..(row + 1) * vocabulary];
            // several sequences read the row of their prompt
            let x = if n > 1 {
                own = all.to_vec();
                &mut own[..]
            } else {
                all
            };
            process(s, &start.place(&r.ids), x);
            let next = if s.do_sample { draw(x, &mut r.random) } else { argmax(x) };
            let id = next.ok_or_else(|| nothing(r.prompt))? as u32;
            r.ids.push(id);
            hear(Said { prompt: r.prompt, sequence: r.sequence, id })?;
            ended[i] = s.eos_token_id.contains(&id) || r.ids.len() >= start.longest;
        }
        for (r, _) in running.iter_mut().zip(&ended).filter(|(_, ended)| **ended) {
            done[r.prompt][r.sequence].ids = r.ids.split_off(starts[r.prompt].begin.len());
        }
        let order: Vec<usize> = rows.iter().zip(&ended).filter(|(_, e)| !**e).map(|(row, _)| *row).collect();
        let mut ended = ended.into_iter();
        running.retain(|_| !ended.next().unwrap_or(false));
        if running.is_empty() {
            return Ok(done);
        }
        decoder.select(&order)?;
        rows = (0..running.len()).collect();
        scores = decoder.next(&running.iter().map(|r| r.ids.as_slice()).collect::<Vec<_>>())?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_the_distribution() {
        let mut random = numbers(7, &[1, 2], 0);
        let x = [0f32, 1.0, f32::NEG_INFINITY, 2.0];
        let mut counts = [0f64; 4];
        for _ in 0..20_000 {
            counts[draw(&x, &mut random).unwrap()] += 1.0 / 20_000.0;
        }
        for (got, want) in counts.iter().zip(softmax(&x)) {
            assert!((got - f64::from(want)).abs() < 0.015, "{counts:?}");
        }
        let first = |seed, prompt: &[u32], n| uniform(&mut numbers(seed, prompt, n));
        assert_eq!(first(7, &[1, 2], 0), first(7, &[1, 2], 0));
        assert!(first(7, &[1, 2], 0) != first(7, &[1, 2], 1) && first(7, &[1, 2], 0) != first(8, &[1, 2], 0));
    }
}
