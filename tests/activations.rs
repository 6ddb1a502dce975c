//! What layers keep for the backward pass: recomputation changes no bit, bf16 changes little, and
//! every byte is predicted.
mod support;
use engraft_adapters::{Adapter, BnConfig, Head, Reduction, heads::Classification};
use engraft_engine::kernels::Usage;
use engraft_engine::*;
use engraft_models::{Rows, Tokens};
use std::iter::zip;
use support::*;

const LAYERS: usize = 3;
/// `head` is the head alone on the frozen model, `upper` an adapter in the last layer only.
const METHODS: [&str; 8] =
    ["full", "houlsby", "pfeiffer", "parallel", "scaled-parallel", "post-add", "upper", "head"];

fn method(name: &str, device: &Device) -> Case {
    if !["upper", "head"].contains(&name) {
        return Case::load(name, device);
    }
    let (mut set, model) = (ParamSet::new(), model(device, &mut ParamSet::new(), false).model);
    let adapter = (name == "upper").then(|| {
        let mut c = BnConfig { reduction_factor: Reduction::Factor(4.0), ..BnConfig::houlsby() };
        (c.leave_out, c.dropout) = (vec![0, 1], 0.1);
        Adapter::new("task", c, model.sites(), device, &mut set, 5).unwrap()
    });
    let head = Classification::new(&["no", "yes"].map(String::from));
    let head = Head::new("task", head, &host(), device, &mut set, 6).unwrap();
    let (tokens, labels) = input("houlsby");
    Case { device: device.clone(), model, adapter, head, set, tokens, labels, rows: Rows::All }
}
/// A batch big enough for several threads to have work.
fn large() -> (Tokens, Vec<u32>) {
    let ids: Vec<Vec<u32>> =
        (0..40).map(|s| (0..1 + (s * 7) % 24).map(|i| (s * 13 + i * 5) % 61).collect()).collect();
    (Tokens::new(&ids), (0..40).map(|s| s % 2).collect())
}
fn only(layers: &[usize], keep: Keep) -> Activations {
    let of = |l| if layers.contains(&l) { keep } else { Keep::F32 };
    Activations::by_layer(&(0..LAYERS).map(of).collect::<Vec<_>>())
}
/// Gradients by name.
type Named = Vec<(String, Vec<f32>)>;
/// (logits, loss, gradients) of two passes with dropout, whose gradients are added up.
fn two_passes(case: &Case, policy: &Activations) -> (Vec<f32>, f32, Named) {
    let mut g = Gradients::new();
    case.pass_with(policy, Pass::train(3, 1), &mut g);
    let (_, logits, loss, _) = case.pass_with(policy, Pass::train(3, 2), &mut g);
    (logits, loss, case.gradients(&g).into_iter().map(|(n, v)| (n, v.unwrap())).collect())
}
fn bits(v: &[(String, Vec<f32>)]) -> Vec<(&str, Vec<u32>)> {
    v.iter().map(|(n, v)| (n.as_str(), v.iter().map(|x| x.to_bits()).collect())).collect()
}

#[test]
fn recomputed_gradients_are_the_same_bits() {
    for name in METHODS {
        for threads in [1, 2] {
            let mut case = method(name, &Device::cpu(threads).unwrap());
            (case.tokens, case.labels) = large();
            let kept = two_passes(&case, &Activations::default());
            assert!(kept.2.iter().any(|(_, v)| v.iter().any(|x| *x != 0.0)));
            let mut policies = vec![Activations::all(Keep::Recompute)];
            policies.extend([&[0][..], &[1], &[2], &[0, 2]].map(|l| only(l, Keep::Recompute)));
            for policy in policies {
                let again = two_passes(&case, &policy);
                assert!(kept.0 == again.0 && kept.1 == again.1, "{name}, {threads} threads: {policy:?}");
                for (a, b) in zip(bits(&kept.2), bits(&again.2)) {
                    assert!(a == b, "{name}, {threads} threads: {}: {policy:?}", a.0);
                }
            }
        }
    }
}

