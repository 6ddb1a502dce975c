//! A run on a part of its data: a fold of a cross-validation, or a few of the examples.
use super::evaluate::Encoded;
use crate::{
    Error, Result,
    data::{Content, Dataset},
    reports::scores::folds::{grouped, plain, scarce, stratified, stratified_groups},
    tasks::Task,
    text::{
        example::{IGNORED, Reads},
        examples::Examples,
        shuffle::{numbers, shuffle},
    },
};
use std::{collections::BTreeMap, fmt, str::FromStr};

/// One of the parts of a cross-validation: a run learns from the others and is evaluated on it.
///
/// ```
/// let fold: engraft::run::portion::Fold = "2/5".parse()?;
/// assert_eq!((fold.number, fold.of, fold.to_string().as_str()), (2, 5, "2/5"));
/// assert!("6/5".parse::<engraft::run::portion::Fold>().is_err());
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fold {
    /// Which one, from 1.
    pub number: usize,
    /// How many there are, at least two.
    pub of: usize,
}
impl FromStr for Fold {
    type Err = String;
    fn from_str(text: &str) -> Result<Fold, String> {
        let parts = text.split_once('/').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        match parts {
            Some((number, of)) if of >= 2 && (1..=of).contains(&number) => Ok(Fold { number, of }),
            _ => Err(format!("`{text}` is not one of some parts, as 2/5")),
        }
    }
}
impl fmt::Display for Fold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}
crate::by_text!(Fold);

/// What a run on a fold reads.
pub struct Folded {
    /// What it learns from.
    pub train: Examples,
    /// What it is evaluated on.
    pub eval: Encoded,
    /// What there is to say of classes that not every fold has.
    pub note: Option<String>,
}
impl Fold {
    /// Divides a data set, of which there are the examples to learn from and, as `whole`, those to
    /// evaluate on. An error if there are fewer examples than parts, or if examples go across
    /// records.
    pub fn of(&self, whole: Encoded, train: &Examples, task: &dyn Task) -> Result<Folded> {
        if task.content() == Content::Documents {
            let why =
                "documents are read one behind the other, so that a part of them has no end: divide the file";
            return Err(Error::Option { option: "fold", value: self.to_string(), why: why.into() });
        }
        let Division { of_record, rare } =
            Division::of(&whole.examples, (whole.data.len(), &whole.data.groups), self.of)?;
        let own = |record: usize| of_record.get(record).copied().flatten() == Some(self.number - 1);
        let other = |record: usize| of_record.get(record).copied().flatten().is_some() && !own(record);
        let named = |class: u32| task.labels().get(class as usize).map_or(class.to_string(), Clone::clone);
        let names: Vec<String> = rare.iter().map(|(class, n)| format!("`{}` ({n})", named(*class))).collect();
        let note = (!names.is_empty()).then(|| {
            format!(
                "classes with fewer examples than there are folds are missing in some: {}",
                names.join(", ")
            )
        });
        let (train, eval) = (chosen(train, other), whole.part(own));
        for (part, examples) in [("learn from", &train), ("evaluate on", &eval.examples)] {
            if !examples.iter().any(|e| e.is_labelled()) {
                let why = format!("there is nothing with a label in it to {part}");
                return Err(Error::Option { option: "fold", value: self.to_string(), why });
            }
        }
        Ok(Folded { train, eval, note })
    }
}

/// The records that examples are made of, in their order.
struct Units {
    records: Vec<usize>,
    /// The class of each, where every record has one.
    classes: Option<Vec<u32>>,
}
impl Units {
    fn of(examples: &Examples) -> Units {
        let mut classes: BTreeMap<usize, Option<u32>> = BTreeMap::new();
        for e in examples.iter() {
            let class = match (&e.reads, e.labels.as_slice()) {
                (Reads::Summary, [label]) if *label != IGNORED => Some(*label),
                _ => None,
            };
            // what has several examples has no class
            classes.entry(e.record).and_modify(|class| *class = None).or_insert(class);
        }
        let (records, classes): (Vec<_>, Vec<_>) = classes.into_iter().unzip();
        Units { records, classes: classes.into_iter().collect() }
    }
}

