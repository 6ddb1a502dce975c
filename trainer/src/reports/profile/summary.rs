//! What a profile amounts to.
use std::collections::BTreeMap;

use engraft_engine::kernels::{
    Class, Cost, Usage,
    profile::{Mark, Profile, Row},
};
use serde::{Deserialize, Serialize};

/// Times by kernel, by phase and by place, and what the machine can do. The object that `--json`
/// prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The instructions in use.
    pub isa: String,
    /// Threads that computed.
    pub threads: usize,
    /// Billions of floating-point operations in a second that the machine was measured at.
    pub peak_gflops: f64,
    /// Billions of operations on 8-bit integers in a second that it was measured at.
    pub peak_integer_gops: f64,
    /// Billions of bytes in a second from and to memory that it was measured at.
    pub peak_gbytes: f64,
    /// Steps of training.
    pub steps: u64,
    /// Seconds from start to end.
    pub seconds: f64,
    /// Seconds outside of every kernel: allocation, the tape, and what is not the model's work.
    pub outside_seconds: f64,
    /// By kernel and operation, the slowest first.
    pub kernels: Vec<KernelTime>,
    /// By phase, in the order in which they first ended.
    pub phases: Vec<PhaseTime>,
    /// By place in the model, from its beginning to its end.
    pub places: Vec<PlaceTime>,
    /// The most bytes that the device held at once.
    pub peak_bytes: usize,
    /// By class.
    pub memory: BTreeMap<String, Memory>,
    /// Events that are in the sums and not in the trace.
    pub left_out: u64,
}

/// All launches of one operation of one kernel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KernelTime {
    /// The kernel; `buffer` for copies.
    pub kernel: String,
    /// Its operation.
    pub operation: String,
    /// Launches.
    pub calls: u64,
    /// Seconds of all of them.
    pub seconds: f64,
    /// Their share of the time from start to end.
    pub share: f64,
    /// Billions of arithmetic operations in a second.
    pub gflops: f64,
    /// Billions of bytes in a second, each byte that a launch needs counted once.
    pub gbytes: f64,
    /// The time that the machine needs at least, over the time taken. Above 1 where data was still
    /// in a cache.
    pub roofline: f64,
}

/// All of one phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseTime {
    /// `forward`, `backward`, `recompute` (of layers that keep only their input), `optimiser` or
    /// `inference`.
    pub phase: String,
    /// Seconds.
    pub seconds: f64,
    /// Seconds of them in kernels.
    pub kernel_seconds: f64,
    /// Share of the time from start to end.
    pub share: f64,
}

/// All that was computed for one place of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlaceTime {
    /// `embeddings`, `layer 0`, ..., `head`.
    pub place: String,
    /// Seconds.
    pub seconds: f64,
    /// Seconds of them in kernels.
    pub kernel_seconds: f64,
    /// Share of the time from start to end.
    pub share: f64,
    /// Seconds by phase.
    pub phases: BTreeMap<String, f64>,
}

/// Bytes of one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Held at the end.
    pub live: usize,
    /// The most that was held at once.
    pub peak: usize,
}

impl Summary {
    /// Sums up `profile`, in which so many steps were taken.
    pub(super) fn new(profile: &Profile, steps: u64, usage: &Usage) -> Self {
        let (roof, seconds) = (profile.roofline, profile.time.as_secs_f64());
        let sums = Sums { rows: &profile.rows, seconds };
        let kernels = sums.kernels();
        let inside: f64 = kernels.iter().map(|k| k.seconds).sum();
        let memory =
            Class::ALL.map(|c| (c.name().into(), Memory { live: usage.live(c), peak: usage.peak(c) }));
        Self {
            isa: roof.isa.name().into(),
            threads: roof.threads,
            peak_gflops: roof.flops / 1e9,
            peak_integer_gops: roof.integer / 1e9,
            peak_gbytes: roof.bytes / 1e9,
            steps,
            seconds,
            outside_seconds: (seconds - inside).max(0.0),
            phases: sums.phases(),
            places: sums.places(),
            kernels,
            peak_bytes: usage.peak_total(),
            memory: memory.into(),
            left_out: profile.left_out,
        }
    }
}

struct Sums<'a> {
    rows: &'a [Row],
    seconds: f64,
}

impl Sums<'_> {
    fn share(&self, seconds: f64) -> f64 {
        seconds / self.seconds.max(1e-9)
    }
    /// Seconds in kernels of the rows for which `f` holds.
    fn in_kernels(&self, f: impl Fn(&Row) -> bool) -> f64 {
        let kernel = |r: &&Row| matches!(r.mark, Mark::Kernel(..)) && f(r);
        self.rows.iter().filter(kernel).map(|r| r.time.as_secs_f64()).sum()
    }
    fn kernels(&self) -> Vec<KernelTime> {
        let mut sums: Vec<(Mark, u64, f64, Cost, f64)> = vec![];
        for r in self.rows.iter().filter(|r| matches!(r.mark, Mark::Kernel(..))) {
            let i = sums.iter().position(|s| s.0 == r.mark).unwrap_or_else(|| {
                sums.push((r.mark, 0, 0.0, Cost::default(), 0.0));
                sums.len() - 1
            });
            let (_, calls, seconds, cost, least) = &mut sums[i];
            *calls += r.calls;
            *seconds += r.time.as_secs_f64();
            *cost = *cost + r.cost;
            *least += r.least;
        }
        let row = |(mark, calls, seconds, cost, least): (Mark, u64, f64, Cost, f64)| {
            let Mark::Kernel(kernel, operation) = mark else { unreachable!("only kernels were summed") };
            let per = |amount: f64| amount / seconds.max(1e-9);
            KernelTime {
                kernel: kernel.into(),
                operation: operation.into(),
                calls,
                seconds,
                share: self.share(seconds),
                gflops: per(cost.flops) / 1e9,
                gbytes: per(cost.bytes) / 1e9,
                roofline: per(least),
            }
        };
        let mut rows: Vec<KernelTime> = sums.into_iter().map(row).collect();
        rows.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        rows
    }
    fn phases(&self) -> Vec<PhaseTime> {
        let mut phases: Vec<PhaseTime> = vec![];
        for r in self.rows {
            let Mark::Phase(name) = r.mark else { continue };
            let (seconds, kernel_seconds) =
                (r.time.as_secs_f64(), self.in_kernels(|k| k.phase == Some(name)));
            phases.push(PhaseTime {
                phase: name.into(),
                seconds,
                kernel_seconds,
                share: self.share(seconds),
            });
        }
        phases
    }
    fn places(&self) -> Vec<PlaceTime> {
        let mut places: Vec<PlaceTime> = vec![];
        for r in self.rows {
            let (Mark::Place(at), Some(phase)) = (r.mark, r.phase) else { continue };
            let name = at.to_string();
            let i = places.iter().position(|p| p.place == name).unwrap_or_else(|| {
                let kernel_seconds = self.in_kernels(|k| k.place == Some(at));
                let phases = BTreeMap::new();
                places.push(PlaceTime { place: name, seconds: 0.0, kernel_seconds, share: 0.0, phases });
                places.len() - 1
            });
            let p = &mut places[i];
            p.seconds += r.time.as_secs_f64();
            p.share = self.share(p.seconds);
            p.phases.insert(phase.into(), r.time.as_secs_f64());
        }
        places
    }
}
