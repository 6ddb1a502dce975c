//! Texts on the command line that begin with a dash.
use std::ffi::OsString;

/// The flags in front of texts.
const TEXTS: [&str; 2] = ["--text", "--prompt"];

/// Marks what follows `--text` or `--prompt` and begins with a dash as a text, as in `--text=-5`, unless it looks
/// like a flag: one or two dashes and a word.
pub fn mark(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut marked: Vec<OsString> = vec![];
    // the flag whose texts are read, and whether the next one needs it again
    let (mut flag, mut is_new) = (None, false);
    for argument in arguments {
        let text = argument.to_str();
        if let Some(flag) = flag.filter(|_| text.is_some_and(|t| t.starts_with('-') && !is_flag(t))) {
            if marked.last().is_some_and(|last| last == flag) {
                marked.pop();
            }
            let mut with = OsString::from(format!("{flag}="));
            with.push(&argument);
            marked.push(with);
            is_new = true;
            continue;
        }
        if text.is_some_and(|text| text.starts_with('-')) {
            (flag, is_new) = (TEXTS.into_iter().find(|flag| text == Some(flag)), false);
        } else if let Some(flag) = flag.filter(|_| is_new) {
            marked.push(flag.into());
            is_new = false;
        }
        marked.push(argument);
    }
    marked
}

/// Whether it is `-h`, `--json` or `--input=x`, or nothing but dashes that clap knows.
fn is_flag(text: &str) -> bool {
    let name = text.strip_prefix("--").or_else(|| text.strip_prefix('-')).unwrap_or(text);
    let name = name.split_once('=').map_or(name, |(name, _)| name);
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    text == "--" || name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(arguments: &[&str]) -> Vec<String> {
        let all = mark(arguments.iter().map(OsString::from));
        all.into_iter().map(|a| a.into_string().unwrap()).collect()
    }

    #[test]
    fn texts_may_begin_with_a_dash() {
        assert_eq!(marked(&["predict", "--text", "-5", "--json"]), ["predict", "--text=-5", "--json"]);
        assert_eq!(
            marked(&["--text", "a", "- b", "c", "--", "-x"]),
            ["--text", "a", "--text=- b", "--text", "c", "--", "-x"]
        );
        assert_eq!(marked(&["--prompt", "- a", "b"]), ["--prompt=- a", "--prompt", "b"]);
        for text in ["-5", "-", "---", "- a", "-good day", "--no = way", "-5.2e3", "-=-", "–", "-é"] {
            let flags = marked(&["--text", text, "b"]).join(" ");
            let expected = if text.starts_with('-') {
                format!("--text={text} --text b")
            } else {
                format!("--text {text} b")
            };
            assert_eq!(flags, expected);
        }
    }

    #[test]
    fn flags_stay_flags() {
        for all in [
            &["--text", "a", "--json"][..],
            &["--text", "--json"],
            &["--text", "-h"],
            &["--text", "a", "--batch-size=3", "b"],
            &["--text=-5", "x"],
            &["--seed", "-5"],
        ] {
            assert_eq!(marked(all), all);
        }
    }
}
