//! Configuration strings, written as AdapterHub writes them.
//!
//! ```text
//! configuration = method { "|" method }                          houlsby        lora[r=4]|seq_bn
//! method        = name [ "[" field { "," field } "]" ]           lora[r=8, attn_matrices=[q, v]]
//! field         = key "=" value
//! value         = number | "True" | "False" | "None" | "'text'" | word | list | dictionary
//! list          = "[" value, .. "]"                              dictionary = "{" value ":" value, .. "}"
//! ```
//! Values are Python literals, as in AdapterHub's strings; a word needs no quotes.
use crate::{Error, Result};
use serde_json::{Map, Number, Value};

/// The fields of a method's configuration by name.
pub type Fields = Map<String, Value>;

/// A method's name and the fields that are given.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// The name.
    pub name: String,
    /// The fields, in any order.
    pub fields: Fields,
}

/// Lists and dictionaries inside each other: nobody needs more.
const DEEPEST: usize = 16;

/// Reads a configuration string. An error names the character (from 1) at which something else was
/// expected.
pub fn parse(text: &str) -> Result<Vec<Named>> {
    let mut p = Parser::new(text);
    let mut all = vec![p.method()?];
    while p.takes('|') {
        all.push(p.method()?);
    }
    p.end()?;
    Ok(all)
}
/// Reads one value of a field, as it is written after `=`.
pub fn value(text: &str) -> Result<Value> {
    let mut p = Parser::new(text);
    let value = p.value(0)?;
    p.end()?;
    Ok(value)
}

