//! Adapters that were saved, and how they are put together.
use engraft::adapters::{Fields, Setup, fusion};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A saved adapter, and the name that it is known by: the last part of its directory's path unless
/// another is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedAdapter {
    /// Its name.
    pub name: String,
    /// Where it was saved.
    pub directory: PathBuf,
}

impl FromStr for SavedAdapter {
    type Err = String;

    /// `DIR` or `NAME=DIR`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, directory) = match text.split_once('=') {
            Some((name, directory)) => (name.to_string(), Path::new(directory)),
            None => {
                let directory = Path::new(text);
                let last = directory.file_name().and_then(|n| n.to_str()).unwrap_or_default();
                (last.to_string(), directory)
            }
        };
        if name.is_empty() || name.contains(['.', ',', '/', '\\']) {
            return Err(format!("`{name}` cannot be the name of an adapter: give it one as in NAME=DIR"));
        }
        Ok(Self { name, directory: directory.into() })
    }
}
impl fmt::Display for SavedAdapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.directory.display())
    }
}
engraft::by_text!(SavedAdapter);

/// How adapters are put together.
#[derive(Debug, Clone, PartialEq)]
pub struct Composed(pub Setup);

impl FromStr for Composed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|e: engraft::adapters::Error| e.to_string())
    }
}
impl fmt::Display for Composed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
engraft::by_text!(Composed);

/// How fusions mix, as a configuration string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mixing(pub String);

impl FromStr for Mixing {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        fusion::parse(text, &Fields::new()).map_err(|e| e.to_string())?;
        Ok(Self(text.into()))
    }
}
impl fmt::Display for Mixing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
engraft::by_text!(Mixing);
