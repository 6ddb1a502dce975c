//! Examples each of which has a learner of its own, in one order: where mixed batches come from.
use super::{
    mixed::labels_of_each,
    recipe::Recipe,
    source::{Source, steps},
};
use crate::{
    Error, Result,
    text::{
        batch::{Batch, BatchSize, Order, fill},
        example::Example,
        examples::Examples,
    },
};
use std::{cmp::Reverse, iter::Peekable, ops::Range, vec::IntoIter};

/// The examples of several learners.
///
/// Within a batch those of one learner stand together, in the order in which they came: so each of
/// them reads its rows as it would if they were the batch.
#[derive(Clone, Debug)]
pub struct Mixture {
    of_each: Vec<Examples>,
    /// Of each example, in the order of the data, whose it is and its number among them.
    places: Vec<(u32, u32)>,
}

impl Mixture {
    /// The examples of each learner in their order; `whose` names by number the learner of every
    /// one, in the order of all. An error unless that is as many of each as there are.
    pub fn new(of_each: Vec<Examples>, whose: &[usize]) -> Result<Mixture> {
        let mut counts = vec![0u32; of_each.len()];
        let mut places = Vec::with_capacity(whose.len());
        for n in whose {
            let wrong = || Error::Model(format!("an example is that of learner {n} of {}", of_each.len()));
            let count = counts.get_mut(*n).ok_or_else(wrong)?;
            places.push((*n as u32, *count));
            *count += 1;
        }
        match of_each.iter().zip(&counts).all(|(examples, n)| examples.len() == *n as usize) {
            true => Ok(Mixture { of_each, places }),
            false => Err(Error::Model("learners have other numbers of examples than are named".into())),
        }
    }
    /// How many learners there are.
    pub fn learners(&self) -> usize {
        self.of_each.len()
    }
    /// How many examples they have together.
    pub fn len(&self) -> usize {
        self.places.len()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
    fn tokens(&self, at: usize) -> usize {
        let (n, item) = self.places[at];
        self.of_each[n as usize].length(item as usize)
    }
    /// The places of the examples of each batch.
    fn items(&self, size: BatchSize, order: Order) -> impl Iterator<Item = Vec<usize>> + '_ {
        let mut left: Peekable<IntoIter<usize>> =
            order.places(self.len(), |at| self.tokens(at)).into_iter().peekable();
        std::iter::from_fn(move || {
            let mut batch = fill(&mut left, size, |at| self.tokens(*at));
            batch.sort_by_key(|at| self.places[*at].0);
            (!batch.is_empty()).then_some(batch)
        })
    }
}

/// A batch of examples, each with its place in the data, its number, and the place among those of
/// that number.
pub(super) fn packed(of_each: &[Examples], all: impl Iterator<Item = (usize, usize, usize)>) -> Batch {
    let mut whose = vec![];
    let one = |(at, n, item): (usize, usize, usize)| {
        whose.push(n);
        (at, of_each[n].get(item))
    };
    let batch: Batch = all.map(one).collect();
    Batch { whose, ..batch }
}

impl Source for Mixture {
    fn batches(&self, size: BatchSize, order: Order) -> Box<dyn Iterator<Item = Result<Batch>> + '_> {
        let place = |at: usize| (at, self.places[at].0 as usize, self.places[at].1 as usize);
        let batches = self.items(size, order);
        Box::new(batches.map(move |items| Ok(packed(&self.of_each, items.into_iter().map(place)))))
    }
    fn count(&self, size: BatchSize, order: Order) -> Result<u64> {
        match size {
            BatchSize::Examples(n) => Ok(self.len().div_ceil(n) as u64),
            BatchSize::Tokens(_) => Ok(self.items(size, order).count() as u64),
        }
    }
    /// Of the examples of each, and of whose they are.
    fn hash(&self) -> String {
        let whose: Examples =
            [Example { ids: self.places.iter().map(|(n, _)| *n).collect(), ..Example::default() }]
                .into_iter()
                .collect();
        self.of_each.iter().chain([&whose]).map(Source::hash).collect::<Vec<_>>().join(" ")
    }
    fn bytes(&self) -> usize {
        let examples: usize = self.of_each.iter().map(Examples::bytes).sum();
        examples + self.places.capacity() * size_of::<(u32, u32)>()
    }
}

/// How many steps each of some learners, with these numbers, takes in a run on mixed batches: those
/// in which it has a label.
pub fn steps_of_each(recipe: &Recipe, source: &dyn Source, numbers: &[Range<usize>]) -> Result<Vec<u64>> {
    let (mut of_each, mut taken) = (vec![0; numbers.len()], 0);
    let all = numbers.last().map_or(0, |last| last.end);
    let most = recipe.max_steps.unwrap_or(u64::MAX);
    for epoch in 0..recipe.epochs.unwrap_or(u64::MAX) {
        let before = taken;
        for step in steps(source.batches(recipe.batch, recipe.order(epoch)), recipe.accumulation) {
            if taken == most {
                return Ok(of_each);
            }
            let labels = labels_of_each(&step?, all)?;
            let learns = |own: &Range<usize>| labels[own.clone()].iter().any(|n| *n > 0);
            of_each.iter_mut().zip(numbers).for_each(|(n, own)| *n += u64::from(learns(own)));
            taken += 1;
        }
        if taken == before {
            break;
        }
    }
    Ok(of_each)
}

