//! What tasks share whose labels are tokens of the vocabulary.
use super::{
    task::{Answer, Given},
    top::Top,
};
use crate::{
    Error, Result,
    reports::{
        by_example::{ExamplePrediction, Statistic},
        metrics::Metric,
    },
    text::{
        batch::Batch,
        blocks::next_tokens,
        example::{Example, IGNORED, Reads},
    },
};
use engraft_engine::{Act, Cx};

/// The scores of labelled rows, in the order of [`scores`].
pub const METRICS: [Metric; 3] =
    [Metric::loss("loss"), Metric::loss("perplexity"), Metric::share("accuracy")];

/// Refuses a share of labels that is spread over the vocabulary, unless it is 0 to below 1.
pub fn check_smoothing(share: f64) -> Result<()> {
    if (0.0..1.0).contains(&share) {
        return Ok(());
    }
    let (value, why) = (share.to_string(), "it is 0 to below 1".into());
    Err(Error::Option { option: "label-smoothing", value, why })
}

/// Labels as they are given: what is negative is none.
pub fn labels(each: &[i64]) -> Result<Vec<u32>, String> {
    let label = |l: &i64| if *l < 0 { Ok(IGNORED) } else { u32::try_from(*l).map_err(|e| e.to_string()) };
    each.iter().map(label).collect()
}

/// Tokens as an example of which each says the next.
pub fn follows(ids: Vec<u32>) -> Example {
    let labels = next_tokens(&ids);
    Example::new(ids, Reads::All, labels)
}
/// The same with labels as transformers has them: a label stands at its own token, and is what the
/// position before predicts. The error says what is wrong with them.
pub fn following(ids: Vec<u32>, given: Option<&Given>) -> Result<Example, String> {
    let labels = match given {
        None => vec![],
        Some(Given::Each(each)) if each.len() == ids.len() => next_tokens(&labels(each)?),
        Some(Given::Each(each)) => return Err(format!("{} labels for {} tokens", each.len(), ids.len())),
        Some(_) => {
            return Err("a language model has a list of labels for each sequence".into());
        }
    };
    Ok(Example::new(ids, Reads::All, labels))
}

/// The `most` most probable tokens of a row of logits, the most probable first, of equal ones the
/// first; each with the logarithm of its probability.
pub fn best(logits: &[f32], most: usize) -> Vec<(u32, f32)> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let all = logits.iter().map(|z| f64::from(z - top).exp()).sum::<f64>().ln() + f64::from(top);
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    let by = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    if order.len() > most && most > 0 {
        order.select_nth_unstable_by(most - 1, by);
    }
    order.truncate(most);
    order.sort_unstable_by(by);
    order.into_iter().map(|id| (id, (f64::from(logits[id as usize]) - all) as f32)).collect()
}

/// For each example of a batch the losses of its labelled rows, how many these are, and on how many
/// of them the label is the most probable token.
pub fn answers<'m>(cx: &mut Cx<'m>, top: Top<'m>, x: &Act, batch: &Batch) -> Result<Vec<Answer>> {
    let (x, last) = top.last(cx, x)?;
    let losses = cx.linear_cross_entropies(&x, &last, &batch.labels)?;
    let mut rows = losses.into_iter().zip(&batch.labels);
    let mut answer = |rows_of_one: usize| {
        let mut answer = Answer::default();
        for ((loss, hit), _) in rows.by_ref().take(rows_of_one).filter(|(_, label)| **label != IGNORED) {
            answer.loss += f64::from(loss);
            answer.count += 1.0;
            answer.right += f64::from(u8::from(hit));
        }
        answer
    };
    Ok(batch.counts().map(&mut answer).collect())
}

/// The mean loss of all labelled rows, its exponential, and the share of rows whose label is the
/// most probable token; and how many rows these are.
pub fn scores(answers: &[Answer]) -> (Vec<(String, f64)>, u64) {
    let (sum, tokens) = Answer::total(answers);
    let right: f64 = answers.iter().map(|a| a.right).sum();
    let loss = sum / f64::max(tokens, 1.0);
    let values = [loss, loss.exp(), right / tokens]; // of nothing no share is known: null in JSON
    (METRICS.iter().zip(values).map(|(m, value)| (m.name.into(), value)).collect(), tokens as u64)
}

/// What one example adds to the scores.
pub fn adding(e: ExamplePrediction, a: &Answer) -> ExamplePrediction {
    e.adding("perplexity", Statistic::exp_mean(a.loss, a.count))
        .adding("accuracy", Statistic::mean(a.right, a.count))
}
/// The same of sequences that are no records, by their numbers.
pub fn by_example(answers: &[Answer]) -> Vec<ExamplePrediction> {
    let one = |(number, a): (usize, &Answer)| {
        let loss = Some(a.loss / a.count).filter(|loss| loss.is_finite());
        let e = ExamplePrediction { id: (number + 1).to_string(), loss, ..ExamplePrediction::default() };
        adding(e.adding("loss", Statistic::mean(a.loss, a.count)), a)
    };
    answers.iter().enumerate().map(one).collect()
}
