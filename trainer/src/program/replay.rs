//! Examples of earlier tasks that are learned again beside those of a run.
use super::options::{FILE, Options, Settings};
use super::setup::{found_files, max_length, needed, task, tokenizer};
use engraft::{
    Error, Result,
    adapters::Head,
    learner::{Backbone, Rehearsal, Remembered},
    run::{evaluate::Encoded, portion::some},
    tasks::{Purpose, TASKS},
    text::examples::Examples,
};
use engraft_engine::ParamSet;
use std::{collections::BTreeSet, path::Path};

/// The share of a step unless something is said.
pub const SHARE: f64 = 0.25;

/// What the settings ask for of the runs in the directories that they name.
pub fn rehearsal(s: &Settings, backbone: &Backbone) -> Result<Option<Rehearsal>> {
    let (from, share) = (s.replay_from.as_deref().unwrap_or_default(), s.replay_share.unwrap_or(SHARE));
    let Some(most) = s.replay.filter(|n| *n > 0 && share > 0.0 && !from.is_empty()) else { return Ok(None) };
    let remembered = from.iter().map(|directory| remembered(directory, most, s.seed, backbone));
    Rehearsal::new(remembered.collect::<Result<_>>()?, share, s.seed).map(Some)
}

/// The task of a run with its head, and so many of its examples at most.
fn remembered(directory: &Path, most: usize, seed: u64, backbone: &Backbone) -> Result<Remembered> {
    let recorded = Options::read(directory.join(FILE))?.resolve()?;
    let (kind, told) = (task(recorded.task.as_ref())?.unwrap_or(TASKS[0]), recorded.told());
    let head = Head::find(directory, backbone.host(), backbone.device(), &mut ParamSet::new())?;
    let labels = head.as_ref().map(|head| head.labels().to_vec()).unwrap_or_default();
    let learned = (kind.known)(labels, &told)?;
    let tokens = tokenizer(backbone, max_length(recorded.max_length, backbone), &recorded)?;
    if learned.anew(&tokens)?.is_some() {
        let why = format!("{} makes its examples anew in every epoch", kind.name);
        return Err(Error::Option { option: "replay", value: directory.display().to_string(), why });
    }
    let paths = recorded.train.as_deref().ok_or_else(|| needed("train"))?;
    let files = found_files((kind, &told), paths, &recorded.columns(), Purpose::Train, true)?;
    let all = Encoded::read_for(&files, &*learned, &tokens, Purpose::Train)?.examples;
    let labelled: Examples = all.iter().filter(|e| e.is_labelled()).collect();
    let records: BTreeSet<usize> = labelled.iter().map(|e| e.record).collect();
    let few = some(&labelled, most.min(records.len()), seed)?;
    let name = recorded.name.unwrap_or_else(|| directory.display().to_string());
    Remembered::new(&name, head.map(Head::freeze), learned, few)
}
