//! The lines of a data file, one after the other: held to UTF-8, counted.
//!
//! A file is never in memory as a whole, so that one larger than memory can be read; only the line
//! under way is.
use super::source::{BUFFER, Notes, Source, first, unreadable};
use crate::error::{Error, Result};
use std::io::{BufRead, Cursor, Read};
use std::path::Path;
use std::sync::Arc;

/// The lines of a file.
pub struct Lines {
    path: Arc<Path>,
    reader: Box<dyn BufRead>,
    line: Vec<u8>,
    number: usize,
    notes: Notes,
    has_noted: bool,
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lines({}:{})", self.path.display(), self.number)
    }
}

impl Lines {
    /// The lines of what a source has.
    pub fn of(source: Source) -> Result<Lines> {
        let (path, notes) = (source.path().clone(), source.notes().clone());
        let (mut reader, packed) = source.reader()?;
        let start = first(&mut reader, 3).map_err(|e| unreadable(&path, e, packed))?;
        if start.starts_with(&[0xff, 0xfe]) || start.starts_with(&[0xfe, 0xff]) {
            return Err(Error::file(&path, "the file is UTF-16; save it as UTF-8"));
        }
        let start = if start == "\u{feff}".as_bytes() { vec![] } else { start };
        let reader = Box::new(Cursor::new(start).chain(reader));
        Ok(Lines { path, reader, line: vec![], number: 0, notes, has_noted: false })
    }

    /// Says something about the file, if nothing was said about it before.
    pub(super) fn note(&mut self, note: String) {
        let mut notes = self.notes.borrow_mut();
        if !std::mem::replace(&mut self.has_noted, true) && !notes.contains(&note) {
            notes.push(note);
        }
    }

    /// What there is to say about the files of the data set.
    pub(super) fn notes(&self) -> &Notes {
        &self.notes
    }

    /// Some of the bytes that come next, for a format that is not made of lines; none at the end.
    /// They are counted as read when [`Lines::skip`] is told.
    pub(super) fn bytes(&mut self) -> Result<&[u8]> {
        self.reader.fill_buf().map_err(|e| unreadable(&self.path, e, true))
    }

    /// So many of these bytes were read.
    pub(super) fn skip(&mut self, bytes: usize) {
        self.reader.consume(bytes);
    }

    /// The file.
    pub fn path(&self) -> &Arc<Path> {
        &self.path
    }

    /// The number of the line that was read last, counted from one.
    pub fn number(&self) -> usize {
        self.number
    }

    /// The next line, without the line break behind it.
    #[expect(clippy::should_implement_trait, reason = "what it gives is borrowed")]
    pub fn next(&mut self) -> Result<Option<&str>> {
        let line = self.next_whole()?;
        Ok(line.map(|line| {
            let line = line.strip_suffix('\n').unwrap_or(line);
            line.strip_suffix('\r').unwrap_or(line)
        }))
    }

    /// The next line with its line break, which the last one may lack.
    pub fn next_whole(&mut self) -> Result<Option<&str>> {
        self.line.clear();
        self.line.shrink_to(BUFFER); // of one very long line nothing stays
        let read = self.reader.read_until(b'\n', &mut self.line);
        if read.map_err(|e| unreadable(&self.path, e, true))? == 0 {
            return Ok(None);
        }
        self.number += 1;
        let text = std::str::from_utf8(&self.line).map_err(|error| {
            let at = error.valid_up_to();
            let why = format!("not UTF-8: byte {} of the line is 0x{:02x}", at + 1, self.line[at]);
            Error::line(&self.path, self.number, why)
        })?;
        Ok(Some(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(vec![], flate2::Compression::best());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    }
    fn read(name: &str, bytes: &[u8]) -> Result<Vec<String>> {
        let mut lines = Lines::of(Source::of_bytes(Path::new(name), bytes.to_vec(), &Notes::default()))?;
        let mut all = vec![];
        while let Some(line) = lines.next()? {
            all.push(line.to_string());
        }
        Ok(all)
    }

    #[test]
    fn lines_end_in_either_way_and_with_the_file() {
        for text in ["a\r\n\nb", "\u{feff}a\n\r\nb\n"] {
            assert_eq!(read("a", text.as_bytes()).unwrap(), ["a", "", "b"]);
            assert_eq!(read("a.gz", &gz(text.as_bytes())).unwrap(), ["a", "", "b"]);
        }
        let two = [gz(b"a\nb"), gz(b"c\n")].concat();
        assert_eq!(read("a.gz", &two).unwrap(), ["a", "bc"], "of several members");
        assert!(read("a", b"").unwrap().is_empty() && read("a.gz", &gz(b"")).unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_unpacked_is_named() {
        let refused = |bytes: &[u8]| read("a.tsv.gz", bytes).unwrap_err().to_string();
        assert_eq!(refused(b"a\n"), "a.tsv.gz: the name ends with .gz, and it is not a gzip file");
        let whole = gz(b"some text to be packed\n");
        assert_eq!(refused(&whole[..whole.len() - 9]), "a.tsv.gz: the gzip file ends too early");
        let mut broken = whole.clone();
        broken[3] ^= 0xff;
        assert!(refused(&broken).starts_with("a.tsv.gz"));
        let mut sum = whole.clone();
        let at = sum.len() - 6;
        sum[at] ^= 1;
        assert!(refused(&sum).starts_with("a.tsv.gz: cannot unpack: "), "{}", refused(&sum));
        let bomb = gz(&vec![b'\n'; 80 << 20]);
        assert!(refused(&bomb).contains("more than 200 times as large as the file"));
        assert!(refused(&gz(b"\xff\xfea\0")).contains("UTF-16"));
        assert_eq!(refused(&gz(b"ok\nab\xfe\n")), "a.tsv.gz:2: not UTF-8: byte 3 of the line is 0xfe");
    }
}
