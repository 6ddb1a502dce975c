//! Pairs of which one text is to stay whole: a question in front of windows of a long text, and choices
//! behind a text that is cut for them.
//!
//! Both texts are tokenised by themselves, cut, and put together with the special tokens of a pair.
use super::tokenizer::{TokenizedText, Tokenizer};
use crate::data::{Dataset, Input};
use crate::error::{Error, Result};
use tokenizers::{Encoding, PostProcessor, PostProcessorWrapper, TruncationDirection::Right};

/// Tokens of a text that a window has room for, however long the question in front of it is.
const LEAST: usize = 32;

/// A window of a text, with the question in front of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TextWindow {
    /// All tokens.
    pub tokens: TokenizedText,
    /// Of each token the code points of the text that it stands for, from the first to the one
    /// behind the last; none of those that are no part of it.
    pub places: Vec<Option<(u32, u32)>>,
}

/// The windows of the text that a question is about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TextWindows {
    /// One at least, from the first to the last.
    pub all: Vec<TextWindow>,
    /// Whether the question was cut.
    pub is_cut: bool,
    /// Whether they overlap less than they should, as there is no room for it.
    pub is_narrow: bool,
}

impl Tokenizer {
    /// Tokens that stand around the texts of a pair.
    fn special_tokens_of_pair(&self) -> usize {
        self.inner.get_post_processor().map_or(0, |processor| processor.added_tokens(true))
    }
    /// Tokens that both texts of a pair may have together.
    fn room(&self) -> usize {
        self.max_length().saturating_sub(self.special_tokens_of_pair())
    }
    /// The tokenizer that makes the tokens of a text, all of them and nothing else. What stands
    /// around them changes their places, and only once.
    fn bare(&self) -> Result<&tokenizers::Tokenizer> {
        let make = || {
            let mut tokenizer = self.inner.clone();
            tokenizer.with_truncation(None).map_err(|e| e.to_string())?;
            tokenizer.with_post_processor(None::<PostProcessorWrapper>);
            Ok(tokenizer)
        };
        let made: &Result<_, String> = self.bare.get_or_init(make);
        made.as_ref().map_err(|why| Error::file(self.name.as_ref(), why.clone()))
    }
    fn pair(&self, first: Encoding, second: Encoding) -> Result<Encoding> {
        self.ask(|| self.inner.post_process(first, Some(second), true))
    }

    /// The windows of every question of a data set. In as many tokens as a sequence has the question
    /// stands, without blanks in front of it, and behind it a part of its text: windows that follow
    /// each other share so many tokens, or if there is no room for that half of what there is. A
    /// question is cut at its end so that 32 tokens of the text have room, or half of all if
    /// sequences are too short for that.
    pub fn encode_questions(&self, data: &Dataset, overlap: usize) -> Result<Vec<TextWindows>> {
        let room = self.room();
        if room < 2 {
            let why = "it leaves no room for a question and its text".into();
            return Err(Error::Option { option: "max-length", value: self.max_length().to_string(), why });
        }
        let (mut questions, mut contexts, mut of) = (vec![], vec![], vec![]);
        for record in &data.records {
            let Input::Question { question, context, .. } = &record.input else {
                return Err(Error::line(&data.path, record.line, "no question"));
            };
            questions.push(question.trim_start());
            // questions about one text follow each other
            if contexts.last() != Some(&context.as_str()) {
                contexts.push(context.as_str());
            }
            of.push(contexts.len() - 1);
        }
        let bare = self.bare()?;
        let contexts = self.ask(|| bare.encode_batch_char_offsets(contexts, false))?;
        let questions = self.ask(|| bare.encode_batch_char_offsets(questions, false))?;
        let one = |(question, of): (Encoding, usize)| self.windows(question, &contexts[of], room, overlap);
        questions.into_iter().zip(of).map(one).collect()
    }
    fn windows(
        &self,
        mut question: Encoding,
        context: &Encoding,
        room: usize,
        overlap: usize,
    ) -> Result<TextWindows> {
        let most = room - LEAST.min(room.div_ceil(2));
        let is_cut = question.len() > most;
        question.truncate(most, 0, Right);
        question.take_overflowing();
        let (room, mut first) = (room - question.len(), context.clone());
        let is_narrow = context.len() > room && overlap >= room;
        first.truncate(room, if overlap < room { overlap } else { room / 2 }, Right);
        let rest = first.take_overflowing();
        let window = |part: Encoding| {
            let pair = self.pair(question.clone(), part)?;
            let is_text = pair.get_sequence_ids().into_iter().map(|id| id == Some(1));
            let place = |(is_text, (from, to)): (bool, &(usize, usize))| {
                is_text.then_some((*from as u32, *to as u32))
            };
            let places = is_text.zip(pair.get_offsets()).map(place).collect();
            Ok(TextWindow { tokens: self.tokens(&pair)?, places })
        };
        let all = std::iter::once(first).chain(rest).map(window).collect::<Result<_>>()?;
        Ok(TextWindows { all, is_cut, is_narrow })
    }

