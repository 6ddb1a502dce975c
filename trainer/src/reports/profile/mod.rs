//! Where the time of training goes: `engraft profile`, and `--profile` of `engraft train`.
//!
//! The machine is measured first, before a model is loaded; then the device records
//! ([`engraft_engine::kernels::profile`]), and what it recorded becomes a [`Summary`] (a table, or
//! JSON) and a [`trace`] for Perfetto.
mod summary;
mod table;
pub mod trace;

pub use summary::{KernelTime, Memory, PhaseTime, PlaceTime, Summary};

use engraft_engine::{
    Device,
    kernels::profile::{Profile, Roofline},
    output,
};
use std::path::Path;

use super::process::reset_peak_rss;
use crate::Result;

/// A device that is recording.
#[derive(Debug)]
pub struct Recording {
    device: Device,
    steps: u64,
}

/// What came of it.
#[derive(Debug)]
pub struct Recorded {
    /// Everything, for a trace.
    pub profile: Profile,
    /// What it amounts to.
    pub summary: Summary,
}

/// Measures the machine; only a processor can be. The memory that takes is not counted in the
/// process's peak, where the operating system can forget it.
pub fn measure(device: &Device) -> Result<Roofline> {
    let roofline = Roofline::measure(device).map_err(engraft_engine::Error::from)?;
    reset_peak_rss();
    Ok(roofline)
}

impl Recording {
    /// Records from now on; `steps` have been taken so far.
    pub fn start(device: &Device, roofline: Roofline, steps: u64) -> Result<Recording> {
        device.ledger().reset_peak();
        device.start_profile(roofline).map_err(engraft_engine::Error::from)?;
        Ok(Recording { device: device.clone(), steps })
    }
    /// Ends it; `steps` have been taken by now.
    pub fn end(self, steps: u64) -> Option<Recorded> {
        let profile = self.device.end_profile()?;
        let summary = Summary::new(&profile, steps - self.steps, &self.device.ledger().usage());
        Some(Recorded { profile, summary })
    }
}

impl Drop for Recording {
    /// A run that fails leaves a device that does not record.
    fn drop(&mut self) {
        drop(self.device.end_profile());
    }
}

impl Recorded {
    /// Writes the trace.
    pub fn save(&self, path: &Path) -> Result<()> {
        Ok(output::write_atomically(path, &trace::write(&self.profile))?)
    }
}