/// The tape of a training pass, what its layers kept, and all that was kept.
fn tape(case: &Case, policy: &Activations) -> (Vec<(&'static str, usize)>, Vec<usize>, usize) {
    let mut cx = Cx::new(&case.device, case.hooks(), Pass::gradients()).with_activations(policy);
    let x = case.model.forward(&mut cx, &case.tokens, &Rows::All).unwrap();
    (cx.tape().collect(), cx.kept_by_layer().to_vec(), {
        drop(x);
        case.device.ledger().usage().live(Class::Saved)
    })
}
#[test]
fn a_recomputed_layer_keeps_its_input() {
    let case = method("houlsby", &cpu());
    let input = case.tokens.ids.len() * 32 * 4;
    let (all, by_layer, saved) = tape(&case, &Activations::all(Keep::Recompute));
    assert_eq!(all, [("segment", input); LAYERS]);
    assert_eq!((by_layer, saved), (vec![input; LAYERS], LAYERS * input));
    let (kept, by_layer, saved) = tape(&case, &Activations::default());
    assert_eq!((kept.len(), by_layer.len()), (7 + 12 + 12, LAYERS));
    assert!(by_layer.iter().all(|b| *b > 4 * input), "{by_layer:?}");
    assert_eq!(by_layer.iter().sum::<usize>(), saved);
    let (mixed, layers, _) = tape(&case, &only(&[1], Keep::Recompute));
    assert_eq!(mixed.len(), 7 + 1 + 12);
    assert_eq!(layers, [by_layer[0], input, by_layer[2]]);
}
#[test]
fn nothing_is_recorded_where_nothing_trains() {
    let recompute = Activations::all(Keep::Recompute);
    let case = method("upper", &cpu());
    let (list, by_layer, _) = tape(&case, &recompute);
    assert_eq!((list.len(), &by_layer[..2], by_layer[2] > 0), (1, &[0, 0][..], true));
    assert_eq!(tape(&method("head", &cpu()), &recompute), (vec![], vec![0; LAYERS], 0));
    let frozen = Case::frozen("houlsby", &cpu());
    let mut g = Gradients::new();
    assert_eq!(frozen.pass_with(&recompute, Pass::train(1, 1), &mut g).3, 0);
    // and without recording, no layer keeps its input
    for policy in [Keep::F32, Keep::Bf16, Keep::Recompute].map(Activations::all) {
        let case = method("full", &cpu());
        case.device.ledger().reset_peak();
        case.pass_with(&policy, Pass::infer(), &mut g);
        assert_eq!(case.device.ledger().usage().peak(Class::Saved), 0);
    }
}

#[test]
fn bf16_halves_what_is_kept_and_is_near() {
    for name in ["full", "houlsby", "pfeiffer", "scaled-parallel"] {
        let mut case = method(name, &cpu());
        (case.tokens, case.labels) = large();
        let policy = Activations::all(Keep::Bf16);
        let (kept, rounded) = (two_passes(&case, &Activations::default()), two_passes(&case, &policy));
        assert!(kept.0 == rounded.0 && kept.1 == rounded.1, "{name}: the forward pass does not change");
        assert!(bits(&kept.2) != bits(&rounded.2), "{name}: something was rounded");
        let top = kept.2.iter().flat_map(|(_, v)| v).fold(0f32, |m, x| m.max(x.abs()));
        let mut worst = 0f32;
        for ((n, a), (_, b)) in zip(&kept.2, &rounded.2) {
            let of = |v: &[f32]| v.iter().map(|x| x * x).sum::<f32>().sqrt();
            let difference: Vec<f32> = zip(a, b).map(|(a, b)| a - b).collect();
            if n.ends_with("key.bias") || n.ends_with("scaling") {
                // a key's bias has no gradient but rounding, and that of a single number may cancel
                // out
                assert!(of(&difference) < 1e-2 * top, "{name}: {n}: {:e}", of(&difference) / top);
                continue;
            }
            if a.len() == 1 {
                // one number, the sum of many: they may cancel
                assert!(of(&difference) < 1e-3 * top, "{name}: {n}: {:e}", of(&difference) / top);
                continue;
            }
            worst = worst.max(of(&difference) / of(a));
            assert!(of(&difference) < 0.02 * of(a), "{name}: {n}: {:e}", of(&difference) / of(a));
        }
        println!("{name}: gradients differ by {worst:.1e} of their norm");
        let (f32, bf16) = (tape(&case, &Activations::default()).2, tape(&case, &policy).2);
        // 1/σ and attention's sums stay in f32, and so does what is outside of the layers
        assert!(bf16 * 100 < f32 * 62 && bf16 * 2 > f32, "{name}: {bf16} of {f32} bytes");
    }
}

#[test]
fn predicted_bytes_are_measured_bytes() {
    let mut seen = std::collections::BTreeMap::new();
    for name in METHODS {
        for (label, keep) in [("f32", Keep::F32), ("bf16", Keep::Bf16), ("recompute", Keep::Recompute)] {
            for threads in [1, 2] {
                let run = |device: Device| -> Usage {
                    let mut case = method(name, &device);
                    let mut optimiser = AdamW::new(0.01);
                    for n in 0..2 {
                        let mut g = Gradients::new();
                        case.pass_with(&Activations::all(keep), Pass::train(3, n), &mut g);
                        step(&mut optimiser, &mut case.parameters(), &g, 1e-2, 1.0);
                    }
                    device.ledger().usage()
                };
                let (predicted, measured) = (run(Device::null(threads)), run(Device::cpu(threads).unwrap()));
                for class in Class::ALL {
                    let of = |u: &Usage| (u.live(class), u.peak(class));
                    let what = format!("{name}, {label}, {threads} threads: {}", class.name());
                    assert_eq!(of(&predicted), of(&measured), "{what}");
                }
                assert_eq!(predicted, measured, "{name}, {label}, {threads} threads");
                seen.insert((name, label), measured.peak(Class::Saved));
            }
        }
    }
    for name in METHODS {
        let of = |label| seen[&(name, label)];
        if name == "head" {
            assert_eq!((of("f32"), of("f32")), (of("bf16"), of("recompute")));
        } else {
            assert!(of("bf16") < of("f32") && of("recompute") < of("f32"), "{name}: {seen:?}");
        }
    }
}
