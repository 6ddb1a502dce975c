//! What adapters of AdapterHub were written like in 2020 and 2021. The library's loader still reads
//! them (`loading.py`, `BnConfig.__setattr__`), and so does engraft.
use crate::{Error, Fields, Result};
use serde_json::Value;

/// Where tensors hung, and where they hang today.
const COLLECTIONS: [(&str, &str); 5] = [
    (".attention_text_task_adapters.", ".adapters."),
    (".attention_text_lang_adapters.", ".adapters."),
    (".layer_text_task_adapters.", ".adapters."),
    (".layer_text_lang_adapters.", ".adapters."),
    ("invertible_lang_adapters.", "invertible_adapters."),
];
/// The name that a tensor has today, if that is another one.
pub(crate) fn renamed(name: &str) -> Option<String> {
    let (old, new) = COLLECTIONS.iter().find(|(old, _)| name.contains(old))?;
    Some(name.replace(old, new))
}

/// What ends the names of presets with invertible adapters.
const INVERTIBLE: [&str; 2] = ["+inv", "_inv"];
/// The fields that say what invertible adapters are like.
const FIELDS: [&str; 3] = ["inv_adapter", "inv_adapter_reduction_factor", "invertible_adapter"];

/// The invertible adapters of a task adapter (`text_task`) were never there, whatever its
/// configuration says: it is one without them if the file has none of their tensors.
pub(crate) fn without_invertible<'n>(
    config: &mut Value,
    kind: Option<&str>,
    tensors: impl IntoIterator<Item = &'n str>,
) {
    let is_invertible =
        |n: &str| n.contains("invertible_adapters.") || n.contains("invertible_lang_adapters.");
    if kind != Some("text_task") || tensors.into_iter().any(is_invertible) {
        return;
    }
    match config {
        Value::Object(fields) => fields.retain(|name, _| !FIELDS.contains(&name.as_str())),
        Value::String(text) => {
            if let Some(plain) = INVERTIBLE.iter().find_map(|end| text.strip_suffix(end)) {
                *text = plain.to_string();
            }
        }
        _ => {}
    }
}
/// Fields of a bottleneck as they are called today.
pub(crate) fn bottleneck(fields: &mut Fields) -> Result<()> {
    // how adapters were fused, which says nothing of each
    fields.remove("attention_type");
    fields.remove("new_attention_norm");
    let wrong = |v: &Value| {
        Error::Config(format!(
            "`invertible_adapter` is {v}, expected a `block_type` and a `reduction_factor`"
        ))
    };
    match fields.remove("invertible_adapter") {
        None | Some(Value::Null | Value::Bool(false)) => {}
        Some(v) => {
            for (old, new) in [("block_type", FIELDS[0]), ("reduction_factor", FIELDS[1])] {
                fields.insert(new.into(), v.get(old).ok_or_else(|| wrong(&v))?.clone());
            }
        }
    }
    Ok(())
}
