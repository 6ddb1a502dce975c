//! What a profile is made of.
use crate::{Class, Isa};
use std::{fmt, time::Duration};

/// Events kept one by one, and as many changes of memory.
pub(super) const MOST_EVENTS: usize = 200_000;

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
    /// One launch: the kernel (the name of its row in [`crate::KERNELS`], or `buffer` for copies)
    /// and its operation.
    Kernel(&'static str, &'static str),
}
impl Mark {
    pub(super) fn is_like(self, other: Mark) -> bool {
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
    /// Their time, without that of spans of the same kind inside them: the rows of kernels add up
    /// to the time spent in kernels, those of phases to the time spent in phases.
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
    /// Spans of one lane nest. Work that follows other work shares its lane, whichever thread does
    /// it; work that goes on at the same time has another.
    pub lane: usize,
    /// What it costs; nothing, if it is no launch.
    pub cost: Cost,
}

/// Bytes held from one moment on.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// From the start of the profile.
    pub at: Duration,
    pub(super) live: [usize; 6],
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

/// The limits of a device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Roofline {
    /// The instructions in use.
    pub isa: Isa,
    /// Threads that compute.
    pub threads: usize,
    /// Floating-point operations in a second.
    pub flops: f64,
    /// Operations on 8-bit integers in a second.
    pub integer: f64,
    /// Bytes from and to memory in a second.
    pub bytes: f64,
}

impl Roofline {
    /// Seconds that a launch takes at least.
    pub fn seconds(&self, c: Cost) -> f64 {
        let arithmetic = (c.flops - c.integer) / self.flops + c.integer / self.integer;
        arithmetic.max(c.bytes / self.bytes)
    }
}
