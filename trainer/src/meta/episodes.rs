//! Small tasks out of a data set with classes: some classes, a few examples of each to learn from, and
//! others to be asked for.
use super::outer::{Drawn, Tasks};
use crate::{
    Error, Result,
    text::{
        batch::Batch,
        example::{Example, IGNORED, Reads},
        examples::Examples,
        shuffle::{numbers, numbers_of, shuffle},
    },
};
use std::collections::BTreeMap;

/// How large episodes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Classes.
    pub ways: usize,
    /// Examples of each class to learn from.
    pub shots: usize,
    /// Examples of each class that are asked for.
    pub queries: usize,
}

/// A task of an episode: the places of examples, each with the number that its class has in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Episode {
    /// What is learned from.
    pub support: Vec<(usize, u32)>,
    /// What is asked for.
    pub query: Vec<(usize, u32)>,
}

/// The examples of a data set, class by class.
#[derive(Clone, Debug)]
pub struct Classes<'a> {
    examples: &'a Examples,
    /// In the order of the classes, the places of the examples of each.
    places: Vec<(u32, Vec<usize>)>,
}

/// Streams of random numbers of their own.
const EPISODES: u64 = 0x6570_6973;
const SUPPORT: u64 = 0x7375_7070;
const SPLIT: u64 = 0x7370_6c69;

impl<'a> Classes<'a> {
    /// Of examples that have one class each; an error if they have not.
    pub fn of(examples: &'a Examples) -> Result<Classes<'a>> {
        let mut places = BTreeMap::<u32, Vec<usize>>::new();
        for (place, e) in examples.iter().enumerate() {
            match (&e.reads, &e.labels[..]) {
                (Reads::Summary, [label]) if *label != IGNORED && e.values.is_empty() => {
                    places.entry(*label).or_default().push(place);
                }
                (Reads::Summary, [IGNORED] | []) => {}
                _ => {
                    return Err(Error::Labels(
                        "a few of each class are drawn of texts with one class".into(),
                    ));
                }
            }
        }
        Ok(Classes { examples, places: places.into_iter().collect() })
    }
    /// How many classes there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
    /// The names of the classes, out of those of all labels.
    pub fn names<'n>(&self, labels: &'n [String]) -> impl Iterator<Item = &'n String> {
        self.places.iter().filter_map(|(class, _)| labels.get(*class as usize))
    }
    /// Only the classes of which there are so many examples.
    pub fn with_at_least(mut self, examples: usize) -> Classes<'a> {
        self.places.retain(|(_, places)| places.len() >= examples);
        self
    }
    /// Two parts: all classes but so many, and those, drawn at random.
    pub fn split(self, held_out: usize, seed: u64) -> (Classes<'a>, Classes<'a>) {
        let mut order: Vec<usize> = (0..self.len()).collect();
        shuffle(&mut order, &mut numbers(seed ^ SPLIT, 0));
        order.truncate(held_out);
        let (mut kept, mut held) = (vec![], vec![]);
        for (n, class) in self.places.into_iter().enumerate() {
            if order.contains(&n) { held.push(class) } else { kept.push(class) }
        }
        let of = |places| Classes { examples: self.examples, places };
        (of(kept), of(held))
    }
    /// Those classes of another data set with the same labels.
    pub fn like<'b>(&self, mut other: Classes<'b>) -> Classes<'b> {
        other.places.retain(|(class, _)| self.places.iter().any(|(own, _)| own == class));
        other
    }
    /// The episode of a number: which classes, in which order, and which examples of them, all as
    /// likely as any others. An error if there are not enough.
    pub fn episode(&self, shape: Shape, seed: u64, number: u64) -> Result<Episode> {
        let Shape { ways, shots, queries } = shape;
        let all = shots + queries;
        if self.len() < ways || self.places.iter().any(|(_, places)| places.len() < all) {
            let full = self.places.iter().filter(|(_, places)| places.len() >= all).count();
            let why =
                format!("there are {full} classes with {shots} examples to learn from and {queries} others");
            return Err(Error::Option { option: "ways", value: ways.to_string(), why });
        }
        let mut rng = numbers(seed ^ EPISODES, number);
        let mut classes: Vec<usize> = (0..self.len()).collect();
        shuffle(&mut classes, &mut rng);
        let mut episode = Episode { support: vec![], query: vec![] };
        for (label, class) in classes[..ways].iter().enumerate() {
            let mut places = self.places[*class].1.clone();
            shuffle(&mut places, &mut rng);
            let mut drawn = places.into_iter().map(|place| (place, label as u32));
            episode.support.extend(drawn.by_ref().take(shots));
            episode.query.extend(drawn.take(queries));
        }
        Ok(episode)
    }
    /// So many examples of every class, drawn at random: of one number the smaller sets are parts of
    /// the larger. An error if a class has fewer, by its number.
    pub fn support(&self, shots: usize, seed: u64, number: u64) -> Result<Examples, (u32, usize)> {
        let mut set = vec![];
        for (class, places) in &self.places {
            if places.len() < shots {
                return Err((*class, places.len()));
            }
            let mut places = places.clone();
            shuffle(&mut places, &mut numbers_of(seed ^ SUPPORT, number, u64::from(*class)));
            set.extend_from_slice(&places[..shots]);
        }
        shuffle(&mut set, &mut numbers(seed ^ SUPPORT, number));
        Ok(set.into_iter().map(|place| self.examples.get(place)).collect())
    }
    /// These examples as a batch, each with the label that it has in an episode.
    pub fn batch(&self, of: &[(usize, u32)]) -> Batch {
        let one =
            |(place, label): &(usize, u32)| Example { labels: vec![*label], ..self.examples.get(*place) };
        of.iter().map(one).collect()
    }
}

