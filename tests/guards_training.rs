//! What the design promises of training, each promise as a test.
mod support;
use engraft_engine::kernels::{Class, Usage};
use engraft_engine::*;
use engraft_models::{Rows, Tokens};
use std::collections::BTreeMap;
use support::{grafted::*, *};

const PRESETS: [&str; 4] = ["houlsby", "pfeiffer", "parallel", "scaled-parallel"];

#[test]
fn the_backbone_is_the_same_before_and_after_training() {
    let file = fixture("model").join("model.safetensors");
    let values = |case: &Case| -> BTreeMap<String, Vec<u32>> {
        let bits = |t: &Tensor| t.to_f32().unwrap().iter().map(|x| x.to_bits()).collect();
        case.model.named().into_iter().map(|(n, t)| (n, bits(t))).collect()
    };
    let on_disk = std::fs::read(&file).unwrap();
    for name in PRESETS {
        let mut case = build(name, &cpu(), |c| c.dropout = 0.1);
        let (before, start, mut optimiser) = (values(&case), trained(&case), AdamW::new(0.01));
        let print = Checkpoint::open(&fixture("model")).unwrap().fingerprint();
        for n in 0..10 {
            train(&mut case, &mut optimiser, n);
        }
        assert_eq!(before.len(), 3 + 2 + 3 * 16 + 2);
        assert!(values(&case) == before, "{name}: in memory");
        assert!(trained(&case) != start, "{name}: what trains has changed");
        assert_eq!(Checkpoint::open(&fixture("model")).unwrap().fingerprint(), print);
    }
    assert!(std::fs::read(&file).unwrap() == on_disk, "on disk");
}

#[test]
fn the_same_seed_gives_the_same_bits_with_any_number_of_threads() {
    let run = |threads: usize, preset: &str| {
        let mut case = build(preset, &Device::cpu(threads).unwrap(), |c| c.dropout = 0.2);
        (case.tokens, case.labels) = large();
        let (mut optimiser, mut bits) = (AdamW::new(0.01), vec![]);
        for n in 0..3 {
            let (loss, g) = train(&mut case, &mut optimiser, n);
            bits.push(loss.to_bits());
            let all = case.gradients(&g).into_iter().flat_map(|(_, v)| v.unwrap());
            bits.extend(all.map(f32::to_bits));
        }
        bits.extend(trained(&case).concat().into_iter().map(f32::to_bits));
        bits
    };
    for preset in ["houlsby", "scaled-parallel"] {
        let one = run(1, preset);
        for threads in [1, 2, 3] {
            assert!(run(threads, preset) == one, "{preset} with {threads} threads");
        }
    }
}

#[test]
fn predicted_bytes_are_measured_bytes() {
    for name in ["houlsby", "pfeiffer", "parallel", "scaled-parallel", "post-add", "full"] {
        for threads in [1, 3] {
            let run = |device: Device| -> Usage {
                let mut case = Case::load(name, &device);
                let mut optimiser = AdamW::new(0.01);
                for n in 0..2 {
                    train(&mut case, &mut optimiser, n);
                }
                let usage = device.ledger().usage();
                drop((case, optimiser));
                let left = device.ledger().usage();
                assert_eq!(left.live_total(), 0, "{name} on {}: bytes are left", device.name());
                usage
            };
            let (predicted, measured) = (run(Device::null(threads)), run(Device::cpu(threads).unwrap()));
            for class in Class::ALL {
                let of = |u: &Usage| (u.live(class), u.peak(class));
                assert_eq!(of(&predicted), of(&measured), "{name}, {threads} threads: {}", class.name());
                let held = class != Class::Backbone || name != "full";
                assert_eq!(measured.peak(class) > 0, held, "{name}: {}", class.name());
            }
            assert_eq!(predicted, measured, "{name}, {threads} threads");
        }
    }
}

#[test]
fn two_half_batches_accumulate_to_the_whole() {
    for name in ["houlsby", "scaled-parallel", "full"] {
        let case = Case::load(name, &cpu());
        let run = |from: usize, to: usize, weight: f32, g: &mut Gradients| {
            let at = |i: usize| case.tokens.lengths[..i].iter().sum::<usize>();
            let tokens = Tokens {
                ids: case.tokens.ids[at(from)..at(to)].into(),
                types: case.tokens.types[at(from)..at(to)].into(),
                lengths: case.tokens.lengths[from..to].into(),
                target: None,
            };
            let mut cx = Cx::new(&case.device, case.hooks(), Pass::gradients());
            let hidden = case.model.forward(&mut cx, &tokens, &Rows::All).unwrap();
            let pooled = case.pooled(&mut cx, &hidden);
            let logits = case.head.forward(&mut cx, &pooled, 0.0, None).unwrap();
            let (loss, count) = cx.cross_entropy(&logits, &case.labels[from..to]).unwrap();
            let weight = weight / count as f32;
            let dy = case.device.upload(Class::Scratch, &[weight]).unwrap();
            cx.backward(&loss, dy, g).unwrap();
            loss.read().unwrap()[0] * weight
        };
        let n = case.labels.len();
        let (mut whole, mut halves) = (Gradients::new(), Gradients::new());
        let loss = run(0, n, 1.0, &mut whole);
        let weight = |k: usize| k as f32 / n as f32;
        let sum = run(0, 2, weight(2), &mut halves) + run(2, n, weight(n - 2), &mut halves);
        assert!((loss - sum).abs() < 1e-6, "{name}: {loss} {sum}");
        let top = case
            .gradients(&whole)
            .into_iter()
            .flat_map(|(_, v)| v.unwrap())
            .fold(0f32, |m, x| m.max(x.abs()));
        for ((parameter, a), (_, b)) in case.gradients(&whole).into_iter().zip(case.gradients(&halves)) {
            let (a, b) = (a.unwrap(), b.unwrap());
            let d = a.iter().zip(&b).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
            assert!(d < 2e-6 * top, "{name}: {parameter} {d:e} of {top:e}");
        }
    }
}

