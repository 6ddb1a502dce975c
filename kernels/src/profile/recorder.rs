//! The log behind a profile: open spans by thread, totals, events.
use super::entries::{Cost, Event, MOST_EVENTS, Mark, Place, Roofline, Row};
use std::{
    collections::HashMap,
    marker::PhantomData,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::ThreadId,
    time::{Duration, Instant},
};

/// What hangs on a device: a flag, and a log while it is set.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    on: AtomicBool,
    /// Numbers of spans, never used twice: a span that outlives its profile must not end
    /// one of the next.
    spans: AtomicU64,
    log: Mutex<Option<Log>>,
}

/// A span that has begun. It ends on the thread on which it began.
#[derive(Debug)]
pub(super) struct Open {
    recorder: Arc<Recorder>,
    number: u64,
    here: PhantomData<*const ()>,
}

#[derive(Debug)]
pub(super) struct Log {
    pub started: Instant,
    pub roofline: Roofline,
    pub rows: Vec<Row>,
    pub events: Vec<Event>,
    pub left_out: u64,
    index: HashMap<Key, usize>,
    stacks: HashMap<ThreadId, Stack>,
}
type Key = (Mark, Option<&'static str>, Option<Place>);

/// The open spans of one thread, the outermost first.
#[derive(Debug)]
struct Stack {
    lane: usize,
    frames: Vec<Frame>,
}
#[derive(Debug)]
struct Frame {
    number: u64,
    mark: Mark,
    phase: Option<&'static str>,
    place: Option<Place>,
    began: Instant,
    cost: Cost,
    /// Time of the outermost spans of the same kind inside it.
    same: Duration,
}

impl Recorder {
    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }
    pub(super) fn start(&self, roofline: Roofline) {
        *self.log() = Some(Log {
            started: Instant::now(),
            roofline,
            rows: vec![],
            events: vec![],
            left_out: 0,
            index: HashMap::new(),
            stacks: HashMap::new(),
        });
        self.on.store(true, Ordering::Relaxed);
    }
    pub(super) fn end(&self) -> Option<Log> {
        self.on.store(false, Ordering::Relaxed);
        self.log().take()
    }
    pub(super) fn open(recorder: &Arc<Recorder>, mark: Mark, cost: Cost) -> Option<Open> {
        let number = recorder.spans.fetch_add(1, Ordering::Relaxed);
        recorder.log().as_mut()?.open(number, mark, cost);
        Some(Open { recorder: recorder.clone(), number, here: PhantomData })
    }
    fn log(&self) -> MutexGuard<'_, Option<Log>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    pub(super) fn close(&self) {
        let now = Instant::now();
        if let Some(log) = self.recorder.log().as_mut() {
            log.close(self.number, now);
        }
    }
}

impl Log {
    fn open(&mut self, number: u64, mark: Mark, cost: Cost) {
        let thread = std::thread::current().id();
        if !self.stacks.contains_key(&thread) {
            let taken = |lane: usize| self.stacks.values().any(|s| s.lane == lane);
            let lane = (0..).find(|l| !taken(*l)).unwrap_or_default();
            self.stacks.insert(thread, Stack { lane, frames: vec![] });
        }
        let Some(stack) = self.stacks.get_mut(&thread) else { return };
        let (phase, place) = stack.frames.last().map_or((None, None), |f| (f.phase, f.place));
        let (phase, place) = match mark {
            Mark::Phase(name) => (Some(name), None),
            Mark::Place(at) => (phase, Some(at)),
            Mark::Step(_) | Mark::Kernel(..) => (phase, place),
        };
        let same = Duration::ZERO;
        // the clock is read last here and first at the end: what recording costs is outside
        stack.frames.push(Frame { number, mark, phase, place, began: Instant::now(), cost, same });
    }
    fn close(&mut self, number: u64, now: Instant) {
        let thread = std::thread::current().id();
        let Some(stack) = self.stacks.get_mut(&thread) else { return };
        let Some(i) = stack.frames.iter().rposition(|f| f.number == number) else { return };
        let frame = stack.frames.remove(i);
        let time = now.saturating_duration_since(frame.began);
        if let Some(outer) = stack.frames[..i].iter_mut().rev().find(|f| f.mark.is_like(frame.mark)) {
            outer.same += time;
        }
        let lane = stack.lane;
        if stack.frames.is_empty() {
            self.stacks.remove(&thread);
        }
        let Frame { mark, phase, place, began, cost, same, .. } = frame;
        self.count(mark, phase, place, time.saturating_sub(same), cost);
        if self.events.len() < MOST_EVENTS {
            let at = began.saturating_duration_since(self.started);
            self.events.push(Event { mark, phase, place, at, time, lane, cost });
        } else {
            self.left_out += 1;
        }
    }
    fn count(
        &mut self,
        mark: Mark,
        phase: Option<&'static str>,
        place: Option<Place>,
        time: Duration,
        cost: Cost,
    ) {
        let mark = if let Mark::Step(_) = mark { Mark::Step(0) } else { mark };
        let i = *self.index.entry((mark, phase, place)).or_insert_with(|| {
            let (time, cost) = (Duration::ZERO, Cost::default());
            self.rows.push(Row { mark, phase, place, calls: 0, time, cost, least: 0.0 });
            self.rows.len() - 1
        });
        let row = &mut self.rows[i];
        row.calls += 1;
        row.time += time;
        row.cost = row.cost + cost;
        row.least += self.roofline.seconds(cost);
    }
}
