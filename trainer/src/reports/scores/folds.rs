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
        assert_eq!(scarce(&["a", "b", "a", "c"], 2), [(1, 1), (3, 1)]);
    }
}