    /// The pairs of every record with choices: its text, cut at the end that the tokenizer's files
    /// choose, and each of what is read beside it, which stays whole as long as it has room by
    /// itself.
    pub fn encode_choices(&self, data: &Dataset) -> Result<Vec<Vec<TokenizedText>>> {
        let (mut texts, mut beside) = (vec![], vec![]);
        for record in &data.records {
            let Input::Choices { text, seconds, .. } = &record.input else {
                return Err(Error::line(&data.path, record.line, "no choices"));
            };
            texts.push(text.as_str());
            beside.extend(seconds.iter().map(String::as_str));
        }
        let (bare, room) = (self.bare()?, self.room());
        let end = self.inner.get_truncation().map_or(Right, |truncation| truncation.direction);
        let texts = self.ask(|| bare.encode_batch_fast(texts, false))?;
        let mut beside = self.ask(|| bare.encode_batch_fast(beside, false))?.into_iter();
        let pair = |text: &Encoding, mut second: Encoding| {
            let is_cut = text.len() + second.len() > room;
            second.truncate(room, 0, Right);
            let mut text = text.clone();
            text.truncate(room - second.len(), 0, end);
            text.take_overflowing();
            second.take_overflowing();
            let tokens = self.tokens(&self.pair(text, second)?)?;
            match tokens.ids.is_empty() {
                true => Err(Error::file(self.name.as_ref(), "it makes no token of a pair of texts")),
                false => Ok(TokenizedText { is_cut, ..tokens }),
            }
        };
        let all = data.records.iter().zip(&texts).map(|(record, text)| {
            let Input::Choices { seconds, .. } = &record.input else { return Ok(vec![]) };
            beside.by_ref().take(seconds.len()).map(|second| pair(text, second)).collect()
        });
        all.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tokenizer::{
        Fit,
        tests::{alone, json},
    };
    use super::*;
    use crate::data::{Columns, Content, Want};
    use proptest::prelude::*;

    fn tokenizer(max_length: usize) -> Tokenizer {
        let fit = Fit { model: "tiny", vocabulary: 9, positions: None, max_length };
        Tokenizer::of(&alone(&json()), fit).unwrap()
    }
    fn read(content: Content, line: serde_json::Value) -> Dataset {
        let want = Want { content, labels: false };
        Dataset::parse("a.jsonl", line.to_string().as_bytes(), &Columns::default(), want).unwrap()
    }
    fn asked(question: &str, context: &str) -> Dataset {
        read(Content::Questions, serde_json::json!({"question": question, "context": context}))
    }

    #[test]
    fn windows_overlap_and_the_last_one_ends_with_the_text() {
        // 3 special tokens, 1 of the question, and room for 4
        let data = asked(" a", "é b c dd b c b");
        let w = &tokenizer(8).encode_questions(&data, 1).unwrap()[0];
        assert!(!w.is_cut && !w.is_narrow);
        assert_eq!(
            w.all.iter().map(|w| &w.tokens.ids[..]).collect::<Vec<_>>(),
            [&[2, 4, 3, 1, 5, 6, 7, 3][..], &[2, 4, 3, 7, 8, 5, 6, 3], &[2, 4, 3, 6, 5, 3]]
        );
        assert_eq!(w.all[0].tokens.types, [0, 0, 0, 1, 1, 1, 1, 1]);
        assert_eq!(w.all[0].places[..5], [None, None, None, Some((0, 1)), Some((2, 3))], "code points");
        assert_eq!(w.all[2].places[3..], [Some((11, 12)), Some((13, 14)), None]);
        assert_eq!(tokenizer(20).encode_questions(&data, 1).unwrap()[0].all.len(), 1);
    }

    #[test]
    fn a_long_question_leaves_room() {
        let data = asked(&"b ".repeat(99), &"a ".repeat(99));
        let w =
            |max_length, overlap| tokenizer(max_length).encode_questions(&data, overlap).unwrap().remove(0);
        for (max_length, text) in [(99, 32), (67, 32), (32, 15), (6, 2), (5, 1)] {
            let w = w(max_length, 128);
            assert!(w.is_cut && w.is_narrow, "{max_length}");
            assert!(w.all.iter().all(|w| w.tokens.ids.len() <= max_length && !w.tokens.is_cut));
            assert_eq!(w.all[0].places.iter().flatten().count(), text, "{max_length}");
            assert_eq!(w.all.last().unwrap().places.iter().flatten().last(), Some(&(196, 197)));
        }
        assert!(!w(67, 31).is_narrow && w(67, 32).is_narrow);
        let e = tokenizer(4).encode_questions(&data, 1).unwrap_err().to_string();
        assert!(e.contains("`max-length` cannot be 4"), "{e}");
    }

    #[test]
    fn the_text_is_cut_for_the_choices() {
        let line =
            serde_json::json!({"context": "a b c d", "question": "b", "choices": ["c", "a a a a a a a"]});
        let all = |max_length| tokenizer(max_length).encode_choices(&read(Content::Choices, line.clone()));
        let pairs = all(9).unwrap().remove(0);
        assert_eq!(pairs[0].ids, [2, 4, 5, 6, 7, 3, 5, 6, 3]);
        assert_eq!(pairs[0].types, [0, 0, 0, 0, 0, 0, 1, 1, 1]);
        assert_eq!(pairs[1].ids, [2, 3, 5, 4, 4, 4, 4, 4, 3], "and cut itself where it has no room");
        assert_eq!((pairs[0].is_cut, pairs[1].is_cut), (false, true));
        assert_eq!(all(8).unwrap()[0][0].ids, [2, 4, 5, 6, 3, 5, 6, 3]);
    }

    proptest! {
        #[test]
        fn every_token_of_a_text_is_in_a_window(
            question in "[a-d ]{1,20}x", context in "[a-dé ]{0,60}x", max_length in 5usize..40, overlap in 0usize..40,
        ) {
            let tokenizer = tokenizer(max_length);
            let w = tokenizer.encode_questions(&asked(&question, &context), overlap).unwrap().remove(0);
            let chars: Vec<char> = context.chars().collect();
            let mut seen = vec![false; chars.len()];
            for window in &w.all {
                prop_assert!(window.tokens.ids.len() <= max_length);
                prop_assert_eq!(window.places.len(), window.tokens.ids.len());
                for (from, to) in window.places.iter().flatten() {
                    seen[*from as usize..*to as usize].fill(true);
                }
            }
            prop_assert!(chars.iter().zip(seen).all(|(c, seen)| seen || c.is_whitespace()));
        }
    }
}
