//! What `hf:OWNER/NAME[@REVISION]` names, and `hf:datasets/OWNER/NAME[@REVISION]`.
use crate::{Error, Result};
use engraft_engine::output;
use std::{fmt, path::Path};

/// What a path of the hub begins with.
const SCHEME: &str = "hf:";
/// The revision that is meant where none is named.
const MAIN: &str = "main";

/// What a path of a data set begins with.
const DATASETS: &str = "hf:datasets/";

/// What a repository holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A model.
    Model,
    /// A data set.
    Dataset,
}

impl Kind {
    /// What errors call it.
    #[cfg(feature = "hub")]
    pub fn word(self) -> &'static str {
        match self {
            Kind::Model => "model",
            Kind::Dataset => "data set",
        }
    }
    /// What addresses and caches call them.
    pub fn plural(self) -> &'static str {
        match self {
            Kind::Model => "models",
            Kind::Dataset => "datasets",
        }
    }
}

/// A repository of the hub, at a revision: a branch, a tag or a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// What it holds.
    pub kind: Kind,
    /// `OWNER/NAME`, or `NAME` of a model that has no owner.
    pub repository: String,
    /// The revision.
    pub revision: String,
}

/// What a path says behind the name of a data set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Within {
    /// One of its files.
    pub file: Option<String>,
    /// What stands behind colons: a configuration, a split.
    pub names: Vec<String>,
}

impl Name {
    /// The model that a path names; none if it is a path of files. A directory whose name begins with
    /// `hf:` is `./hf:...`.
    pub fn of(path: &Path) -> Result<Option<Name>> {
        let lossy = path.to_string_lossy();
        let Some(text) = lossy.strip_prefix(SCHEME) else { return Ok(None) };
        let refused = |why: &str| Err(Error::Hub { model: lossy.clone().into_owned(), why: why.into() });
        let (repository, revision) = text.split_once('@').unwrap_or((text, MAIN));
        let parts: Vec<&str> = repository.split('/').collect();
        if let kind @ ("datasets" | "spaces") = parts[0]
            && parts.len() > 1
        {
            return refused(&format!(
                "it names one of the hub's {kind}, and here belongs a model: hf:OWNER/NAME"
            ));
        }
        if parts.len() > 2 || !parts.iter().all(|part| is_word(part)) {
            return refused(
                "a model of the hub is hf:OWNER/NAME, perhaps with @REVISION: words of letters, digits, `-`, `_` and `.`",
            );
        }
        if !is_revision(revision) {
            return refused("behind the @ stands a branch, a tag or a commit");
        }
        Ok(Some(Name { kind: Kind::Model, repository: repository.into(), revision: revision.into() }))
    }
    /// The data set that a path names, and what the path says of it; none if it is a path of files.
    pub fn of_data(path: &Path) -> Result<Option<(Name, Within)>> {
        let lossy = path.to_string_lossy();
        if !lossy.starts_with(SCHEME) {
            return Ok(None);
        }
        let refused = |why: &str| Err(Error::Hub { model: lossy.clone().into_owned(), why: why.into() });
        let form = "data of the hub is hf:datasets/OWNER/NAME, perhaps with @REVISION, and then :SPLIT, :CONFIG:SPLIT or /FILE";
        let Some(text) = lossy.strip_prefix(DATASETS) else { return refused(form) };
        let mut parts = text.splitn(2, '/');
        let (owner, rest) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let (name, rest) = rest.split_at(rest.find(['@', '/', ':']).unwrap_or(rest.len()));
        let (revision, rest) = match rest.strip_prefix('@') {
            None => (MAIN, rest),
            Some(rest) => {
                // of a reference three parts, else one
                let slashes = if rest.starts_with("refs/") { 2 } else { 0 };
                let slash = rest.match_indices('/').nth(slashes).map(|(at, _)| at);
                let end = [slash, rest.find(':')].into_iter().flatten().min().unwrap_or(rest.len());
                rest.split_at(end)
            }
        };
        if !is_word(owner) || !is_word(name) {
            return refused(form);
        }
        if !is_revision(revision) {
            return refused("behind the @ stands a branch, a tag or a commit");
        }
        let within = match (rest.chars().next(), rest.get(1..)) {
            (Some('/'), Some(file)) if is_file(file) => Within { file: Some(file.into()), names: vec![] },
            (Some(':'), Some(names)) => {
                let names: Vec<String> = names.split(':').map(Into::into).collect();
                if names.len() > 2 || names.iter().any(String::is_empty) {
                    return refused(form);
                }
                Within { file: None, names }
            }
            (None, _) => Within::default(),
            _ => return refused(form),
        };
        let repository = format!("{owner}/{name}");
        Ok(Some((Name { kind: Kind::Dataset, repository, revision: revision.into() }, within)))
    }
    /// The same at another revision.
    pub fn at(&self, revision: &str) -> Name {
        Name { revision: revision.into(), ..self.clone() }
    }
    /// Its directory in a cache.
    pub fn folder(&self) -> String {
        format!("{}--{}", self.kind.plural(), self.repository.replace('/', "--"))
    }
    /// What stands in front of its name in an address of its files.
    pub fn prefix(&self) -> &'static str {
        if self.kind == Kind::Dataset { "datasets/" } else { "" }
    }
}
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}{}", self.prefix(), self.repository)?;
        if self.revision == MAIN { Ok(()) } else { write!(f, "@{}", self.revision) }
    }
}

