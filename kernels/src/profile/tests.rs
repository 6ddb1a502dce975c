use super::*;
use crate::{Class, KERNELS, isa};
use std::time::{Duration, Instant};

/// A machine of round numbers.
fn machine() -> Roofline {
    Roofline { isa: isa().unwrap(), threads: 1, flops: 1e9, integer: 4e9, bytes: 1e8 }
}
fn kernels(p: &Profile) -> impl Iterator<Item = &Row> {
    p.rows.iter().filter(|r| matches!(r.mark, Mark::Kernel(..)))
}

/// The shapes that are timed are made by the same functions; preparing them takes too long here.
#[test]
fn every_launch_is_recorded_with_the_cost_of_its_case() {
    for kernel in KERNELS {
        let mut cases = 0;
        for case in (kernel.cases)().into_iter().filter(|c| !c.timed) {
            for device in [Device::null(1), Device::cpu(1).unwrap()] {
                let mut run = (case.prepare)(&device).unwrap();
                device.start_profile(machine()).unwrap();
                run.launch().unwrap();
                let p = device.end_profile().unwrap();
                let label = format!("{} {} on {}", kernel.name, case.label, device.name());
                let own = |e: &&Event| matches!(e.mark, Mark::Kernel(name, _) if name == kernel.name);
                assert!(p.events.iter().any(|e| own(&e)), "{label}: no launch");
                let cost = p.events.iter().fold(Cost::default(), |c, e| c + e.cost);
                assert_eq!((cost.flops, cost.bytes), (case.flops, case.bytes), "{label}");
            }
            cases += 1;
        }
        assert!(cases > 0, "{}", kernel.name);
    }
}

#[test]
fn spans_nest_and_times_are_counted_once() {
    let device = Device::cpu(1).unwrap();
    let wait = || {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(2) {}
    };
    let place = |i| Place { name: "layer", index: Some(i) };
    device.start_profile(machine()).unwrap();
    {
        let _step = device.mark(Mark::Step(7));
        let _backward = device.mark(Mark::Phase("backward"));
        let _layer = device.mark(Mark::Place(place(3)));
        {
            let _replay = device.mark(Mark::Phase("recompute"));
            let _layer = device.mark(Mark::Place(place(3)));
            let _outer = device.span("outer", "a", || Cost::new(1_000_000, 0));
            wait();
            let _inner = device.span("inner", "b", || Cost::new(0, 1_000_000));
            wait();
        }
        let _outer = device.span("outer", "a", || Cost::new(3_000_000, 200_000));
        wait();
    }
    let p = device.end_profile().unwrap();
    let names: Vec<String> = p.events.iter().map(|e| e.mark.to_string()).collect();
    let ended = ["inner b", "outer a", "layer 3", "recompute", "outer a", "layer 3", "backward", "step 7"];
    assert_eq!(names, ended);
    for pair in p.events.windows(2).filter(|p| !matches!(p[0].mark, Mark::Phase("recompute"))) {
        let [a, b] = pair else { unreachable!() };
        assert!(b.at <= a.at && a.at + a.time <= b.at + b.time, "{} in {}", a.mark, b.mark);
    }
    assert!(p.events.iter().all(|e| e.lane == 0));

    let row = |mark, phase| *p.rows.iter().find(|r| r.mark == mark && r.phase == Some(phase)).unwrap();
    let inner = row(Mark::Kernel("inner", "b"), "recompute");
    let (replayed, outer) =
        (row(Mark::Kernel("outer", "a"), "recompute"), row(Mark::Kernel("outer", "a"), "backward"));
    assert_eq!((inner.place, outer.place, outer.calls), (Some(place(3)), Some(place(3)), 1));
    assert_eq!(outer.cost, Cost::new(3_000_000, 200_000));
    // the slower of arithmetic and memory: 3 ms and 2 ms; 0 ms and 10 ms
    assert!((outer.least - 3e-3).abs() < 1e-12 && (inner.least - 1e-2).abs() < 1e-12);
    let two = Duration::from_millis(2);
    for r in [inner, replayed, outer] {
        assert!(r.time >= two, "{r:?}");
    }
    let whole = p.events.iter().find(|e| e.mark == Mark::Kernel("outer", "a")).unwrap().time;
    assert_eq!(replayed.time, whole - inner.time, "the inner launch is not counted twice");
    let (backward, recompute) =
        (row(Mark::Phase("backward"), "backward"), row(Mark::Phase("recompute"), "recompute"));
    let all = p.events.iter().find(|e| e.mark == Mark::Phase("backward")).unwrap().time;
    assert_eq!(backward.time + recompute.time, all);
    assert!(kernels(&p).map(|r| r.time).sum::<Duration>() <= p.time);
    assert_eq!(p.rows.iter().find(|r| r.mark == Mark::Step(0)).unwrap().calls, 1);
}