/// The tasks of outer steps as episodes.
pub struct Episodes<'a> {
    /// What they are drawn of.
    pub classes: Classes<'a>,
    /// How large they are.
    pub shape: Shape,
    /// How many a step has.
    pub tasks: usize,
    /// What is drawn.
    pub seed: u64,
}
impl Tasks for Episodes<'_> {
    fn draw(&self, step: u64) -> Result<Vec<Drawn>> {
        let one = |n: u64| {
            let Episode { support, query } =
                self.classes.episode(self.shape, self.seed, step * self.tasks as u64 + n)?;
            let (support, query) = (vec![self.classes.batch(&support)], self.classes.batch(&query));
            Ok(Drawn { learner: 0, support, query })
        };
        (0..self.tasks as u64).map(one).collect()
    }
}

/// The tasks of outer steps out of several data sets, each with a learner of its own: so many of them,
/// drawn anew for every step, and of each so many batches in an order of the step, and one more that
/// is asked for.
pub struct Sets {
    /// The examples of each.
    pub of_each: Vec<Examples>,
    /// How many are learned in a step.
    pub tasks: usize,
    /// Batches to learn from.
    pub batches: usize,
    /// Examples of a batch.
    pub size: usize,
    /// What is drawn.
    pub seed: u64,
}
impl Tasks for Sets {
    fn draw(&self, step: u64) -> Result<Vec<Drawn>> {
        let mut which: Vec<usize> = (0..self.of_each.len()).collect();
        shuffle(&mut which, &mut numbers(self.seed ^ EPISODES, step));
        let one = |learner: usize| {
            let examples = &self.of_each[learner];
            let mut places: Vec<usize> = (0..examples.len()).collect();
            shuffle(&mut places, &mut numbers_of(self.seed, step, learner as u64));
            // what is asked for is not among what is learned from: at least one example is left over
            let all = places.len().saturating_sub(1) / self.size.max(1);
            let learned = self.batches.min(all.max(1)) * self.size;
            let (support, rest) = places.split_at(learned.min(places.len().saturating_sub(1)).max(1));
            let query = Batch::pack(examples, &rest[..rest.len().min(self.size)]);
            let support = support.chunks(self.size).map(|items| Batch::pack(examples, items)).collect();
            Drawn { learner, support, query }
        };
        Ok(which.into_iter().take(self.tasks).map(one).collect())
    }
}
