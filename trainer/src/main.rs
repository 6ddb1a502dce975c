//! The program `engraft`.
#![forbid(unsafe_code)]

mod commands;

use std::process::ExitCode;

fn main() -> ExitCode {
    match commands::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            commands::tell(&format!("error: {}", commands::reason(&error)));
            ExitCode::FAILURE
        }
    }
}
