//! Which files of a directory are reports of a run.
use super::{card, events, results};
use std::path::Path;

/// What a run came to, as JSON.
pub const REPORT: &str = "report.json";
/// The same as a page.
pub const PAGE: &str = "report.html";

/// Whether a file of this name is a report that a run leaves.
pub fn is_report(name: &str) -> bool {
    let of_events = name.split_once('/').is_some_and(|(folder, _)| folder == events::FOLDER);
    let names = [REPORT, PAGE, card::FILE, results::STATE];
    of_events || names.contains(&name) || results::RESULTS.contains(&name)
}

/// Whether a file that a run wrote is still the run's: a card that somebody has made their own is
/// not.
pub fn is_ours(directory: &Path, name: &str) -> bool {
    name != card::FILE || card::is_ours(directory)
}
