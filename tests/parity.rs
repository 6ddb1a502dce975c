//! The same numbers as `adapters` on `transformers`: hidden states, logits, loss, every gradient, a
//! training curve.
mod support;
use engraft_adapters::Head;
use engraft_engine::{Cx, Gradients, Param, ParamSet, Pass, Plain};
use engraft_models::Rows;
use support::*;

/// The presets, and what a `BnConfig` can vary beyond them.
const CASES: [&str; 19] = [
    "houlsby",
    "pfeiffer",
    "parallel",
    "scaled-parallel",
    "adapter-plus",
    "s0",
    "post-add",
    "res-before-ln",
    "leave-out",
    "per-layer",
    "norms",
    "parallel-norms",
    "gated",
    "gated-parallel",
    "compacter",
    "compacter++",
    "phm-own",
    "phm-shared",
    "full",
];

#[test]
fn the_plain_model() {
    let device = cpu();
    let model = model(&device, &mut ParamSet::new(), false).model;
    let (tokens, _) = input("plain");
    let mut cx = Cx::new(&device, &Plain, Pass::infer());
    let hidden = model.forward(&mut cx, &tokens, &Rows::All).unwrap();
    let pooled = pooled(&mut cx, &*model, &hidden, true);
    let want = Expected::of("plain");
    let (a, b) = (
        relative(&hidden.read().unwrap(), &want.get("last_hidden_state")),
        relative(&pooled.read().unwrap(), &want.get("pooler_output")),
    );
    println!("plain: hidden {a:.1e}, pooled {b:.1e}");
    assert!(a < 1e-5 && b < 1e-5);
}

#[test]
fn hidden_states_logits_loss_and_gradients() {
    for (name, rows) in CASES.into_iter().flat_map(|c| [(c, Rows::All), (c, Rows::First)]) {
        let case = Case { rows: rows.clone(), ..Case::load(name, &cpu()) };
        let mut g = Gradients::new();
        let (hidden, logits, loss, _) = case.pass(Pass::gradients(), &mut g);
        let want = Expected::of(name);
        let all = want.get("last_hidden_state");
        let firsts: Vec<f32> =
            case.tokens.seqs().iter().flat_map(|s| all[s.start * 32..][..32].to_vec()).collect();
        let errors = (
            relative(&hidden, if rows == Rows::All { &all } else { &firsts }),
            relative(&logits, &want.get("logits")),
            relative(&[loss], &want.get("loss")),
        );
        assert!(errors.0 < 1e-5 && errors.1 < 1e-5 && errors.2 < 1e-5, "{name}: {errors:?}");

        let largest = want
            .gradients()
            .iter()
            .flat_map(|n| want.get(&format!("grad.{n}")))
            .fold(0f32, |m, x| m.max(x.abs()));
        let (mut worst, mut compared) = (0f64, 0);
        for (parameter, got) in case.gradients(&g) {
            let got = got.unwrap_or_else(|| panic!("{name}: no gradient for {parameter}"));
            let want = want.get(&format!("grad.{}", parameter.replace("heads.full.1", "classifier")));
            compared += 1;
            if parameter.ends_with("key.bias") {
                // exactly zero in theory: a softmax does not see a shift of its scores
                assert!(got.iter().all(|x| x.abs() < 1e-5 * largest), "{name}: {parameter}");
                continue;
            }
            let e = relative(&got, &want);
            assert!(e < 1e-4, "{name}: {parameter} {e:.1e}");
            worst = worst.max(e);
        }
        // the norm in front of a bottleneck has two names in the library's files
        let twice = want.gradients().iter().filter(|n| n.contains("adapter_norm_before")).count();
        assert_eq!(compared, want.gradients().len() - twice, "{name}: every gradient of the library");
        println!(
            "{name}, {rows:?}: hidden {:.1e}, logits {:.1e}, loss {:.1e}, {compared} gradients {worst:.1e}",
            errors.0, errors.1, errors.2
        );
    }
}

#[test]
fn ten_steps_of_adamw() {
    for name in CASES {
        let mut case = Case { rows: Rows::First, ..Case::load(name, &cpu()) };
        curve::follow(&fixture(name), |optimiser, rate| {
            let mut g = Gradients::new();
            let loss = case.pass(Pass::gradients(), &mut g).2;
            curve::update(optimiser, &mut case.parameters(), &g, rate);
            loss
        });
    }
}

#[test]
fn weight_decay_passes_over_what_the_reference_passes_over() {
    for name in CASES {
        let text = std::fs::read_to_string(fixture(name).join("curve.json")).unwrap();
        let how: serde_json::Value = serde_json::from_str(&text).unwrap();
        let listed = |k: &str, n: &str| how[k].as_array().unwrap().iter().any(|x| x == n);
        let case = Case::load(name, &cpu());
        let mut check = |p: &Param| {
            let name = p.name().replace("heads.full.1", "classifier");
            assert!(listed(if p.role().decays { "decayed" } else { "not_decayed" }, &name), "{name}");
        };
        case.model.visit(&mut check);
        case.adapter.iter().for_each(|a| engraft_engine::Parameters::visit(a, &mut check));
        engraft_engine::Parameters::visit(&case.head, &mut check);
    }
}

#[test]
fn what_is_saved_reads_back_and_is_what_the_library_saved() {
    for name in CASES.into_iter().filter(|n| *n != "full") {
        let case = Case::load(name, &cpu());
        let (adapter, dir) = (case.adapter.as_ref().unwrap(), tempfile::tempdir().unwrap());
        adapter.save(dir.path(), &host()).unwrap();
        case.head.save(dir.path(), &host()).unwrap();
        for file in ["adapter.safetensors", "model_head.safetensors"] {
            let open = |d: &std::path::Path| engraft_engine::Checkpoint::open(&d.join(file)).unwrap();
            let (a, b) = (open(dir.path()), open(&fixture(name)));
            assert_eq!(a.names().collect::<Vec<_>>(), b.names().collect::<Vec<_>>(), "{name} {file}");
            for n in a.names() {
                let shape = a.shape(n).unwrap();
                assert_eq!(a.values(n, shape).unwrap(), b.values(n, shape).unwrap(), "{name} {n}");
            }
        }
        for file in ["adapter_config.json", "head_config.json"] {
            let json = |d: &std::path::Path| {
                serde_json::from_str::<serde_json::Value>(&std::fs::read_to_string(d.join(file)).unwrap())
                    .unwrap()
            };
            let (mut a, mut b) = (json(dir.path()), json(&fixture(name)));
            for v in [&mut a, &mut b] {
                let float = |v: &mut serde_json::Value| *v = v.as_f64().unwrap().into(); // 4 and 4.0
                match &mut v["config"]["reduction_factor"] {
                    serde_json::Value::Object(map) => map.values_mut().for_each(float),
                    serde_json::Value::Null => {} // a head has none
                    one => float(one),
                }
            }
            assert_eq!(a, b, "{name} {file}");
        }
        let device = cpu();
        let again = Head::load(dir.path(), &host(), &device, &mut ParamSet::new()).unwrap();
        assert_eq!(again.labels(), case.head.labels());
    }
}
