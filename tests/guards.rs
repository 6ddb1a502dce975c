//! What the design promises, each promise as a test.
mod support;
use engraft_adapters::Adapter;
use engraft_engine::kernels::Class;
use engraft_engine::*;
use engraft_models::{Holding, Rows, Tokens};
use std::sync::Mutex;
use support::{grafted::*, *};

const PRESETS: [&str; 4] = ["houlsby", "pfeiffer", "parallel", "scaled-parallel"];

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
    // the head has 2 trained layers; layer 0 has its feed-forward network above the first adapter,
    // the others all 6
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
    // 12 to a layer: q k v attention o, bottleneck norm, up act down, bottleneck norm; the first
    // one starts at its adapter. The head: first_tokens, linear, act, linear, cross_entropy
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
    let bert = engraft_models::load_frozen(&dir, &device, Holding::default()).unwrap().model;
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
