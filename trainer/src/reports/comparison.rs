//! Whether two evaluations of the same examples differ by more than chance.
use super::{
    by_example::{ExamplePrediction, Kind, Statistic},
    scores::significance::{Interval, Paired, draws, holm, mcnemar, paired_bootstrap},
};
use crate::{Error, Result};
use serde::Serialize;
use std::{collections::BTreeMap, path::Path};

/// A difference is taken for one if chance would show one as large in fewer than so many of a
/// hundred sets.
pub const LEVEL: f64 = 0.05;

/// Two evaluations by one score.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The score.
    pub metric: String,
    /// That of the first, of all examples.
    pub a: f64,
    /// That of the second.
    pub b: f64,
    /// The first less the second.
    pub difference: f64,
    /// The lower end of the interval in which the difference lies with a confidence of 95 %, by
    /// resampling.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// How probable a difference of this size would be if there were none: by resampling both
    /// alike.
    pub p_bootstrap: f64,
    /// Where every example is right or wrong: what only one of the two has right, and how probable
    /// that would be if they were alike.
    pub mcnemar: Option<McNemar>,
    /// Examples.
    pub examples: usize,
    /// The probability that decides, corrected for the number of comparisons (Holm).
    pub p: f64,
    /// Whether they differ.
    pub differ: bool,
}

/// McNemar's exact test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct McNemar {
    /// Examples that only the first has right.
    pub only_a: u64,
    /// Those that only the second has right.
    pub only_b: u64,
    /// The probability.
    pub p: f64,
}

/// An evaluation, and the file that it is in.
pub type Named<'a> = (&'a Path, &'a [ExamplePrediction]);

