//! What the name of a data file says.

/// The split that training reads.
pub(super) const TRAIN: &str = "train";
/// Files of these kinds are data.
pub(super) const KINDS: [&str; 7] = ["parquet", "arrow", "jsonl", "ndjson", "csv", "tsv", "json"];
/// JSON that says something about data.
const NO_DATA: [&str; 4] = ["dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"];
/// Words for splits.
const WORDS: [(&str, &[&str]); 3] = [
    (TRAIN, &["train", "training"]),
    ("validation", &["validation", "valid", "val", "dev"]),
    ("test", &["test", "testing", "eval", "evaluation"]),
];

/// The kind of a data file, in front of `.gz`.
pub(super) fn kind(file: &str) -> &str {
    let name = file.rsplit('/').next().unwrap_or_default();
    let name = name.strip_suffix(".gz").unwrap_or(name);
    name.rsplit_once('.').map_or("", |(_, kind)| kind)
}
/// Whether a file has data.
pub(super) fn is_data(file: &str) -> bool {
    let mut parts = file.split('/');
    let name = parts.next_back().unwrap_or_default();
    KINDS.contains(&kind(file)) && !NO_DATA.contains(&name) && !file.split('/').any(|p| p.starts_with('.'))
}

/// The name of a file without its kind.
pub(super) fn stem(file: &str) -> &str {
    let name = file.rsplit('/').next().unwrap_or_default();
    name.strip_suffix(".gz").unwrap_or(name).rsplit_once('.').map_or(name, |(stem, _)| stem)
}

/// What stands in front of `-00000-of-00002`, and how many there are.
pub(super) fn sharded(stem: &str) -> Option<(&str, usize)> {
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (name, number) = rest.rsplit_once('-')?;
    let is_number = |text: &str| text.len() >= 5 && text.bytes().all(|b| b.is_ascii_digit());
    (is_number(number) && is_number(count) && !name.is_empty()).then_some((name, count.parse().ok()?))
}

/// The split that a file's name, or that of one of its directories, says it is of.
pub(super) fn split(file: &str) -> Option<String> {
    if let Some((name, _)) = sharded(stem(file)) {
        return Some(name.into());
    }
    let folders = file.rsplit_once('/').map_or("", |(folders, _)| folders);
    let mut parts = std::iter::once(stem(file)).chain(folders.rsplit('/'));
    parts.find_map(word).map(Into::into)
}

/// The one split that a name has a word for.
pub(super) fn word(name: &str) -> Option<&'static str> {
    let lower = name.to_lowercase();
    let words: Vec<&str> = lower.split(|c: char| !c.is_alphanumeric()).collect();
    let mut found = WORDS.iter().filter(|(_, of)| of.iter().any(|word| words.contains(word)));
    match (found.next(), found.next()) {
        (Some((split, _)), None) => Some(split),
        _ => None,
    }
}