#[test]
fn work_at_the_same_time_has_lanes_of_its_own() {
    let device = Device::cpu(1).unwrap();
    device.start_profile(machine()).unwrap();
    let one = device.mark(Mark::Phase("one"));
    std::thread::scope(|s| {
        s.spawn(|| drop(device.mark(Mark::Phase("two"))));
    });
    drop(one);
    std::thread::scope(|s| {
        s.spawn(|| drop(device.mark(Mark::Phase("three"))));
    });
    let p = device.end_profile().unwrap();
    let lanes: Vec<(String, usize)> = p.events.iter().map(|e| (e.mark.to_string(), e.lane)).collect();
    assert_eq!(lanes, [("two".into(), 1), ("one".into(), 0), ("three".into(), 0)]);
}

#[test]
fn memory_is_written_down_whenever_it_changes() {
    let device = Device::null(1);
    let kept = device.alloc::<f32>(Class::Adapter, 10).unwrap();
    device.start_profile(machine()).unwrap();
    let b = device.alloc::<f32>(Class::Scratch, 100).unwrap();
    b.set_class(Class::Saved);
    drop(b);
    let p = device.end_profile().unwrap();
    let of = |class| p.memory.iter().map(|s| s.live(class)).collect::<Vec<_>>();
    assert_eq!(of(Class::Adapter), [40; 5]);
    assert_eq!(of(Class::Scratch), [0, 400, 0, 0, 0]);
    assert_eq!(of(Class::Saved), [0, 0, 0, 400, 0]);
    assert!(p.memory.is_sorted_by_key(|s| s.at) && p.memory[0].at.is_zero());
    assert_eq!(p.left_out, 0);
    drop(kept);
    assert!(device.end_profile().is_none());
}

#[test]
fn a_long_profile_keeps_its_totals_and_its_beginning() {
    let device = Device::null(1);
    device.start_profile(machine()).unwrap();
    for _ in 0..MOST_EVENTS + 5 {
        drop(device.span("k", "o", || Cost::new(2, 1)));
    }
    let p = device.end_profile().unwrap();
    assert_eq!((p.events.len(), p.left_out, p.rows[0].calls), (MOST_EVENTS, 5, MOST_EVENTS as u64 + 5));
    assert_eq!(p.rows[0].cost, Cost::new(2 * (MOST_EVENTS + 5), MOST_EVENTS + 5));
}

#[test]
fn what_is_not_recorded_is_nothing() {
    let device = Device::cpu(1).unwrap();
    let unasked = || -> Cost { panic!("a cost is computed") };
    assert!(!device.is_profiled() && device.span("k", "o", unasked).0.is_none());
    assert!(device.end_profile().is_none());
    // a span that begins before the profile, or outlives it, is in none
    let early = device.mark(Mark::Phase("early"));
    device.start_profile(machine()).unwrap();
    let late = device.mark(Mark::Phase("late"));
    drop(early);
    assert!(device.is_profiled() && device.end_profile().unwrap().events.is_empty());
    device.start_profile(machine()).unwrap();
    drop(late);
    assert!(device.end_profile().unwrap().rows.is_empty());
}

#[test]
fn a_machine_is_measured() {
    for isa in crate::Isa::ALL.into_iter().filter(|i| i.available()) {
        let r = isa::with(isa, || Roofline::measure(&Device::cpu(2).unwrap()).unwrap());
        println!(
            "{isa:?}: {:.1} GFLOP/s, {:.1} GOP/s, {:.1} GB/s",
            r.flops / 1e9,
            r.integer / 1e9,
            r.bytes / 1e9
        );
        assert_eq!((r.isa, r.threads), (isa, 2));
        // any computer of this century, and none
        assert!((1e7..1e14).contains(&r.flops) && (1e7..1e13).contains(&r.bytes), "{r:?}");
        assert!((1e6..1e14).contains(&r.integer), "{r:?}");
    }
    assert!(Roofline::measure(&Device::null(1)).is_err());
}
