//! Continuing prompts.
use super::{
    beams,
    decoder::{self, Decoder},
    said::{Generated, Said},
    search,
    settings::Settings,
};
use crate::{Error, Result, learner::Learner};

/// Continues prompts, each by itself although in one batch; for each prompt
/// `num_return_sequences` sequences, those of a beam search from the best to the worst. `hear` is
/// told each token as it is chosen, but in a beam search, where no token is final before the end;
/// an error of it ends the generation.
///
/// # Errors
/// If the model is no language model; if a prompt is empty, or it or what it may grow to is longer
/// than the model's positions; if the settings make no sense.
pub fn generate(
    learner: &Learner,
    prompts: &[Vec<u32>],
    settings: &Settings,
    hear: &mut dyn FnMut(Said) -> Result<()>,
) -> Result<Vec<Vec<Generated>>> {
    let model = learner.backbone().model().info();
    decoder::check(learner)?;
    settings.check(model)?;
    let mut longest = vec![];
    for (i, prompt) in prompts.iter().enumerate() {
        let (n, most) = (prompt.len(), settings.longest(prompt.len(), model));
        let wrong = |why: String| Err(Error::Model(format!("prompt {i} has {n} tokens{why}")));
        let positions = model.positions.unwrap_or(usize::MAX);
        match () {
            () if n == 0 => {
                return Err(Error::Model(format!("prompt {i} is empty: there is nothing to continue")));
            }
            () if n > positions => return wrong(format!("; the model takes {positions}")),
            () if n >= most => {
                return wrong(format!(
                    ", and a sequence may have {most}: give more, or the number of new ones"
                ));
            }
            // the last token is read by nobody
            () if most - 1 > positions => {
                return wrong(format!(
                    ", with {} new ones the model takes no more than {positions}",
                    most - n
                ));
            }
            () => longest.push(most),
        }
    }
    let tasks: Vec<_> = prompts.iter().zip(longest).collect();
    let each = settings.num_beams.max(settings.num_return_sequences);
    let decoder = Decoder::new(learner, prompts.len().saturating_mul(each), settings.use_cache)?;
    match settings.num_beams {
        1 => search::run(decoder, &tasks, settings, hear),
        _ => beams::run(decoder, &tasks, settings),
    }
}
