//! What is printed, and where.
use anyhow::{Context, Result};
use engraft::learner::Backbone;
use std::io::Write;

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
/// Says on stderr what of a checkpoint was left unused.
pub fn note_unused(backbone: &Backbone) {
    let unused = backbone.unused();
    if !unused.is_empty() {
        tell(&format!("note: {} has no use for {}", backbone.directory().display(), unused.join(", ")));
    }
}
/// Says on stderr what is no error, unless it is to be quiet.
pub fn note(notes: impl IntoIterator<Item = String>, is_quiet: bool) {
    notes.into_iter().filter(|_| !is_quiet).for_each(|note| tell(&format!("note: {note}")));
}
