//! What is printed, and where.
use anyhow::{Context, Result};
use engraft::learner::Backbone;
use std::{io::Write, path::Path};

/// Prints to stdout; a reader that went away is no error.
pub fn say(text: &str) -> Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e).context("stdout"),
        _ => Ok(()),
    }
}
/// Prints to stderr; if nobody reads it the work goes on.
pub fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
/// An error and what caused it; many of ours say their cause themselves.
pub fn reason(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match said.as_str() {
        "" => cause,
        s if s.ends_with(&cause) => said,
        _ => format!("{said}: {cause}"),
    })
}
/// A warning when there are so many classes that a column may have been taken for labels that holds
/// something else.
pub fn many_classes(file: &Path, classes: usize) -> Option<String> {
    const MANY: usize = 1000;
    (classes > MANY).then(|| {
        format!(
            "warning: {} has {classes} different labels, and the head gets a class for each of them; if they stand in another \
             column, name it with --label-column",
            file.display()
        )
    })
}
/// Says on stderr what of a checkpoint and its configuration was left unused.
pub fn note_unused(backbone: &Backbone) {
    let directory = backbone.directory().display();
    for (file, unused) in [("", backbone.unused()), ("/config.json", backbone.unread())] {
        if !unused.is_empty() {
            tell(&format!("note: {directory}{file} has no use for {}", unused.join(", ")));
        }
    }
}

/// Warns of adapters that were saved for another backbone, unless it is to be quiet.
pub fn warn_of_strangers(backbone: &Backbone, directory: &Path, is_quiet: bool) -> engraft::Result<()> {
    if !is_quiet {
        backbone.strangers(directory)?.iter().for_each(|line| tell(&format!("warning: {line}")));
    }
    Ok(())
}

/// Says on stderr what is no error, unless it is to be quiet.
pub fn note(notes: impl IntoIterator<Item = String>, is_quiet: bool) {
    notes.into_iter().filter(|_| !is_quiet).for_each(|note| tell(&format!("note: {note}")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_classes_are_pointed_out() {
        assert_eq!(many_classes(Path::new("a.tsv"), 1000), None);
        let warning = many_classes(Path::new("a.tsv"), 60_000).unwrap();
        assert!(warning.contains("a.tsv") && warning.contains("60000") && warning.contains("--label-column"));
    }
}