/// Which fold each record is in.
struct Division {
    /// By record, from 0; none of a record without an example.
    of_record: Vec<Option<usize>>,
    /// Classes that some fold has none of, with the number of their records.
    rare: Vec<(u32, usize)>,
}
impl Division {
    /// Of so many records in k folds: where each record has one class, every fold has about as many
    /// of each class as another (scikit-learn's `StratifiedKFold`), else the folds follow each other
    /// in the data (`KFold`). Where records have groups these stay whole (`StratifiedGroupKFold`,
    /// `GroupKFold`).
    fn of(examples: &Examples, (records, groups): (usize, &[String]), k: usize) -> Result<Division> {
        let units = Units::of(examples);
        let groups: Vec<&String> = units.records.iter().filter_map(|record| groups.get(*record)).collect();
        let is_grouped = !groups.is_empty();
        let own = match &units.classes {
            Some(classes) if is_grouped => stratified_groups(classes, &groups, k, None)?,
            Some(classes) => stratified(classes, k, None)?,
            None if is_grouped => grouped(&groups, k, None)?,
            None => plain(units.records.len(), k, None)?,
        };
        let classes = units.classes.unwrap_or_default();
        let rare = scarce(&classes, k).into_iter().map(|(first, n)| (classes[first], n)).collect();
        let mut of_record = vec![None; records];
        for (record, fold) in units.records.into_iter().zip(own) {
            if let Some(place) = of_record.get_mut(record) {
                *place = Some(fold);
            }
        }
        Ok(Division { of_record, rare })
    }
}

/// The examples of those records that are chosen.
fn chosen(examples: &Examples, is_chosen: impl Fn(usize) -> bool) -> Examples {
    let mut part: Examples = examples.iter().filter(|e| is_chosen(e.record)).collect();
    part.shrink();
    part
}

/// The examples of so many records, drawn at random: where each record has one class, about as large
/// a share of each class as in the whole. Of one seed the smaller ones are parts of the larger. An
/// error if there are not so many.
pub fn some(examples: &Examples, n: usize, seed: u64) -> Result<Examples> {
    let units = Units::of(examples);
    let all = units.records.len();
    if n > all || n == 0 {
        let why = format!("there are {all} examples to learn from");
        return Err(Error::Option { option: "train-examples", value: n.to_string(), why });
    }
    let mut order: Vec<usize> = (0..all).collect();
    shuffle(&mut order, &mut numbers(seed, u64::MAX));
    if let Some(classes) = &units.classes {
        // the j-th of n of a class stands at (j + 1/2) / n of the way
        let (mut sizes, mut seen) = (BTreeMap::<u32, usize>::new(), BTreeMap::<u32, usize>::new());
        classes.iter().for_each(|class| *sizes.entry(*class).or_default() += 1);
        let mut placed: Vec<(f64, usize)> = vec![];
        for unit in order {
            let (size, seen) = (sizes[&classes[unit]], seen.entry(classes[unit]).or_default());
            placed.push(((*seen as f64 + 0.5) / size as f64, unit));
            *seen += 1;
        }
        placed.sort_by(|a, b| a.0.total_cmp(&b.0));
        order = placed.into_iter().map(|(_, unit)| unit).collect();
    }
    let mut taken = vec![false; units.records.last().map_or(0, |last| last + 1)];
    order[..n].iter().for_each(|unit| taken[units.records[*unit]] = true);
    Ok(chosen(examples, |record| taken[record]))
}

impl Encoded {
    /// Those of its records that are chosen, as a data set of their own.
    pub fn part(&self, is_chosen: impl Fn(usize) -> bool) -> Encoded {
        let which: Vec<usize> = (0..self.data.len()).filter(|record| is_chosen(*record)).collect();
        let mut number = vec![0; self.data.len()];
        which.iter().enumerate().for_each(|(new, old)| number[*old] = new);
        let mut examples: Examples = self
            .examples
            .iter()
            .filter(|e| is_chosen(e.record))
            .map(|mut e| {
                e.record = number.get(e.record).copied().unwrap_or(e.record);
                e
            })
            .collect();
        examples.shrink();
        let data = match self.data.records.is_empty() {
            true => {
                let groups = self.data.groups_of(&which);
                Dataset { count: which.len(), groups, ..self.data.clone() }
            }
            false => self.data.part(&which),
        };
        let (notes, by_example) = (self.notes.clone(), self.by_example);
        let (generating, name, others) = (self.generating.clone(), self.name.clone(), vec![]);
        Encoded { data, examples, cut: self.cut, notes, by_example, generating, name, others }
    }
}
