//! The program `engraft`.
#![forbid(unsafe_code)]

#[macro_use]
extern crate engraft;

mod program;

use std::process::ExitCode;

fn main() -> ExitCode {
    match program::commands::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            program::print::tell(&format!("error: {}", program::print::reason(&error)));
            ExitCode::FAILURE
        }
    }
}
