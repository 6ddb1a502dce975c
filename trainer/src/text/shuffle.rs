//! Random orders that are the same for ever: a run can be repeated and taken up again anywhere.
//!
//! Nothing in them depends on another crate's choice of algorithm: the random numbers are
//! ChaCha8's, the shuffles are written out here.
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::iter::Peekable;

/// The random numbers that order an epoch.
pub(crate) fn numbers(seed: u64, epoch: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&epoch.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

/// The random numbers of one example in an epoch, by its place in the data.
pub(crate) fn numbers_of(seed: u64, epoch: u64, place: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (part, number) in key.chunks_mut(8).zip([seed, epoch, place, 1]) {
        part.copy_from_slice(&number.to_le_bytes()); // the last one sets them apart from an epoch's
    }
    ChaCha8Rng::from_seed(key)
}

/// Fisher and Yates, from the end.
pub(crate) fn shuffle<T>(order: &mut [T], rng: &mut ChaCha8Rng) {
    for last in (1..order.len()).rev() {
        order.swap(last, below(rng, last as u64 + 1) as usize);
    }
}

/// A whole number below `n`, without bias: draws that would favour small numbers are thrown away.
pub(crate) fn below(rng: &mut ChaCha8Rng, n: u64) -> u64 {
    let fair = u64::MAX - u64::MAX % n; // a multiple of n
    loop {
        let draw = rng.next_u64();
        if draw < fair {
            return draw % n;
        }
    }
}

/// The most that a [`Shuffled`] holds at once; the last example may have more tokens than are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// So many examples.
    pub examples: usize,
    /// So many tokens.
    pub tokens: usize,
}

/// What comes one after the other, in a random order, with only a buffer of it in memory.
///
/// As long as more comes, the buffer is filled, then one of those in it goes, each as likely as any
/// other. What is left at the end is shuffled as a data set in memory is. So where the buffer has
/// room for everything, the order is the very one of
/// [`Order::Shuffled`](super::batch::Order::Shuffled) in memory. An error ends it.
pub struct Shuffled<I: Iterator, T> {
    from: Option<Peekable<I>>,
    rng: ChaCha8Rng,
    room: Room,
    /// Each with its tokens.
    held: Vec<(usize, T)>,
    tokens: usize,
}

impl<I: Iterator, T> Shuffled<I, T> {
    /// What `from` gives, each with its number of tokens, in the order of an epoch.
    pub fn new(from: I, room: Room, seed: u64, epoch: u64) -> Self {
        Self { from: Some(from.peekable()), rng: numbers(seed, epoch), room, held: vec![], tokens: 0 }
    }
    fn has_room(&self) -> bool {
        let Room { examples, tokens } = self.room;
        self.held.is_empty() || (self.held.len() < examples && self.tokens < tokens)
    }
}

impl<I: Iterator<Item = Result<(usize, T), E>>, T, E> Iterator for Shuffled<I, T> {
    type Item = Result<T, E>;

