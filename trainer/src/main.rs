//! The program `engraft`.
#![forbid(unsafe_code)]

#[macro_use]
extern crate engraft;

mod program;

use std::process::ExitCode;

fn main() -> ExitCode {
    match program::commands::run() {
        Ok(status) => status,
        Err(error) => {
            if let Some(engraft::Error::Stopped { step, of, directory }) = error.downcast_ref() {
                program::print::tell(&format!(
                    "stopped after step {step} of {of}; to go on: engraft train --resume {}",
                    directory.display()
                ));
                return program::signals::status();
            }
            program::print::tell(&format!("error: {}", program::print::reason(&error)));
            ExitCode::FAILURE
        }
    }
}
