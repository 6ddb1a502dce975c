//! What the design promises, each promise as a test.
mod support;
use engraft_adapters::{Adapter, BnConfig, Head, Reduction, heads::Classification};
use engraft_engine::kernels::{Class, Usage};
use engraft_engine::*;
use engraft_models::{Bert, Config, Model, Rows, Tokens};
use std::{collections::BTreeMap, sync::Mutex};
use support::*;

const PRESETS: [&str; 4] = ["houlsby", "pfeiffer", "parallel", "scaled-parallel"];

/// A model, an adapter with `configure` on top of a preset, and a head.
fn build(preset: &str, device: &Device, configure: impl Fn(&mut BnConfig)) -> Case {
    let (mut set, model) = (ParamSet::new(), model(device, &mut ParamSet::new(), false).model);
    let mut config =
        BnConfig { reduction_factor: Reduction::Factor(4.0), ..BnConfig::preset(preset).unwrap() };
    configure(&mut config);
    let adapter = Adapter::new("task", config, model.sites(), device, &mut set, 5).unwrap();
    let labels = ["no", "yes"].map(String::from);
    let head = Classification::new(&labels);
    let head = Head::new("task", head, &host(), device, &mut set, 6).unwrap();
    let (tokens, labels) = input("houlsby");
    Case { device: device.clone(), model, adapter: Some(adapter), head, set, tokens, labels, rows: Rows::All }
}
/// A batch big enough for several threads to have work.
fn large() -> (Tokens, Vec<u32>) {
    let ids: Vec<Vec<u32>> =
        (0..40).map(|s| (0..1 + (s * 7) % 24).map(|i| (s * 13 + i * 5) % 61).collect()).collect();
    (Tokens::new(&ids), (0..40).map(|s| s % 2).collect())
}
/// What the tape of a training pass lists.
fn tape(case: &Case) -> Vec<(&'static str, usize)> {
    let mut cx = Cx::new(&case.device, case.hooks(), Pass::gradients());
    let hidden = case.model.forward(&mut cx, &case.tokens, &Rows::All).unwrap();
    let pooled = case.pooled(&mut cx, &hidden);
    let logits = case.head.forward(&mut cx, &pooled, 0.0, None).unwrap();
    cx.cross_entropy(&logits, &case.labels).unwrap();
    cx.tape().collect()
}
fn step(case: &mut Case, optimiser: &mut AdamW, number: u64) -> (f32, Gradients) {
    let mut g = Gradients::new();
    let loss = case.pass(Pass::train(3, number), &mut g).2;
    support::step(optimiser, &mut case.parameters(), &g, 1e-2, 1.0);
    (loss, g)
}
fn trained(case: &Case) -> Vec<Vec<f32>> {
    let mut v = vec![];
    let mut f = |p: &Param| v.push(p.tensor().to_f32().unwrap());
    case.adapter.iter().for_each(|a| a.visit(&mut f));
    case.head.visit(&mut f);
    v
}
fn hidden(case: &Case, pass: Pass) -> Vec<f32> {
    let mut cx = Cx::new(&case.device, case.hooks(), pass);
    case.model.forward(&mut cx, &case.tokens, &Rows::All).unwrap().read().unwrap()
}

#[test]
fn a_frozen_model_with_a_frozen_adapter_and_head_records_nothing() {
    for name in PRESETS {
        let case = Case::frozen(name, &cpu());
        let mut g = Gradients::new();
        let (.., recorded) = case.pass(Pass::train(1, 1), &mut g);
        assert_eq!((recorded, g.len(), case.set.len()), (0, 0, 0), "{name}");
        // and what was trained, then frozen, gives the same numbers
        let trained = Case::load(name, &cpu());
        let logits = trained.pass(Pass::infer(), &mut g).1;
        let Case { model, adapter, head, tokens, labels, device, .. } = trained;
        let set = ParamSet::new();
        let case = Case {
            model,
            adapter: adapter.map(Adapter::freeze),
            head: head.freeze(),
            set,
            tokens,
            labels,
            device,
            rows: Rows::All,
        };
        let (_, again, _, recorded) = case.pass(Pass::train(1, 1), &mut g);
        let (_, quiet, ..) = case.pass(Pass::infer(), &mut g);
        assert!((recorded, g.len()) == (0, 0) && quiet == logits && again != logits, "{name}");
    }
}

