//! Where the time goes: what a device records of its launches while it is asked to.
//!
//! Every launch opens a [`SpanGuard`] that ends with it and carries its [`Cost`], the same
//! function of the shapes from which the registry's cases take theirs. Above the kernels the
//! engine marks phases and layers with [`Device::mark`]; spans nest, and a launch belongs to the
//! innermost phase and place around it on its thread. Beside them the ledger notes what is live
//! whenever that changes.
//!
//! The recorder hangs on the device, so that two devices of one process are profiled apart. While
//! it is off, a launch reads one flag. While it is on, totals are kept of everything, and single
//! events up to a number ([`Profile::left_out`] says how many there were beyond it), so that a long
//! run cannot fill the memory with its own description.
mod entries;
mod recorder;
mod roofline;
#[cfg(test)]
mod tests;

use crate::{Device, Error, Result, ledger};
use entries::MOST_EVENTS;
pub use entries::{Cost, Event, Mark, Place, Profile, Roofline, Row, Sample};
use recorder::Open;
pub(crate) use recorder::Recorder;
pub use roofline::burst;
use std::sync::Arc;

/// Ends when it is dropped. On a device that is not profiled it is nothing.
#[must_use = "a span ends when it is dropped"]
#[derive(Debug, Default)]
pub struct SpanGuard(Option<Open>);

impl Drop for SpanGuard {
    #[inline]
    fn drop(&mut self) {
        if let Some(open) = &self.0 {
            open.close();
        }
    }
}

impl Device {
    /// Records from now on, as that of a device which is capable of `roofline`. What was recorded
    /// before is forgotten. A GPU, whose launches return before they are done, is refused.
    pub fn start_profile(&self, roofline: Roofline) -> Result<()> {
        let recorder =
            self.recorder().ok_or(Error::Unsupported { kernel: "profile", device: self.name() })?;
        self.ledger().watch(MOST_EVENTS);
        recorder.start(roofline);
        Ok(())
    }
    /// Ends the recording and gives it away; nothing, if there was none. Spans that are still
    /// open are not in it.
    pub fn end_profile(&self) -> Option<Profile> {
        let log = self.recorder()?.end()?;
        let ledger::History { changes, left_out } = self.ledger().unwatch();
        let sample = |(at, live): (std::time::Instant, [usize; 6])| Sample {
            at: at.saturating_duration_since(log.started),
            live,
        };
        Some(Profile {
            roofline: log.roofline,
            time: log.started.elapsed(),
            rows: log.rows,
            events: log.events,
            memory: changes.into_iter().map(sample).collect(),
            left_out: log.left_out + left_out,
        })
    }
    /// True between start and end.
    pub fn is_profiled(&self) -> bool {
        self.recorder().is_some_and(|r| r.is_on())
    }
    /// What this thread does until the span is dropped belongs to `mark`.
    pub fn mark(&self, mark: Mark) -> SpanGuard {
        self.open(mark, Cost::default)
    }
    /// The span of a launch.
    pub(crate) fn span(
        &self,
        kernel: &'static str,
        operation: &'static str,
        cost: impl FnOnce() -> Cost,
    ) -> SpanGuard {
        self.open(Mark::Kernel(kernel, operation), cost)
    }
    #[inline]
    fn open(&self, mark: Mark, cost: impl FnOnce() -> Cost) -> SpanGuard {
        match self.recorder() {
            Some(r) if r.is_on() => SpanGuard(Recorder::open(r, mark, cost())),
            _ => SpanGuard(None),
        }
    }
    fn recorder(&self) -> Option<&Arc<Recorder>> {
        match self {
            Device::Cpu(d) => Some(&d.recorder),
            Device::Cuda(_) => None,
            Device::Null(d) => Some(&d.recorder),
        }
    }
}