/// Whether it can be the path of a file in a repository, and below a directory of the cache.
pub fn is_file(path: &str) -> bool {
    path.split('/').all(output::is_name)
}
/// As the hub has it: `--` stands for the slash in a cache.
fn is_word(part: &str) -> bool {
    let is_edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    part.len() <= 96
        && is_edge(part.chars().next())
        && is_edge(part.chars().last())
        && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && !part.contains("--")
        && !part.contains("..")
        && !part.ends_with(".git")
}
/// Whether it can be a reference of git, and the name of a file below `refs`.
fn is_revision(text: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    let is_sign = |c: char| !c.is_control() && !" ~^:?*[\\".contains(c);
    text.len() <= 200 && text.split('/').all(is_part) && text.chars().all(is_sign) && !text.contains("..")
}
/// Whether it is the hash of a commit: in full, as caches have it.
pub fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Option<Name>> {
        Name::of(Path::new(text))
    }

    #[test]
    fn names_are_split_and_shown() {
        for (text, repository, revision, shown) in [
            ("hf:google/bert_uncased", "google/bert_uncased", "main", "hf:google/bert_uncased"),
            ("hf:gpt2", "gpt2", "main", "hf:gpt2"),
            ("hf:a/b.c@refs/pr/1", "a/b.c", "refs/pr/1", "hf:a/b.c@refs/pr/1"),
            ("hf:a/b-1@v1.0", "a/b-1", "v1.0", "hf:a/b-1@v1.0"),
            ("hf:a/b@main", "a/b", "main", "hf:a/b"),
            ("hf:datasets", "datasets", "main", "hf:datasets"),
        ] {
            let name = of(text).unwrap().unwrap();
            assert_eq!((&*name.repository, &*name.revision), (repository, revision));
            assert_eq!(name.to_string(), shown);
        }
        assert_eq!(of("hf:a/b").unwrap().unwrap().folder(), "models--a--b");
        for path in ["model", "./hf:a/b", "/hf:a", "HF:a/b", ""] {
            assert_eq!(of(path).unwrap(), None);
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "hf:",
            "hf:/",
            "hf:a/",
            "hf:/b",
            "hf:a/b/c",
            "hf:../b",
            "hf:a/..",
            "hf:a/b..c",
            "hf:a/b--c",
            "hf:a b",
            "hf:-a/b",
            "hf:a/b.",
            "hf:a/b.git",
            "hf:a\\b",
            "hf://a/b",
            "hf:ä/b",
            "hf:a/b?x",
            "hf:a/b#x",
            "hf:a%2fb",
        ] {
            assert!(of(text).unwrap_err().to_string().contains("hf:OWNER/NAME"), "{text}");
        }
        for text in
            ["hf:a/b@", "hf:a/b@../x", "hf:a/b@x..y", "hf:a/b@/x", "hf:a/b@x//y", "hf:a/b@x y", "hf:a/b@.x"]
        {
            assert!(of(text).unwrap_err().to_string().contains("a branch, a tag or a commit"), "{text}");
        }
        for kind in ["datasets", "spaces"] {
            let error = of(&format!("hf:{kind}/a/b")).unwrap_err().to_string();
            assert!(error.contains(&format!("one of the hub's {kind}")), "{error}");
        }
    }

    #[test]
    fn data_sets_are_named_with_what_is_meant_of_them() {
        let commit = "0a".repeat(20);
        let of = |text: &str| Name::of_data(Path::new(text)).unwrap().unwrap();
        for (text, shown, file, names) in [
            ("hf:datasets/a/b", "hf:datasets/a/b", None, &[][..]),
            ("hf:datasets/a/b.c@main", "hf:datasets/a/b.c", None, &[]),
            ("hf:datasets/a/b@v1:test", "hf:datasets/a/b@v1", None, &["test"]),
            ("hf:datasets/a/b:en:test", "hf:datasets/a/b", None, &["en", "test"]),
            ("hf:datasets/a/b/data/x.csv", "hf:datasets/a/b", Some("data/x.csv"), &[]),
            ("hf:datasets/a/b@v1/x.csv", "hf:datasets/a/b@v1", Some("x.csv"), &[]),
            ("hf:datasets/a/b@refs/pr/1/d/x.csv", "hf:datasets/a/b@refs/pr/1", Some("d/x.csv"), &[]),
            ("hf:datasets/a/b@refs/convert/parquet:x", "hf:datasets/a/b@refs/convert/parquet", None, &["x"]),
            (
                &format!("hf:datasets/a/b@{commit}/x.csv"),
                &format!("hf:datasets/a/b@{commit}"),
                Some("x.csv"),
                &[],
            ),
        ] {
            let (name, within) = of(text);
            assert_eq!(name.to_string(), shown, "{text}");
            assert_eq!(
                (within.file.as_deref(), &within.names[..]),
                (file, &names.iter().map(|n| n.to_string()).collect::<Vec<_>>()[..])
            );
        }
        assert_eq!(of("hf:datasets/a/b").0.folder(), "datasets--a--b");
        assert_eq!(Name::of_data(Path::new("a.csv")).unwrap(), None);
        for text in [
            "hf:a/b",
            "hf:datasets/a",
            "hf:datasets/a/b:",
            "hf:datasets/a/b:x:y:z",
            "hf:datasets/a/b/",
            "hf:datasets/a/b/../x",
            "hf:datasets/a b/c",
        ] {
            let error = Name::of_data(Path::new(text)).unwrap_err().to_string();
            assert!(error.contains("hf:datasets/OWNER/NAME"), "{text}: {error}");
        }
        assert!(Name::of_data(Path::new("hf:datasets/a/b@")).unwrap_err().to_string().contains("a branch"));
    }

    #[test]
    fn a_commit_is_written_in_full() {
        assert!(is_commit(&"0a".repeat(20)));
        for text in ["main", "0a0a0a", &"0A".repeat(20), &"0g".repeat(20)] {
            assert!(!is_commit(text));
        }
    }
}
