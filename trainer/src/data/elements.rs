//! The elements of one long JSON list, one after the other: a file that is a list, or an object with
//! one. Of the file only the element under way is in memory.
use super::lines::Lines;
use crate::error::{Error, Result};
use std::path::Path;
use std::sync::Arc;

/// A list under way.
pub(super) struct Elements {
    lines: Lines,
    path: Arc<Path>,
    buffer: Vec<u8>,
    at: usize,
    /// The line under way.
    line: usize,
    /// Whether the list stands in an object.
    is_inside: bool,
    is_first: bool,
    is_over: bool,
}

impl Elements {
    /// Begins to read: the file is a list, or an object in which the list has this name.
    pub fn begin(lines: Lines, name: &str) -> Result<Elements> {
        let path = lines.path().clone();
        let (buffer, at, line) = (vec![], 0, 1);
        let (is_inside, is_first, is_over) = (false, true, false);
        let mut list = Elements { lines, path, buffer, at, line, is_inside, is_first, is_over };
        match list.visible()? {
            None => return Err(Error::file(&list.path, "the file is empty")),
            Some(b'[') => {}
            Some(b'{') => {
                list.is_inside = true;
                list.find(name)?;
            }
            Some(_) => return Err(list.bad("neither a JSON list nor an object")),
        }
        Ok(list)
    }

    /// The next element, as its text, and the line in which it begins.
    pub fn next(&mut self) -> Result<Option<(usize, String)>> {
        if self.is_over {
            return Ok(None);
        }
        let mut begin = self.visible()?;
        let is_first = std::mem::take(&mut self.is_first);
        match begin {
            Some(b',') if !is_first => begin = self.visible()?,
            Some(b']') => {
                self.is_over = true;
                self.end()?;
                return Ok(None);
            }
            Some(_) if is_first => {}
            Some(_) => return Err(self.bad("a comma or the end of the list is missing")),
            None => {}
        }
        let (line, mut text) = (self.line, vec![]);
        self.value(begin, &mut |byte| text.push(byte))?;
        let text = String::from_utf8(text).map_err(|e| {
            let at = e.utf8_error().valid_up_to();
            let why = format!("not UTF-8: byte {} of what begins here is 0x{:02x}", at + 1, e.as_bytes()[at]);
            Error::line(&self.path, line, why)
        })?;
        Ok(Some((line, text)))
    }

    /// The file.
    pub fn path(&self) -> &Arc<Path> {
        &self.path
    }

    fn bad(&self, why: &str) -> Error {
        Error::line(&self.path, self.line, format!("not the JSON that it should be: {why}"))
    }

    /// The next byte, which stays there.
    fn peek(&mut self) -> Result<Option<u8>> {
        if self.at == self.buffer.len() {
            self.buffer.clear();
            self.buffer.extend_from_slice(self.lines.bytes()?);
            self.lines.skip(self.buffer.len());
            self.at = 0;
        }
        Ok(self.buffer.get(self.at).copied())
    }

    fn byte(&mut self) -> Result<Option<u8>> {
        let byte = self.peek()?;
        self.at += usize::from(byte.is_some());
        self.line += usize::from(byte == Some(b'\n'));
        Ok(byte)
    }

    /// The next byte that is no white space.
    fn visible(&mut self) -> Result<Option<u8>> {
        loop {
            match self.byte()? {
                Some(b' ' | b'\t' | b'\r' | b'\n') => {}
                other => return Ok(other),
            }
        }
    }

