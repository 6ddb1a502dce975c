//! The parts of a cross-validation, as scikit-learn makes them without shuffling: of every example
//! the fold in which it is tested, while the others train.
//!
//! ```
//! use engraft::reports::scores::folds::{grouped, stratified};
//! let labels = ["a", "b", "a", "a", "b", "a"];
//! assert_eq!(stratified(&labels, 2, None)?, [0, 0, 0, 1, 1, 1]);
//! let documents = [7, 7, 7, 8, 8, 9];
//! assert_eq!(grouped(&documents, 2, None)?, [0, 0, 0, 1, 1, 1]);
//! # Ok::<(), engraft::Error>(())
//! ```
use crate::{
    error::{Error, Result},
    text::shuffle::{numbers, shuffle},
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

/// k parts one behind the other, the first ones larger by one where they are not equal (`KFold`);
/// with a seed the examples are shuffled first.
pub fn plain(examples: usize, k: usize, seed: Option<u64>) -> Result<Vec<usize>> {
    check(k, examples, "examples")?;
    let mut folds: Vec<usize> = parts(examples, k).collect();
    if let Some(seed) = seed {
        shuffle(&mut folds, &mut numbers(seed, 0));
    }
    Ok(folds)
}

/// Every part with as many examples of each class as another, give or take one (`StratifiedKFold`);
/// with a seed each class is shuffled first. A class of fewer than k examples is missing in some
/// parts ([`scarce`]); if all classes are such, it is an error.
pub fn stratified<T: Hash + Eq>(classes: &[T], k: usize, seed: Option<u64>) -> Result<Vec<usize>> {
    let members = in_order_of_appearance(classes);
    let most = members.iter().map(Vec::len).max().unwrap_or(0);
    check(k, most, "examples in any class")?;
    let mut folds = vec![0; classes.len()];
    let mut random = seed.map(|seed| numbers(seed, 0));
    // the examples of all classes, one class behind the other, go to the folds 0, 1, .. in turn:
    // that is how many each fold gets of a class
    let mut first = 0;
    for members in members {
        let mut sizes = vec![0; k];
        (first..first + members.len()).for_each(|at| sizes[at % k] += 1);
        first += members.len();
        let mut own: Vec<usize> =
            sizes.iter().enumerate().flat_map(|(fold, n)| std::iter::repeat_n(fold, *n)).collect();
        if let Some(random) = &mut random {
            shuffle(&mut own, random);
        }
        members.into_iter().zip(own).for_each(|(example, fold)| folds[example] = fold);
    }
    Ok(folds)
}

/// The first example of every class that has fewer than k, with the number of its examples.
pub fn scarce<T: Hash + Eq>(classes: &[T], k: usize) -> Vec<(usize, usize)> {
    let all = in_order_of_appearance(classes).into_iter();
    all.filter(|members| members.len() < k).map(|members| (members[0], members.len())).collect()
}

/// Parts of about the same size that no group is cut by, such as the questions on one text
/// (`GroupKFold`): one group after the other, the largest first, goes to the smallest part. Of
/// groups of one size the last in order goes first; with a seed it is any.
pub fn grouped<T: Ord>(groups: &[T], k: usize, seed: Option<u64>) -> Result<Vec<usize>> {
    let mut members: BTreeMap<&T, Vec<usize>> = BTreeMap::new();
    groups.iter().enumerate().for_each(|(i, group)| members.entry(group).or_default().push(i));
    check(k, members.len(), "groups")?;
    let mut members: Vec<Vec<usize>> = members.into_values().rev().collect();
    if let Some(seed) = seed {
        shuffle(&mut members, &mut numbers(seed, 0));
    }
    members.sort_by_key(|members| Reverse(members.len()));
    let (mut folds, mut sizes) = (vec![0; groups.len()], vec![0; k]);
    for members in members {
        let smallest = (0..k).min_by_key(|fold| sizes[*fold]).unwrap_or(0);
        sizes[smallest] += members.len();
        members.into_iter().for_each(|example| folds[example] = smallest);
    }
    Ok(folds)
}

/// Parts that no group is cut by, with about as large a share of each class as in the whole
/// (`StratifiedGroupKFold`): one group after the other, the one whose classes differ most in number
/// first, goes to the part with which the shares of each class over all parts deviate least, on the
/// average of the classes; of parts that are as good, to 1e-5, to the one with the fewest examples. With
/// a seed the groups are shuffled before. An error as of [`stratified`], or if there are fewer groups
/// than parts.
pub fn stratified_groups<C: Ord, G: Ord>(
    classes: &[C],
    groups: &[G],
    k: usize,
    seed: Option<u64>,
) -> Result<Vec<usize>> {
    let (class, group) = (places(classes), places(groups));
    let count = |of: &[usize]| of.iter().max().map_or(0, |last| last + 1);
    let mut sizes = vec![0.0; count(&class)];
    let mut of_group = vec![vec![0.0; sizes.len()]; count(&group)];
    for (class, group) in class.iter().zip(&group) {
        sizes[*class] += 1.0;
        of_group[*group][*class] += 1.0;
    }
    check(k, sizes.iter().fold(0.0, |most: f64, n| most.max(*n)) as usize, "examples in any class")?;
    check(k, of_group.len(), "groups")?;
    let mut order: Vec<usize> = (0..of_group.len()).collect();
    if let Some(seed) = seed {
        shuffle(&mut order, &mut numbers(seed, 0));
    }
    order.sort_by(|a, b| deviation(&of_group[*b]).total_cmp(&deviation(&of_group[*a])));
    let (mut in_fold, mut fold_of) = (vec![vec![0.0; sizes.len()]; k], vec![0; of_group.len()]);
    for group in order {
        // (what it comes to, examples that are there already, the fold)
        let mut best = (f64::INFINITY, f64::INFINITY, 0);
        for fold in 0..k {
            let share = |class: usize, other: usize| {
                let more = if other == fold { of_group[group][class] } else { 0.0 };
                (in_fold[other][class] + more) / sizes[class]
            };
            let of_class = |class: usize| (0..k).map(|other| share(class, other)).collect::<Vec<f64>>();
            let one = sizes.len() == 1;
            let deviations: Vec<f64> = (0..sizes.len()).map(|c| deviation_by(&of_class(c), one)).collect();
            let (value, there) = (mean(&deviations, true), in_fold[fold].iter().sum::<f64>());
            let is_close = (value - best.0).abs() <= 1e-8 + 1e-5 * best.0.abs();
            if value < best.0 || (is_close && there < best.1) {
                best = (value, there, fold);
            }
        }
        in_fold[best.2].iter_mut().zip(&of_group[group]).for_each(|(sum, n)| *sum += n);
        fold_of[group] = best.2;
    }
    Ok(group.into_iter().map(|group| fold_of[group]).collect())
}

/// The place of each among those that are different, in their order.
fn places<T: Ord>(all: &[T]) -> Vec<usize> {
    let mut number: BTreeMap<&T, usize> = all.iter().map(|one| (one, 0)).collect();
    number.values_mut().enumerate().for_each(|(i, place)| *place = i);
    all.iter().map(|one| number[one]).collect()
}
/// The standard deviation of a line of numbers, to the last bit that of NumPy, which decides between
/// parts that are as good.
fn deviation(x: &[f64]) -> f64 {
    deviation_by(x, true)
}
/// The same of a column, which NumPy adds up one by one.
fn deviation_by(x: &[f64], in_pairs: bool) -> f64 {
    let middle = mean(x, in_pairs);
    let squares: Vec<f64> = x.iter().map(|x| (x - middle) * (x - middle)).collect();
    mean(&squares, in_pairs).sqrt()
}
fn mean(x: &[f64], in_pairs: bool) -> f64 {
    let sum = if in_pairs { sum_in_pairs(x) } else { x.iter().fold(0.0, |sum, x| sum + x) };
    sum / x.len() as f64
}
/// NumPy's sum of a line: eight sums side by side of up to 128 numbers, and halves of more.
fn sum_in_pairs(x: &[f64]) -> f64 {
    match x.len() {
        0..8 => x.iter().fold(0.0, |sum, x| sum + x),
        8..=128 => {
            let mut r = [0.0; 8];
            r.copy_from_slice(&x[..8]);
            let eights = x[8..].chunks_exact(8);
            let rest = eights.remainder();
            eights.for_each(|eight| r.iter_mut().zip(eight).for_each(|(r, x)| *r += x));
            let sum = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
            rest.iter().fold(sum, |sum, x| sum + x)
        }
        n => {
            let (a, b) = x.split_at(n / 2 - n / 2 % 8);
            sum_in_pairs(a) + sum_in_pairs(b)
        }
    }
}

/// What is in each class, the classes in the order in which they appear.
fn in_order_of_appearance<T: Hash + Eq>(classes: &[T]) -> Vec<Vec<usize>> {
    let (mut number, mut members): (HashMap<&T, usize>, Vec<Vec<usize>>) = Default::default();
    for (i, class) in classes.iter().enumerate() {
        let next = members.len();
        let class = *number.entry(class).or_insert(next);
        if class == next {
            members.push(vec![]);
        }
        members[class].push(i);
    }
    members
}
/// Of each of n the part, for k parts one behind the other.
fn parts(n: usize, k: usize) -> impl Iterator<Item = usize> {
    (0..k).flat_map(move |fold| std::iter::repeat_n(fold, n / k + usize::from(fold < n % k)))
}
fn check(k: usize, most: usize, of: &str) -> Result<()> {
    let why = match k {
        0 | 1 => "there must be at least two folds".to_string(),
        _ if k > most => format!("there are at most {most} {of}"),
        _ => return Ok(()),
    };
    Err(Error::Option { option: "folds", value: k.to_string(), why })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(folds: &[usize], k: usize) -> Vec<usize> {
        (0..k).map(|fold| folds.iter().filter(|f| **f == fold).count()).collect()
    }

    #[test]
    fn parts_are_balanced() {
        assert_eq!(plain(7, 3, None).unwrap(), [0, 0, 0, 1, 1, 2, 2]);
        let classes: Vec<usize> = (0..103).map(|i| [0, 1, 1, 2][i % 4]).collect();
        for seed in [None, Some(1), Some(2)] {
            let folds = stratified(&classes, 5, seed).unwrap();
            for class in 0..3 {
                let own: Vec<usize> = (0..103).filter(|i| classes[*i] == class).map(|i| folds[i]).collect();
                let sizes = sizes(&own, 5);
                assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{sizes:?}");
            }
            assert_eq!(folds, stratified(&classes, 5, seed).unwrap());
        }
        assert_ne!(stratified(&classes, 5, Some(1)).unwrap(), stratified(&classes, 5, Some(2)).unwrap());
        assert_ne!(plain(50, 5, Some(1)).unwrap(), plain(50, 5, None).unwrap());
    }
    #[test]
    fn groups_stay_whole() {
        let groups: Vec<usize> = (0..100).map(|i| i * i % 17).collect();
        for seed in [None, Some(4)] {
            let folds = grouped(&groups, 4, seed).unwrap();
            (0..100).for_each(|i| {
                assert_eq!(folds[i], folds[groups.iter().position(|g| *g == groups[i]).unwrap()])
            });
            assert!(sizes(&folds, 4).iter().all(|n| *n >= 20), "{:?}", sizes(&folds, 4));
        }
    }
    #[test]
    fn groups_stay_whole_and_classes_are_spread() {
        let groups: Vec<String> = (0..300).map(|i| (i * i % 31).to_string()).collect();
        let classes: Vec<u32> = (0..300).map(|i| [0, 1, 1, 2][i % 4]).collect();
        for seed in [None, Some(4)] {
            let folds = stratified_groups(&classes, &groups, 3, seed).unwrap();
            let whole = |i: usize| folds[i] == folds[groups.iter().position(|g| *g == groups[i]).unwrap()];
            assert!((0..300).all(whole));
            for class in 0..3 {
                let own: Vec<usize> = (0..300).filter(|i| classes[*i] == class).map(|i| folds[i]).collect();
                let even = own.len() / 3;
                assert!(
                    sizes(&own, 3).iter().all(|n| n.abs_diff(even) <= 1 + even / 4),
                    "{:?}",
                    sizes(&own, 3)
                );
            }
        }
        let line: Vec<f64> = (1..=1000).map(f64::from).collect();
        assert_eq!((mean(&line, true), mean(&line, false)), (500.5, 500.5));
        assert!((deviation(&line) - ((1e6 - 1.0) / 12.0f64).sqrt()).abs() < 1e-9);
    }
    #[test]
    fn too_many_folds_are_refused() {
        let fails = |result: Result<Vec<usize>>, named: &str| {
            let error = result.unwrap_err().to_string();
            assert!(error.contains("`folds`") && error.contains(named), "{error}");
        };
        fails(plain(5, 1, None), "at least two");
        fails(plain(5, 6, None), "5 examples");
        fails(stratified(&["a", "a", "b"], 3, None), "2 examples in any class");
        fails(stratified::<u8>(&[], 2, None), "0 examples");
        fails(grouped(&["a", "a", "b"], 3, None), "2 groups");
        fails(stratified_groups(&[1, 1, 1, 1], &["a", "a", "b", "b"], 3, None), "2 groups");
        fails(stratified_groups(&[1, 1, 2, 2], &["a", "b", "c", "d"], 3, None), "2 examples in any class");
        assert_eq!(scarce(&["a", "b", "a", "c"], 2), [(1, 1), (3, 1)]);
    }
}