/// The batches in which data sets of several learners are evaluated together: the longest examples
/// first, so that batches are even. In [`Batch::items`] stands the place of an example in its own
/// data set.
pub(super) fn evaluated<'a>(on: &'a [&'a Examples], size: BatchSize) -> impl Iterator<Item = Batch> + 'a {
    let of_one = |(n, e): (usize, &&Examples)| (0..e.len()).map(move |i| (n, i)).collect::<Vec<_>>();
    let mut all: Vec<(usize, usize)> = on.iter().enumerate().flat_map(of_one).collect();
    let tokens = |(n, i): &(usize, usize)| on[*n].length(*i);
    all.sort_by_key(|item| Reverse(tokens(item)));
    let mut left = all.into_iter().peekable();
    std::iter::from_fn(move || {
        let mut part = fill(&mut left, size, tokens);
        part.sort_by_key(|(n, _)| *n);
        let whose = part.iter().map(|(n, _)| *n).collect();
        let batch = part.iter().map(|(n, i)| (*i, on[*n].get(*i))).collect();
        (!part.is_empty()).then_some(Batch { whose, ..batch })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::example::Reads;

    fn mixture() -> Mixture {
        let one =
            |n: usize, i: usize| Example::new(vec![(10 * n + i) as u32; i + 1], Reads::Summary, vec![0]);
        let of_each = [3, 2, 1].into_iter().enumerate();
        let of_each = of_each.map(|(n, count)| (0..count).map(|i| one(n, i)).collect()).collect();
        Mixture::new(of_each, &[0, 1, 0, 2, 1, 0]).unwrap()
    }
    fn said(batch: &Batch) -> Vec<(usize, usize)> {
        batch.whose.iter().copied().zip(batch.items.iter().copied()).collect()
    }

    #[test]
    fn a_batch_has_the_examples_of_one_learner_together() {
        let m = mixture();
        let batches = |size, order| -> Vec<Batch> { m.batches(size, order).map(Result::unwrap).collect() };
        let of_file = batches(BatchSize::Examples(3), Order::File { epoch: 0 });
        assert_eq!(
            of_file.iter().map(said).collect::<Vec<_>>(),
            [vec![(0, 0), (0, 2), (1, 1)], vec![(0, 5), (1, 4), (2, 3)]]
        );
        assert_eq!(of_file[1].input.lengths, [3, 2, 1]);
        assert_eq!(of_file[1].input.ids, [2, 2, 2, 11, 11, 20]);
        for size in [BatchSize::Examples(4), BatchSize::Tokens(5)] {
            for order in [Order::File { epoch: 0 }, Order::Longest, Order::Shuffled { seed: 1, epoch: 2 }] {
                let all = batches(size, order);
                assert_eq!(m.count(size, order).unwrap(), all.len() as u64);
                let mut items: Vec<usize> = all.iter().flat_map(|b| b.items.clone()).collect();
                items.sort_unstable();
                assert_eq!(items, [0, 1, 2, 3, 4, 5]);
            }
        }
        let shuffled = |epoch| batches(BatchSize::Examples(2), Order::Shuffled { seed: 1, epoch });
        assert!((1..9).any(|epoch| shuffled(epoch) != shuffled(0)));
    }

    #[test]
    fn a_learner_takes_the_steps_in_which_it_has_a_label() {
        let of = |recipe| steps_of_each(&recipe, &mixture(), &[0..1, 1..2, 2..3]).unwrap();
        let recipe = Recipe { batch: 2.into(), shuffle: false, epochs: Some(2), ..Recipe::default() };
        assert_eq!(of(recipe.clone()), [6, 4, 2]);
        assert_eq!(of(Recipe { accumulation: 2, ..recipe.clone() }), [4, 4, 2]);
        assert_eq!(of(Recipe { max_steps: Some(4), ..recipe.clone() }), [4, 3, 1]);
        assert_eq!(of(Recipe { max_steps: Some(1), epochs: None, ..recipe.clone() }), [1, 1, 0]);
        assert_eq!(steps_of_each(&recipe, &mixture(), &[0..1, 1..3]).unwrap(), [6, 6]);
    }

    #[test]
    fn what_is_not_counted_right_is_refused() {
        let m = mixture();
        assert!(Mixture::new(m.of_each.clone(), &[0, 1, 0, 2, 1, 1]).is_err());
        assert!(Mixture::new(m.of_each.clone(), &[0, 1, 0, 3, 1, 0]).is_err());
        let other = Mixture::new(m.of_each.clone(), &[1, 0, 0, 2, 1, 0]).unwrap();
        assert_ne!(m.hash(), other.hash(), "the order is a part of it");
    }
}
