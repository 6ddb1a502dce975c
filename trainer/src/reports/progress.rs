//! Progress of long work, on stderr: a bar on a terminal, a line now and then elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Seconds between two lines where there is no terminal.
const PAUSE: Duration = Duration::from_secs(10);

/// How progress is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// A bar that moves.
    Bar,
    /// Plain lines.
    Lines,
    /// Not at all.
    #[default]
    Quiet,
}

impl Mode {
    /// What suits stderr.
    pub fn detect(quiet: bool) -> Self {
        match quiet {
            true => Self::Quiet,
            false => Self::of(std::io::stderr().is_terminal(), std::env::var("TERM").ok().as_deref()),
        }
    }
    /// A bar needs a terminal, and one that can move its cursor. Windows' has no name.
    fn of(is_terminal: bool, term: Option<&str>) -> Self {
        let moves = term.map_or(cfg!(windows), |term| !matches!(term, "" | "dumb"));
        if is_terminal && moves { Self::Bar } else { Self::Lines }
    }
}

/// The progress of one piece of work that takes a known number of steps.
pub struct Progress {
    out: Out,
    title: String,
    total: u64,
    pace: Pace,
    pause: Duration,
    last_line: Instant,
}

enum Out {
    Bar(ProgressBar),
    Lines(Box<dyn Write + Send>),
    Quiet,
}

impl Progress {
    /// Shows `total` steps of the work called `title` on stderr.
    pub fn new(mode: Mode, title: &str, total: u64) -> Self {
        let out = match mode {
            Mode::Bar => Out::Bar(bar(title, total)),
            Mode::Lines => Out::Lines(Box::new(std::io::stderr())),
            Mode::Quiet => Out::Quiet,
        };
        Self::with(out, title, total, PAUSE)
    }

    fn with(out: Out, title: &str, total: u64, pause: Duration) -> Self {
        let now = Instant::now();
        Self { out, title: title.into(), total, pace: Pace::new(now), pause, last_line: now }
    }

    /// The same, with so many steps done before.
    pub fn from(mut self, steps: u64) -> Self {
        self.pace.before = steps;
        self
    }

    /// A step is done: its mean loss, if it has one, and its tokens.
    pub fn step(&mut self, loss: Option<f64>, tokens: u64) {
        self.pace.step(loss, tokens);
        let now = Instant::now();
        match &mut self.out {
            Out::Bar(bar) => {
                let left = clock(self.pace.left(now, self.total));
                bar.set_message(format!("{}  {left} left", self.pace.show(now)));
                bar.set_position(self.pace.done());
            }
            Out::Lines(out) if now - self.last_line >= self.pause => {
                let (done, total) = (self.pace.done(), self.total);
                let left = clock(self.pace.left(now, total));
                let _ = writeln!(out, "{} {done}/{total}  {}  {left} left", self.title, self.pace.show(now));
                self.last_line = now;
            }
            Out::Lines(_) | Out::Quiet => {}
        }
    }

    /// A line to be kept, such as the result of an epoch.
    pub fn line(&mut self, text: &str) {
        match &mut self.out {
            Out::Bar(bar) => bar.suspend(|| {
                let _ = writeln!(std::io::stderr(), "{text}");
            }),
            Out::Lines(out) => {
                let _ = writeln!(out, "{text}");
                self.last_line = Instant::now();
            }
            Out::Quiet => {}
        }
    }

    /// Time that passes until [`Progress::resume`] is not counted as work: an evaluation, say.
    pub fn pause(&mut self) {
        self.pace.paused.get_or_insert_with(Instant::now);
    }

    /// Ends a pause.
    pub fn resume(&mut self) {
        if let Some(since) = self.pace.paused.take() {
            self.pace.start += since.elapsed();
        }
    }

    /// The work is done, or given up; the bar goes.
    pub fn finish(self) {}
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Out::Bar(bar) = &self.out {
            bar.finish_and_clear();
        }
    }
}

fn bar(title: &str, total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} {bar:24} {pos}/{len}  {msg}")
        .expect("the template is a constant")
        .progress_chars("=> ");
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr()).with_style(style);
    bar.set_prefix(title.to_string());
    bar
}

/// The progress of a download: a bar, or one line.
pub struct Bytes(Option<ProgressBar>);

