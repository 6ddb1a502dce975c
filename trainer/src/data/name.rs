//! A label's name, as it stands in a file and as it is taken.

/// A label's name. Two names are the same label if they are taken the same: blanks around a name do
/// not count, and a JSON number counts by its value. How it stands there matters to a head that was
/// trained elsewhere, whose labels may have blanks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    exact: String,
    /// Where that is something else.
    taken: Option<String>,
}

impl Name {
    /// The name in a cell or a JSON string.
    pub fn of_text(text: &str) -> Self {
        let taken = text.trim();
        Self { exact: text.into(), taken: (taken.len() < text.len()).then(|| taken.into()) }
    }

    /// The name that a JSON number or boolean stands for, from its text; `None` for a number that
    /// is too large.
    pub fn of_value(text: &str) -> Option<Self> {
        let taken = if text.starts_with(['-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) {
            number(text)?
        } else {
            text.into()
        };
        Some(Self { taken: (taken != text).then_some(taken), exact: text.into() })
    }

    /// As it stands in the file.
    pub fn exact(&self) -> &str {
        &self.exact
    }

    /// As it is taken.
    pub fn taken(&self) -> &str {
        self.taken.as_ref().unwrap_or(&self.exact)
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self::of_text(text)
    }
}

/// The most digits of a number that are written without an exponent.
const DIGITS: i64 = 40;

/// The value of a JSON number as text, exactly and in one way only: 1, 1.0 and 10e-1 are `1`.
/// `None` if the exponent is out of every range.
fn number(text: &str) -> Option<String> {
    let (sign, size) = text.strip_prefix('-').map_or(("", text), |size| ("-", size));
    let (mantissa, exponent) = size.split_once(['e', 'E']).unwrap_or((size, "0"));
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{part}");
    let exponent = exponent.parse::<i32>().ok()?;
    let digits = all.trim_end_matches('0');
    // of the last digit
    let power = i64::from(exponent) - part.len() as i64 + (all.len() - digits.len()) as i64;
    let digits = digits.trim_start_matches('0');
    let count = digits.len() as i64;
    if digits.is_empty() {
        return Some("0".into());
    }
    let zeros = |n: i64| "0".repeat(n as usize);
    Some(if (0..=DIGITS - count).contains(&power) || power == 0 {
        format!("{sign}{digits}{}", zeros(power))
    } else if power < 0 && count + power > 0 {
        let (whole, part) = digits.split_at((count + power) as usize);
        format!("{sign}{whole}.{part}")
    } else if power < 0 && count + power > -5 {
        format!("{sign}0.{}{digits}", zeros(-(count + power)))
    } else {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        format!("{sign}{first}{point}{rest}e{}", power + count - 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_count_by_value() {
        for (text, value) in [
            ("1", "1"),
            ("1.0", "1"),
            ("10e-1", "1"),
            ("1E0", "1"),
            ("-0.0", "0"),
            ("0e9", "0"),
            ("-3", "-3"),
            ("100", "100"),
            ("1e2", "100"),
            ("0.50", "0.5"),
            ("5e-1", "0.5"),
            ("12.340", "12.34"),
            ("0.0001", "0.0001"),
            ("1e-7", "1e-7"),
            ("-1.25e-9", "-1.25e-9"),
            ("1e400", "1e400"),
            ("18446744073709551616", "18446744073709551616"),
            ("18446744073709551617", "18446744073709551617"),
            ("1.8446744073709551616e19", "18446744073709551616"),
        ] {
            let name = Name::of_value(text).unwrap();
            assert_eq!((name.taken(), name.exact()), (value, text));
        }
        assert_eq!(Name::of_value("true").unwrap().taken(), "true");
        assert_eq!(Name::of_value("1e99999999999"), None);
        assert_eq!((Name::of_text(" x").taken(), Name::of_text(" x").exact()), ("x", " x"));
    }

    proptest! {
        #[test]
        fn equal_numbers_have_one_name(n in any::<i64>(), shift in 0usize..30, zeros in 0usize..9) {
            let name = |text: &str| Name::of_value(text).unwrap().taken().to_string();
            prop_assert_eq!(name(&n.to_string()), n.to_string());
            prop_assert_eq!(name(&format!("{n}.{}", "0".repeat(zeros + 1))), n.to_string());
            prop_assert_eq!(name(&format!("{n}{}e-{shift}", "0".repeat(shift))), n.to_string());
        }

        #[test]
        fn a_name_is_the_same_number(x in any::<f64>().prop_filter("finite", |x| x.is_finite())) {
            let name = Name::of_value(&format!("{x:e}")).unwrap();
            prop_assert_eq!(name.taken().parse::<f64>().unwrap(), x);
            let again = Name::of_value(name.taken()).unwrap();
            prop_assert_eq!(again.taken(), name.taken());
        }
    }
}
