//! Where the time goes: what a device records of its launches while it is asked to.
//!
//! Every launch opens a [`Span`] that ends with it and carries its [`Cost`], the same function of the shapes from which
//! the registry's cases take theirs. Above the kernels the engine marks phases and layers with [`Device::mark`]; spans
//! nest, and a launch belongs to the innermost phase and place around it on its thread. Beside them the ledger notes what
//! is live whenever that changes.
//!
//! The recorder hangs on the device, so that two devices of one process are profiled apart. While it is off, a launch
//! reads one flag. While it is on, totals are kept of everything, and single events up to a number ([`Profile::left_out`]
//! says how many there were beyond it), so that a long run cannot fill the memory with its own description.
mod recorder;
mod roofline;
#[cfg(test)]
mod tests;

use crate::{Class, Device, Error, Result, ledger};
use recorder::Open;
pub(crate) use recorder::Recorder;
pub use roofline::{Roofline, burst};
use std::{fmt, sync::Arc, time::Duration};

/// Events kept one by one, and as many changes of memory.
pub(crate) const MOST_EVENTS: usize = 200_000;

/// What a launch must do at least.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Arithmetic operations; a fused multiply-add is two.
    pub flops: f64,
    /// Those of them that multiply and add 8-bit integers.
    pub integer: f64,
    /// Bytes read and written, each once.
    pub bytes: f64,
}
impl Cost {
    /// So many operations on so many bytes.
    pub fn new(flops: usize, bytes: usize) -> Cost {
        Cost { flops: flops as f64, integer: 0.0, bytes: bytes as f64 }
    }
    /// Copying so many bytes: they are read and written.
    pub fn copy(bytes: usize) -> Cost {
        Cost::new(0, 2 * bytes)
    }
}
impl std::ops::Add for Cost {
    type Output = Cost;
    fn add(self, o: Cost) -> Cost {
        Cost { flops: self.flops + o.flops, integer: self.integer + o.integer, bytes: self.bytes + o.bytes }
    }
}

/// A place in a model: `layer` and its number, or a name alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// What it is.
    pub name: &'static str,
    /// Which of several.
    pub index: Option<usize>,
}
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        self.index.map_or(Ok(()), |i| write!(f, " {i}"))
    }
}

/// What a span is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mark {
    /// A step of training, by its number.
    Step(u64),
    /// A part of a step: `forward`, `backward`, ...
    Phase(&'static str),
    /// What is computed for one place of the model.
    Place(Place),
    /// One launch: the kernel (the name of its row in [`crate::KERNELS`], or `buffer` for copies) and its operation.
    Kernel(&'static str, &'static str),
}
impl Mark {
    fn is_like(self, other: Mark) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }
}
impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mark::Step(n) => write!(f, "step {n}"),
            Mark::Phase(name) => f.write_str(name),
            Mark::Place(place) => place.fmt(f),
            Mark::Kernel(kernel, operation) => write!(f, "{kernel} {operation}"),
        }
    }
}

/// Ends when it is dropped. On a device that is not profiled it is nothing.
#[must_use = "a span ends when it is dropped"]
#[derive(Debug, Default)]
pub struct Span(Option<Open>);

impl Drop for Span {
    #[inline]
    fn drop(&mut self) {
        if let Some(open) = &self.0 {
            open.close();
        }
    }
}

/// All spans of one kind at one place.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What they are of; of steps the number is 0.
    pub mark: Mark,
    /// The phase they belong to.
    pub phase: Option<&'static str>,
    /// The place they belong to.
    pub place: Option<Place>,
    /// How many.
    pub calls: u64,
    /// Their time, without that of spans of the same kind inside them: the rows of kernels add up to the time spent in
    /// kernels, those of phases to the time spent in phases.
    pub time: Duration,
    /// What they cost.
    pub cost: Cost,
    /// Seconds that this costs at least on the [`Roofline`], launch by launch.
    pub least: f64,
}

/// One span that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// What it is of.
    pub mark: Mark,
    /// The phase it belongs to.
    pub phase: Option<&'static str>,
    /// The place it belongs to.
    pub place: Option<Place>,
    /// From the start of the profile to its beginning.
    pub at: Duration,
    /// From its beginning to its end.
    pub time: Duration,
    /// Spans of one lane nest. Work that follows other work shares its lane, whichever thread does it; work that goes on at
    /// the same time has another.
    pub lane: usize,
    /// What it costs; nothing, if it is no launch.
    pub cost: Cost,
}

/// Bytes held from one moment on.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// From the start of the profile.
    pub at: Duration,
    live: [usize; 6],
}
impl Sample {
    /// Bytes held for `class`.
    pub fn live(&self, class: Class) -> usize {
        self.live[class as usize]
    }
}

/// What a device recorded.
#[derive(Clone, Debug)]
pub struct Profile {
    /// What the device was taken to be capable of.
    pub roofline: Roofline,
    /// From start to end.
    pub time: Duration,
    /// Totals, in the order in which each first ended.
    pub rows: Vec<Row>,
    /// The first events, in the order in which they ended.
    pub events: Vec<Event>,
    /// Memory when the profile started, and after each of its first changes.
    pub memory: Vec<Sample>,
    /// Events and changes of memory that are counted in the totals only.
    pub left_out: u64,
}

impl Device {
    /// Records from now on, as that of a device which is capable of `roofline`. What was recorded before is forgotten. A
    /// GPU, whose launches return before they are done, is refused.
    pub fn start_profile(&self, roofline: Roofline) -> Result<()> {
        let recorder =
            self.recorder().ok_or(Error::Unsupported { kernel: "profile", device: self.name() })?;
        self.ledger().watch(MOST_EVENTS);
        recorder.start(roofline);
        Ok(())
    }
    /// Ends the recording and gives it away; nothing, if there was none. Spans that are still open are not in it.
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
    pub fn mark(&self, mark: Mark) -> Span {
        self.open(mark, Cost::default)
    }
    /// The span of a launch.
    pub(crate) fn span(
        &self,
        kernel: &'static str,
        operation: &'static str,
        cost: impl FnOnce() -> Cost,
    ) -> Span {
        self.open(Mark::Kernel(kernel, operation), cost)
    }
    #[inline]
    fn open(&self, mark: Mark, cost: impl FnOnce() -> Cost) -> Span {
        match self.recorder() {
            Some(r) if r.is_on() => Span(Recorder::open(r, mark, cost())),
            _ => Span(None),
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
