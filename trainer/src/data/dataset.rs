//! Records in memory.
use super::columns::Columns;
use super::name::Name;
use super::reading::Reading;
use super::record::{Chosen, Input, Label, NO_NUMBER, Record, Span, Want};
use super::source::{Notes, Source};
use crate::error::{Error, Result};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The records of one file or of a part of it, in its order.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// Where they came from; error messages name it.
    pub path: PathBuf,
    /// At least one record; those of an evaluation are not kept unless they are needed.
    pub records: Vec<Record>,
    /// The group of each record that was read, where a column names them; empty where none does.
    pub groups: Vec<String>,
    /// How many records were read.
    pub count: usize,
    /// Bytes of their texts.
    pub bytes: usize,
    /// The columns that were read.
    pub chosen: Chosen,
}

impl Dataset {
    /// Reads the bytes of a file; `path` names them in errors, and its extension says how they are
    /// read.
    pub fn parse(path: impl AsRef<Path>, bytes: &[u8], columns: &Columns, want: Want) -> Result<Self> {
        let path = path.as_ref();
        let source = |notes: &Notes| Ok(Source::of_bytes(path, bytes.to_vec(), notes));
        let mut reading = Reading::of(path, source, columns, want, &Notes::default())?;
        let records = reading.by_ref().collect::<Result<Vec<_>>>()?;
        Ok(Self::of(path.into(), records, reading.chosen))
    }

    /// Texts that come from elsewhere; `name` names them in errors, as in "`name`:2" for the
    /// second.
    pub fn of_texts(name: &str, texts: &[String]) -> Result<Self> {
        let path = PathBuf::from(name);
        if texts.is_empty() {
            return Err(Error::file(&path, "there are no texts"));
        }
        let records =
            texts.iter().enumerate().map(|(i, text)| Record::row(&path, i + 1, text, None, Label::None));
        let records = records.collect::<Result<_>>()?;
        Ok(Self::of(path, records, Chosen { text: name.into(), ..Chosen::default() }))
    }

    /// Sentences that come from elsewhere, their words apart by white space.
    pub fn of_sentences(name: &str, texts: &[String]) -> Result<Self> {
        let mut data = Self::of_texts(name, texts)?;
        for (record, text) in data.records.iter_mut().zip(texts) {
            record.input = Input::Words(text.split_whitespace().map(Into::into).collect());
        }
        let Self { path, records, chosen, .. } = data;
        Ok(Self::of(path, records, chosen))
    }

    /// Records that were read.
    pub(super) fn of(path: PathBuf, mut records: Vec<Record>, chosen: Chosen) -> Self {
        let groups = records.iter_mut().filter_map(|record| record.group.take()).collect();
        let bytes = records.iter().map(Record::bytes).sum();
        Self { path, count: records.len(), records, groups, bytes, chosen }
    }

    /// Adds what was read later.
    pub fn append(&mut self, later: Self) {
        self.records.extend(later.records);
        self.groups.extend(later.groups);
        self.count += later.count;
        self.bytes += later.bytes;
    }

    /// Some of its records, by their numbers.
    pub fn part(&self, which: &[usize]) -> Self {
        let records = which.iter().map(|i| self.records[*i].clone()).collect();
        let groups = self.groups_of(which);
        Self { groups, ..Self::of(self.path.clone(), records, self.chosen.clone()) }
    }

    /// The groups of some records, by their numbers; none where there are none.
    pub(crate) fn groups_of(&self, which: &[usize]) -> Vec<String> {
        which.iter().filter_map(|i| self.groups.get(*i).cloned()).collect()
    }

    /// Forgets the texts and words, and of records whose labels say nothing of words everything. Of
    /// the labels of words the numbers stay that `number` gives them.
    pub fn keep_labels(&mut self, number: impl Fn(&Name) -> Option<u32>) {
        let number = |label: &Option<Name>| label.as_ref().and_then(&number).unwrap_or(NO_NUMBER);
        self.records.retain_mut(|record| {
            record.input = Input::Words(vec![]);
            let Label::Each(labels) = &record.label else { return false };
            record.label = Label::Numbers(labels.iter().map(number).collect());
            true
        });
    }

    /// About how many bytes the records take that are kept.
    pub fn memory(&self) -> usize {
        let text = |text: &String| size_of::<String>() + text.capacity();
        let one = |record: &Record| {
            let input = match &record.input {
                Input::Text { text, pair } => text.capacity() + pair.as_ref().map_or(0, String::capacity),
                Input::Words(words) => words.iter().map(text).sum(),
                Input::Question { id, question, context } => {
                    id.capacity() + question.capacity() + context.capacity()
                }
                Input::Choices { text: one, choices, seconds } => {
                    one.capacity() + choices.iter().chain(seconds).map(text).sum::<usize>()
                }
            };
            let name = |name: &Name| size_of::<Option<Name>>() + name.exact().len();
            let label = match &record.label {
                Label::None | Label::Value(_) | Label::Choice(_) => 0,
                Label::Spans(answers) => answers.iter().map(|a| size_of::<Span>() + a.text.capacity()).sum(),
                Label::One(label) => label.exact().len(),
                Label::Set(labels) => labels.iter().map(|l| size_of::<Name>() + l.exact().len()).sum(),
                Label::Texts(texts) => texts.iter().map(text).sum(),
                Label::Each(labels) => labels.iter().flatten().map(name).sum(),
                Label::Numbers(numbers) => size_of::<u32>() * numbers.capacity(),
            };
            input + label + record.adapter.as_ref().map_or(0, String::capacity)
        };
        let groups: usize = self.groups.iter().map(text).sum();
        groups + self.records.capacity() * size_of::<Record>() + self.records.iter().map(one).sum::<usize>()
    }

    /// Number of records that were read.
    #[expect(clippy::len_without_is_empty, reason = "a data set without records is an error when it is read")]
    pub fn len(&self) -> usize {
        self.count
    }

    /// The names of all labels.
    pub fn names(&self) -> BTreeSet<String> {
        self.records.iter().flat_map(Record::labels).map(Cow::into_owned).collect()
    }
}
