//! What the card of a data set says of its files: `configs` in the YAML at the head of `README.md`.
use super::catalogue::{Chosen, Configuration, Split};
use super::names::TRAIN;
use crate::error::{Error, Result};
use std::path::Path;
use yaml_rust2::{Yaml, YamlLoader};

/// The configurations that a card lists, none if it lists none. `choose` finds the files of patterns below
/// a directory, or without patterns the splits there.
pub(super) fn configurations(
    path: &Path,
    card: &str,
    choose: impl Fn(Option<&str>, Option<&[String]>) -> Result<Chosen>,
) -> Result<Vec<Configuration>> {
    let bad = |why: String| Error::file(path, why);
    let Some(text) = configs(card).map_err(bad)? else { return Ok(vec![]) };
    let documents = YamlLoader::load_from_str(&text);
    let documents = documents.map_err(|e| bad(format!("its `configs` are no YAML: {e}")))?;
    let listed = match documents.first().map(|head| &head["configs"]) {
        None | Some(Yaml::BadValue | Yaml::Null) => return Ok(vec![]),
        Some(Yaml::Array(all)) => all,
        Some(_) => return Err(bad("`configs` is no list".into())),
    };
    let one = |config: &Yaml| {
        let name = config["config_name"].as_str();
        let name = name.ok_or_else(|| bad("a configuration has no `config_name`".into()))?;
        let is_default = config["default"].as_bool().unwrap_or(false);
        let directory = config["data_dir"].as_str();
        let files = |patterns: &Yaml| match choose(directory, Some(&texts(patterns).map_err(bad)?))? {
            Chosen::Files(files) => Ok::<_, Error>(files),
            Chosen::Splits(_) => Ok(vec![]),
        };
        let split = |name: Option<&str>, patterns: &Yaml| {
            let name = name.ok_or_else(|| bad("a split in `data_files` has no name".into()))?;
            Ok::<_, Error>(Split { name: Some(name.into()), files: files(patterns)? })
        };
        let splits = match &config["data_files"] {
            Yaml::BadValue | Yaml::Null => match choose(directory, None)? {
                Chosen::Splits(splits) => splits,
                Chosen::Files(_) => vec![],
            },
            Yaml::Array(all) if all.iter().all(|one| one["split"].as_str().is_some()) => {
                all.iter().map(|one| split(one["split"].as_str(), &one["path"])).collect::<Result<_>>()?
            }
            Yaml::Hash(all) => {
                all.iter().map(|(name, path)| split(name.as_str(), path)).collect::<Result<_>>()?
            }
            patterns => vec![split(Some(TRAIN), patterns)?],
        };
        Ok(Configuration { name: name.into(), is_default, splits })
    };
    listed.iter().map(one).collect()
}

/// The key of the files.
const KEY: &str = "configs:";
/// The most brackets that open in the YAML, and the most dashes of one line: it is a stranger's, and is read
/// by recursion.
const DEPTH: (usize, usize) = (1000, 20);

/// The lines of [`KEY`] in the YAML between the lines `---` at the head of a card. The error says what is
/// wrong.
fn configs(card: &str) -> Result<Option<String>, String> {
    let mut lines = card.trim_start_matches('\u{feff}').lines();
    if lines.next() != Some("---") {
        return Ok(None);
    }
    let head = lines.take_while(|line| *line != "---");
    let is_within = |line: &&str| line.starts_with([' ', '-', '#']) || line.is_empty();
    let mut own = head.skip_while(|line| !line.starts_with(KEY));
    let Some(first) = own.next() else { return Ok(None) };
    let text: String =
        std::iter::once(first).chain(own.take_while(is_within)).map(|l| format!("{l}\n")).collect();
    let is_deep = |line: &str| line.matches("- ").count() > DEPTH.1 || line.contains(": &");
    match text.matches(['[', '{']).count() > DEPTH.0 || text.lines().any(is_deep) {
        true => Err("its `configs` are deeper than a list of files is".into()),
        false => Ok(Some(text)),
    }
}

/// A text, or several.
fn texts(value: &Yaml) -> Result<Vec<String>, String> {
    let one =
        |value: &Yaml| value.as_str().map(String::from).ok_or("`data_files` has no path in it".to_string());
    match value {
        Yaml::Array(all) => all.iter().map(one).collect(),
        other => Ok(vec![one(other)?]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The configurations, with patterns in the place of files.
    fn of(card: &str) -> Result<Vec<Configuration>, String> {
        let choose = |directory: Option<&str>, patterns: Option<&[String]>| {
            let within =
                |file: &str| format!("{}{file}", directory.map(|d| format!("{d}/")).unwrap_or_default());
            Ok(match patterns {
                Some(patterns) => Chosen::Files(patterns.iter().map(|p| within(p)).collect()),
                None => Chosen::Splits(vec![Split { name: Some("named".into()), files: vec![within("*")] }]),
            })
        };
        configurations(Path::new("README.md"), card, choose).map_err(|e| e.to_string())
    }
    fn shown(card: &str) -> Vec<String> {
        let split = |s: &Split| format!("{}={}", s.name.as_deref().unwrap_or("-"), s.files.join("+"));
        let one = |c: &Configuration| {
            let splits: Vec<String> = c.splits.iter().map(split).collect();
            format!("{}{} {}", c.name, if c.is_default { "!" } else { "" }, splits.join(" "))
        };
        of(card).unwrap().iter().map(one).collect()
    }

    #[test]
    fn every_form_of_data_files() {
        let card = "---\nlicense: mit\nconfigs:\n- config_name: a\n  default: true\n  data_files:\n  - split: train\n    \
                    path: data/train-*\n  - split: test\n    path:\n    - x.csv\n    - \"y*.csv\"\n\
                    - config_name: b\n  data_files: all.jsonl\n\
                    - config_name: c\n  data_files: [one.csv, two.csv]\n\
                    - config_name: d\n  data_dir: sub\n\
                    - config_name: e\n  data_dir: sub\n  data_files:\n    dev: dev.tsv\ntags:\n- x\n---\n# Title\nconfigs:\n";
        let all = [
            "a! train=data/train-* test=x.csv+y*.csv",
            "b train=all.jsonl",
            "c train=one.csv+two.csv",
            "d named=sub/*",
            "e dev=sub/dev.tsv",
        ];
        assert_eq!(shown(card), all);
        for none in ["", "# Title\n", "---\nlicense: mit\n---\nconfigs:\n- x\n", "---\nconfigs:\n---\n"] {
            assert_eq!(of(none), Ok(vec![]), "{none}");
        }
    }

    #[test]
    fn what_is_no_list_of_files_is_refused() {
        let head = |text: &str| format!("---\nconfigs:\n{text}\n---\n");
        for (text, why) in [
            ("- data_files: a", "has no `config_name`"),
            ("  a: b", "`configs` is no list"),
            ("- config_name: a\n  data_files: 3", "has no path"),
            ("- config_name: [", "no YAML"),
            (&*format!("- config_name: {}", "[".repeat(2000)), "deeper"),
            (&*"- ".repeat(3000), "deeper"),
            ("- config_name: &a b", "deeper"),
        ] {
            let error = of(&head(text)).unwrap_err();
            assert!(error.starts_with("README.md: ") && error.contains(why), "{text}: {error}");
        }
    }
}
