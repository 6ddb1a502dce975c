//! The examples of a data set, laid one behind the other so that millions of them fit.
//!
//! A token takes one, two or four bytes, whatever the largest id needs, and as much again only
//! where it has a label of its own or a type; an example takes 24 bytes besides, and where there are
//! numbers to be found 8 more and 4 for each of them.
use super::blocks::next_tokens;
use super::example::{Example, Reads};
use super::ints::Ints;
use std::ops::Range;

/// Which rows are read, and where the labels come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Summary,
    /// All rows, each with the token behind it as its label: nothing is stored.
    Next,
    All,
    These,
    /// Several sequences, whose lengths stand in the place of rows.
    Choices,
    /// A decoder that says its labels: nothing else is stored.
    Said,
    /// A decoder that reads other tokens, which stand in the place of rows.
    Decoded,
}

/// In the place of a start token: that of the model.
const MODELS: u32 = u32::MAX;

/// Where an example ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End {
    tokens: u64,
    reads: u64,
    record: u32,
    kind: Kind,
    has_parts: bool,
}

/// Examples in an order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Examples {
    ends: Vec<End>,
    ids: Ints,
    /// One for each token, or none as long as all are 0.
    types: Ints,
    /// Of each row that is read the label.
    labels: Ints,
    /// Of each row that is read where it stands and what it stands for, or none as long as no
    /// example says so.
    rows: Ints,
    parts: Ints,
    values: Vec<f32>,
    /// Where the values of each example end, or none as long as there are no values.
    value_ends: Vec<usize>,
    /// How many parts each row has: one, unless the first example that has some says otherwise.
    parts_of_row: usize,
}

impl Examples {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Tokens of all examples.
    pub fn tokens(&self) -> usize {
        (0..self.len()).map(|item| self.length(item)).sum()
    }

    /// Tokens of one example, those of a decoder with them.
    pub fn length(&self, item: usize) -> usize {
        let (tokens, reads) = self.at(item);
        match self.ends[item].kind {
            Kind::Said | Kind::Decoded => tokens.len() + reads.len(),
            _ => tokens.len(),
        }
    }

    /// Its tokens, and the rows of it that are read.
    fn at(&self, item: usize) -> (Range<usize>, Range<usize>) {
        let before = item.checked_sub(1).map(|i| self.ends[i]);
        let (tokens, reads) = before.map_or((0, 0), |end| (end.tokens, end.reads));
        let end = self.ends[item];
        (tokens as usize..end.tokens as usize, reads as usize..end.reads as usize)
    }

    /// The values of an example.
    fn values(&self, item: usize) -> &[f32] {
        let Some(end) = self.value_ends.get(item) else { return &[] };
        let start = item.checked_sub(1).map_or(0, |before| self.value_ends[before]);
        &self.values[start..*end]
    }

