//! Texts that are generated as answers, in an evaluation and for a prediction.
use crate::{
    Error, Result,
    data::Dataset,
    generation::{Settings, generate},
    learner::Learner,
    reports::progress::{Mode, Progress},
    tasks::{Answer, Said},
    text::{
        batch::{BatchSize, fill},
        examples::Examples,
        tokenizer::Tokenizer,
    },
};
use engraft_models::Kind;
use std::{cmp::Reverse, fmt, sync::Arc};

/// How texts are generated, and what makes texts of tokens.
#[derive(Clone)]
pub struct Generating {
    settings: Settings,
    tokenizer: Arc<Tokenizer>,
}
impl fmt::Debug for Generating {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generating").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Generating {
    /// By these settings. Where they do not say how many new tokens there are at most it is as many
    /// as a target of the task has; where they name no token that ends a text it is that of the
    /// tokenizer. There is one text for each example, the best.
    pub fn new(settings: Settings, tokenizer: Arc<Tokenizer>) -> Result<Generating> {
        let mut settings = Settings { num_return_sequences: 1, ..settings };
        if settings.eos_token_id.is_empty() {
            settings.eos_token_id.extend(tokenizer.end_of_text()?);
        }
        Ok(Generating { settings, tokenizer })
    }
    /// Generates what a learner answers to the examples of a data set, as far as its task asks for
    /// it.
    pub(super) fn answer(
        &self,
        l: &Learner,
        (data, examples): (&Dataset, &Examples),
        size: BatchSize,
        mode: Mode,
        answers: &mut [Answer],
    ) -> Result<()> {
        let Some(most) = l.task().generates(self.tokenizer.max_length()) else {
            return Err(Error::Model(format!("the task {} generates no texts", l.task().name())));
        };
        let mut settings = self.settings.clone();
        settings.max_new_tokens.get_or_insert(most);
        let padding = match l.backbone().model().info().kind {
            Kind::EncoderDecoder { padding, .. } => padding,
            Kind::Encoder | Kind::Decoder => None,
        };
        let prompts = l.task().prompts(data, examples).into_iter().enumerate();
        let mut asked: Vec<(usize, Vec<u32>)> = prompts.filter_map(|(i, p)| Some((i, p?))).collect();
        asked.sort_by_key(|(_, prompt)| Reverse(prompt.len()));
        let mut progress = Progress::new(mode, "generate", asked.len() as u64);
        let mut asked = asked.into_iter().peekable();
        loop {
            let batch = fill(&mut asked, size, |(_, prompt)| prompt.len());
            if batch.is_empty() {
                break;
            }
            let (items, prompts): (Vec<usize>, Vec<Vec<u32>>) = batch.into_iter().unzip();
            let said = generate(l, &prompts, &settings, &mut |_| Ok(()))?;
            for (item, of_one) in items.into_iter().zip(said) {
                let ids = of_one.into_iter().next().map(|g| g.ids).unwrap_or_default();
                let said = self.said(&ids, &settings, padding)?;
                progress.step(None, said.tokens as u64);
                if let Some(answer) = answers.get_mut(item) {
                    answer.said = Some(said);
                }
            }
        }
        progress.finish();
        Ok(())
    }
    fn said(&self, ids: &[u32], settings: &Settings, padding: Option<u32>) -> Result<Said> {
        let tokens = ids.iter().filter(|id| Some(**id) != padding).count();
        let text = match ids.split_last() {
            Some((end, rest)) if settings.eos_token_id.contains(end) => rest,
            _ => ids,
        };
        Ok(Said { text: self.tokenizer.decode(text)?.trim().into(), tokens })
    }
}
