//! Text of others in Markdown, YAML and command lines, where it stays what it is.
use serde_json::Value;
use std::fmt::Write;

/// A table of two columns.
pub fn table(head: [&str; 2], rows: impl IntoIterator<Item = [String; 2]>) -> String {
    let cell = |text: &str| text.replace('|', "\\|").replace(['\n', '\r'], " ");
    let mut text = format!("| {} | {} |\n|---|---|\n", head[0], head[1]);
    for [name, value] in rows {
        let _ = writeln!(text, "| {} | {} |", cell(&name), cell(&value));
    }
    text
}
/// Text as Markdown shows it unchanged, on one line.
pub fn code(text: &str) -> String {
    let text = text.replace(['\n', '\r'], " ");
    let most = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let ticks = "`".repeat(most + 1);
    let space = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{ticks}{space}{text}{space}{ticks}")
}
/// A scalar of YAML: as it is where that is safe, else quoted as in JSON, which YAML reads.
pub fn yaml(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/_.-".contains(c);
    let words = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let is_safe = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(is_plain)
        && !words.contains(&text.to_lowercase().as_str());
    if is_safe { text.into() } else { python(text) }
}
/// A string of JSON, and of Python.
pub fn python(text: &str) -> String {
    Value::from(text).to_string()
}
/// A word of a shell.
pub fn shell(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/_.-:@".contains(c);
    if text.chars().all(is_plain) { text.into() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_stays_text() {
        assert_eq!([code("a"), code("a`b\n"), code("``x")], ["`a`", "``a`b ``", "``` ``x ```"]);
        assert_eq!(
            ["a/b-c", "no", "1.5", "a: b", "x\"\n"].map(yaml),
            ["a/b-c", "\"no\"", "\"1.5\"", "\"a: b\"", r#""x\"\n""#]
        );
        assert_eq!([shell("a/b"), shell("it's")], ["a/b", r"'it'\''s'"]);
    }
}
