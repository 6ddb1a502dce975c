//! What a device records of a training step, against the tape.
mod support;
use engraft_engine::kernels::profile::{Mark, Place, Profile, Roofline};
use engraft_engine::kernels::{Cost, isa};
use engraft_engine::*;
use engraft_models::Rows;
use support::*;

const CASES: [&str; 6] = ["houlsby", "pfeiffer", "parallel", "scaled-parallel", "post-add", "full"];

fn machine(device: &Device) -> Roofline {
    Roofline { isa: isa().unwrap(), threads: device.threads(), flops: 1e11, integer: 4e11, bytes: 1e10 }
}
/// A step of a case: what was recorded, and what the tape of its pass lists.
fn step(name: &str, device: &Device) -> (Profile, Vec<(&'static str, usize)>) {
    step_keeping(name, device, Keep::F32)
}
fn step_keeping(name: &str, device: &Device, keep: Keep) -> (Profile, Vec<(&'static str, usize)>) {
    let mut case = Case::load(name, device);
    let (mut g, mut optimiser) = (Gradients::new(), AdamW::new(0.01));
    device.start_profile(machine(device)).unwrap();
    let pass = Pass::train(1, 2);
    let mut cx = Cx::new(device, case.hooks(), pass).with_activations(&Activations::all(keep));
    let hidden = case.model.forward(&mut cx, &case.tokens, &Rows::All).unwrap();
    let pooled = case.pooled(&mut cx, &hidden);
    let logits = case.head.forward(&mut cx, &pooled, 0.1, None).unwrap();
    let (loss, count) = cx.cross_entropy(&logits, &case.labels).unwrap();
    drop((hidden, pooled, logits));
    let tape = cx.tape().collect();
    let dy = device.upload(Class::Scratch, &[1.0 / count as f32]).unwrap();
    cx.backward(&loss, dy, &mut g).unwrap();
    let all = case.parameters();
    g.norms(&all.iter().map(|p| &**p as &dyn Parameters).collect::<Vec<_>>()).unwrap();
    support::step(&mut optimiser, &mut case.parameters(), &g, 1e-3, 1.0);
    (device.end_profile().unwrap(), tape)
}
/// Calls of an operation of a kernel in a phase.
fn calls(p: &Profile, phase: &str, kernel: &str, operation: &str) -> u64 {
    let of = |m: Mark| matches!(m, Mark::Kernel(k, o) if k == kernel && o == operation);
    p.rows.iter().filter(|r| of(r.mark) && r.phase == Some(phase)).map(|r| r.calls).sum()
}

#[test]
fn the_backward_pass_launches_what_the_tape_lists() {
    for name in CASES {
        let (p, tape) = step(name, &cpu());
        let listed = |op: &str| tape.iter().filter(|n| n.0 == op).count() as u64;
        for (op, kernel, operation) in [
            ("attention", "attention", "backward"),
            ("norm", "layernorm", "backward"),
            ("dropout", "dropout", "apply"),
            ("cross_entropy", "cross_entropy", "backward"),
        ] {
            assert!(listed(op) > 0, "{name}: {op}");
            // the lowest norm of an adapter that begins with one trains, and has nothing trained
            // below it
            let ends = u64::from(op == "norm" && name == "post-add");
            assert_eq!(calls(&p, "backward", kernel, operation), listed(op) - ends, "{name}: {op}");
        }
        let weights = tape.iter().filter(|n| n.0 == "linear" && n.1 > 0).count() as u64;
        let bottlenecks = listed("bottleneck");
        assert_eq!(bottlenecks > 0, name != "full", "{name}");
        for phase in ["forward", "backward"] {
            assert_eq!(calls(&p, phase, "bottleneck", phase), bottlenecks, "{name}: {phase}");
        }
        assert_eq!(calls(&p, "backward", "matmul", "transposed_times"), weights + 2 * bottlenecks, "{name}");
        assert_eq!(calls(&p, "forward", "matmul", "transposed_times"), 0, "{name}");
        assert!(calls(&p, "forward", "matmul", "times_transposed") >= listed("linear"), "{name}");
    }
}

#[test]
fn every_launch_has_a_phase_and_a_place() {
    for name in CASES {
        let (p, _) = step(name, &cpu());
        let mut inside = std::time::Duration::ZERO;
        for r in p.rows.iter().filter(|r| matches!(r.mark, Mark::Kernel(..))) {
            inside += r.time;
            let is_copy = matches!(r.mark, Mark::Kernel("buffer", _));
            match r.phase {
                Some("forward" | "backward") => assert!(r.place.is_some(), "{name}: {r:?}"),
                Some("optimiser") => assert_eq!(r.place, None, "{name}: {r:?}"),
                _ => assert!(is_copy, "{name}: {r:?}"),
            }
        }
        assert!(inside <= p.time, "{name}");
        let layers = |phase: &str| {
            let of = |r: &&engraft_engine::kernels::profile::Row| {
                matches!(r.mark, Mark::Place(_)) && r.phase == Some(phase)
            };
            p.rows.iter().filter(of).filter_map(|r| r.place).collect::<Vec<Place>>()
        };
        let forward = layers("forward");
        let names: Vec<String> = forward.iter().map(Place::to_string).collect();
        assert_eq!(names, ["embeddings", "layer 0", "layer 1", "layer 2", "head"], "{name}");
        // backwards, as far down as something trains
        let mut backward = layers("backward");
        backward.reverse();
        assert_eq!(backward, forward[if name == "full" { 0 } else { 1 }..], "{name}");
    }
}

#[test]
fn what_is_computed_again_is_a_phase_of_its_own() {
    for name in CASES {
        let ((kept, _), (p, tape)) = (step(name, &cpu()), step_keeping(name, &cpu(), Keep::Recompute));
        assert!(tape.iter().any(|n| n.0 == "segment"), "{name}");
        let launches = |phase: &str| {
            let of = |r: &&kernels::profile::Row| {
                let in_layer = r.place.is_some_and(|at| at.name == "layer");
                matches!(r.mark, Mark::Kernel(..)) && r.phase == Some(phase) && in_layer
            };
            let row = |r: &kernels::profile::Row| (r.mark.to_string(), r.place, r.calls);
            let mut rows: Vec<_> = p.rows.iter().filter(of).map(row).collect();
            rows.sort();
            rows
        };
        let again = launches("recompute");
        assert!(!again.is_empty() && again == launches("forward"), "{name}");
        for (kernel, operation) in [("matmul", "times"), ("attention", "backward"), ("layernorm", "backward")]
        {
            let of = |p| calls(p, "backward", kernel, operation);
            assert_eq!(of(&p), of(&kept), "{name}: {kernel} {operation}");
        }
        let phases = p.rows.iter().filter(|r| matches!(r.mark, Mark::Phase(_)));
        assert!(phases.map(|r| r.time).sum::<std::time::Duration>() <= p.time, "{name}");
    }
}

#[test]
fn the_null_device_launches_the_same() {
    for name in CASES {
        let rows = |device: Device| {
            let (p, _) = step(name, &device);
            let row = |r: &kernels::profile::Row| (r.mark, r.phase, r.place, r.calls, r.cost);
            p.rows.iter().map(row).collect::<Vec<(_, _, _, _, Cost)>>()
        };
        assert_eq!(rows(Device::null(2)), rows(cpu()), "{name}");
    }
}

#[test]
fn what_is_recorded_does_not_change_what_is_computed() {
    for name in CASES {
        let device = cpu();
        let run = || {
            let case = Case::load(name, &device);
            let mut g = Gradients::new();
            let out = case.pass(Pass::train(3, 4), &mut g);
            (out, case.gradients(&g))
        };
        let plain = run();
        assert!(!device.is_profiled() && device.end_profile().is_none());
        device.start_profile(machine(&device)).unwrap();
        let recorded = run();
        assert!(!device.end_profile().unwrap().events.is_empty());
        assert!(plain == recorded, "{name}");
        assert!(run() == plain && device.end_profile().is_none(), "{name}");
    }
}
