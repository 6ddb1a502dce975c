//! Where the sequences of a prompt begin, and where they end at the latest.
use super::{rules::Place, settings::Settings};
use crate::{Error, Result, learner::Backbone};
use engraft_models::Kind;

/// A prompt, and how its sequences begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start<'a> {
    /// The tokens of the prompt.
    pub prompt: &'a [u32],
    /// What stands in front of the new tokens: the prompt; in a decoder beside an encoder, which
    /// reads the prompt, the token that starts a target.
    pub begin: &'a [u32],
    /// The most tokens of a sequence, these included.
    pub longest: usize,
}
impl Start<'_> {
    /// Where a sequence stands that has come to these tokens.
    pub fn place<'a>(&self, ids: &'a [u32]) -> Place<'a>
    where
        Self: 'a,
    {
        Place { ids, begin: self.begin.len(), source: self.prompt, longest: self.longest }
    }
}

/// The token in front of what a decoder beside an encoder says; none for a model without one.
pub(super) fn start_token(backbone: &Backbone, s: &Settings) -> Result<Option<u32>> {
    let model = backbone.model().info();
    let Kind::EncoderDecoder { start, .. } = model.kind else { return Ok(None) };
    let Some(id) = s.decoder_start_token_id.or(start) else {
        let why = "names no `decoder_start_token_id`: say which token stands in front of what is generated";
        return Err(Error::Model(format!("{} {why}", backbone.directory().display())));
    };
    if id as usize >= model.vocabulary {
        let why = format!("the model has {} tokens", model.vocabulary);
        return Err(Error::Option { option: "decoder-start-token-id", value: id.to_string(), why });
    }
    Ok(Some(id))
}

/// Of each prompt; `token` is in front of its sequences, if they do not begin with the prompt.
///
/// # Errors
/// If a prompt is empty, or it or what its sequences may grow to is longer than the model takes.
pub(super) fn starts<'a>(
    backbone: &Backbone,
    prompts: &'a [Vec<u32>],
    token: Option<&'a u32>,
    s: &Settings,
) -> Result<Vec<Start<'a>>> {
    let model = backbone.model().info();
    let positions = model.positions.unwrap_or(usize::MAX);
    let start = |(i, prompt): (usize, &'a Vec<u32>)| {
        let begin = token.map_or(prompt.as_slice(), std::slice::from_ref);
        let (n, longest) = (prompt.len(), s.longest(begin.len(), model));
        let wrong = |why: String| Err(Error::Model(format!("prompt {i} {why}")));
        let new = longest.saturating_sub(begin.len());
        match () {
            () if n == 0 => wrong("is empty: there is nothing to continue".into()),
            () if n > positions => wrong(format!("has {n} tokens; the model takes {positions}")),
            () if new == 0 => {
                let has = match token {
                    None => format!("has {n} tokens"),
                    Some(id) => format!("gets what begins with token {id}"),
                };
                wrong(format!(
                    "{has}, and a sequence may have {longest}: give more, or the number of new ones"
                ))
            }
            // the last token is read by nobody
            () if longest - 1 > positions => {
                wrong(format!("has {n} tokens, with {new} new ones the model takes no more than {positions}"))
            }
            () => Ok(Start { prompt, begin, longest }),
        }
    };
    prompts.iter().enumerate().map(start).collect()
}
