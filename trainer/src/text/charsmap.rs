//! The table of replacements of a SentencePiece model, `precompiled_charsmap`, as far as it must be
//! whole.
//!
//! ```text
//! bytes of the trie (4), the trie: units of 4 bytes, the replacements: texts that end with a zero byte
//! ```
//! The trie is a double array (darts-clone): from the node `n` the byte `c` leads to the unit
//! `n ^ c`, if that has the label `c`; its offset leads to the next node, and there lies the place
//! of a replacement if the unit says so. The crate that follows it does not look whether these
//! places are there.

use serde_json::Value;

/// What is wrong with the tables in a normaliser, or in those that it consists of.
pub(super) fn check_within(normalizer: &Value) -> Result<(), String> {
    match normalizer {
        Value::Object(fields) => fields.iter().try_for_each(|(key, value)| match value {
            Value::String(table) if key == "precompiled_charsmap" => check(table),
            _ => check_within(value),
        }),
        Value::Array(all) => all.iter().try_for_each(check_within),
        _ => Ok(()),
    }
}

/// What is wrong with a table, as base64.
fn check(table: &str) -> Result<(), String> {
    let bytes = base64::decode(table).map_err(|why| wrong(&format!("it is no base64: {why}")))?;
    let (size, rest) = bytes.split_first_chunk::<4>().ok_or_else(|| wrong("it is empty"))?;
    let size = u32::from_le_bytes(*size) as usize / 4 * 4;
    let (units, texts) = rest.split_at_checked(size).ok_or_else(|| wrong("it ends too early"))?;
    let texts = std::str::from_utf8(texts).map_err(|_| wrong("its replacements are not UTF-8"))?;
    let units: Vec<u32> =
        units.chunks_exact(4).map(|u| u32::from_le_bytes([u[0], u[1], u[2], u[3]])).collect();
    walk(&units, texts).ok_or_else(|| wrong("it leads out of itself"))
}
fn wrong(what: &str) -> String {
    format!("`precompiled_charsmap` is damaged: {what}")
}

/// Goes wherever a text can lead; none if one leads out of the table.
fn walk(units: &[u32], texts: &str) -> Option<()> {
    let offset = |unit: u32| ((unit >> 10) as usize) << ((unit & 1 << 9) >> 6);
    let mut known = vec![false; units.len()];
    let mut left = vec![offset(*units.first()?)];
    while let Some(node) = left.pop() {
        // all units that a byte can lead to, and the node itself
        if node | 0xff >= units.len() {
            return None;
        }
        if std::mem::replace(&mut known[node], true) {
            continue;
        }
        for byte in 1..=0xff {
            let at = node ^ byte;
            let unit = units[at];
            if unit & (1 << 31 | 0xff) != byte as u32 {
                continue;
            }
            let next = at ^ offset(unit);
            if unit >> 8 & 1 == 1 {
                let text = *units.get(next)? as usize & ((1 << 31) - 1);
                texts.get(text..)?;
            }
            left.push(next);
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A table that replaces `a`.
    fn table(texts: &str, edit: impl FnOnce(&mut Vec<u32>)) -> String {
        let mut units = vec![0; 512];
        units[0] = 256 << 10; // the root is at 256
        units[256 ^ 97] = 97 | 1 << 8 | 97 << 10; // `a` leads back to 256
        units[256] = 1 << 31 | 2; // the text that begins at 2
        edit(&mut units);
        let units: Vec<u8> = units.iter().flat_map(|u| u.to_le_bytes()).collect();
        base64::encode([&(units.len() as u32).to_le_bytes()[..], &units, texts.as_bytes()].concat())
    }

    #[test]
    fn a_damaged_table_is_refused() {
        let refused = |table: String| check(&table).unwrap_err();
        assert_eq!(check(&table("a\0b\0", |_| ())), Ok(()));
        assert!(refused(table("", |_| ())).contains("leads out of itself"), "no such text");
        assert!(refused(table("a\u{e9}", |_| ())).contains("leads out of itself"), "inside of a letter");
        assert!(refused(table("a\0b\0", |u| u[0] = 512 << 10)).contains("leads out of itself"));
        assert!(refused(table("a\0b\0", |u| u[256 ^ 97] |= 1 << 30)).contains("leads out of itself"));
        assert!(refused(table("a\0b\0", |u| u.clear())).contains("leads out of itself"));
        assert!(refused("!".into()).contains("no base64"));
        assert!(refused(String::new()).contains("it is empty"));
        assert!(refused("AAEAAA==".into()).contains("ends too early"));
        let inside = json!({"type": "Sequence", "normalizers": [{"precompiled_charsmap": "AAEAAA=="}]});
        assert!(check_within(&inside).is_err());
        assert_eq!(check_within(&json!({"type": "NFC", "x": [1, null]})), Ok(()));
    }
}
