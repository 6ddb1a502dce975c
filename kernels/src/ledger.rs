//! Exact accounting: every byte a program holds on a device, by what it is held for.
//!
//! Counters change in two places only, [`Ledger::grow`] and [`Ledger::shrink`]; a buffer that
//! changes its purpose shrinks under one class and grows under the other.
use std::{sync::Mutex, time::Instant};

/// What bytes are held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Class {
    /// Frozen weights.
    Backbone,
    /// Trained weights.
    Adapter,
    /// Gradients of trained weights.
    Grad,
    /// Optimiser state.
    Optim,
    /// Activations kept for the backward pass.
    Saved,
    /// Everything that lives for a moment: activations on their way, gradients of activations,
    /// packing buffers.
    Scratch,
}

impl Class {
    /// All classes, in the order reports list them.
    pub const ALL: [Class; 6] =
        [Class::Backbone, Class::Adapter, Class::Grad, Class::Optim, Class::Saved, Class::Scratch];

    /// The name used in reports.
    pub fn name(self) -> &'static str {
        match self {
            Class::Backbone => "backbone",
            Class::Adapter => "adapter",
            Class::Grad => "gradient",
            Class::Optim => "optimiser",
            Class::Saved => "saved",
            Class::Scratch => "scratch",
        }
    }

    pub(crate) fn from_u8(i: u8) -> Class {
        Class::ALL[i as usize]
    }
}

/// Bytes by class at one moment, or at their highest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    live: [usize; 6],
    peak: [usize; 6],
    at_peak: [usize; 6],
    live_total: usize,
    peak_total: usize,
}

impl Usage {
    /// Bytes held for `class` now.
    pub fn live(&self, class: Class) -> usize {
        self.live[class as usize]
    }
    /// The most bytes held for `class` at any moment.
    pub fn peak(&self, class: Class) -> usize {
        self.peak[class as usize]
    }
    /// Bytes held for `class` at the moment when most bytes were held in all, the first of several.
    pub fn at_peak(&self, class: Class) -> usize {
        self.at_peak[class as usize]
    }
    /// Bytes held now.
    pub fn live_total(&self) -> usize {
        self.live_total
    }
    /// The most bytes held at any moment: the sum of [`Usage::at_peak`], and less than that of the
    /// classes' own peaks, which fall at different moments.
    pub fn peak_total(&self) -> usize {
        self.peak_total
    }
}

/// The counters of one device.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Books>);

#[derive(Debug, Default)]
struct Books {
    usage: Usage,
    history: Option<(History, usize)>,
}
/// What was live when, while a device is profiled.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// By class.
    pub changes: Vec<(Instant, [usize; 6])>,
    /// Changes that were not written down.
    pub left_out: u64,
}
impl Books {
    fn changed(&mut self) {
        let Some((history, most)) = &mut self.history else { return };
        if history.changes.len() < *most {
            history.changes.push((Instant::now(), self.usage.live));
        } else {
            history.left_out += 1;
        }
    }
}

impl Ledger {
    /// The counters as they stand.
    pub fn usage(&self) -> Usage {
        self.lock().usage
    }
    /// Starts the peaks again from what is live.
    pub fn reset_peak(&self) {
        let u = &mut self.lock().usage;
        (u.peak, u.at_peak) = (u.live, u.live);
        u.peak_total = u.live_total;
    }
    pub(crate) fn grow(&self, class: Class, bytes: usize) {
        let mut books = self.lock();
        let (u, i) = (&mut books.usage, class as usize);
        u.live[i] += bytes;
        u.live_total += bytes;
        u.peak[i] = u.peak[i].max(u.live[i]);
        if u.live_total > u.peak_total {
            (u.peak_total, u.at_peak) = (u.live_total, u.live);
        }
        books.changed();
    }
    pub(crate) fn shrink(&self, class: Class, bytes: usize) {
        let mut books = self.lock();
        let u = &mut books.usage;
        u.live[class as usize] -= bytes;
        u.live_total -= bytes;
        books.changed();
    }
    /// Writes down what is live now, and up to `most` changes of it.
    pub(crate) fn watch(&self, most: usize) {
        let mut books = self.lock();
        books.history = Some((History::default(), most));
        books.changed();
    }
    /// Ends that.
    pub(crate) fn unwatch(&self) -> History {
        self.lock().history.take().map(|(h, _)| h).unwrap_or_default()
    }
    fn lock(&self) -> std::sync::MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}
