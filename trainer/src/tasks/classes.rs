//! What tasks share that choose one class for each row.
use super::{task::Answer, top::Top};
use crate::{
    Result,
    text::{batch::Batch, example::IGNORED},
};
use engraft_engine::{Act, Cx};

/// The sum of the cross-entropies of the labelled rows.
pub fn loss<'m>(cx: &mut Cx<'m>, top: Top<'m>, x: &Act, batch: &Batch) -> Result<Act> {
    let logits = top.logits(cx, x)?;
    Ok(cx.cross_entropy(&logits, &batch.labels)?.0)
}

/// For each example of a batch the chosen class and the logits of its rows, one after the other,
/// with loss and count of those that have a label.
pub fn answers<'m>(cx: &mut Cx<'m>, top: Top<'m>, x: &Act, batch: &Batch) -> Result<Vec<Answer>> {
    let logits = top.logits(cx, x)?.to_array()?;
    let mut rows = logits.rows().into_iter().zip(&batch.labels);
    let one = |count: usize| {
        let mut answer = Answer::default();
        for (row, label) in rows.by_ref().take(count) {
            let row = row.to_vec();
            if *label != IGNORED {
                let own = row.get(*label as usize).copied().unwrap_or(f32::NAN);
                answer.loss += log_sum_exp(&row) - f64::from(own);
                answer.count += 1.0;
            }
            answer.chosen.push(best(&row) as u32);
            answer.scores.extend(row);
        }
        answer
    };
    Ok(batch.counts().map(one).collect())
}

/// Of so many classes at most a prediction lists every probability; of more, those of the [`BEST`]
/// most probable.
const ALL: usize = 1000;
const BEST: usize = 100;

/// Makes the answer of one row small if it has many classes: behind the chosen class stand the most
/// probable ones, and in place of all logits the logarithms of their probabilities.
pub fn shorten(answer: &mut Answer) {
    let logits = std::mem::take(&mut answer.scores);
    if logits.len() <= ALL {
        answer.scores = logits;
        return;
    }
    let all = log_sum_exp(&logits);
    for class in largest(&logits, BEST) {
        answer.chosen.push(class as u32);
        answer.scores.push((f64::from(logits[class]) - all) as f32);
    }
}

/// The classes of a row that [`shorten`] has seen, and their probabilities; the chosen class is
/// among them.
pub fn probabilities(answer: &Answer) -> Vec<(usize, f64)> {
    let scores = answer.scores.iter().map(|x| f64::from(*x));
    match answer.chosen.get(1..) {
        None | Some([]) => {
            let all = log_sum_exp(&answer.scores);
            scores.map(|x| (x - all).exp()).enumerate().collect()
        }
        Some(best) => best.iter().map(|class| *class as usize).zip(scores.map(f64::exp)).collect(),
    }
}

/// The numbers of the `most` largest logits, in the order of the classes; of equal ones the first.
fn largest(logits: &[f32], most: usize) -> Vec<usize> {
    let mut classes: Vec<usize> = (0..logits.len()).collect();
    if classes.len() > most {
        classes.select_nth_unstable_by(most, |a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
        classes.truncate(most);
        classes.sort_unstable();
    }
    classes
}

/// The mean loss over all answers.
pub fn mean_loss(answers: &[Answer]) -> f64 {
    let (loss, count) = Answer::total(answers);
    loss / f64::max(count, 1.0)
}

/// log Σ exp of one row, in double precision.
pub fn log_sum_exp(logits: &[f32]) -> f64 {
    let top = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    top + logits.iter().map(|x| (f64::from(*x) - top).exp()).sum::<f64>().ln()
}
/// The number of the largest logit; of equal ones the first.
fn best(logits: &[f32]) -> usize {
    (1..logits.len()).fold(0, |b, i| if logits[i] > logits[b] { i } else { b })
}

/// A label that is given as a number: [`IGNORED`] if it is negative.
pub fn numbered(label: i64, classes: usize) -> Result<u32, String> {
    match u32::try_from(label) {
        Err(_) if label < 0 => Ok(IGNORED),
        Ok(number) if (number as usize) < classes => Ok(number),
        _ => Err(format!("label {label} is not among the head's {classes}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_keep_their_order() {
        let logits = [0.1, 0.4, 0.05, 0.25, 0.1, 0.1];
        assert_eq!(largest(&logits, 3), [0, 1, 3]);
        assert_eq!(largest(&logits, 6), [0, 1, 2, 3, 4, 5]);
        assert_eq!(largest(&logits, 1), [1]);
    }

    #[test]
    fn of_many_classes_the_best_are_kept() {
        let logits: Vec<f32> = (0..ALL + 1).map(|k| (k % 7) as f32 + k as f32 / 1e3).collect();
        let mut answer = Answer { chosen: vec![best(&logits) as u32], scores: logits, ..Answer::default() };
        let all = probabilities(&answer);
        assert!((all.iter().map(|(_, p)| p).sum::<f64>() - 1.0).abs() < 1e-12);
        shorten(&mut answer);
        let few = probabilities(&answer);
        assert_eq!((few.len(), answer.scores.len()), (BEST, BEST));
        assert!(few.iter().any(|(k, _)| *k == answer.chosen[0] as usize));
        for (class, p) in few {
            assert!((p - all[class].1).abs() < 1e-6 && all[class].0 == class);
        }
        // of a few, nothing is left out
        let mut answer = Answer { chosen: vec![1], scores: vec![0.0, 1.0], ..Answer::default() };
        let before = answer.clone();
        shorten(&mut answer);
        assert_eq!(answer, before);
    }
}