    fn next(&mut self) -> Option<Result<T, E>> {
        loop {
            let has_room = self.has_room();
            let Some(from) = &mut self.from else { break };
            match from.next_if(|_| has_room) {
                Some(Ok((tokens, one))) => {
                    self.tokens += tokens;
                    self.held.push((tokens, one));
                }
                Some(Err(error)) => {
                    (self.from, self.held) = (None, vec![]);
                    return Some(Err(error));
                }
                None if from.peek().is_some() => break,
                None => {
                    self.from = None;
                    shuffle(&mut self.held, &mut self.rng);
                    self.held.reverse(); // the last one goes first
                }
            }
        }
        let (tokens, one) = match self.from {
            Some(_) => self.held.swap_remove(below(&mut self.rng, self.held.len() as u64) as usize),
            None => self.held.pop()?,
        };
        self.tokens -= tokens;
        Some(Ok(one))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;

    /// The order in which things with so many tokens each come out, by number; and the most that
    /// were held at once.
    fn order(tokens: &[usize], room: Room, epoch: u64) -> (Vec<usize>, Room) {
        let (read, most) = (Cell::new((0, 0)), Cell::new(Room { examples: 0, tokens: 0 }));
        let from = tokens.iter().enumerate().map(|(number, tokens)| {
            let (n, sum) = read.get();
            read.set((n + 1, sum + tokens));
            Ok::<_, ()>((*tokens, number))
        });
        let (mut found, mut gone) = (vec![], 0);
        for number in Shuffled::new(from, room, 7, epoch) {
            let number = number.unwrap();
            let (n, sum) = read.get();
            let Room { examples, tokens: held } = most.get();
            most.set(Room { examples: examples.max(n - found.len()), tokens: held.max(sum - gone) });
            found.push(number);
            gone += tokens[number];
        }
        (found, most.get())
    }

    proptest! {
        #[test]
        fn everything_comes_once_through_a_small_buffer(
            tokens in prop::collection::vec(0usize..9, 0..60), examples in 1usize..20, most in 1usize..60, epoch in 0u64..9,
        ) {
            let room = Room { examples, tokens: most };
            let (found, held) = order(&tokens, room, epoch);
            let mut sorted = found.clone();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (0..tokens.len()).collect::<Vec<_>>());
            // one more was looked at, and the last one in may have more tokens than there was room
            // for
            prop_assert!(held.examples <= examples + 1 && held.tokens <= most + 2 * 8);
            prop_assert_eq!(&found, &order(&tokens, room, epoch).0, "the same again");
            // nothing comes before it was read
            prop_assert!(found.iter().enumerate().all(|(place, number)| *number < place + examples));
        }

        #[test]
        fn with_room_for_everything_it_is_the_order_in_memory(n in 0usize..40, more in 0usize..3, epoch in 0u64..9) {
            let room = Room { examples: n + more, tokens: n + more };
            let mut memory: Vec<usize> = (0..n).collect();
            shuffle(&mut memory, &mut numbers(7, epoch));
            prop_assert_eq!(order(&vec![1; n], room, epoch).0, memory);
        }
    }

    #[test]
    fn orders_are_kept_for_ever() {
        let room = Room { examples: 4, tokens: 100 };
        // These numbers may not change: they are what a seed means.
        assert_eq!(order(&[1; 10], room, 0).0, EPOCH_0);
        assert_eq!(order(&[1; 10], room, 1).0, EPOCH_1);
        let in_order = Room { examples: 1, tokens: 100 };
        assert_eq!(order(&[1; 5], in_order, 0).0, [0, 1, 2, 3, 4]);
    }

    const EPOCH_0: [usize; 10] = [3, 1, 2, 0, 7, 6, 8, 9, 5, 4];
    const EPOCH_1: [usize; 10] = [1, 3, 2, 6, 7, 5, 8, 4, 0, 9];

    #[test]
    fn whoever_is_in_the_buffer_goes_equally_often() {
        // The first of 12 out of a buffer of 6: chi-squared with 5 degrees of freedom.
        let mut counts = [0f64; 6];
        for epoch in 0..6000 {
            counts[order(&[1; 12], Room { examples: 6, tokens: 12 }, epoch).0[0]] += 1.0;
        }
        let chi: f64 = counts.iter().map(|n| (n - 1000.0).powi(2) / 1000.0).sum();
        assert!(chi < 20.5, "{chi}: p < 0.001");
    }

    #[test]
    fn an_error_ends_it() {
        let from = [Ok((1, 'a')), Ok((1, 'b')), Err("bad"), Ok((1, 'c'))].into_iter();
        let mut shuffled = Shuffled::new(from, Room { examples: 2, tokens: 9 }, 1, 0);
        assert!(shuffled.next().unwrap().is_ok());
        assert_eq!((shuffled.next(), shuffled.next()), (Some(Err("bad")), None));
    }
}
