//! The entries of a ZIP archive, as far as `torch.save` needs it: stored, not compressed, so that
//! each one is a range of the file. Formats and signatures: PKWARE's APPNOTE, 4.3.
use std::{collections::BTreeMap, ops::Range};

/// The file and the place of a number in it.
#[derive(Clone, Copy)]
struct At<'a>(&'a [u8], usize);
impl<'a> At<'a> {
    fn bytes(self, offset: usize, len: usize) -> Option<&'a [u8]> {
        let start = self.1.checked_add(offset)?;
        self.0.get(start..start.checked_add(len)?)
    }
    /// A number of `len` bytes.
    fn number(self, offset: usize, len: usize) -> Option<u64> {
        let bytes = self.bytes(offset, len)?;
        Some(bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)))
    }
    fn size(self, offset: usize, len: usize) -> Option<usize> {
        usize::try_from(self.number(offset, len)?).ok()
    }
    fn starts_with(self, signature: &[u8; 4]) -> bool {
        self.bytes(0, 4) == Some(signature)
    }
}

const END: &[u8; 4] = b"PK\x05\x06";
const END_64: &[u8; 4] = b"PK\x06\x06";
const END_64_PLACE: &[u8; 4] = b"PK\x06\x07";
const CENTRAL: &[u8; 4] = b"PK\x01\x02";
const LOCAL: &[u8; 4] = b"PK\x03\x04";
/// What a number of four bytes is where the true one is among the extra fields.
const ELSEWHERE: usize = u32::MAX as usize;

/// Where each entry's bytes are, by its name. The error says what is wrong with the archive.
pub fn entries(file: &[u8]) -> Result<BTreeMap<&str, Range<usize>>, String> {
    let (directory, count) = directory(file).ok_or("the archive has no end: it is not whole")?;
    let mut found = BTreeMap::new();
    let mut at = directory.start;
    while at < directory.end {
        let (name, range, next) = entry(&file[..directory.end], at)?;
        if found.insert(name, range).is_some() {
            return Err(format!("the archive has `{name}` twice"));
        }
        at = next;
    }
    match found.len() == count {
        true => Ok(found),
        false => Err(format!("the archive has {} entries and says that they are {count}", found.len())),
    }
}

/// Where the list of all entries is, and how many they are.
fn directory(file: &[u8]) -> Option<(Range<usize>, usize)> {
    const LEN: usize = 22;
    let last = file.len().checked_sub(LEN)?;
    let first = last.saturating_sub(usize::from(u16::MAX));
    let is_end = |at: &usize| {
        let e = At(file, *at);
        e.starts_with(END) && e.size(20, 2).is_some_and(|comment| *at + LEN + comment == file.len())
    };
    let end = (first..=last).rev().find(is_end)?;
    let e = At(file, end);
    let (mut count, mut size, mut start) = (e.size(10, 2)?, e.size(12, 4)?, e.size(16, 4)?);
    if count == usize::from(u16::MAX) || size == ELSEWHERE || start == ELSEWHERE {
        let place = At(file, end.checked_sub(20)?);
        let e = At(file, place.size(8, 8)?);
        if !place.starts_with(END_64_PLACE) || !e.starts_with(END_64) {
            return None;
        }
        (count, size, start) = (e.size(32, 8)?, e.size(40, 8)?, e.size(48, 8)?);
    }
    let stop = start.checked_add(size)?;
    (stop <= end).then_some((start..stop, count))
}

/// The entry whose line in the list of all entries is at `at`: its name and bytes, and where the
/// next line is.
fn entry(file: &[u8], at: usize) -> Result<(&str, Range<usize>, usize), String> {
    let broken = || format!("the archive's list of entries is damaged at byte {at}");
    let line = At(file, at);
    if !line.starts_with(CENTRAL) {
        return Err(broken());
    }
    let field = |offset, len| line.size(offset, len).ok_or_else(broken);
    let (names, extras, comments) = (field(28, 2)?, field(30, 2)?, field(32, 2)?);
    let name = line.bytes(46, names).and_then(|n| std::str::from_utf8(n).ok()).ok_or_else(broken)?;
    let (mut packed, mut len, mut local) = (field(20, 4)?, field(24, 4)?, field(42, 4)?);
    let mut extra = line.bytes(46 + names, extras).ok_or_else(broken)?;
    // extra fields: a number, a length, as many bytes; number 1 has those of the three that do not
    // fit
    while let (Some(number), Some(size)) = (At(extra, 0).size(0, 2), At(extra, 0).size(2, 2)) {
        let body = At(extra, 4).bytes(0, size).ok_or_else(broken)?;
        let mut wide = body.chunks_exact(8);
        for n in [&mut len, &mut packed, &mut local] {
            if number == 1 && *n == ELSEWHERE {
                *n = wide.next().and_then(|b| At(b, 0).size(0, 8)).ok_or_else(broken)?;
            }
        }
        extra = &extra[4 + size..];
    }
    if field(8, 2)? & 1 != 0 || field(10, 2)? != 0 || packed != len {
        return Err(format!(
            "`{name}` in the archive is compressed or encrypted: torch.save stores it as it is"
        ));
    }
    let head = At(file, local);
    let start = || {
        let (own, extra) = (head.size(26, 2)?, head.size(28, 2)?);
        let is_same = head.starts_with(LOCAL) && head.bytes(30, own)? == name.as_bytes();
        let start = local.checked_add(30 + own + extra)?;
        let range = start..start.checked_add(len)?;
        (is_same && range.end <= file.len()).then_some(range)
    };
    let range = start().ok_or_else(|| format!("`{name}` is not where the archive says that it is"))?;
    Ok((name, range, at + 46 + names + extras + comments))
}
