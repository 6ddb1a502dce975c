//! A summary as a table for people.
use std::fmt::{Display, Formatter, Result};

use super::Summary;

impl Display for Summary {
    /// By kernel, by phase, by place, each time that of one step.
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let per_step = |seconds: f64| 1e3 * seconds / self.steps.max(1) as f64;
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        writeln!(
            f,
            "machine: {} with {} thread{}: {:.1} GFLOP/s, {:.1} GOP/s in 8-bit integers and {:.1} GB/s measured",
            self.isa,
            self.threads,
            if self.threads == 1 { "" } else { "s" },
            self.peak_gflops,
            self.peak_integer_gops,
            self.peak_gbytes
        )?;
        writeln!(
            f,
            "{} step{} in {:.2} s: {:.1} ms a step",
            self.steps,
            if self.steps == 1 { "" } else { "s" },
            self.seconds,
            per_step(self.seconds)
        )?;

        writeln!(f)?;
        writeln!(
            f,
            "{:<27} {:>8} {:>10} {:>8} {:>9} {:>8} {:>13}",
            "kernel", "calls", "ms/step", "share", "GFLOP/s", "GB/s", "% of roofline"
        )?;
        let rate = |x: f64| if x > 0.0 { format!("{x:.1}") } else { "-".into() };
        for k in &self.kernels {
            writeln!(
                f,
                "{:<27} {:>8} {:>10.3} {:>8} {:>9} {:>8} {:>13.1}",
                format!("{} {}", k.kernel, k.operation),
                k.calls,
                per_step(k.seconds),
                percent(k.share),
                rate(k.gflops),
                rate(k.gbytes),
                100.0 * k.roofline
            )?;
        }
        let outside = self.outside_seconds;
        let share = percent(outside / self.seconds.max(1e-9));
        writeln!(f, "{:<27} {:>8} {:>10.3} {share:>8}", "outside of any kernel", "", per_step(outside))?;
        if self.kernels.iter().any(|k| k.roofline > 1.0) {
            writeln!(f, "(more than 100 % of the roofline, which is memory's: the data was in a cache)")?;
        }

        writeln!(f)?;
        writeln!(f, "{:<27} {:>10} {:>8} {:>10}", "phase", "ms/step", "share", "in kernels")?;
        for p in &self.phases {
            let kernels = percent(p.kernel_seconds / p.seconds.max(1e-9));
            let (ms, share) = (per_step(p.seconds), percent(p.share));
            writeln!(f, "{:<27} {ms:>10.3} {share:>8} {kernels:>10}", p.phase)?;
        }
        let between = self.seconds - self.phases.iter().map(|p| p.seconds).sum::<f64>();
        let share = percent(between.max(0.0) / self.seconds.max(1e-9));
        writeln!(f, "{:<27} {:>10.3} {share:>8}", "outside of any phase", per_step(between.max(0.0)))?;

        writeln!(f)?;
        write!(f, "{:<27} {:>10} {:>8}", "place", "ms/step", "share")?;
        let with_places = |name: &str| self.places.iter().any(|p| p.phases.contains_key(name));
        let phases: Vec<&str> =
            self.phases.iter().map(|p| p.phase.as_str()).filter(|name| with_places(name)).collect();
        phases.iter().try_for_each(|name| write!(f, " {name:>10}"))?;
        writeln!(f)?;
        for p in &self.places {
            write!(f, "{:<27} {:>10.3} {:>8}", p.place, per_step(p.seconds), percent(p.share))?;
            for name in &phases {
                let time = p.phases.get(*name).map_or("-".into(), |s| format!("{:.3}", per_step(*s)));
                write!(f, " {time:>10}")?;
            }
            writeln!(f)?;
        }

        writeln!(f)?;
        let megabytes = |bytes: usize| bytes as f64 / 1e6;
        write!(f, "most memory at once: {:.1} MB; by class", megabytes(self.peak_bytes))?;
        for (i, (class, m)) in self.memory.iter().filter(|(_, m)| m.peak > 0).enumerate() {
            write!(f, "{} {class} {:.1}", if i == 0 { "" } else { "," }, megabytes(m.peak))?;
        }
        if self.left_out > 0 {
            writeln!(f)?;
            write!(f, "{} events are in these sums and not in the trace", self.left_out)?;
        }
        Ok(())
    }
}
