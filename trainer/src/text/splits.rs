//! Where a text may be split so that a tokenizer makes of the whole what it makes of the parts: the
//! same ids, in this order.
//!
//! A tokenizer that first splits at white space, and whose normaliser looks at single characters,
//! does the same with a text up to some white space whether the rest is there or not. Most also
//! split between some other characters, wherever they stand: in front of a full stop behind a
//! letter, say. That is used only between characters that no normaliser joins and no added token
//! reaches over.
use serde_json::Value;
use std::borrow::Cow;

/// Where texts may be split.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Splits {
    /// White space in front of which they may be, if it follows something else.
    white: &'static [u8],
    /// Marks in front of which they may be, if these follow a letter, a digit or an ideograph.
    marks: Vec<char>,
    /// Whether every ideograph is a word.
    ideographs: bool,
    /// Whether letters and digits are apart.
    digits: bool,
    /// Of a word of more letters and digits than twice this, as many from either end are enough: it
    /// is unknown.
    ends: Option<usize>,
}

impl Splits {
    /// Those of a tokenizer.
    pub fn of(tokenizer: &tokenizers::Tokenizer) -> Splits {
        let json = tokenizer.to_string(false).unwrap_or_default();
        serde_json::from_str(&json).map_or_else(|_| Splits::default(), |json| Splits::described(&json))
    }

    /// Those of a tokenizer that is described by its JSON.
    pub fn described(tokenizer: &Value) -> Splits {
        let list = |value: &Value, name: &str| -> Vec<Value> {
            match value["type"].as_str() {
                None => vec![],
                Some("Sequence") => value[name].as_array().cloned().unwrap_or_default(),
                Some(_) => vec![value.clone()],
            }
        };
        let of_type =
            |value: &Value, types: &[&str]| value["type"].as_str().is_some_and(|t| types.contains(&t));
        let normalizers = list(&tokenizer["normalizer"], "normalizers");
        let single = |n: &Value| {
            of_type(n, &["BertNormalizer", "Lowercase", "StripAccents", "NFC", "NFD", "NFKC", "NFKD"])
        };
        let pre_tokenizers = list(&tokenizer["pre_tokenizer"], "pretokenizers");
        let by_bytes = |p: &Value| of_type(p, &["ByteLevel"]) && p["use_regex"] != false;
        let by_white = |p: &Value| of_type(p, &["BertPreTokenizer", "Whitespace", "WhitespaceSplit"]);
        let added = tokenizer["added_tokens"].as_array().map_or(&[][..], |a| a);
        let content = |token: &Value| token["content"].as_str().unwrap_or_default().to_string();
        // a token that takes the white space behind it away, or has some in it, may reach over the
        // split
        let reaches = |token: &Value| {
            let content = content(token);
            token["rstrip"] != false || content.is_empty() || content.contains(char::is_whitespace)
        };
        // the first word of a text is another than the same word later
        let tells_first = |p: &Value| of_type(p, &["Metaspace"]) && p["prepend_scheme"] == "first";
        let first = pre_tokenizers.first().filter(|p| by_bytes(p) || by_white(p));
        let are_local = normalizers.iter().all(single)
            && !pre_tokenizers.iter().any(tells_first)
            && !added.iter().any(reaches);
        let Some(first) = first.filter(|_| are_local) else { return Splits::default() };
        // a space that is put in front of every part is left out in front of one only
        let adds_space =
            pre_tokenizers.iter().any(|p| p["add_prefix_space"] != false && of_type(p, &["ByteLevel"]));
        let white: &[u8] = if adds_space { b" " } else { b" \n\r\t" };

        let added_characters: String = added.iter().map(content).collect();
        let are_plain =
            added_characters.is_ascii() && added.iter().all(|token| token["single_word"] == false);
        if adds_space || !are_plain {
            return Splits { white, ..Splits::default() };
        }
        let is_free = |c: &char| !added_characters.contains(*c);
        let marks = ('!'..='~').filter(|c| c.is_ascii_punctuation() && *c != '_').chain(['、', '。']);
        let marks =
            if of_type(first, &["WhitespaceSplit"]) { vec![] } else { marks.filter(is_free).collect() };
        let spaces_ideographs =
            |n: &Value| of_type(n, &["BertNormalizer"]) && n["handle_chinese_chars"] == true;
        // letters and digits that follow each other are in one word
        let whole = |p: &Value| by_white(p) || of_type(p, &["Punctuation"]);
        let longest = tokenizer["model"]["max_input_chars_per_word"].as_u64().filter(|_| {
            of_type(&tokenizer["model"], &["WordPiece"])
                && pre_tokenizers.iter().all(whole)
                && added.iter().all(|token| content(token).contains(|c: char| !c.is_ascii_alphanumeric()))
        });
        let longest_added = added.iter().map(|token| content(token).len()).max().unwrap_or(0);
        Splits {
            white,
            marks,
            ideographs: by_white(first) && normalizers.iter().any(spaces_ideographs),
            digits: by_bytes(first) && ('0'..='9').all(|c| is_free(&c)),
            ends: longest.map(|longest| 2 + longest_added.max(longest as usize)),
        }
    }

    /// Whether there is no place where a text may be split.
    pub fn is_empty(&self) -> bool {
        self.white.is_empty()
    }

    /// The first place at or behind so many bytes where a text may be split.
    pub fn first(&self, text: &str, from: usize) -> Option<usize> {
        let start = (from..text.len()).find(|at| text.is_char_boundary(*at))?;
        let mut before = text[..start].chars().next_back();
        let mut rest = text[start..].char_indices().peekable();
        while let Some((at, next)) = rest.next() {
            let after = rest.peek().map(|(_, c)| *c);
            if before.is_some_and(|before| self.is_between(before, next, after)) {
                return Some(start + at);
            }
            before = Some(next);
        }
        None
    }

    fn is_between(&self, before: char, next: char, after: Option<char>) -> bool {
        if u8::try_from(next).is_ok_and(|next| self.white.contains(&next)) {
            return !before.is_whitespace();
        }
        let is_plain = |c: char| c.is_ascii_graphic() || is_ideograph(c) || matches!(c, '、' | '。');
        // what comes behind may be joined with what is in front of it
        if !is_plain(before) || !after.is_none_or(|c| is_plain(c) || c == ' ') {
            return false;
        }
        let is_word = before.is_ascii_alphanumeric() || is_ideograph(before);
        let (letter, digit) = (|c: char| c.is_ascii_alphabetic(), |c: char| c.is_ascii_digit());
        self.ideographs && is_ideograph(next)
            || is_word && self.marks.contains(&next)
            || self.digits && (letter(before) && digit(next) || digit(before) && letter(next))
    }

    /// The text, without the middle of words that are so long that they are unknown as a whole.
    pub fn shortened<'a>(&self, text: Cow<'a, str>) -> Cow<'a, str> {
        let Some(ends) = self.ends else { return text };
        let (mut short, mut done, mut at) = (String::new(), 0, 0);
        let is_part = u8::is_ascii_alphanumeric;
        for run in text.as_bytes().chunk_by(|a, b| is_part(a) == is_part(b)) {
            let end = at + run.len();
            if is_part(&run[0]) && run.len() > 2 * ends {
                short += &text[done..at + ends];
                done = end - ends;
            }
            at = end;
        }
        if done == 0 {
            return text;
        }
        short += &text[done..];
        short.into()
    }
}

/// One of those that BERT's normaliser puts between spaces, and that no normaliser changes.
fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}')
}
