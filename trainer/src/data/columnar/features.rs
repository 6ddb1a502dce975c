//! What `datasets` says of columns in the metadata of a schema, or in the `dataset_info.json` beside a
//! file whose schema says nothing: which integers are classes, and what these are called.
use crate::error::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// The key of the metadata.
pub(super) const KEY: &str = "huggingface";
/// The file of a saved data set.
const INFO: &str = "dataset_info.json";

/// What a value of a column is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Feature {
    /// What its type says.
    Plain,
    /// The number of a class, which has one of these names; -1 stands for none.
    Class(Arc<[String]>),
    /// A list of such values.
    List(Box<Feature>),
    /// An object of such values.
    Fields(HashMap<String, Feature>),
}

/// The features of a file, by column.
pub(super) type Features = HashMap<String, Feature>;

#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    features: Option<Map<String, Value>>,
}
#[derive(Deserialize)]
struct OfSchema {
    info: Option<Info>,
}

/// Those of a file in whose schema this stands under [`KEY`].
pub(super) fn features(path: &Path, huggingface: Option<&str>) -> Result<Features> {
    let of = |info: Option<Info>| info.and_then(|info| info.features).unwrap_or_default();
    let found = match huggingface {
        Some(text) => {
            let wrong = |e| Error::file(path, format!("`{KEY}` in its metadata is not of `datasets`: {e}"));
            of(serde_json::from_str::<OfSchema>(text).map_err(wrong)?.info)
        }
        None => {
            let beside = path.with_file_name(INFO);
            match std::fs::read(&beside) {
                Ok(bytes) => {
                    let wrong = |e| Error::file(&beside, format!("it is not of `datasets`: {e}"));
                    of(Some(serde_json::from_slice(&bytes).map_err(wrong)?))
                }
                Err(_) => Map::new(), // there is no such file
            }
        }
    };
    found.iter().map(|(name, spec)| Ok((name.clone(), feature(path, name, spec)?))).collect()
}

fn feature(path: &Path, name: &str, spec: &Value) -> Result<Feature> {
    let all = |fields: &Map<String, Value>| {
        fields
            .iter()
            .map(|(part, spec)| Ok((part.clone(), feature(path, name, spec)?)))
            .collect::<Result<_>>()
    };
    let list = |spec: &Value| Ok(Feature::List(Box::new(feature(path, name, spec)?)));
    let fields = match spec {
        Value::Array(one) if one.len() == 1 => return list(&one[0]),
        Value::Object(fields) => fields,
        _ => return Ok(Feature::Plain),
    };
    match (fields.get("_type").and_then(Value::as_str), fields.get("feature")) {
        // of a sequence of objects an object of lists is stored
        (Some("Sequence"), Some(Value::Object(of))) if !of.contains_key("_type") => {
            let parts: HashMap<String, Feature> = all(of)?;
            Ok(Feature::Fields(parts.into_iter().map(|(n, f)| (n, Feature::List(Box::new(f)))).collect()))
        }
        (Some("Sequence" | "List" | "LargeList"), Some(of)) => list(of),
        (Some("ClassLabel"), _) => match fields.get("names") {
            None | Some(Value::Null) => Ok(Feature::Plain),
            Some(names) => {
                let wrong = |e| Error::file(path, format!("the names of the classes of `{name}`: {e}"));
                Ok(Feature::Class(Vec::deserialize(names).map_err(wrong)?.into()))
            }
        },
        (None, _) => Ok(Feature::Fields(all(fields)?)),
        _ => Ok(Feature::Plain),
    }
}

impl Feature {
    /// The classes that it is of, or its elements are.
    pub fn classes(&self) -> Option<&Arc<[String]>> {
        match self {
            Feature::Class(names) => Some(names),
            Feature::List(of) => of.classes(),
            Feature::Plain | Feature::Fields(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(features: &str) -> Result<Features> {
        let text = format!("{{\"info\": {{\"features\": {features}, \"x\": 1}}}}");
        super::features(Path::new("no/such.arrow"), Some(&text))
    }

    #[test]
    fn classes_are_found_however_deep_they_are() {
        let class = r#"{"names": ["a", "b"], "_type": "ClassLabel"}"#;
        let is = |spec: &str, expected: Feature| {
            assert_eq!(of(&format!("{{\"x\": {spec}}}")).unwrap()["x"], expected, "{spec}");
        };
        let label = || Feature::Class(["a".to_string(), "b".into()].into());
        let listed = || Feature::List(Box::new(label()));
        let fields = |of| Feature::Fields([("y".to_string(), of)].into());
        is(class, label());
        is(&format!("[{class}]"), listed());
        is(&format!("{{\"feature\": {class}, \"_type\": \"Sequence\"}}"), listed());
        is(&format!("{{\"feature\": {class}, \"length\": -1, \"_type\": \"List\"}}"), listed());
        is(&format!("{{\"y\": {class}}}"), fields(label()));
        is(&format!("{{\"feature\": {{\"y\": {class}}}, \"_type\": \"Sequence\"}}"), fields(listed()));
        let objects = Feature::List(Box::new(fields(label())));
        is(&format!("{{\"feature\": {{\"y\": {class}}}, \"_type\": \"List\"}}"), objects);
        is(r#"{"dtype": "int64", "_type": "Value"}"#, Feature::Plain);
        is(r#"{"num_classes": 2, "names": null, "_type": "ClassLabel"}"#, Feature::Plain);
        assert_eq!(listed().classes(), label().classes());
    }

    #[test]
    fn what_is_not_of_datasets_is_refused() {
        let wrong = |text: &str| super::features(Path::new("a.parquet"), Some(text)).unwrap_err().to_string();
        assert!(wrong("{").starts_with("a.parquet: `huggingface` in its metadata is not of `datasets`: "));
        let names = r#"{"info": {"features": {"x": {"names": [1], "_type": "ClassLabel"}}}}"#;
        assert!(wrong(names).starts_with("a.parquet: the names of the classes of `x`: "), "{}", wrong(names));
        assert_eq!(of("null").unwrap(), Features::new());
        assert_eq!(super::features(Path::new("no/such.parquet"), None).unwrap(), Features::new());
    }
}
