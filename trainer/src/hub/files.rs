//! Which files of a model are wanted.
use crate::reports::left::is_report;
use engraft_engine::checkpoint::MODEL;
use std::collections::BTreeSet;

/// The configuration, without which there is no model.
pub const CONFIG: &str = "config.json";
/// What the name of the index of several files of weights ends in.
pub const INDEX: &str = ".index.json";

/// What of a model is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Everything.
    Whole,
    /// What lies beside the weights: for a device that reads none.
    Companions,
}

/// Whether a file of a model directory says how the model or its tokenizer works, and is none of
/// weights or of a run.
pub fn is_companion(name: &str) -> bool {
    let kinds = ["json", "txt", "model", "jinja", "tiktoken", "py"];
    let is_of_kind =
        name.rsplit_once('.').is_some_and(|(_, kind)| kinds.contains(&kind)) && !name.starts_with('.');
    let of_others = engraft_adapters::files::names();
    is_of_kind
        && !name.contains('/')
        && !name.ends_with(INDEX)
        && !is_report(name)
        && !of_others.contains(&name)
}

/// Of the files of a repository or a directory those that are wanted: configuration, tokenizer and
/// the weights in the form that is read first. `shards` reads an index, which is wanted as well. In
/// the end what is needed and not there.
pub fn wanted<E>(
    names: &BTreeSet<String>,
    need: Need,
    shards: impl FnOnce(&str) -> Result<BTreeSet<String>, E>,
) -> Result<Wanted, E> {
    let mut w = Wanted::default();
    w.files.extend(names.iter().filter(|name| is_companion(name)).cloned());
    w.missing.extend((!names.contains(CONFIG)).then(|| CONFIG.to_string()));
    if need == Need::Companions || !w.missing.is_empty() {
        return Ok(w);
    }
    let Some(weights) = MODEL.iter().find(|name| names.contains(**name)) else {
        w.missing.push(MODEL.join(" or "));
        return Ok(w);
    };
    w.files.push(weights.to_string());
    if weights.ends_with(INDEX) {
        let (there, gone): (Vec<_>, Vec<_>) =
            shards(weights)?.into_iter().partition(|shard| names.contains(shard));
        w.files.extend(there);
        w.missing.extend(gone);
    }
    Ok(w)
}
/// What [`wanted`] finds.
#[derive(Debug, Default, PartialEq)]
pub struct Wanted {
    /// Names of files, weights last.
    pub files: Vec<String>,
    /// What is needed and not there.
    pub missing: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str], need: Need) -> Wanted {
        let names = names.iter().map(|n| n.to_string()).collect();
        let shards = |index: &str| {
            let stem = index.split('.').next().unwrap_or_default();
            let kind = index.split('.').nth(1).unwrap_or_default();
            Ok::<_, ()>([1, 2].map(|i| format!("{stem}-{i}.{kind}")).into())
        };
        wanted(&names, need, shards).unwrap()
    }
    const BESIDE: [&str; 12] = [
        "added_tokens.json",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "merges.txt",
        "sentencepiece.bpe.model",
        "special_tokens_map.json",
        "spiece.model",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
        "vocab.txt",
    ];
    const OTHERS: [&str; 14] = [
        ".gitattributes",
        "README.md",
        "flax_model.msgpack",
        "flax_model.msgpack.index.json",
        "model.fp16.safetensors",
        "model.onnx",
        "onnx/config.json",
        "onnx/model.onnx",
        "original/params.json",
        "rust_model.ot",
        "tf_model.h5",
        "tf_model.h5.index.json",
        "training_args.bin",
        "adapter_config.json",
    ];

    #[test]
    fn weights_come_in_the_form_that_is_read_first_and_in_no_other() {
        let bin = ["pytorch_model.bin.index.json", "pytorch_model-1.bin", "pytorch_model-2.bin"];
        let safe = ["model.safetensors.index.json", "model-1.safetensors", "model-2.safetensors"];
        let mut there = [&BESIDE[..], &OTHERS, &bin].concat();
        for more in [&[][..], &["pytorch_model.bin"], &safe, &["model.safetensors"]] {
            there.extend(more);
            let form = if more.is_empty() { &bin[..] } else { more };
            let found = of(&there, Need::Whole);
            assert_eq!(found.files, [&BESIDE[..], form].concat());
            assert_eq!(found.missing, [""; 0]);
            assert_eq!(of(&there, Need::Companions).files, BESIDE);
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let shard = ["config.json", "model.safetensors.index.json", "model-2.safetensors"];
        assert_eq!(of(&shard, Need::Whole).missing, ["model-1.safetensors"]);
        assert_eq!(of(&["model.safetensors"], Need::Whole).missing, ["config.json"]);
        let none = of(&["config.json", "tf_model.h5"], Need::Whole).missing;
        assert!(
            none[0].starts_with("model.safetensors or ") && none[0].contains("pytorch_model.bin"),
            "{none:?}"
        );
        assert_eq!(of(&["config.json"], Need::Companions).missing, [""; 0]);
    }
}