#[test]
fn a_frozen_linear_above_an_adapter_saves_nothing() {
    let case = build("houlsby", &cpu(), |_| ());
    let kept = |op: &str| tape(&case).into_iter().filter(|n| n.0 == op).map(|n| n.1).collect::<Vec<_>>();
    let linear = kept("linear");
    // the head has 2 trained layers; layer 0 has its feed-forward network above the first adapter, the others all 6
    assert_eq!(linear.iter().filter(|b| **b > 0).count(), 2);
    assert_eq!(linear.iter().filter(|b| **b == 0).count(), 2 + 6 + 6);
    let (rows, batch) = (case.tokens.ids.len(), case.labels.len());
    assert_eq!(linear.iter().sum::<usize>(), batch * (32 + 32) * 4, "the inputs of the trained layers");
    assert_eq!(kept("bottleneck"), [rows * (32 + 8) * 4; 6], "the input, and what the non-linearity reads");
}

#[test]
fn nothing_is_recorded_below_the_first_adapter() {
    let count = |lowest: usize| {
        let t = tape(&build("houlsby", &cpu(), |c| c.leave_out = (0..lowest).collect()));
        (t.len(), t.iter().filter(|n| n.0 == "attention").count())
    };
    // 12 to a layer: q k v attention o, bottleneck norm, up act down, bottleneck norm; the first one starts at its
    // adapter. The head: first_tokens, linear, act, linear, cross_entropy
    assert_eq!([0, 1, 2].map(count), [(7 + 24 + 5, 2), (7 + 12 + 5, 1), (7 + 5, 0)]);
    let case = build("houlsby", &cpu(), |c| c.leave_out = vec![0, 1]);
    assert_eq!(first_touched(case.hooks(), case.model.sites()), Some(2));
    assert_eq!(first_touched(&Plain, case.model.sites()), None);
}

#[test]
fn gradients_hold_exactly_the_params() {
    for name in ["houlsby", "pfeiffer", "parallel", "scaled-parallel", "leave-out", "full"] {
        let case = Case::load(name, &cpu());
        let mut g = Gradients::new();
        case.pass(Pass::gradients(), &mut g);
        let mut of_the_backbone = 0;
        case.model.visit(&mut |_| of_the_backbone += 1);
        assert_eq!(of_the_backbone, if name == "full" { case.model.named().len() } else { 0 }, "{name}");
        let all = case.gradients(&g);
        assert_eq!((g.len(), all.len()), (case.set.len(), case.set.len()), "{name}");
        for (parameter, values) in all {
            let values = values.unwrap_or_else(|| panic!("{name}: no gradient for {parameter}"));
            assert!(values.iter().any(|x| *x != 0.0), "{name}: {parameter}");
        }
    }
}

#[test]
fn a_sequence_of_a_mixed_batch_gets_what_it_gets_alone() {
    for name in ["plain", "houlsby", "parallel"] {
        let device = cpu();
        let case = build(if name == "plain" { "houlsby" } else { name }, &device, |_| ());
        let (tokens, _) = large();
        let run = |t: &Tokens| {
            let hooks: &dyn Hooks = if name == "plain" { &Plain } else { case.hooks() };
            let mut cx = Cx::new(&device, hooks, Pass::infer());
            case.model.forward(&mut cx, t, &Rows::All).unwrap().read().unwrap()
        };
        let (whole, mut at, mut worst) = (run(&tokens), 0, 0f64);
        for n in &tokens.lengths {
            let alone = run(&Tokens::new(&[&tokens.ids[at..at + n]]));
            worst = worst.max(relative(&whole[at * 32..(at + n) * 32], &alone));
            at += n;
        }
        println!("{name}: alone and in a batch differ by {worst:.1e}");
        assert!(worst < 1e-6, "{name}: {worst:.1e}");
    }
}

