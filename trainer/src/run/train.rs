//! Runs of training, from batches to saved adapters and reports: one, or several that go over the
//! same batches.
//!
//! Each of several is the very run that it would be by itself, to the bit, with a state and a
//! directory of its own. All they share is what they have in common: the batches, and what the
//! frozen model computes below the first adapted layer.
//!
//! In mixed batches ([`train_mixed`]) each learns from examples of its own, and all of them share
//! one pass. Still each has its own steps, schedule, evaluations and state: those of a run whose
//! batches are what a mixed one has for it. Where one stands behind others, since a kill came
//! between their states, it takes its steps alone while they answer.
use super::{
    evaluate::Encoded,
    member::Member,
    mixed::numbers_of,
    mixture::steps_of_each,
    source::Source,
    state::hash,
    under_way::{Runs, Way},
};
use crate::{Error, Result, learner::Learner};

pub use super::{
    member::{Entry, Outcome},
    under_way::Around,
};

/// What has a number in mixed batches, or if it learns several tasks one for each.
pub enum Place {
    /// A run that is about to begin, or to go on.
    Run(Box<Entry>),
    /// A run that came to its end before: somebody like its learner answers for its examples.
    Over(Box<Learner>),
}
impl Place {
    fn learner(&self) -> &Learner {
        match self {
            Place::Run(entry) => &entry.learner,
            Place::Over(learner) => learner,
        }
    }
}

/// Trains by a recipe, evaluates on `eval` if there is some, and saves in a directory the best, or
/// the last if there is no telling. At the end of each epoch, and every so many steps if the recipe
/// says so, the state of the run is saved with it.
pub fn train(
    entry: Entry,
    source: &dyn Source,
    eval: Option<&Encoded>,
    around: Around<'_>,
) -> Result<Outcome> {
    let mut outcomes = train_together(vec![entry], source, eval, around)?;
    outcomes.pop().unwrap_or_else(|| unreachable!("one for each run"))
}

/// The same of several runs. They stand on one model and read the same batches. There is an outcome
/// for each: one whose numbers are no numbers any more ends alone; whatever else goes wrong ends
/// all of them.
pub fn train_together(
    entries: Vec<Entry>,
    source: &dyn Source,
    eval: Option<&Encoded>,
    around: Around<'_>,
) -> Result<Vec<Result<Outcome>>> {
    let Some(first) = entries.first() else { return Ok(vec![]) };
    let recipe = first.recipe.clone();
    entries.iter().try_for_each(|e| recipe.check_together(&e.recipe))?;
    let data = hash(source, [eval]);
    let member = |e: Entry| {
        let total = e.recipe.steps(source)?;
        Member::new(e, total, (&data, source.examples()), |_| true).map(Some)
    };
    let members: Vec<Option<Member>> = entries.into_iter().map(member).collect::<Result<_>>()?;
    let total = members.iter().flatten().map(|m| m.total).max().unwrap_or(0);
    let ended = Runs::new(members, (source, Way::Alike(eval)), recipe, total, around).go()?;
    Ok(ended.into_iter().flatten().collect())
}

/// Trains several learners on mixed batches, each from the examples that have its number, its place
/// in `places`; a learner of several tasks has as many numbers. They come from
/// [`Backbone::learners`](crate::learner::Backbone::learners), or there is one of several tasks, and
/// `eval` has for each number what is evaluated; where a run has nothing the last is saved, not the
/// best. There is an outcome for each run that was not over before.
///
/// The seed of the recipes decides what is dropped out, the same for all of them.
pub fn train_mixed(
    places: Vec<Place>,
    source: &dyn Source,
    eval: &[Option<Encoded>],
    around: Around<'_>,
) -> Result<Vec<Option<Result<Outcome>>>> {
    let recipes = || places.iter().filter_map(|p| if let Place::Run(e) = p { Some(&e.recipe) } else { None });
    let Some(recipe) = recipes().next().cloned() else { return Ok(places.iter().map(|_| None).collect()) };
    recipes().try_for_each(|r| recipe.check_together(r))?;
    let numbers = numbers_of(places.iter().map(|place| place.learner().parts().len()));
    if eval.len() != numbers.last().map_or(0, |last| last.end) {
        let what = "there is something to evaluate on, or nothing, for each number of mixed batches";
        return Err(Error::Model(what.into()));
    }
    let (total, of_each) = (recipe.steps(source)?, steps_of_each(&recipe, source, &numbers)?);
    let data = hash(source, eval.iter().map(Option::as_ref));
    let (mut members, mut idle) = (vec![], vec![]);
    for ((place, steps), own) in places.into_iter().zip(of_each).zip(&numbers) {
        let (member, other) = match place {
            Place::Run(entry) if steps == 0 => {
                let name = entry.name.unwrap_or_default();
                let why = format!("no step of the run has an example of `{name}`");
                let value = recipe.max_steps.map_or("given".into(), |n| n.to_string());
                return Err(Error::Option { option: "max-steps", value, why });
            }
            Place::Run(entry) => {
                let is_evaluated = |part: usize| eval[own.start + part].is_some();
                (Some(Member::new(*entry, steps, (&data, None), is_evaluated)?), None)
            }
            Place::Over(learner) => (None, Some(*learner)),
        };
        members.push(member);
        idle.push(other);
    }
    Runs::new(members, (source, Way::Mixed { eval, numbers, idle }), recipe, total, around).go()
}
