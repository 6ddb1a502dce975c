//! Beam search, as `transformers` 4.57.6 has it (`_beam_search`).
//!
//! Each prompt has so many running sequences, the beams. In a step the best continuations of all
//! of them are looked at: those that end take part in the contest of finished sequences, and the
//! best of the others run on.
use super::{
    decoder::Decoder,
    numbers::{NEVER, log_softmax, top},
    said::Generated,
    scores::process,
    search::{nothing, numbers, uniform},
    settings::{EarlyStopping, Settings},
    start::Start,
};
use crate::Result;
use rand_chacha::ChaCha8Rng;

/// What is added to the score of what is out of the contest.
const OUT: f32 = -1e9;

/// The beams of one prompt.
struct Beams<'a> {
    prompt: usize,
    start: Start<'a>,
    running: Vec<Beam>,
    finished: Vec<Finished>,
    /// A running one may still be better than the finished ones.
    improves: bool,
    random: ChaCha8Rng,
}
#[derive(Clone)]
struct Beam {
    ids: Vec<u32>,
    score: f32,
    /// The row of the last pass that it goes on from.
    row: usize,
}
#[derive(Clone)]
struct Finished {
    ids: Vec<u32>,
    score: f32,
    is_finished: bool,
}
/// A continuation of a beam.
struct Candidate {
    beam: Beam,
    ends: bool,
}

/// The largest scores of several, with what has them; of equal ones the first.
fn best<T>(n: usize, all: Vec<T>, score: impl Fn(&T) -> f32) -> Vec<T> {
    let order = top(n, all.iter().map(score));
    let mut all: Vec<Option<T>> = all.into_iter().map(Some).collect();
    order.into_iter().filter_map(|(i, _)| all.get_mut(i)?.take()).collect()
}