/// Remembers the residual stream in front of a layer.
struct Capture<'a> {
    layer: usize,
    inner: &'a Adapter,
    seen: Mutex<Vec<f32>>,
}
impl Hooks for Capture<'_> {
    fn stream<'m>(&'m self, _: &mut Cx<'m>, s: Site, x: Act) -> Result<Act> {
        if s == Site::layer(self.layer) {
            *self.seen.lock().unwrap() = x.read()?;
        }
        Ok(x)
    }
    fn close<'m>(
        &'m self,
        cx: &mut Cx<'m>,
        s: Site,
        h: Pending,
        r: &Act,
        n: Option<NormRef<'m>>,
    ) -> Result<Act> {
        self.inner.close(cx, s, h, r, n)
    }
}
/// Drops out in a pass of its own where no adapter answers.
struct Apart<'a>(&'a Adapter);
impl Hooks for Apart<'_> {
    fn close<'m>(
        &'m self,
        cx: &mut Cx<'m>,
        s: Site,
        h: Pending,
        r: &Act,
        n: Option<NormRef<'m>>,
    ) -> Result<Act> {
        if self.0.touches(s) {
            return self.0.close(cx, s, h, r, n);
        }
        let h = cx.dropped(h)?;
        cx.add_norm(&h, r, n)
    }
}
#[test]
fn dropout_within_the_norm_gives_the_bits_of_dropout_in_front_of_it() {
    let device = cpu();
    for preset in ["houlsby", "pfeiffer"] {
        let mut case = build(preset, &device, |c| c.leave_out = vec![1]);
        case.model.set_dropout(0.2);
        let adapter = case.adapter.as_ref().unwrap();
        let (tokens, _) = large();
        let run = |hooks: &dyn Hooks| {
            let mut cx = Cx::new(&device, hooks, Pass::train(5, 6));
            let y = case.model.forward(&mut cx, &tokens, &Rows::All).unwrap();
            let (values, mut g) = (y.read().unwrap(), Gradients::new());
            let dropouts = cx.tape().filter(|n| n.0 == "dropout").count();
            let dy = device.upload(Class::Scratch, &noise(4, values.len())).unwrap();
            cx.backward(&y, dy, &mut g).unwrap();
            (values, case.gradients(&g), dropouts)
        };
        let (together, apart) = (run(adapter), run(&Apart(adapter)));
        assert!(together.0 == apart.0, "{preset}: hidden states");
        assert!(together.1 == apart.1, "{preset}: gradients");
        assert!(together.2 < apart.2, "{preset}: fewer passes");
    }
}

#[test]
fn a_pass_from_a_cached_layer_equals_the_whole_pass() {
    let (device, dir) = (cpu(), fixture("model"));
    let checkpoint = Checkpoint::open(&dir).unwrap();
    let config = Config::open(&dir).unwrap();
    config.text("model_type", "").unwrap();
    let bert =
        Bert::<Frozen>::load(&config, &mut Load::new(&checkpoint, &device, &mut ParamSet::new())).unwrap();
    let (tokens, _) = large();
    for from in 0..=3 {
        let case = build("houlsby", &device, |c| c.leave_out = (0..from.min(2)).collect());
        let adapter = case.adapter.as_ref().unwrap();
        let finish = |cx: Cx<'_>, y: Act| {
            let (values, mut g) = (y.read().unwrap(), Gradients::new());
            let dy = device.upload(Class::Scratch, &noise(4, values.len())).unwrap();
            cx.backward(&y, dy, &mut g).unwrap();
            (values, case.gradients(&g))
        };
        let capture = Capture { layer: from, inner: adapter, seen: Mutex::default() };
        let mut cx = Cx::new(&device, &capture, Pass::gradients());
        let x = bert.embed(&mut cx, &tokens).unwrap();
        let y = bert.run(&mut cx, 0..3, x, &Rows::All).unwrap();
        let whole = finish(cx, y);

        let seen = if from < 3 { capture.seen.lock().unwrap().clone() } else { whole.0.clone() };
        let cached = Act::new(device.upload(Class::Scratch, &seen).unwrap(), 32, tokens.seqs()).unwrap();
        let mut cx = Cx::new(&device, adapter, Pass::gradients());
        let y = bert.run(&mut cx, from..3, cached, &Rows::All).unwrap();
        let again = finish(cx, y);
        assert!(whole.0 == again.0, "from layer {from}: hidden states");
        assert!(from == 3 || whole.1 == again.1, "from layer {from}: gradients");
    }
}

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
            step(&mut case, &mut optimiser, n);
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
            let (loss, g) = step(&mut case, &mut optimiser, n);
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
                    step(&mut case, &mut optimiser, n);
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
        (0..3).map(|n| step(case, &mut optimiser, n).0).collect::<Vec<_>>()
    };
    let alone = PRESETS.map(|p| steps(&mut build(p, &cpu(), |_| ())));
    // on one device, step by step in turn
    let device = cpu();
    let mut cases = PRESETS.map(|p| (build(p, &device, |_| ()), AdamW::new(0.01), vec![]));
    for n in 0..3 {
        for (case, optimiser, losses) in &mut cases {
            losses.push(step(case, optimiser, n).0);
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
