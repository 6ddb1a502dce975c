//! A number of bytes as an option.

use std::fmt;
use std::str::FromStr;

/// A number of bytes: `700MB`, `1.5GiB` or `734003200`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteSize(pub usize);

/// What may stand behind the number.
const UNITS: [(&str, f64); 8] = [
    ("B", 1.0),
    ("kB", 1e3),
    ("KB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("KiB", 1024.0),
    ("MiB", 1024.0 * 1024.0),
    ("GiB", 1024.0 * 1024.0 * 1024.0),
];
/// More than any machine has; below it every whole number is exact in double precision.
const MOST: f64 = (1u64 << 52) as f64;

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused =
            || format!("`{text}` is no number of bytes: write it as `700MB`, `1.5GiB` or `734003200`");
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = (&text[..end], text[end..].trim_start());
        let factor = match unit {
            "" if number.contains('.') => return Err(refused()),
            "" => 1.0,
            _ => UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(refused)?.1,
        };
        let number: f64 = number.parse().map_err(|_| refused())?;
        let bytes = (number * factor).floor();
        if (1.0..MOST).contains(&bytes) { Ok(Self(bytes as usize)) } else { Err(refused()) }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

engraft::by_text!(ByteSize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        let of = |text: &str| text.parse::<ByteSize>().map(|b| b.0);
        assert_eq!(
            ["7", "7B", "700MB", "1.5GiB", "2 KiB", "0.5kB"].map(of),
            [7, 7, 700_000_000, 1_610_612_736, 2048, 500].map(Ok)
        );
        for bad in ["", "0", "-1", "1.5", "700M", "700mb", "MB", "1e9", "1..2MB", "9999999GiB", "NaN", "1 2"]
        {
            assert!(of(bad).unwrap_err().contains("no number of bytes"), "{bad}");
        }
        assert_eq!(ByteSize(770_000_000).to_string(), "770000000");
    }
}
