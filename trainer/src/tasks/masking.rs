//! Which tokens of a text are hidden, and by what (Devlin et al. 2018, section 3.1).
//!
//! A token is hidden with a probability, as `DataCollatorForLanguageModeling` of transformers has it,
//! but one at least of each text; or all tokens of a word together. In 8 of 10 places the mask stands
//! instead of it, in one any token of the vocabulary, and in one the token itself.
use super::task::Anew;
use crate::{
    Error, Result,
    text::{
        example::{Example, IGNORED, Reads},
        tokenizer::Tokenizer,
    },
};

/// What hides tokens.
#[derive(Clone, Debug)]
pub struct Masking {
    mask: u32,
    /// Tokens of the vocabulary.
    vocabulary: u64,
    /// Tokens that are no part of a text, in order.
    special: Vec<u32>,
    /// Of a chance of 2^32.
    chance: u64,
    /// For each token whether it goes on with the word before it, where words are hidden as a whole.
    goes_on: Option<Vec<bool>>,
}

impl Masking {
    /// Hides this share of tokens, or of words. An error if the tokenizer has no token that stands
    /// where another one is hidden.
    pub fn new(tokenizer: &Tokenizer, share: f64, whole_words: bool) -> Result<Masking> {
        let mask = tokenizer.mask()?.ok_or_else(|| {
            let why = "the tokenizer's files name no `mask_token`, which stands where a token is hidden";
            Error::Model(why.into())
        })?;
        let chance = (share * (1u64 << 32) as f64) as u64;
        let goes_on = whole_words.then(|| tokenizer.continuations()).transpose()?;
        let (special, vocabulary) = (tokenizer.special_ids().to_vec(), tokenizer.size());
        Ok(Masking { mask, vocabulary, special, chance, goes_on })
    }
    /// The token that stands where another one is hidden.
    pub fn mask(&self) -> u32 {
        self.mask
    }
    /// Each token of a text as a label, where it may be hidden.
    pub fn labels(&self, ids: &[u32]) -> Vec<u32> {
        let label = |id: &u32| if self.special.binary_search(id).is_ok() { IGNORED } else { *id };
        ids.iter().map(label).collect()
    }
    /// The places that are hidden together.
    fn groups(&self, labels: &[u32]) -> Vec<Vec<usize>> {
        let mut groups: Vec<Vec<usize>> = vec![];
        for (i, label) in labels.iter().enumerate().filter(|(_, label)| **label != IGNORED) {
            let goes_on = self.goes_on.as_ref().and_then(|all| all.get(*label as usize)).copied();
            match groups
                .last_mut()
                .filter(|g| goes_on == Some(true) && g.last() == Some(&(i.wrapping_sub(1))))
            {
                Some(word) => word.push(i),
                None => groups.push(vec![i]),
            }
        }
        groups
    }
}

impl Anew for Masking {
    /// The text with some of its tokens hidden: of these alone a row is read, and its label is what
    /// stood there.
    fn example(&self, mut example: Example, draw: &mut dyn FnMut(u64) -> u64) -> Example {
        let labels = self.labels(&example.ids);
        let groups = self.groups(&labels);
        let mut hidden: Vec<usize> = vec![];
        for group in &groups {
            if draw(1 << 32) < self.chance {
                hidden.extend(group);
            }
        }
        if let (true, true) = (hidden.is_empty(), !groups.is_empty()) {
            hidden.extend(&groups[draw(groups.len() as u64) as usize]);
        }
        for place in &hidden {
            match draw(10) {
                0..8 => example.ids[*place] = self.mask,
                8 => example.ids[*place] = draw(self.vocabulary) as u32,
                _ => {}
            }
        }
        example.labels = hidden.iter().map(|place| labels[*place]).collect();
        example.reads = Reads::These(hidden);
        example
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::shuffle::{below, numbers_of};

    fn masking(share: f64, goes_on: Option<Vec<bool>>) -> Masking {
        let chance = (share * (1u64 << 32) as f64) as u64;
        Masking { mask: 3, vocabulary: 50, special: vec![0, 1, 2, 3], chance, goes_on }
    }
    fn hidden(m: &Masking, ids: &[u32], place: u64) -> Example {
        let mut random = numbers_of(1, 2, place);
        m.example(Example::new(ids.to_vec(), Reads::All, vec![]), &mut |n| below(&mut random, n))
    }

    #[test]
    fn fifteen_of_a_hundred_are_hidden_as_the_paper_says() {
        let (m, ids) = (masking(0.15, None), (4..44).chain([1]).collect::<Vec<u32>>());
        let (mut all, mut masked, mut kept) = (0.0, 0.0, 0.0);
        for place in 0..20_000 {
            let e = hidden(&m, &ids, place);
            let Reads::These(rows) = &e.reads else { panic!("{e:?}") };
            assert!(!rows.is_empty() && rows.is_sorted() && rows.len() == e.labels.len());
            for (row, label) in rows.iter().zip(&e.labels) {
                assert_eq!(*label, ids[*row]);
                all += 1.0;
                masked += f64::from(u8::from(e.ids[*row] == 3));
                kept += f64::from(u8::from(e.ids[*row] == *label));
            }
            let changed = (0..ids.len()).filter(|i| e.ids[*i] != ids[*i]);
            assert!(changed.into_iter().all(|i| rows.contains(&i)), "nothing else is changed");
        }
        let near = |x: f64, y: f64| assert!((x - y).abs() < 0.01, "{x}, expected {y}");
        near(all / (20_000.0 * 40.0), 0.15);
        near(masked / all, 0.8 + 0.1 / 50.0);
        near(kept / all, 0.1 + 0.1 / 50.0);
        assert_eq!(hidden(&m, &ids, 7), hidden(&m, &ids, 7));
        assert_ne!(hidden(&m, &ids, 7), hidden(&m, &ids, 8));
    }

    #[test]
    fn one_token_at_least_is_hidden_and_no_special_one() {
        let m = masking(0.0, None);
        for place in 0..50 {
            assert_eq!(hidden(&m, &[1, 9, 2], place).reads, Reads::These(vec![1]));
            assert!(hidden(&m, &[1, 2], place).labels.is_empty());
            assert!(hidden(&m, &[], place).labels.is_empty());
        }
        let e = hidden(&masking(1.0, None), &[1, 5, 6, 3, 7, 2], 0);
        assert_eq!((e.reads, e.labels), (Reads::These(vec![1, 2, 4]), vec![5, 6, 7]));
    }

    #[test]
    fn words_are_hidden_as_a_whole() {
        // odd tokens go on with the word before them
        let m = masking(0.3, Some((0..50).map(|id| id % 2 == 1).collect()));
        let ids = [1, 4, 5, 7, 6, 8, 9, 2, 11, 13, 10];
        let words: [&[usize]; 5] = [&[1, 2, 3], &[4], &[5, 6], &[8, 9], &[10]];
        for place in 0..200 {
            let Reads::These(rows) = hidden(&m, &ids, place).reads else { panic!() };
            for word in words {
                let found = word.iter().filter(|i| rows.contains(i)).count();
                assert!(found == 0 || found == word.len(), "{rows:?}");
            }
        }
    }
}