impl Bytes {
    /// Shows a download of so many bytes on stderr.
    pub fn new(mode: Mode, title: &str, total: u64) -> Self {
        if mode == Mode::Lines {
            let _ = writeln!(std::io::stderr(), "downloading {title}, {}", indicatif::DecimalBytes(total));
        }
        Self((mode == Mode::Bar).then(|| {
            let style = ProgressStyle::with_template(
                "{prefix} {bar:24} {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  {eta} left",
            );
            let style = style.expect("the template is a constant").progress_chars("=> ");
            let target = ProgressDrawTarget::stderr();
            ProgressBar::with_draw_target(Some(total), target).with_style(style).with_prefix(title.to_string())
        }))
    }

    /// So many bytes are there.
    pub fn at(&self, bytes: u64) {
        self.0.iter().for_each(|bar| bar.set_position(bytes));
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        self.0.iter().for_each(ProgressBar::finish_and_clear);
    }
}

/// How fast it goes and where the loss is.
struct Pace {
    start: Instant,
    paused: Option<Instant>,
    /// Steps that were done before it began.
    before: u64,
    steps: u64,
    tokens: u64,
    loss: Option<f64>,
}

impl Pace {
    fn new(start: Instant) -> Self {
        Self { start, paused: None, before: 0, steps: 0, tokens: 0, loss: None }
    }

    /// The loss shown is a running mean over about twenty steps.
    fn step(&mut self, loss: Option<f64>, tokens: u64) {
        self.steps += 1;
        self.tokens += tokens;
        if let Some(loss) = loss {
            self.loss = Some(self.loss.map_or(loss, |mean| mean + (loss - mean) / 20.0));
        }
    }

    fn seconds(&self, now: Instant) -> f64 {
        (self.paused.unwrap_or(now) - self.start).as_secs_f64().max(1e-9)
    }

    fn show(&self, now: Instant) -> String {
        let speed = self.tokens as f64 / self.seconds(now);
        let speed = if speed < 10_000.0 { format!("{speed:.0}") } else { format!("{:.1}k", speed / 1000.0) };
        match self.loss {
            Some(loss) => format!("loss {loss:.4}  {speed} tokens/s"),
            None => format!("{speed} tokens/s"),
        }
    }

    fn done(&self) -> u64 {
        self.before + self.steps
    }

    fn left(&self, now: Instant, total: u64) -> f64 {
        self.seconds(now) / self.steps.max(1) as f64 * total.saturating_sub(self.done()) as f64
    }
}

/// Seconds as `12s`, `3m05s` or `2h04m`.
pub fn clock(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole}s"),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        _ => format!("{}h{:02}m", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn lines(pause: Duration) -> String {
        let shared = Shared::default();
        let mut progress = Progress::with(Out::Lines(Box::new(shared.clone())), "training", 3, pause);
        (0..3).for_each(|_| progress.step(Some(0.5), 10));
        progress.line("epoch 1: done");
        progress.finish();
        String::from_utf8(shared.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn lines_come_now_and_then() {
        assert_eq!(lines(PAUSE), "epoch 1: done\n");
        let all = lines(Duration::ZERO);
        assert_eq!(all.lines().count(), 4);
        assert!(all.starts_with("training 1/3  loss 0.5000  ") && all.contains(" tokens/s  "), "{all}");
        assert!(all.contains("training 3/3") && all.contains("  0s left"), "{all}");
    }

    #[test]
    fn every_mode_takes_steps() {
        for mode in [Mode::Bar, Mode::Quiet] {
            let mut progress = Progress::new(mode, "training", 1);
            progress.pause();
            progress.resume();
            progress.step(None, 1);
            progress.finish();
        }
        assert_eq!(Mode::detect(true), Mode::Quiet);
    }

    #[test]
    fn a_bar_needs_a_terminal_that_can_move() {
        assert_eq!(Mode::of(true, Some("xterm-256color")), Mode::Bar);
        for (is_terminal, term) in
            [(true, Some("dumb")), (true, Some("")), (false, Some("xterm")), (false, None)]
        {
            assert_eq!(Mode::of(is_terminal, term), Mode::Lines);
        }
    }

    #[test]
    fn the_loss_is_smoothed_and_pauses_do_not_count() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.step(Some(1.0), 500);
        pace.step(Some(0.0), 500);
        let later = start + Duration::from_secs(2);
        assert_eq!(pace.show(later), "loss 0.9500  500 tokens/s");
        assert!((pace.left(later, 6) - 4.0).abs() < 1e-9);
        pace.before = 2;
        assert!((pace.left(later, 6) - 2.0).abs() < 1e-9);
        pace.paused = Some(start + Duration::from_secs(1));
        assert_eq!(pace.seconds(later), 1.0);
    }

    #[test]
    fn clocks_read_well() {
        assert_eq!(["12s", "3m05s", "2h04m"], [clock(12.3), clock(185.0), clock(7440.0)]);
    }
}
