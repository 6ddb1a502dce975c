//! What the program reads, which is no library: its modules are compiled here once more.
#![allow(dead_code, unused_imports)]

#[path = "../../../trainer/src/program/choose.rs"]
pub mod choose;
#[path = "../../../trainer/src/program/options/mod.rs"]
pub mod options;
