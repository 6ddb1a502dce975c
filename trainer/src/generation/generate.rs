//! Continuing prompts.
use super::{
    beams,
    decoder::{self, Decoder},
    said::{Generated, Said},
    search,
    settings::Settings,
    start::{start_token, starts},
};
use crate::{Result, learner::Learner};

/// Continues prompts, each by itself although in one batch, or says what an encoder-decoder makes
/// of them; for each prompt `num_return_sequences` sequences, those of a beam search from the best
/// to the worst. `hear` is told each token as it is chosen, but in a beam search, where no token is
/// final before the end; an error of it ends the generation.
///
/// # Errors
/// If the model is no language model; if a prompt is empty, or it or what it may grow to is longer
/// than the model's positions; if nothing says which token the decoder of an encoder-decoder starts
/// with; if the settings make no sense.
pub fn generate(
    learner: &Learner,
    prompts: &[Vec<u32>],
    settings: &Settings,
    hear: &mut dyn FnMut(Said) -> Result<()>,
) -> Result<Vec<Vec<Generated>>> {
    let backbone = learner.backbone();
    decoder::check(learner)?;
    settings.check(backbone.model().info())?;
    let token = start_token(backbone, settings)?;
    let starts = starts(backbone, prompts, token.as_ref(), settings)?;
    if starts.is_empty() {
        return Ok(vec![]);
    }
    let each = settings.num_beams.max(settings.num_return_sequences);
    let sequences = prompts.len().saturating_mul(each);
    let decoder = Decoder::new(learner, &starts, sequences, settings.use_cache)?;
    match settings.num_beams {
        1 => search::run(decoder, &starts, settings, hear),
        _ => beams::run(decoder, &starts, settings),
    }
}