    /// One example; the labels of rows that had none are [`IGNORED`](super::example::IGNORED).
    pub fn get(&self, item: usize) -> Example {
        let ((tokens, reads), end) = (self.at(item), self.ends[item]);
        let ids = self.ids.get(tokens.clone());
        let types = match self.types.is_empty() {
            true => vec![0; ids.len()],
            false => self.types.get(tokens),
        };
        let kept = |ints: &Ints, are_there: bool| if are_there { ints.get(reads.clone()) } else { vec![] };
        let parts = match end.has_parts {
            true => self.parts.get(reads.start * self.parts_of_row..reads.end * self.parts_of_row),
            false => vec![],
        };
        let labels = match end.kind {
            Kind::Next => next_tokens(&ids),
            _ => self.labels.get(reads.clone()),
        };
        Example {
            reads: match end.kind {
                Kind::Summary => Reads::Summary,
                Kind::Next | Kind::All => Reads::All,
                Kind::These => {
                    Reads::These(kept(&self.rows, true).into_iter().map(|row| row as usize).collect())
                }
                Kind::Choices => {
                    Reads::Choices(kept(&self.rows, true).into_iter().map(|n| n as usize).collect())
                }
                Kind::Said => Example::said(vec![], labels.clone()).reads,
                Kind::Decoded => {
                    let tokens = kept(&self.rows, true);
                    let start = tokens.first().copied().filter(|start| *start != MODELS);
                    Reads::Decoded { start, tokens: tokens.get(1..).unwrap_or_default().to_vec() }
                }
            },
            labels,
            values: self.values(item).to_vec(),
            parts,
            record: end.record as usize,
            ids,
            types,
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Example> + '_ {
        (0..self.len()).map(|item| self.get(item))
    }

    /// Adds an example. Of its labels as many count as rows are read, and of its parts as many for
    /// each row as the first example has that has some.
    pub fn push(&mut self, example: Example) {
        let count = example.rows();
        let Example { ids, types, reads, mut labels, values, record, mut parts } = example;
        let kind = match reads {
            Reads::Summary => Kind::Summary,
            Reads::All if parts.is_empty() && labels == next_tokens(&ids) => Kind::Next,
            Reads::All => Kind::All,
            Reads::These(_) => Kind::These,
            Reads::Choices(_) => Kind::Choices,
            Reads::Decoded { .. } if Example::said(vec![], labels.clone()).reads == reads => Kind::Said,
            Reads::Decoded { .. } => Kind::Decoded,
        };
        if !self.types.is_empty() || types.iter().any(|t| *t != 0) {
            self.types.fill_up(self.ids.len());
            self.types.extend(&types[..types.len().min(ids.len())]);
            self.types.fill_up(self.ids.len() + ids.len());
        }
        self.ids.extend(&ids);
        let (has_parts, from) = (!parts.is_empty(), self.labels.len());
        if kind != Kind::Next {
            labels.resize(count, super::example::IGNORED);
            self.labels.extend(&labels);
        }
        let rows: Option<Vec<u32>> = match reads {
            Reads::These(rows) | Reads::Choices(rows) => Some(rows.into_iter().map(|n| n as u32).collect()),
            Reads::Decoded { start, tokens } if kind == Kind::Decoded => {
                Some(std::iter::once(start.unwrap_or(MODELS)).chain(tokens).collect())
            }
            _ => None,
        };
        if let Some(rows) = rows {
            self.rows.fill_up(from);
            self.rows.extend(&rows);
        } else if !self.rows.is_empty() {
            self.rows.fill_up(self.labels.len());
        }
        if self.parts_of_row == 0 && has_parts {
            self.parts_of_row = (parts.len() / count.max(1)).max(1);
        }
        if self.parts_of_row > 0 {
            parts.resize((self.labels.len() - from) * self.parts_of_row, 0);
            self.parts.fill_up(from * self.parts_of_row);
            self.parts.extend(&parts);
        }
        if !values.is_empty() || !self.value_ends.is_empty() {
            self.value_ends.resize(self.ends.len(), 0); // those before it have none
            self.values.extend(values);
            self.value_ends.push(self.values.len());
        }
        let (tokens, reads) = (self.ids.len() as u64, self.labels.len() as u64);
        self.ends.push(End { tokens, reads, record: record as u32, kind, has_parts });
    }

    /// Bytes that they take.
    pub fn bytes(&self) -> usize {
        let ints = [&self.ids, &self.types, &self.labels, &self.rows, &self.parts];
        let (value, end) = (size_of::<f32>(), size_of::<usize>());
        let values = value * self.values.capacity() + end * self.value_ends.capacity();
        values + self.ends.capacity() * size_of::<End>() + ints.map(Ints::bytes).iter().sum::<usize>()
    }

    /// Gives back what is reserved for more.
    pub fn shrink(&mut self) {
        self.values.shrink_to_fit();
        self.value_ends.shrink_to_fit();
        self.ends.shrink_to_fit();
        [&mut self.ids, &mut self.types, &mut self.labels, &mut self.rows, &mut self.parts]
            .into_iter()
            .for_each(Ints::shrink);
    }
}

impl Extend<Example> for Examples {
    fn extend<I: IntoIterator<Item = Example>>(&mut self, examples: I) {
        examples.into_iter().for_each(|example| self.push(example));
    }
}

impl FromIterator<Example> for Examples {
    fn from_iter<I: IntoIterator<Item = Example>>(examples: I) -> Self {
        let mut all = Self::default();
        all.extend(examples);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::example::IGNORED;
    use proptest::prelude::*;

    fn any_example(parts_of_row: u32) -> impl Strategy<Value = Example> {
        let ids = prop::collection::vec(prop_oneof![0u32..9, 0u32..70_000], 0..6);
        (ids, 0..8u8, any::<bool>(), any::<bool>(), 0usize..1000, 0u32..300).prop_map(
            move |(ids, kind, two, parts, record, label)| {
                let values = vec![label as f32 + 0.5; if record % 5 == 0 { record % 4 } else { 0 }];
                let rows: Vec<usize> = (0..ids.len()).step_by(2).collect();
                let reads = match kind {
                    0 => Reads::Summary,
                    1 | 2 => Reads::All,
                    3 => Reads::These(rows),
                    7 => Reads::Choices(vec![0, ids.len()]),
                    4 => {
                        let said = Example::said(ids, vec![label; 1 + record % 4]);
                        return Example { record, values, ..said };
                    }
                    _ => {
                        let start = (kind == 5).then_some(label);
                        Reads::Decoded { start, tokens: vec![IGNORED; record % 3] }
                    }
                };
                let count = reads.count(ids.len());
                let labels = match kind {
                    1 => next_tokens(&ids),
                    _ => (0..count as u32).map(|i| if i == 1 { IGNORED } else { label + i }).collect(),
                };
                let types = ids.iter().map(|id| u32::from(two && id % 2 == 1)).collect();
                let parts = if parts { (0..parts_of_row * count as u32).collect() } else { vec![] };
                Example { ids, types, reads, labels, values, record, parts }
            },
        )
    }

    proptest! {
        #[test]
        fn examples_come_back(
            all in (1u32..3).prop_flat_map(|n| prop::collection::vec(any_example(n), 0..12)),
        ) {
            let examples: Examples = all.iter().cloned().collect();
            prop_assert_eq!(examples.iter().collect::<Vec<_>>(), all.clone());
            prop_assert_eq!(examples.tokens(), all.iter().map(|e| e.ids.len() + e.reads.decoded()).sum::<usize>());
            for (i, e) in all.iter().enumerate() {
                prop_assert_eq!(examples.length(i), e.ids.len() + e.reads.decoded());
            }
        }
    }

    #[test]
    fn a_token_takes_few_bytes() {
        let bytes = |example: Example| {
            let mut all: Examples = (0..1000).map(|_| example.clone()).collect();
            all.shrink();
            all.bytes() as f64 / 1000.0 - 32.0
        };
        let ids: Vec<u32> = (30_000..30_100).collect();
        assert!(bytes(Example::new(ids.clone(), Reads::Summary, vec![3])) < 200.0);
        assert!(bytes(Example::new(ids.clone(), Reads::All, next_tokens(&ids))) < 200.0);
        let large: Vec<u32> = (200_000..200_100).collect();
        let pair = Example { types: vec![1; 100], ..Example::new(large, Reads::Summary, vec![3]) };
        assert!(bytes(pair) < 500.0);
        let words = Reads::These((0..100).collect());
        assert!(bytes(Example::new(ids, words, vec![300; 100])) < 600.0);
    }

    #[test]
    fn what_is_missing_is_ignored() {
        let examples: Examples = [Example::new(vec![1, 2], Reads::All, vec![])].into_iter().collect();
        assert_eq!(examples.get(0).labels, [IGNORED, IGNORED]);
        let examples: Examples = [Example::new(vec![1], Reads::Summary, vec![])].into_iter().collect();
        assert_eq!(examples.get(0).labels, [IGNORED]);
    }
}
