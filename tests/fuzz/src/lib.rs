//! What the fuzzers run: every reader of a file or a text that engraft has, given any bytes.
//!
//! A reader must give a value or an error: a panic is a fault, and so is holding more memory than a
//! small multiple of what it was given. [`TARGETS`] says which readers there are; `fuzz_targets/`
//! hands them to libFuzzer, and the tests here replay the committed inputs without it.
#![forbid(unsafe_code)]

#[macro_use]
extern crate engraft;

mod adapters;
mod checkpoints;
mod files;
mod fixture;
mod models;
mod options;
mod program;
mod runs;
mod texts;

use peak_alloc::PeakAlloc;
use std::{
    backtrace::Backtrace,
    panic,
    sync::{Mutex, Once, PoisonError},
};

/// Counts the bytes of this process.
#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// A reader, and what it may hold.
struct Target {
    name: &'static str,
    /// Gives the reader an input; whether it took it, or refused it with an error.
    read: fn(&[u8]) -> bool,
    /// Bytes that it may hold for each byte of the input, beyond [`FREE`].
    times: usize,
}

/// Bytes that a reader may hold whatever its input is: the buffers of files, tables, a small
/// tokenizer.
const FREE: usize = 8 << 20;

/// Every target.
const TARGETS: &[Target] = &[
    Target { name: "adapter", read: adapters::adapter, times: 64 },
    Target { name: "cache", read: runs::cache, times: 64 },
    Target { name: "commit", read: runs::commit, times: 16 },
    Target { name: "config", read: models::config, times: 4096 },
    Target { name: "data", read: texts::data, times: 64 },
    Target { name: "grammar", read: adapters::grammar, times: 256 },
    // what is packed may be so much longer
    Target { name: "gzip", read: texts::gzip, times: 4 * 1032 },
    Target { name: "head", read: adapters::head, times: 64 },
    Target { name: "model", read: models::model, times: 64 },
    Target { name: "options", read: options::options, times: 64 },
    Target { name: "safetensors", read: checkpoints::safetensors, times: 64 },
    Target { name: "sentencepiece", read: texts::sentencepiece, times: 256 },
    Target { name: "setup", read: adapters::setup, times: 256 },
    Target { name: "shards", read: checkpoints::shards, times: 64 },
    Target { name: "state", read: runs::state, times: 64 },
    // a page of Parquet may say that it holds 2 GB
    Target { name: "tables", read: texts::tables, times: 1 << 24 },
    Target { name: "tokenizer", read: texts::tokenizer, times: 256 },
    Target { name: "torch", read: checkpoints::torch, times: 64 },
];

/// Gives an input to the target of a name; whether it took it, or refused it with an error.
///
/// # Panics
/// If the reader is at fault, or there is no such target.
pub fn run(name: &str, input: &[u8]) -> bool {
    QUIET.call_once(let_panics_unwind);
    TARGETS.iter().find(|t| t.name == name).expect("a target of this name").run(input)
}

impl Target {
    fn run(&self, input: &[u8]) -> bool {
        // what is counted is the whole process
        static ALONE: Mutex<()> = Mutex::new(());
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        MEMORY.reset_peak_usage();
        let before = MEMORY.peak_usage();
        let taken = (self.read)(input);
        let held = MEMORY.peak_usage().saturating_sub(before);
        let most = FREE + self.times * input.len();
        assert!(held <= most, "{held} bytes were held for an input of {}; {most} are allowed", input.len());
        taken
    }
}

static QUIET: Once = Once::new();
/// Crates in which a panic is an error of the library's.
const GUARDED: [&str; 5] = ["/tokenizers-", "/parquet-", "/arrow-", "/flatbuffers-", "/snap-"];
/// libFuzzer's own hook ends the process at once, where the library makes an error of a panic of
/// one of these. One that nobody catches ends it later.
fn let_panics_unwind() {
    if cfg!(test) {
        return;
    }
    panic::set_hook(Box::new(|info| {
        let file = info.location().map_or("", |l| l.file());
        if !GUARDED.iter().any(|name| file.contains(name)) {
            eprintln!("{info}\n{}", Backtrace::force_capture());
        }
    }));
}

#[cfg(test)]
mod tests;
