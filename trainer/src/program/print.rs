//! What is printed, and where.
use anyhow::{Context, Result};
use engraft::{data::Content, learner::Backbone, tasks::Task};
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
/// something else, or numbers for classes.
pub fn many_classes(file: &Path, task: &dyn Task) -> Option<String> {
    const MANY: usize = 1000;
    const FEW_NUMBERS: usize = 20;
    let (labels, file) = (task.labels(), file.display());
    let are_numbers = || labels.iter().all(|label| label.trim().parse::<f64>().is_ok_and(f64::is_finite));
    if task.content() == Content::Texts && labels.len() > FEW_NUMBERS && are_numbers() {
        return Some(format!(
            "warning: the {} different labels of {file} are all numbers, and each becomes a class; --task \
             regression learns them as numbers",
            labels.len()
        ));
    }
    (labels.len() > MANY).then(|| {
        format!(
            "warning: {file} has {} different labels, and the head gets a class for each of them; if they stand in another \
             column, name it with --label-column",
            labels.len()
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
    use engraft::tasks::Classification;

    #[test]
    fn many_classes_are_pointed_out() {
        let of = |n: usize, label: &dyn Fn(usize) -> String| {
            many_classes(Path::new("a.tsv"), &Classification::new((0..n).map(label)).unwrap())
        };
        let word = |i: usize| format!("w{i}");
        assert_eq!(of(1000, &word), None);
        let warning = of(60_000, &word).unwrap();
        assert!(warning.contains("a.tsv") && warning.contains("60000") && warning.contains("--label-column"));
        let number = |i: usize| format!("{}.5", i as i64 - 3);
        assert_eq!(of(20, &number), None);
        assert!(of(21, &number).unwrap().contains("the 21 different labels of a.tsv are all numbers"));
        assert_eq!(of(22, &|i| if i == 0 { "x".into() } else { number(i) }), None);
    }
}