impl<'a> Beams<'a> {
    fn new(prompt: usize, start: Start<'a>, s: &Settings) -> Beams<'a> {
        // of the same beginnings one counts, or all would go on alike
        let beam = |i| {
            let score = if i == 0 { 0.0 } else { OUT };
            Beam { ids: start.begin.to_vec(), score, row: prompt }
        };
        let none = Finished { ids: vec![], score: OUT, is_finished: false };
        Beams {
            prompt,
            start,
            running: (0..s.num_beams).map(beam).collect(),
            finished: vec![none; s.num_beams],
            improves: true,
            random: numbers(s.seed, start.prompt, 0),
        }
    }
    /// The continuations that are looked at, from the best to the worst.
    fn candidates(&mut self, s: &Settings, rows: &[&[f32]]) -> Vec<Candidate> {
        let (keep, vocabulary) = ((s.eos_token_id.len() + 1).max(2) * s.num_beams, rows[0].len());
        let mut x = Vec::with_capacity(self.running.len() * vocabulary);
        for beam in &self.running {
            let mut log_p = rows[beam.row].to_vec();
            log_softmax(&mut log_p);
            process(s, &self.start.place(&beam.ids), &mut log_p);
            x.extend(log_p.into_iter().map(|p| p + beam.score));
        }
        let chosen = match s.do_sample {
            false => top(keep, x.iter().copied()),
            true => drawn(keep, &x, &mut self.random),
        };
        let candidate = |(i, score): (usize, f32)| {
            let (from, id) = (&self.running[i / vocabulary], (i % vocabulary) as u32);
            let ids: Vec<u32> = from.ids.iter().copied().chain([id]).collect();
            let ends = s.eos_token_id.contains(&id) || ids.len() >= self.start.longest;
            Candidate { beam: Beam { ids, score, row: from.row }, ends }
        };
        chosen.into_iter().map(candidate).collect()
    }
    /// One step. Whether the search goes on.
    fn step(&mut self, s: &Settings, rows: &[&[f32]]) -> Result<bool> {
        let n = s.num_beams;
        let candidates = self.candidates(s, rows);
        if candidates.len() < n {
            return Err(nothing(self.prompt));
        }
        let can_go_on = !candidates.iter().all(|c| c.ends);
        let new = candidates[0].beam.ids.len() - self.start.begin.len();
        let is_full =
            self.finished.iter().all(|f| f.is_finished) && s.early_stopping == EarlyStopping::AtOnce;
        let length = (new as f64).powf(s.length_penalty) as f32;
        let mut contest = std::mem::take(&mut self.finished);
        for (i, c) in candidates.iter().enumerate() {
            // only the first beams' worth may finish; what stands behind them is there to run on
            let is_finished = c.ends && i < n;
            let out = [is_full, !self.improves, !is_finished].map(|out| if out { OUT } else { 0.0 });
            let score = out.iter().fold(c.beam.score / length, |score, out| score + out);
            contest.push(Finished { ids: c.beam.ids.clone(), score, is_finished });
        }
        self.finished = best(n, contest, |f| f.score);
        let run_on = candidates.into_iter().map(|c| {
            let score = c.beam.score + if c.ends { OUT } else { 0.0 };
            Beam { score, ..c.beam }
        });
        self.running = best(n, run_on.collect(), |b| b.score);
        self.improves &= self.may_improve(s, new);
        let open = !self.finished.iter().all(|f| f.is_finished) || s.early_stopping != EarlyStopping::AtOnce;
        Ok(self.improves && open && can_go_on)
    }
    /// Whether the best of the running sequences, of so many new tokens, may come to score higher
    /// than a finished one.
    fn may_improve(&self, s: &Settings, new: usize) -> bool {
        let at = match s.early_stopping == EarlyStopping::Never && s.length_penalty > 0.0 {
            true => self.start.longest - self.start.begin.len(),
            false => new,
        };
        let possible = self.running[0].score / (at as f64).powf(s.length_penalty) as f32;
        let worst = self.finished.iter().map(|f| f.score).fold(f32::INFINITY, f32::min);
        self.finished.iter().any(|f| possible > if f.is_finished { worst } else { OUT })
    }
    fn results(self, s: &Settings) -> Vec<Generated> {
        let new = |f: Finished| Generated {
            ids: f.ids.get(self.start.begin.len()..).unwrap_or_default().to_vec(),
            score: Some(f.score),
        };
        self.finished.into_iter().take(s.num_return_sequences).map(new).collect()
    }
}
/// So many, drawn one after the other without putting back, with probabilities softmax(x): the
/// largest of x + g, g of Gumbel's distribution (Kool et al. 2019).
fn drawn(n: usize, x: &[f32], random: &mut ChaCha8Rng) -> Vec<(usize, f32)> {
    let noisy = x.iter().map(|x| match *x > NEVER {
        true => x - (-uniform(random).max(f64::MIN_POSITIVE).ln()).ln() as f32,
        false => NEVER,
    });
    let noisy: Vec<f32> = noisy.collect();
    top(n, noisy.into_iter()).into_iter().map(|(i, _)| (i, x[i])).collect()
}

/// Continues prompts.
pub(super) fn run(
    mut decoder: Decoder<'_>,
    starts: &[Start<'_>],
    s: &Settings,
) -> Result<Vec<Vec<Generated>>> {
    let mut done: Vec<Vec<Generated>> = vec![vec![]; starts.len()];
    let mut open: Vec<Beams<'_>> =
        starts.iter().enumerate().map(|(prompt, start)| Beams::new(prompt, *start, s)).collect();
    // each prompt is read once; its beams part behind it
    let mut sequences: Vec<&[u32]> = starts.iter().map(|start| start.begin).collect();
    while !open.is_empty() {
        let scores = decoder.next(&sequences)?;
        let rows: Vec<&[f32]> = scores.chunks(scores.len() / sequences.len().max(1)).collect();
        let mut left = vec![];
        for mut beams in open {
            let prompt = beams.prompt;
            match beams.step(s, &rows)? {
                true => left.push(beams),
                false => done[prompt] = beams.results(s),
            }
        }
        open = left;
        let order: Vec<usize> = open.iter().flat_map(|b| b.running.iter().map(|r| r.row)).collect();
        decoder.select(&order)?;
        let running = open.iter_mut().flat_map(|b| &mut b.running);
        running.enumerate().for_each(|(row, beam)| beam.row = row);
        sequences = open.iter().flat_map(|b| b.running.iter().map(|r| r.ids.as_slice())).collect();
    }
    Ok(done)
}