/// A place in a text that is read.
pub(crate) struct Parser<'a> {
    text: &'a str,
    pub at: usize,
}
impl<'a> Parser<'a> {
    /// At the beginning.
    pub fn new(text: &'a str) -> Parser<'a> {
        Parser { text, at: 0 }
    }
    /// Refuses what is left.
    pub fn end(&mut self) -> Result<()> {
        match self.peek() {
            None => Ok(()),
            Some(c) => Err(self.error(format!("`{c}` follows what is already whole"))),
        }
    }
    pub fn error(&self, what: impl Into<String>) -> Error {
        let character = self.text.get(..self.at).map_or(0, |before| before.chars().count()) + 1;
        Error::Syntax { text: self.text.into(), character, what: what.into() }
    }
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }
    /// The next character that is no blank; the place moves to it.
    pub fn peek(&mut self) -> Option<char> {
        self.at = self.text.len() - self.rest().trim_start().len();
        self.rest().chars().next()
    }
    pub fn takes(&mut self, c: char) -> bool {
        let is_next = self.peek() == Some(c);
        if is_next {
            self.at += c.len_utf8();
        }
        is_next
    }
    pub fn expect(&mut self, c: char) -> Result<()> {
        match self.takes(c) {
            true => Ok(()),
            false => Err(self.expected(&format!("`{c}`"))),
        }
    }
    pub fn expected(&mut self, what: &str) -> Error {
        match self.peek() {
            Some(c) => self.error(format!("expected {what}, found `{c}`")),
            None => self.error(format!("expected {what}, found the end")),
        }
    }
    /// Letters, digits and what names hold besides.
    pub fn word(&mut self, what: &str, also: &[char]) -> Result<String> {
        self.peek();
        let is_part = |c: char| c.is_alphanumeric() || c == '_' || also.contains(&c);
        let word: String = self.rest().chars().take_while(|c| is_part(*c)).collect();
        if word.is_empty() {
            return Err(self.expected(what));
        }
        self.at += word.len();
        Ok(word)
    }
    fn method(&mut self) -> Result<Named> {
        let name = self.word("the name of a method", &['-', '+'])?;
        let mut fields = Fields::new();
        if self.takes('[') {
            while !self.takes(']') {
                self.peek();
                let start = self.at;
                let key = self.word("a field", &[])?;
                self.expect('=')?;
                let value = self.value(0)?;
                if fields.insert(key.clone(), value).is_some() {
                    self.at = start;
                    return Err(self.error(format!("`{key}` is given twice")));
                }
                self.separated(']')?;
            }
        }
        Ok(Named { name, fields })
    }
    /// A comma, or what ends the list, which is left where it is.
    pub fn separated(&mut self, end: char) -> Result<()> {
        match self.takes(',') || self.peek() == Some(end) {
            true => Ok(()),
            false => Err(self.expected(&format!("`,` or `{end}`"))),
        }
    }
    pub fn value(&mut self, depth: usize) -> Result<Value> {
        if depth > DEEPEST {
            return Err(self.error("lists are nested too deeply"));
        }
        match self.peek() {
            Some(q @ ('\'' | '"')) => self.quoted(q).map(Value::String),
            Some(open @ ('[' | '(')) => {
                self.at += 1;
                let (end, mut list) = (if open == '[' { ']' } else { ')' }, vec![]);
                while !self.takes(end) {
                    list.push(self.value(depth + 1)?);
                    self.separated(end)?;
                }
                Ok(Value::Array(list))
            }
            Some('{') => {
                self.at += 1;
                let mut map = Fields::new();
                while !self.takes('}') {
                    let key = match self.value(depth + 1)? {
                        Value::String(s) => s,
                        Value::Number(n) => n.to_string(),
                        _ => return Err(self.error("a key is a text or a number")),
                    };
                    self.expect(':')?;
                    let value = self.value(depth + 1)?;
                    if map.insert(key.clone(), value).is_some() {
                        return Err(self.error(format!("`{key}` is given twice")));
                    }
                    self.separated('}')?;
                }
                Ok(Value::Object(map))
            }
            _ => self.bare(),
        }
    }
    pub fn quoted(&mut self, quote: char) -> Result<String> {
        self.at += 1;
        let (mut s, mut escaped) = (String::new(), false);
        for (i, c) in self.rest().char_indices() {
            match (escaped, c) {
                (true, 'n') => s.push('\n'),
                (true, 't') => s.push('\t'),
                (true, c) => s.push(c),
                (false, '\\') => {
                    escaped = true;
                    continue;
                }
                (false, c) if c == quote => {
                    self.at += i + 1;
                    return Ok(s);
                }
                (false, c) => s.push(c),
            }
            escaped = false;
        }
        self.at = self.text.len();
        Err(self.error(format!("expected the closing {quote}, found the end")))
    }
    /// A number, a constant or a word without quotes.
    fn bare(&mut self) -> Result<Value> {
        self.peek();
        let start = self.at;
        let word = self.word("a value", &['.', '-', '+', '/'])?;
        Ok(match word.as_str() {
            "True" | "true" => Value::Bool(true),
            "False" | "false" => Value::Bool(false),
            "None" | "null" => Value::Null,
            w if w.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) => match number(w) {
                Some(n) => Value::Number(n),
                None => {
                    self.at = start;
                    return Err(self.error(format!("`{w}` is not a number")));
                }
            },
            w => Value::String(w.into()),
        })
    }
}
fn number(w: &str) -> Option<Number> {
    let w = w.strip_prefix('+').unwrap_or(w);
    if let Ok(n) = w.parse::<i64>() {
        return Some(n.into());
    }
    w.parse::<f64>().ok().and_then(Number::from_f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn one(text: &str) -> (String, Value) {
        let mut all = parse(text).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(all.len(), 1, "{text}");
        let Named { name, fields } = all.remove(0);
        (name, Value::Object(fields))
    }
    #[test]
    fn strings_of_the_library_and_friendlier_ones() {
        assert_eq!(one("houlsby"), ("houlsby".into(), json!({})));
        assert_eq!(one(" scaled-parallel [ ] "), ("scaled-parallel".into(), json!({})));
        assert_eq!(
            one("double_seq_bn[reduction_factor=6, ln_before=True]"),
            ("double_seq_bn".into(), json!({"reduction_factor": 6, "ln_before": true}))
        );
        assert_eq!(
            one("lora[r=8,alpha=16,attn_matrices=[q,'k',\"v\"],dropout=1e-1,]"),
            ("lora".into(), json!({"r": 8, "alpha": 16, "attn_matrices": ["q", "k", "v"], "dropout": 0.1}))
        );
        assert_eq!(
            one("seq_bn[reduction_factor={'default': 8, 2: 16.0}, inv_adapter=None, x='a\\'b,]|']"),
            (
                "seq_bn".into(),
                json!({"reduction_factor": {"default": 8, "2": 16.0}, "inv_adapter": null, "x": "a'b,]|"})
            )
        );
        assert_eq!(value("(1, -2)").unwrap(), json!([1, -2]));
        let union = parse("prefix_tuning[prefix_length=30] | par_bn").unwrap();
        assert_eq!(union.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(), ["prefix_tuning", "par_bn"]);
    }
    #[test]
    fn mistakes_are_pointed_at() {
        for (text, character, what) in [
            ("", 1, "the name of a method, found the end"),
            ("lora[r=8", 9, "`,` or `]`, found the end"),
            ("lora[r 8]", 8, "expected `=`, found `8`"),
            ("lora[=8]", 6, "a field, found `=`"),
            ("lora[r=]", 8, "a value, found `]`"),
            ("lora[r=8,r=4]", 10, "`r` is given twice"),
            ("lora[r=8]]", 10, "`]` follows"),
            ("lora[é=8;]", 9, "found `;`"),
            ("lora[r=8x]", 8, "`8x` is not a number"),
            ("lora|", 6, "the name of a method, found the end"),
            ("lora[a='b]", 11, "the closing '"),
            ("lora[a={[1]: 2}]", 12, "a key is a text"),
        ] {
            let e = parse(text).unwrap_err();
            let Error::Syntax { character: got, what: said, .. } = &e else { panic!("{e}") };
            assert_eq!(*got, character, "{e}");
            assert!(said.contains(what), "{e}");
        }
        assert!(parse(&format!("a[b={}]", "[".repeat(100_000))).unwrap_err().to_string().contains("deep"));
    }
}
