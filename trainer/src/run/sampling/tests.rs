use super::*;
use crate::text::example::{Example, Reads};
use proptest::prelude::*;

fn sampling(text: &str) -> Sampling {
    text.parse().unwrap()
}
/// Tasks with so many examples, whose only token says which they are.
fn drawn(counts: &[usize], how: &str) -> Drawn {
    let one = |task: usize, i: usize| {
        Example::new(vec![(1000 * task + i) as u32; 1 + i % 3], Reads::Summary, vec![0])
    };
    let of_each = counts.iter().enumerate().map(|(task, n)| (0..*n).map(|i| one(task, i)).collect());
    Drawn::new(of_each.collect(), sampling(how)).unwrap()
}
fn epochs(d: &Drawn, n: u64) -> Vec<Vec<Draw>> {
    (0..n).map(|epoch| d.draws(Order::Shuffled { seed: 7, epoch })).collect()
}

#[test]
fn probabilities_are_those_of_the_formula() {
    let shares = |how: &str, counts: &[usize]| {
        let weights = sampling(how).weights(counts);
        let sum: u64 = weights.iter().sum();
        weights.into_iter().map(|w| w as f64 / sum as f64).collect::<Vec<_>>()
    };
    let close = |found: Vec<f64>, expected: &[f64]| {
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?} {expected:?}");
    };
    close(shares("proportional", &[300, 100]), &[0.75, 0.25]);
    close(shares("uniform", &[300, 100, 7]), &[1.0 / 3.0; 3]);
    close(shares("temperature=2", &[100, 10_000]), &[10.0 / 110.0, 100.0 / 110.0]);
    close(shares("capped=1000", &[100, 10_000]), &[100.0 / 1100.0, 1000.0 / 1100.0]);
    let (a, b) = (100f64.powf(1.0 / 3.0), 10.0);
    close(shares("capped=1000,temperature=3", &[100, 10_000]), &[a / (a + b), b / (a + b)]);
    assert!(shares("temperature=1e9", &[1, 1 << 40]).iter().all(|p| (p - 0.5).abs() < 1e-6));
}

#[test]
fn sampling_is_said_as_text() {
    for text in ["proportional", "uniform", "temperature=2.5", "capped=100", "capped=100,temperature=2"] {
        assert_eq!(sampling(text).to_string(), text);
    }
    assert_eq!(sampling("temperature=2, capped=100").to_string(), "capped=100,temperature=2");
    assert_eq!(sampling("temperature=1"), Sampling::PROPORTIONAL);
    for text in [
        "",
        "even",
        "temperature",
        "temperature=0.5",
        "temperature=inf",
        "capped=0",
        "capped=1,capped=2",
        "x=1",
    ] {
        assert!(text.parse::<Sampling>().unwrap_err().contains("proportional, uniform"), "{text}");
    }
}

proptest! {
    #[test]
    fn every_task_goes_through_its_examples_again_and_again(
        counts in prop::collection::vec(1usize..20, 1..5), how in 0usize..4,
    ) {
        let how = ["proportional", "uniform", "temperature=2", "capped=4"][how];
        let d = drawn(&counts, how);
        let all = epochs(&d, 5);
        prop_assert!(all.iter().all(|draws| draws.len() == counts.iter().sum::<usize>()));
        for (task, n) in counts.iter().enumerate() {
            let own: Vec<usize> = all.concat().into_iter().filter(|draw| draw.0 == task).map(|draw| draw.1).collect();
            for round in own.chunks(*n) {
                let mut seen = round.to_vec();
                seen.sort_unstable();
                seen.dedup();
                prop_assert_eq!(seen.len(), round.len(), "none twice before all have come");
                prop_assert!(seen.iter().all(|i| i < n));
            }
        }
        prop_assert_eq!(&all, &epochs(&d, 5));
        for order in [Order::File { epoch: 0 }, Order::Longest] {
            let mut once = d.draws(order);
            once.sort_unstable();
            let of = |(task, n): (usize, &usize)| (0..*n).map(move |i| (task, i)).collect::<Vec<_>>();
            prop_assert_eq!(once, counts.iter().enumerate().flat_map(of).collect::<Vec<_>>());
        }
        for size in [BatchSize::Examples(3), BatchSize::Tokens(4)] {
            let order = Order::Shuffled { seed: 7, epoch: 1 };
            let batches: Vec<Batch> = d.batches(size, order).map(Result::unwrap).collect();
            prop_assert_eq!(d.count(size, order).unwrap(), batches.len() as u64);
            let mut drawn: Vec<Draw> = vec![];
            for batch in &batches {
                prop_assert!(batch.whose.is_sorted());
                let mut at = 0;
                for (n, whose) in batch.input.lengths.iter().zip(&batch.whose) {
                    let id = batch.input.ids[at] as usize;
                    prop_assert_eq!(id / 1000, *whose);
                    drawn.push((id / 1000, id % 1000));
                    at += n;
                }
            }
            let mut expected = all[1].clone();
            drawn.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(drawn, expected);
        }
    }
}

#[test]
fn tasks_come_as_often_as_they_should() {
    let counts = [900, 300, 100];
    for (how, p) in
        [("proportional", [9.0, 3.0, 1.0]), ("uniform", [1.0; 3]), ("capped=300", [3.0, 3.0, 1.0])]
    {
        let sum: f64 = p.iter().sum();
        let all = epochs(&drawn(&counts, how), 10).concat();
        for (task, p) in p.iter().enumerate() {
            let (n, p) = (all.len() as f64, p / sum);
            let found = all.iter().filter(|draw| draw.0 == task).count() as f64;
            // four standard deviations
            assert!((found - n * p).abs() < 4.0 * (n * p * (1.0 - p)).sqrt(), "{how} {task}: {found}");
        }
    }
}

#[test]
fn draws_are_kept_for_ever() {
    // These may not change: they are what a seed means.
    let d = drawn(&[4, 2], "proportional");
    assert_eq!(epochs(&d, 2), [EPOCH_0, EPOCH_1]);
    assert_eq!(d.draws(Order::File { epoch: 0 }), [(0, 0), (1, 0), (0, 1), (0, 2), (1, 1), (0, 3)]);
    let sources = [drawn(&[4, 2], "uniform"), drawn(&[2, 4], "proportional"), drawn(&[4, 3], "proportional")];
    sources.iter().for_each(|other| assert_ne!(other.hash(), d.hash()));
    assert!(Drawn::new(vec![], Sampling::PROPORTIONAL).is_err());
    assert!(Drawn::new(vec![Examples::default()], Sampling::PROPORTIONAL).is_err());
}

const EPOCH_0: [Draw; 6] = [(0, 0), (0, 1), (0, 3), (0, 2), (0, 3), (0, 0)];
const EPOCH_1: [Draw; 6] = [(1, 1), (0, 2), (0, 1), (0, 0), (0, 2), (0, 1)];
