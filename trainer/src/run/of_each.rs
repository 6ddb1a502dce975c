//! Data sets whose records each name their adapter: of each learner the records that name it.
use super::{
    evaluate::{Encoded, Growing},
    mixture::Mixture,
};
use crate::{Error, Result, data::Files, learner::Learner, tasks::Purpose, text::tokenizer::Tokenizer};
use std::collections::BTreeMap;

/// What is read for several learners.
pub struct OfEach {
    /// For each of them what names it, if something does.
    pub encoded: Vec<Option<Encoded>>,
    /// By number the learner of each example, in the order of the data.
    pub whose: Vec<usize>,
}
impl OfEach {
    /// Texts that have more tokens than were kept, of all that were read.
    pub fn cut(&self) -> (usize, usize) {
        let all = self.encoded.iter().flatten();
        all.fold((0, 0), |(cut, n), e| (cut + e.cut, n + e.data.len()))
    }
    /// What mixed batches are made of.
    pub fn into_mixture(self) -> Result<Mixture> {
        let examples = |e: Option<Encoded>| e.map(|e| e.examples).unwrap_or_default();
        Mixture::new(self.encoded.into_iter().map(examples).collect(), &self.whose)
    }
}

/// Reads files and makes the examples of each learner out of the records that name it, one small
/// part after the other. What is kept is what [`Encoded::read`] keeps. An error names the record
/// whose adapter is none of these.
pub fn read_each(
    files: &Files,
    named: &[(String, &Learner)],
    tokenizer: &Tokenizer,
    purpose: Purpose,
) -> Result<OfEach> {
    let numbers: BTreeMap<&str, usize> =
        named.iter().enumerate().map(|(n, (name, _))| (&**name, n)).collect();
    let mut all: Vec<Growing<'_>> =
        named.iter().map(|(_, learner)| Growing::new(learner.task(), tokenizer, purpose)).collect();
    let mut whose = vec![];
    for part in files.parts() {
        let part = part?;
        let mut rows = BTreeMap::<usize, Vec<usize>>::new();
        for (row, record) in part.records.iter().enumerate() {
            let adapter = record.adapter.clone().unwrap_or_default();
            let Some(n) = numbers.get(&*adapter) else {
                let (path, line) = (part.path.clone(), record.line);
                let known = named.iter().map(|(name, _)| name.clone()).collect();
                return Err(Error::Adapter { path, line, adapter, known });
            };
            rows.entry(*n).or_default().push(row);
        }
        let mut made: Vec<(usize, usize)> = vec![]; // (row, learner) of each example
        for (n, rows) in rows {
            let own = all[n].add(part.part(&rows))?;
            made.extend(own.into_iter().map(|record| (rows.get(record).copied().unwrap_or_default(), n)));
        }
        made.sort_by_key(|(row, _)| *row);
        whose.extend(made.into_iter().map(|(_, n)| n));
    }
    let encoded = all.into_iter().map(|one| one.end(files)).collect::<Result<Vec<_>>>()?;
    for (n, one) in encoded.iter().enumerate() {
        // what filled no example before the end
        let made = whose.iter().filter(|whose| **whose == n).count();
        let more = one.as_ref().map_or(0, |e| e.examples.len().saturating_sub(made));
        whose.extend(vec![n; more]);
    }
    Ok(OfEach { encoded, whose })
}
