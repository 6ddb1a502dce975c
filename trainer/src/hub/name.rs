//! What `hf:OWNER/NAME[@REVISION]` names.
use crate::{Error, Result};
use std::{fmt, path::Path};

/// What a path of the hub begins with.
const SCHEME: &str = "hf:";
/// The revision that is meant where none is named.
const MAIN: &str = "main";

/// A model of the hub, at a revision: a branch, a tag or a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// `OWNER/NAME`, or `NAME` of a model that has no owner.
    pub repository: String,
    /// The revision.
    pub revision: String,
}

impl Name {
    /// What a path names; none if it is a path of files. A directory whose name begins with `hf:`
    /// is `./hf:...`.
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
        Ok(Some(Name { repository: repository.into(), revision: revision.into() }))
    }
    /// The same model at another revision.
    pub fn at(&self, revision: &str) -> Name {
        Name { revision: revision.into(), ..self.clone() }
    }
    /// Its directory in a cache.
    pub fn folder(&self) -> String {
        format!("models--{}", self.repository.replace('/', "--"))
    }
}
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.repository)?;
        if self.revision == MAIN { Ok(()) } else { write!(f, "@{}", self.revision) }
    }
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
    fn a_commit_is_written_in_full() {
        assert!(is_commit(&"0a".repeat(20)));
        for text in ["main", "0a0a0a", &"0A".repeat(20), &"0g".repeat(20)] {
            assert!(!is_commit(text));
        }
    }
}
