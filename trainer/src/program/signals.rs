//! Ctrl-C and SIGTERM: the first one ends a run after the step under way, the second one at once.
use anyhow::{Context, Result};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};
use std::{
    process::ExitCode,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

/// Signals that came, once they are waited for.
static SIGNALS: OnceLock<Signals> = OnceLock::new();

/// Signals that came.
#[derive(Debug, Default)]
pub struct Signals {
    stop: Arc<AtomicBool>,
    number: Arc<AtomicUsize>,
}

impl Signals {
    /// From now on a signal is noted instead of ending the program.
    pub fn install() -> Result<&'static Signals> {
        let signals = SIGNALS.get_or_init(Signals::default);
        for signal in [SIGINT, SIGTERM] {
            let status = 128 + signal;
            // in this order: the first signal finds the flag not set yet
            flag::register_conditional_shutdown(signal, status, signals.stop.clone())
                .and_then(|_| flag::register_usize(signal, signals.number.clone(), signal as usize))
                .and_then(|_| flag::register(signal, signals.stop.clone()))
                .context("cannot wait for signals")?;
        }
        Ok(signals)
    }
    /// True once one has come.
    pub fn stop(&self) -> &AtomicBool {
        &self.stop
    }
}

/// The exit status of a program that a signal has ended: 128 and its number.
pub fn status() -> ExitCode {
    let number = SIGNALS.get().map_or(0, |s| s.number.load(Relaxed));
    ExitCode::from(u8::try_from(128 + number).unwrap_or(u8::MAX))
}
