//! A profile as a Chrome trace: <https://ui.perfetto.dev> and `chrome://tracing` open it.
//!
//! The format is the JSON of Google's "Trace Event Format": complete events (`X`) for steps,
//! phases, places and launches, whose arguments are the launch's cost, and counters (`C`) for the
//! bytes held, by class. Times are microseconds.
//!
//! It is written here and not by the crate `tracing-chrome`, which knows the beginnings and ends of
//! spans (`B`, `E`) and instants (`i`) but no counters, so that memory could not stand in the same
//! trace. It also hangs on the process or on a thread, and a profile on a device.
use engraft_engine::kernels::{
    Class,
    profile::{Event, Mark, Profile, Sample},
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};

/// The bytes of a trace file.
pub fn write(p: &Profile) -> Vec<u8> {
    let mut out = Vec::with_capacity(200 * (p.events.len() + p.memory.len()) + 1024);
    out.extend(b"{\"displayTimeUnit\":\"ms\",\"otherData\":");
    let about = json!({
        "isa": p.roofline.isa.name(),
        "threads": p.roofline.threads,
        "peak_gflops": p.roofline.flops / 1e9,
        "peak_integer_gops": p.roofline.integer / 1e9,
        "peak_gbytes": p.roofline.bytes / 1e9,
        "events_left_out": p.left_out,
    });
    put(&mut out, &about);
    out.extend(b",\"traceEvents\":[\n");
    put(&mut out, &name("process_name", 0, "engraft".into()));
    let lanes: BTreeSet<usize> = p.events.iter().map(|e| e.lane).collect();
    for lane in lanes {
        next(&mut out, &name("thread_name", lane, format!("work {lane}")));
    }
    // of spans that begin together the outer one first
    let mut events: Vec<&Event> = p.events.iter().collect();
    events.sort_by_key(|e| (e.at, std::cmp::Reverse(e.time)));
    events.into_iter().for_each(|e| next(&mut out, &span(e)));
    p.memory.iter().for_each(|s| next(&mut out, &counter(s)));
    out.extend(b"\n]}\n");
    out
}

fn put(out: &mut Vec<u8>, value: &Value) {
    out.extend(value.to_string().as_bytes());
}
fn next(out: &mut Vec<u8>, value: &Value) {
    out.extend(b",\n");
    put(out, value);
}
fn microseconds(d: Duration) -> f64 {
    d.as_nanos() as f64 / 1e3
}
fn name(what: &str, lane: usize, name: String) -> Value {
    json!({"ph": "M", "name": what, "pid": 1, "tid": lane, "args": {"name": name}})
}
fn span(e: &Event) -> Value {
    let kind = match e.mark {
        Mark::Step(_) => "step",
        Mark::Phase(_) => "phase",
        Mark::Place(_) => "place",
        Mark::Kernel(..) => "kernel",
    };
    let mut v = json!({
        "ph": "X",
        "cat": kind,
        "name": e.mark.to_string(),
        "pid": 1,
        "tid": e.lane,
        "ts": microseconds(e.at),
        "dur": microseconds(e.time),
    });
    if let Mark::Kernel(..) = e.mark {
        let seconds = e.time.as_secs_f64().max(1e-9);
        v["args"] = json!({
            "phase": e.phase,
            "place": e.place.map(|p| p.to_string()),
            "flops": e.cost.flops,
            "bytes": e.cost.bytes,
            "gflops": e.cost.flops / seconds / 1e9,
            "gbytes": e.cost.bytes / seconds / 1e9,
        });
    }
    v
}
fn counter(s: &Sample) -> Value {
    let classes: serde_json::Map<String, Value> =
        Class::ALL.into_iter().map(|c| (c.name().into(), s.live(c).into())).collect();
    json!({"ph": "C", "name": "memory", "pid": 1, "ts": microseconds(s.at), "args": classes})
}
