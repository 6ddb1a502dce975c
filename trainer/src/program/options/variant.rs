//! Several runs over the same batches, or several tasks: their names, and what is each one's own.
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::str::FromStr;
use toml::{Table, Value};

/// One of several runs or tasks.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    /// Its name, and that of its directory.
    pub name: String,
    /// The options that are its own, as a `run.toml` has them.
    pub own: Table,
}

impl FromStr for Variant {
    type Err = String;

    /// `NAME: KEY=VALUE, ..`: a value as a `run.toml` has it, or a text without quotes.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, list) = text.split_once(':').unwrap_or((text, ""));
        let mut own = Table::new();
        for part in parts(list) {
            let Some((key, value)) = part.split_once('=') else {
                return Err(format!("`{part}` is not KEY=VALUE"));
            };
            let (key, value) = (key.trim(), value.trim());
            let text = || Value::String(value.into());
            let value = toml::from_str::<Table>(&format!("x = {value}")).ok();
            let value = value.and_then(|mut table| table.remove("x")).unwrap_or_else(text);
            if own.insert(key.into(), value).is_some() {
                return Err(format!("`{key}` is given twice"));
            }
        }
        Self::named(name.trim(), own)
    }
}
impl Variant {
    /// What is wrong with it names it.
    pub fn within<T>(&self, result: engraft::Result<T>) -> engraft::Result<T> {
        result.map_err(|e| e.within("variant", &self.name))
    }
    fn named(name: &str, own: Table) -> Result<Self, String> {
        match names_a_directory(name) {
            true => Ok(Self { name: name.into(), own }),
            false => Err(format!("`{name}` cannot be a name here, where it is that of a directory too")),
        }
    }
}

/// Whether a run may have this name, which is that of its directory too.
pub fn names_a_directory(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "_-+".contains(c))
}

/// Split at the commas behind which a key stands.
fn parts(list: &str) -> Vec<String> {
    let begins = |part: &str| {
        let key = part.split_once('=').map(|(key, _)| key.trim()).unwrap_or_default();
        key.starts_with(|c: char| c.is_ascii_alphabetic())
            && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    let (mut depth, mut parts) = (0i32, Vec::<String>::new());
    for piece in list.split(',') {
        match parts.last_mut() {
            Some(last) if depth > 0 || !begins(piece) => {
                last.push(',');
                last.push_str(piece);
            }
            _ => parts.push(piece.into()),
        }
        let deeper = |c| i32::from("[{(".contains(c)) - i32::from("]})".contains(c));
        depth += piece.chars().map(deeper).sum::<i32>();
    }
    parts.retain(|part| !part.trim().is_empty());
    parts
}

/// A table for each, in a `run.toml`.
pub fn serialize<S: Serializer>(all: &Option<Vec<Variant>>, s: S) -> Result<S::Ok, S::Error> {
    let tables =
        |all: &Vec<Variant>| all.iter().map(|v| (v.name.clone(), v.own.clone())).collect::<BTreeMap<_, _>>();
    all.as_ref().map(tables).serialize(s)
}

pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Vec<Variant>>, D::Error> {
    let tables = BTreeMap::<String, Table>::deserialize(d)?;
    let all = tables.into_iter().map(|(name, own)| Variant::named(&name, own));
    all.collect::<Result<_, _>>().map(Some).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_are_read_as_text() {
        let v: Variant =
            "fast: lr=1e-3, adapter=lora[r=8,alpha=16], layers=3-5,7, reduction-factor=8,0=4, joint=true"
                .parse()
                .unwrap();
        let own = "lr = 1e-3\nadapter = 'lora[r=8,alpha=16]'\nlayers = '3-5,7'\nreduction-factor = '8,0=4'\njoint = true";
        assert_eq!((v.name.as_str(), v.own), ("fast", toml::from_str(own).unwrap()));
        assert!("plain".parse::<Variant>().unwrap().own.is_empty());
        for (text, words) in
            [("a: x", "KEY=VALUE"), ("a: lr=1, lr=2", "twice"), ("a/b: lr=1", "a/b"), (": lr=1", "name")]
        {
            assert!(text.parse::<Variant>().unwrap_err().contains(words), "{text}");
        }
    }
}
