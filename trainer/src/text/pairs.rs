//! How the two texts of a pair are kept apart.
//!
//! Most tokenizers put a token between them. Where one puts nothing there, as GPT-2's, nobody could
//! tell where the second begins: such pairs are refused unless it is said what stands between, and
//! then they are read as one text.
use super::{cut, tokenizer::Tokenizer};
use crate::{
    data::Record,
    error::{Error, Result},
};
use std::borrow::Cow;
use tokenizers::PostProcessor;

impl Tokenizer {
    /// From now on the texts of a pair, if something is given, are one with this between them. It is
    /// cut at its end as any other, not the longer text first.
    pub fn joining_pairs(mut self, separator: Option<String>) -> Self {
        self.separator = separator;
        self
    }

    /// The text of a record and perhaps a second one, as they are encoded.
    pub(super) fn texts<'a>(&'a self, record: &'a Record) -> Result<(Cow<'a, str>, Option<Cow<'a, str>>)> {
        let short = |text| cut::shortened(text, || self.splits());
        match (record.pair(), &self.separator) {
            (None, _) => Ok((short(record.text()), None)),
            (Some(pair), Some(separator)) => {
                Ok((short(format!("{}{separator}{pair}", record.text()).into()), None))
            }
            (Some(pair), None) if self.separates() => Ok((short(record.text()), Some(short(pair.into())))),
            (Some(_), None) => {
                let why =
                    format!("{} puts nothing between the texts of a pair: say what stands there", self.name);
                Err(Error::Option { option: "pair-separator", value: "left out".into(), why })
            }
        }
    }

    /// Whether a second text comes with a token of its own.
    fn separates(&self) -> bool {
        let added = |pair| self.inner.get_post_processor().map_or(0, |p| p.added_tokens(pair));
        added(true) > added(false)
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        data::{Columns, Content, Dataset, Want},
        text::tokenizer::{
            Fit, Tokenizer,
            tests::{alone, json},
        },
    };

    const FIT: Fit<'static> = Fit { model: "tiny", vocabulary: 9, positions: None, max_length: 12 };

    fn data() -> Dataset {
        let want = Want { content: Content::Texts, labels: false };
        Dataset::parse("a.csv", b"text,text_pair\na,b c\n", &Columns::default(), want).unwrap()
    }

    #[test]
    fn a_pair_is_kept_apart_or_joined() {
        let ids = |separator: Option<&str>| {
            let tokenizer = Tokenizer::of(&alone(&json()), FIT).unwrap();
            tokenizer.joining_pairs(separator.map(Into::into)).encode_all(&data()).unwrap().remove(0)
        };
        assert_eq!((ids(None).ids, ids(None).types), (vec![2, 4, 3, 5, 6, 3], vec![0, 0, 0, 1, 1, 1]));
        let joined = ids(Some(" d "));
        assert_eq!((joined.ids, joined.types), (vec![2, 4, 7, 5, 6, 3], vec![0; 6]));
    }

    #[test]
    fn where_nothing_stands_between_it_has_to_be_said() {
        let mut json: serde_json::Value = serde_json::from_str(&json()).unwrap();
        json["post_processor"] = serde_json::Value::Null;
        let tokenizer = || Tokenizer::of(&alone(&json.to_string()), FIT).unwrap();
        let error = tokenizer().encode_all(&data()).unwrap_err().to_string();
        assert!(error.contains("pair-separator") && error.contains("nothing between"), "{error}");
        let joined = tokenizer().joining_pairs(Some(" d ".into())).encode_all(&data()).unwrap();
        assert_eq!(joined[0].ids, [4, 7, 5, 6]);
    }
}
