//! Models and data sets of the hub, by `hf:OWNER/NAME` and `hf:datasets/OWNER/NAME`, as a user names them: from a server of this test's own,
//! and from the cache. Nothing here needs a network.
#[cfg(feature = "hub")]
mod data;
#[cfg(feature = "hub")]
mod downloads;
#[cfg(feature = "hub")]
mod faults;
mod offline;
#[cfg(feature = "hub")]
mod server;
#[path = "../support/mod.rs"]
mod support;

use std::{collections::BTreeMap, path::Path, process::Command};
use support::*;

/// A BERT of 100 kB without a tokenizer.
fn small() -> BTreeMap<String, Vec<u8>> {
    files(&fixture("model"))
}
/// With a cache of its own, and nothing of the environment that has a say in where models are.
fn clean(command: &mut Command, home: &Path) {
    for name in ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_OFFLINE"] {
        command.env_remove(name);
    }
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
        command.env_remove(name);
    }
    command.env_remove("SSL_CERT_FILE").env_remove("HF_HUB_DISABLE_IMPLICIT_TOKEN").env("HF_HOME", home);
}
