//! A list of paths as a key of a `run.toml`: one path as text, several as a list.
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::path::PathBuf;

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Paths {
    One(PathBuf),
    Several(Vec<PathBuf>),
}

pub fn serialize<S: Serializer>(paths: &Option<Vec<PathBuf>>, s: S) -> Result<S::Ok, S::Error> {
    match paths.as_deref() {
        None => s.serialize_none(),
        Some([one]) => one.serialize(s),
        Some(several) => several.serialize(s),
    }
}

pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Vec<PathBuf>>, D::Error> {
    match Paths::deserialize(d) {
        Ok(Paths::One(path)) => Ok(Some(vec![path])),
        Ok(Paths::Several(paths)) => Ok(Some(paths)),
        Err(_) => Err(serde::de::Error::custom("it is a path or a list of paths")),
    }
}