    /// A value whose first byte was read: as far as it goes, right or wrong.
    fn value(&mut self, begin: Option<u8>, keep: &mut dyn FnMut(u8)) -> Result<()> {
        let cut = "the file ends in the middle of it";
        let first = begin.ok_or_else(|| self.bad(cut))?;
        if matches!(first, b',' | b']' | b'}' | b':') {
            return Err(self.bad("a value is missing"));
        }
        keep(first);
        let (mut depth, mut in_string) = (usize::from(matches!(first, b'{' | b'[')), first == b'"');
        if depth == 0 && !in_string {
            // a number or a word
            while let Some(byte) = self.peek()? {
                if matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\r' | b'\n') {
                    break;
                }
                self.byte()?;
                keep(byte);
            }
            return Ok(());
        }
        while depth > 0 || in_string {
            let byte = self.byte()?.ok_or_else(|| self.bad(cut))?;
            keep(byte);
            match (byte, in_string) {
                (b'"', _) => in_string = !in_string,
                (b'\\', true) => keep(self.byte()?.ok_or_else(|| self.bad(cut))?),
                (b'{' | b'[', false) => depth += 1,
                (b'}' | b']', false) => depth -= 1,
                _ => {}
            }
        }
        Ok(())
    }

    /// The name of a field whose first byte was read, and the colon behind it.
    fn name(&mut self, begin: Option<u8>) -> Result<String> {
        let mut text = vec![];
        if begin != Some(b'"') {
            return Err(self.bad("a field's name is missing"));
        }
        self.value(begin, &mut |byte| text.push(byte))?;
        let name = serde_json::from_slice(&text).map_err(|_| self.bad("a field's name is no text"))?;
        match self.visible()? {
            Some(b':') => Ok(name),
            _ => Err(self.bad("a colon is missing behind a field's name")),
        }
    }

    /// Goes over the fields of an object, up to the beginning of the list of this name.
    fn find(&mut self, wanted: &str) -> Result<()> {
        let (mut names, mut begin) = (vec![], self.visible()?);
        while begin != Some(b'}') {
            let name = self.name(begin)?;
            begin = self.visible()?;
            match (name == wanted, begin) {
                (true, Some(b'[')) => return Ok(()),
                (true, _) => return Err(self.bad(&format!("`{wanted}` is no list"))),
                (false, _) => self.value(begin, &mut |_| ())?,
            }
            names.push(name);
            begin = match self.visible()? {
                Some(b',') => self.visible()?,
                Some(b'}') => break,
                _ => return Err(self.bad("a comma or the end of the object is missing")),
            };
        }
        let why = format!(
            "no list `{wanted}` in it, but {}; a file with an object a line is read with --format jsonl",
            crate::error::list(&names)
        );
        Err(Error::file(&self.path, why))
    }

    /// What stands behind the list.
    fn end(&mut self) -> Result<()> {
        while self.is_inside {
            match self.visible()? {
                Some(b'}') => self.is_inside = false,
                Some(b',') => {
                    let begin = self.visible()?;
                    self.name(begin)?;
                    let begin = self.visible()?;
                    self.value(begin, &mut |_| ())?;
                }
                Some(_) => return Err(self.bad("a comma or the end of the object is missing")),
                None => return Err(self.bad("the file ends in the middle of it")),
            }
        }
        match self.visible()? {
            None => Ok(()),
            Some(_) => Err(self.bad("something stands behind its end")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::{Notes, Source};
    use super::*;

    fn all(text: &str) -> Result<Vec<(usize, String)>> {
        let lines = Lines::of(Source::of_bytes(Path::new("a.json"), text.into(), &Notes::default()));
        let (mut list, mut found) = (Elements::begin(lines?, "data")?, vec![]);
        while let Some(one) = list.next()? {
            found.push(one);
        }
        Ok(found)
    }

    #[test]
    fn elements_come_one_by_one() {
        let of = |text: &str| all(text).unwrap().into_iter().map(|(_, text)| text).collect::<Vec<_>>();
        assert_eq!(of(r#"[1, {"a": "]}\"" }, [[]] , null]"#), ["1", r#"{"a": "]}\"" }"#, "[[]]", "null"]);
        let inside = r#"{"version": "1.1", "other": {"data": [9]}, "data": ["x"], "more": [3]}"#;
        assert_eq!(of(inside), ["\"x\""]);
        assert_eq!((of("[]"), of(r#"{"data":[ ]}"#)), (vec![], vec![]));
        let lines: Vec<usize> = all("[\n{},\n\n{\n}]\n").unwrap().into_iter().map(|(line, _)| line).collect();
        assert_eq!(lines, [2, 4]);
        let long = format!("[\"{}\", 2]", "é".repeat(100_000));
        assert_eq!(of(&long).len(), 2);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for (text, why) in [
            ("", "empty"),
            (" \n", "empty"),
            ("3", "neither"),
            ("[1", "ends in the middle"),
            ("[1 2]", "comma"),
            ("[1,]", "value is missing"),
            ("[{\"a\": 1", "ends in the middle"),
            ("[\"a\\", "ends in the middle"),
            ("[] x", "behind its end"),
            ("{\"a\": 1}", "no list `data` in it, but `a`"),
            ("{}", "no list `data`"),
            ("{\"data\": 3}", "`data` is no list"),
            ("{\"data\" [1]}", "colon"),
            ("{data: [1]}", "name is missing"),
            ("{\"data\": [1]", "ends in the middle"),
            ("{\"data\": [1], \"x\"}", "colon"),
            ("{\"data\": [1] 3}", "comma"),
        ] {
            let e = all(text).unwrap_err().to_string();
            assert!(e.starts_with("a.json") && e.contains(why), "{text}: {e}");
        }
    }
}