#[test]
fn dropout_is_a_function_of_seed_and_pass_and_evaluation_has_none() {
    let mut case = build("houlsby", &cpu(), |c| c.dropout = 0.1);
    let (a, again) = (hidden(&case, Pass::train(7, 1)), hidden(&case, Pass::train(7, 1)));
    assert!(a == again, "the same pass");
    assert!(a != hidden(&case, Pass::train(7, 2)), "another pass");
    assert!(a != hidden(&case, Pass::train(8, 1)), "another seed");
    let quiet = hidden(&case, Pass::infer());
    assert!(a != quiet && quiet == hidden(&case, Pass::gradients()));
    case.model.set_dropout(0.0);
    assert!(hidden(&case, Pass::train(7, 1)) != quiet, "the adapter has a dropout of its own");
    let mut case = build("houlsby", &cpu(), |_| ());
    case.model.set_dropout(0.0);
    assert!(hidden(&case, Pass::train(7, 1)) == quiet);
}

#[test]
fn models_and_adapters_of_one_process_do_not_disturb_each_other() {
    let steps = |case: &mut Case| {
        let mut optimiser = AdamW::new(0.01);
        (0..3).map(|n| train(case, &mut optimiser, n).0).collect::<Vec<_>>()
    };
    let alone = PRESETS.map(|p| steps(&mut build(p, &cpu(), |_| ())));
    // on one device, step by step in turn
    let device = cpu();
    let mut cases = PRESETS.map(|p| (build(p, &device, |_| ()), AdamW::new(0.01), vec![]));
    for n in 0..3 {
        for (case, optimiser, losses) in &mut cases {
            losses.push(train(case, optimiser, n).0);
        }
    }
    assert_eq!(cases.map(|c| c.2), alone);
    // and at the same time
    let together = std::thread::scope(|s| {
        let (steps, device) = (&steps, &device);
        let run = |p| s.spawn(move || steps(&mut build(p, device, |_| ())));
        PRESETS.map(run).map(|t| t.join().unwrap())
    });
    assert_eq!(together, alone);
    // two adapters share one model
    let model = model(&device, &mut ParamSet::new(), false).model;
    let (tokens, _) = input("houlsby");
    let hidden = |case: &Case| {
        let mut cx = Cx::new(&device, case.hooks(), Pass::infer());
        model.forward(&mut cx, &tokens, &Rows::All).unwrap().read().unwrap()
    };
    let (a, b) = (build("houlsby", &device, |_| ()), build("pfeiffer", &device, |_| ()));
    let (first, second) = (hidden(&a), hidden(&b));
    assert!(first != second && hidden(&a) == first && hidden(&b) == second);
}

#[test]
fn weights_of_two_sets_that_share_a_slot_are_refused() {
    let device = cpu();
    let make = |name: &str| {
        let one = device.upload(Class::Adapter, &[1f32]).unwrap();
        ParamSet::new().param(name, Tensor::new(one, &[1]).unwrap(), Role::WEIGHT).unwrap()
    };
    let (mut a, mut b, mut g) = (make("a"), make("b"), Gradients::new());
    let up = || device.upload(Class::Scratch, &[1f32, 2.0]).unwrap();
    let mut cx = Cx::new(&device, &Plain, Pass::gradients());
    let y = cx.mul_row(&Act::new(up(), 2, pack([1])).unwrap(), a.get()).unwrap();
    cx.backward(&y, up(), &mut g).unwrap();
    let mut optimiser = AdamW::new(0.01);
    let e = optimiser.step(&mut [&mut a, &mut b], &g, &Norms::default(), 1e-3, 1.0).unwrap_err();
    assert!(e.to_string().starts_with("`b` shares its gradient"), "{e}");
    assert_eq!(a.tensor().buffer().read::<f32>().unwrap(), [1.0], "nothing has changed");
    optimiser.step(&mut [&mut a], &g, &Norms::default(), 1e-3, 1.0).unwrap();
    assert!(a.tensor().buffer().read::<f32>().unwrap() != [1.0]);
}