/// Compares an evaluation with others of the same examples, by one score or by all that they have:
/// for each of the others a list. `trials` samples are drawn with `seed`. An error if they are not
/// of the same examples, or if there is no such score.
///
/// ```
/// use engraft::reports::{by_example::{ExamplePrediction, Statistic}, comparison::compare};
/// let run = |right: fn(usize) -> bool| -> Vec<_> {
///     let one = |i| ExamplePrediction { id: format!("{i}"), ..Default::default() };
///     (0..200).map(|i| one(i).adding("accuracy", Statistic::right(right(i)))).collect()
/// };
/// let (a, b) = (run(|i| i % 10 != 0), run(|i| i % 5 != 0));
/// let all = compare(("a".as_ref(), &a), &[("b".as_ref(), &b)], Some("accuracy"), 1000, 42)?;
/// let found = &all[0][0];
/// assert_eq!((found.a, found.b, found.differ), (0.9, 0.8, true));
/// assert_eq!(found.mcnemar.unwrap().only_a, 20);
/// # Ok::<(), engraft::Error>(())
/// ```
pub fn compare(
    a: Named<'_>,
    others: &[Named<'_>],
    metric: Option<&str>,
    trials: usize,
    seed: u64,
) -> Result<Vec<Vec<Comparison>>> {
    let mut all = vec![];
    for b in others {
        let ordered = same_examples(a, *b)?;
        let names = scores(a, *b, metric)?;
        let one = |name: String| compare_by(a.1, &ordered, name, trials, seed);
        all.push(names.into_iter().map(one).collect::<Vec<Option<Comparison>>>());
    }
    let mut all: Vec<Vec<Comparison>> =
        all.into_iter().map(|list| list.into_iter().flatten().collect()).collect();
    let corrected = holm(&all.iter().flatten().map(|c| c.p).collect::<Vec<_>>());
    all.iter_mut().flatten().zip(corrected).for_each(|(c, p)| (c.p, c.differ) = (p, p < LEVEL));
    Ok(all)
}

/// The examples of `b` in the order of `a`.
fn same_examples<'a>(a: Named<'_>, b: Named<'a>) -> Result<Vec<&'a ExamplePrediction>> {
    let other =
        |why: String| Error::file(b.0, format!("{why}: only evaluations of the same examples are compared"));
    let by_id: BTreeMap<&str, &ExamplePrediction> = b.1.iter().map(|e| (e.id.as_str(), e)).collect();
    if a.1.len() != b.1.len() {
        let why = format!("it has {} examples, and {} has {}", b.1.len(), a.0.display(), a.1.len());
        return Err(other(why));
    }
    let find = |e: &ExamplePrediction| {
        let found = by_id.get(e.id.as_str()).copied();
        let found = found.ok_or_else(|| other(format!("there is no example `{}` in it", e.id)))?;
        match found.truth == e.truth && (found.input == e.input || found.input.is_null() || e.input.is_null())
        {
            true => Ok(found),
            false => Err(other(format!("the example `{}` is another one", e.id))),
        }
    };
    a.1.iter().map(find).collect()
}

/// The scores to compare by: those that all examples of both have a statistic of.
fn scores(a: Named<'_>, b: Named<'_>, metric: Option<&str>) -> Result<Vec<String>> {
    let first = |of: Named<'_>| of.1.first().map(|e| e.statistics.clone()).unwrap_or_default();
    let both = a.1.iter().chain(b.1);
    let kind_of = |e: &ExamplePrediction, name: &str| e.statistics.get(name).map(Statistic::kind);
    let is_whole = |(name, statistic): &(&String, &Statistic)| {
        both.clone().all(|e| kind_of(e, name) == Some(statistic.kind()))
    };
    let there = first(a);
    let names: Vec<String> = there.iter().filter(is_whole).map(|(name, _)| name.clone()).collect();
    let known = || match names.as_slice() {
        [] => "there is no score that both have of every example".to_string(),
        names => format!("both have {}", names.join(", ")),
    };
    match metric {
        None if names.is_empty() => Err(Error::file(b.0, known())),
        None => Ok(names),
        Some(metric) => match names.iter().find(|name| *name == metric) {
            Some(name) => Ok(vec![name.clone()]),
            None => Err(Error::Option { option: "metric", value: format!("`{metric}`"), why: known() }),
        },
    }
}

fn compare_by(
    a: &[ExamplePrediction],
    b: &[&ExamplePrediction],
    metric: String,
    trials: usize,
    seed: u64,
) -> Option<Comparison> {
    let of = |e: &ExamplePrediction| e.statistics.get(&metric).cloned();
    let a: Vec<Statistic> = a.iter().filter_map(of).collect();
    let b: Vec<Statistic> = b.iter().filter_map(|e| of(e)).collect();
    let kind = a.first()?.kind();
    let found = paired_bootstrap(&a, &b, |sums| kind.score(sums), trials, draws(seed))?;
    let Paired { a: of_a, b: of_b, p: p_bootstrap, difference: Interval { low, high } } = found;
    let right = |all: &[Statistic]| -> Option<Vec<bool>> {
        let one = |s: &Statistic| match (s.kind(), s.as_ref()) {
            (Kind::Mean, [sum, n]) if *n == 1.0 && (*sum == 0.0 || *sum == 1.0) => Some(*sum == 1.0),
            _ => None,
        };
        all.iter().map(one).collect()
    };
    let mcnemar = right(&a).zip(right(&b)).map(|(a, b)| {
        let only =
            |one: &[bool], other: &[bool]| one.iter().zip(other).filter(|(x, y)| **x && !**y).count() as u64;
        let (only_a, only_b) = (only(&a, &b), only(&b, &a));
        McNemar { only_a, only_b, p: mcnemar(only_a, only_b) }
    });
    let p = mcnemar.map_or(p_bootstrap, |test| test.p);
    Some(Comparison {
        metric,
        a: of_a,
        b: of_b,
        difference: of_a - of_b,
        low,
        high,
        p_bootstrap,
        mcnemar,
        examples: a.len(),
        p,
        differ: false, // until all comparisons are there
    })
}

impl Comparison {
    /// For people: `accuracy 0.9000 and 0.8000, difference 0.1000 (0.0550 to 0.1450): they differ, p
    /// 0.0000`.
    pub fn line(&self) -> String {
        let verdict = match self.differ {
            true => "they differ",
            false => "no difference that this set can show",
        };
        let test = match &self.mcnemar {
            Some(t) => format!("; only the first has {} right, only the second {}", t.only_a, t.only_b),
            None => String::new(),
        };
        format!(
            "{} {:.4} and {:.4}, difference {:+.4} ({:+.4} to {:+.4}): {verdict}, p {:.4}{test}",
            self.metric, self.a, self.b, self.difference, self.low, self.high, self.p
        )
    }
}
