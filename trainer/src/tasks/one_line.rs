//! Texts of the data as they are shown to people.
use std::borrow::Cow;
use std::fmt::Write;

/// A text on one line: line breaks and tabs as `\n`, `\r` and `\t`, other control characters and
/// Unicode's own line breaks as `\u{1b}`. Nothing else is changed, so a backslash stands for
/// itself; JSON has texts as they are.
pub fn one_line(text: &str) -> Cow<'_, str> {
    let is_special = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    if !text.contains(is_special) {
        return text.into();
    }
    let mut line = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            c if is_special(c) => {
                let _ = write!(line, "\\u{{{:x}}}", u32::from(c)); // a string takes everything
            }
            c => line.push(c),
        }
    }
    line.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_breaks_lines_is_escaped() {
        assert_eq!(
            one_line("a\r\n\tb\u{1b}[1m\u{2028}\u{85}c\\n"),
            "a\\r\\n\\tb\\u{1b}[1m\\u{2028}\\u{85}c\\n"
        );
        assert!(matches!(one_line("déjà \\ vu \u{a0}😀"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn any_text_is_one_line(text in "[\\s\\S]{0,40}") {
            let line = one_line(&text);
            prop_assert!(line.lines().count() <= 1 && !line.contains(char::is_control));
        }
    }
}
