//! Several adapters made into one: the same as AdapterHub's `adapters` and PEFT
//! (`tests/reference/merging.py`).
mod support;
use engraft_adapters::arithmetic::{
    Recipe, STRATEGIES, Strategy,
    tensors::{Majority, elected, largest, sum, thinned},
};
use engraft_adapters::{Adapter, Common, Compat, Dense, Fields, Head, Here, Module, View, parse};
use engraft_engine::{Checkpoint, ParamSet, SiteInfo, SiteKind};
use serde_json::json;
use std::{collections::BTreeMap, path::Path};
use support::{families::backbone, faults::says, *};

type Tensors = BTreeMap<String, Vec<f32>>;

fn expected() -> Checkpoint {
    Checkpoint::open(&fixture("merging/expected.safetensors")).unwrap()
}
/// Those of a case, by their names within it.
fn of_case(all: &Checkpoint, case: &str) -> Tensors {
    let start = format!("{case}/");
    let one = |n: &str| {
        let values = all.values(n, all.shape(n).unwrap()).unwrap();
        Some((n.strip_prefix(&start)?.to_string(), values))
    };
    let found: Tensors = all.names().filter_map(one).collect();
    assert!(!found.is_empty(), "{case}");
    found
}
fn loaded(dir: &Path, family: &str, name: &str) -> Adapter {
    let (model, host) = backbone(family, &cpu());
    Adapter::load_frozen(dir, &host, model.sites(), &cpu()).unwrap().renamed(name).unwrap()
}
fn sources(kind: &str, names: &[&str], family: &str) -> Vec<Adapter> {
    names.iter().map(|n| loaded(&fixture(&format!("merging/{kind}-{n}")), family, n)).collect()
}
fn recipe(name: &str) -> Recipe {
    Recipe::new(Strategy::named(name).unwrap())
}
/// The merged adapter as it is written and read again.
fn merge(recipe: &Recipe, of: &[Adapter], family: &str) -> Result<(tempfile::TempDir, Adapter), String> {
    let host = backbone(family, &cpu()).1;
    let files = recipe.merge("new", &of.iter().collect::<Vec<_>>(), &host).map_err(|e| e.to_string())?;
    let dir = tempfile::tempdir().unwrap();
    files.iter().for_each(|(n, bytes)| std::fs::write(dir.path().join(n), bytes).unwrap());
    let adapter = loaded(dir.path(), family, "new");
    Ok((dir, adapter))
}
fn named(dir: &Path) -> Tensors {
    let file = ["adapter.safetensors", "adapter_model.safetensors"].map(|f| dir.join(f));
    let all = Checkpoint::open(file.iter().find(|f| f.exists()).unwrap()).unwrap();
    all.names().map(|n| (n.into(), all.values(n, all.shape(n).unwrap()).unwrap())).collect()
}
/// What an adapter adds to each weight, by the path of its module.
fn deltas(adapter: &Adapter) -> Tensors {
    let one = |(info, m): (&SiteInfo, &dyn Module)| {
        let (View::Linear(m), SiteKind::Linear { input, output, .. }) = (m.view(), info.kind) else {
            panic!("{}", info.path)
        };
        let mut added = Dense { w: vec![0.0; input * output], b: None };
        m.merge(Here { site: info.site, common: &Common::default() }, &mut added).unwrap();
        (format!("{}.delta", info.path), added.w)
    };
    adapter.modules().map(one).collect()
}
fn compare(what: &str, got: &Tensors, want: &Tensors) {
    assert_eq!(got.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>(), "{what}");
    for (name, want) in want {
        let e = relative(&got[name], want);
        assert!(e < 2e-6, "{what}: {name} {e:.1e}");
    }
}

/// What PEFT's functions make of three tensors, with masks that the script knows too.
#[test]
fn tensors_element_by_element() {
    let want = of_case(&expected(), "functions");
    let wide = |v: &[f32]| v.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
    let of: Vec<Vec<f64>> = (0..3).map(|i| wide(&want[&format!("of.{i}")])).collect();
    let (weights, density) = ([1.0, 0.5, -0.25], 0.6);
    let each = |f: &dyn Fn(&mut Vec<f64>)| {
        let mut of = of.clone();
        of.iter_mut().for_each(f);
        of
    };
    let large = each(&|t| largest(t, density));
    let rescaled = each(&|t| {
        let mut i = 0;
        thinned(t, density, || {
            i += 1;
            (7 * (i - 1) + 7) % 5 > 1
        });
    });
    for (name, got) in [
        ("task_arithmetic", sum(&of, &weights)),
        ("magnitude_prune", sum(&large, &weights)),
        ("ties_total", elected(&large, &weights, Majority::Total)),
        ("ties_frequency", elected(&large, &weights, Majority::Frequency)),
        ("dare_linear", sum(&rescaled, &weights)),
        ("dare_ties_total", elected(&rescaled, &weights, Majority::Total)),
        ("dare_ties_frequency", elected(&rescaled, &weights, Majority::Frequency)),
    ] {
        let e = relative(&got.iter().map(|x| *x as f32).collect::<Vec<_>>(), &want[name]);
        assert!(e < 1e-6, "{name}: {e:.1e}");
    }
    assert_ne!(want["ties_total"], want["ties_frequency"]);
}

#[test]
fn as_adapterhub_averages() {
    let all = expected();
    for (kind, family) in [
        ("bn", "bert"),
        ("lora", "bert"),
        ("compacter", "bert"),
        ("prefix", "bert"),
        ("union", "bert"),
        ("gpt2", "gpt2"),
    ] {
        let of = sources(kind, &["one", "two"], family);
        for (case, weights, normalise) in [
            ("equal", None, None),
            ("given", Some(vec![3.0, 1.0]), None),
            ("negative", Some(vec![0.9, -0.4]), Some(false)),
        ] {
            let with = |name: &str| Recipe { weights: weights.clone(), normalise, ..recipe(name) };
            let what = format!("{kind}-linear-{case}");
            let (dir, _) = merge(&with("adapterhub_linear"), &of, family).unwrap();
            // the generator of prefixes hangs in several places
            let short = |t: Tensors| -> Tensors {
                let end =
                    |n: String| n.split_once("prefix_tunings.").map_or(n.clone(), |(_, end)| end.into());
                t.into_iter().map(|(n, v)| (end(n), v)).collect()
            };
            compare(&what, &short(named(dir.path())), &short(of_case(&all, &what)));
            if kind != "lora" {
                continue;
            }
            let what = format!("lora-lora_linear_only_negate_b-{case}");
            let (dir, _) = merge(&with("lora_linear_only_negate_b"), &of, family).unwrap();
            compare(&what, &named(dir.path()), &of_case(&all, &what));
            let what = format!("lora-lora_delta_w_svd-{case}");
            let svd = Recipe { rank: Some(2), ..with("lora_delta_w_svd") };
            let (_, adapter) = merge(&svd, &of, family).unwrap();
            assert_eq!(adapter.config().adapterhub().unwrap()["alpha"], json!(4), "6 / 3 is 4 / 2");
            compare(&what, &deltas(&adapter), &of_case(&all, &what));
            // the library keeps alpha, and so adds more than before
            let as_there = Recipe { compat: Compat::Adapters130, ..svd };
            let (_, adapter) = merge(&as_there, &of, family).unwrap();
            assert_eq!(adapter.config().adapterhub().unwrap()["alpha"], json!(6));
            let more = |t: Tensors| -> Tensors {
                t.into_iter().map(|(n, v)| (n, v.iter().map(|x| 1.5 * x).collect())).collect()
            };
            compare(&what, &deltas(&adapter), &more(of_case(&all, &what)));
        }
    }
}

#[test]
fn as_peft_adds_weighted_adapters() {
    let all = expected();
    let cases: Fields =
        serde_json::from_str(&std::fs::read_to_string(fixture("merging/weighted.json")).unwrap()).unwrap();
    assert_eq!(cases.len(), 16);
    for (case, about) in &cases {
        let names: Vec<&str> =
            about["adapters"].as_array().unwrap().iter().map(|n| n.as_str().unwrap()).collect();
        let of = sources("peft", &names, "bert");
        let method = about["method"].as_str().unwrap();
        let recipe = Recipe {
            weights: Some(serde_json::from_value(about["weights"].clone()).unwrap()),
            rank: about["svd_rank"].as_u64().map(|r| r as usize),
            density: about["density"].as_f64(),
            majority: about["majority_sign_method"].as_str().map(|_| Majority::Frequency),
            ..recipe(if method == "linear" { "peft_linear" } else { method })
        };
        let (dir, adapter) = merge(&recipe, &of, "bert").unwrap();
        match method == "svd" || method.ends_with("_svd") {
            true => compare(case, &deltas(&adapter), &of_case(&all, case)),
            false => compare(case, &named(dir.path()), &of_case(&all, case)),
        }
    }
}

/// Σ w ΔW exactly, of adapters in either format and of parts of a layer.
#[test]
fn side_by_side_and_decomposed_are_the_sum() {
    for (kind, names, family) in [
        ("lora", ["one", "two"], "bert"),
        ("gpt2", ["one", "two"], "gpt2"),
        ("peft", ["first", "rs"], "bert"),
    ] {
        let of = sources(kind, &names, family);
        let (one, two) = (deltas(&of[0]), deltas(&of[1]));
        let add = |(n, a): (&String, &Vec<f32>)| {
            (n.clone(), a.iter().zip(&two[n]).map(|(a, b)| 0.75 * a - 0.5 * b).collect())
        };
        let want: Tensors = one.iter().map(add).collect();
        let weights = Some(vec![0.75, -0.5]);
        let rank = of
            .iter()
            .map(|_| {
                if kind == "peft" {
                    4
                } else if kind == "gpt2" {
                    2
                } else {
                    3
                }
            })
            .sum();
        for recipe in [
            Recipe { weights: weights.clone(), ..recipe("cat") },
            Recipe { weights: weights.clone(), rank: Some(rank), ..recipe("svd") },
            Recipe {
                weights: weights.clone(),
                rank: Some(rank),
                normalise: Some(false),
                ..recipe("lora_delta_w_svd")
            },
        ] {
            if recipe.strategy.name == "lora_delta_w_svd" && kind == "peft" {
                continue; // their factors differ, which it leaves out
            }
            let (_, merged) = merge(&recipe, &of, family).unwrap();
            let got = deltas(&merged);
            for (n, want) in &want {
                let e = relative(&got[n], want);
                assert!(e < 5e-6, "{kind} {}: {n} {e:.1e}", recipe.strategy.name);
            }
        }
    }
}

#[test]
fn random_elements_have_their_share_and_their_mean() {
    let of = sources("lora", &["one", "two"], "bert");
    let with = |density: f64, seed: u64| {
        let weights = Some(vec![1.0, 0.0]);
        let how = Recipe { weights, density: Some(density), seed: Some(seed), ..recipe("dare_linear") };
        named(merge(&how, &of, "bert").unwrap().0.path())
    };
    assert_eq!(with(0.5, 1), with(0.5, 1));
    assert_ne!(with(0.5, 1), with(0.5, 2));
    let (whole, mut kept, mut all) = (with(1.0, 0), 0, 0);
    for (name, t) in with(0.3, 7) {
        for (x, w) in t.iter().zip(&whole[&name]).filter(|(_, w)| **w != 0.0) {
            assert!(*x == 0.0 || (x / w - 1.0 / 0.3).abs() < 1e-5, "{name}: {x} of {w}");
            (kept, all) = (kept + usize::from(*x != 0.0), all + 1);
        }
    }
    // within four standard deviations
    let (share, deviation) = (kept as f64 / all as f64, (0.3 * 0.7 / all as f64).sqrt());
    assert!((share - 0.3).abs() < 4.0 * deviation, "{share} of {all}");
}

/// Adapters that are no LoRA: matrices by the strategy, everything else as the mean.
#[test]
fn bottlenecks_are_pruned_matrix_by_matrix() {
    let of = sources("bn", &["one", "two"], "bert");
    let tensors: Vec<Tensors> =
        ["one", "two"].map(|n| named(&fixture(&format!("merging/bn-{n}")))).into_iter().collect();
    let how = Recipe { weights: Some(vec![1.0, 0.5]), density: Some(0.5), ..recipe("ties") };
    let got = named(merge(&how, &of, "bert").unwrap().0.path());
    let mut matrices = 0;
    for (name, got) in &got {
        let [one, two] = [(0, "one"), (1, "two")]
            .map(|(i, n)| tensors[i][&name.replace(".new.", &format!(".{n}."))].clone());
        let wide = |t: &[f32]| t.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
        let mut both = vec![wide(&one), wide(&two)];
        let want = match name.ends_with("down.0.weight") || name.ends_with("up.weight") {
            true => {
                matrices += 1;
                both.iter_mut().for_each(|t| largest(t, 0.5));
                elected(&both, &[1.0, 0.5], Majority::Total)
            }
            false => sum(&both, &[2.0 / 3.0, 1.0 / 3.0]),
        };
        let want: Vec<f32> = want.iter().map(|x| *x as f32).collect();
        assert!(relative(got, &want) < 1e-6, "{name}");
    }
    assert_eq!(matrices, 12);
}

#[test]
fn heads_are_averaged() {
    let host = host();
    let heads: Vec<Head> = ["one", "two"]
        .map(|n| Head::load_frozen(&fixture(&format!("merging/head-{n}")), &host, &cpu()).unwrap())
        .into();
    let how = Recipe { weights: Some(vec![3.0, 1.0]), ..recipe("adapterhub_linear") };
    let files = how.head("new", &heads.iter().collect::<Vec<_>>(), &host).unwrap();
    let dir = tempfile::tempdir().unwrap();
    files.iter().for_each(|(n, bytes)| std::fs::write(dir.path().join(n), bytes).unwrap());
    let head = Head::load_frozen(dir.path(), &host, &cpu()).unwrap();
    assert_eq!((head.name(), head.labels()), ("new", &["x", "y", "z"].map(String::from)[..]));
    let got = head.named().into_iter().map(|(n, t)| (n, t.to_f32().unwrap())).collect();
    compare("head", &got, &of_case(&expected(), "head"));
    let other = Head::load_frozen(&fixture("pfeiffer"), &host, &cpu()).unwrap();
    says(
        how.head("new", &[&heads[0], &other], &host).map(drop).map_err(|e| e.to_string()),
        &["not configured"],
    );
}

#[test]
fn what_cannot_be_merged_is_refused() {
    let (lora, bn) = (sources("lora", &["one", "two"], "bert"), sources("bn", &["one", "two"], "bert"));
    let refused =
        |how: Recipe, of: &[Adapter], words: &[&str]| says(merge(&how, of, "bert").map(drop), words);
    let with = |name: &str| Recipe { weights: Some(vec![1.0, 1.0]), ..recipe(name) };
    let names = |name: &str| Strategy::named(name).map(drop).map_err(|e| e.to_string());
    says(names("linear"), &["`adapterhub_linear`", "`peft_linear`"]);
    says(names("mean"), &["`mean`", "dare_ties_svd"]);
    refused(recipe("svd"), &lora, &["`svd` needs weights"]);
    refused(with("ties"), &lora, &["`ties` needs a density"]);
    refused(with("lora_delta_w_svd"), &lora, &["needs a rank"]);
    refused(Recipe { rank: Some(3), ..with("cat") }, &lora, &["`cat` has no use for a rank"]);
    refused(Recipe { density: Some(0.5), ..with("svd") }, &lora, &["no use for a density"]);
    refused(Recipe { seed: Some(5), ..with("svd") }, &lora, &["no use for a seed"]);
    refused(Recipe { majority: Some(Majority::Total), ..with("svd") }, &lora, &["majority sign"]);
    for density in [0.0, -0.5, 1.5, f64::NAN] {
        refused(Recipe { density: Some(density), ..with("ties") }, &lora, &["`density`"]);
    }
    refused(Recipe { rank: Some(33), ..with("svd") }, &lora, &["layer.0", "33 singular values"]);
    refused(Recipe { weights: Some(vec![1.0]), ..with("svd") }, &lora, &["1 weights for 2 adapters"]);
    refused(Recipe { weights: Some(vec![1.0, f64::NAN]), ..with("svd") }, &lora, &["a weight is NaN"]);
    refused(
        Recipe { weights: Some(vec![1.0, -1.0]), ..recipe("adapterhub_linear") },
        &lora,
        &["add up to 0"],
    );
    refused(with("svd"), &bn, &["`svd` is for LoRA"]);
    refused(with("adapterhub_linear"), &[], &["no adapters"]);
    let [one, two] = [lora, bn].map(|mut v| v.remove(0));
    refused(with("adapterhub_linear"), &[one, two], &["`one` is not configured", "architecture"]);
    let ranks = sources("peft", &["first", "other"], "bert");
    refused(Recipe { density: Some(1.0), ..with("ties") }, &ranks, &["the ranks are 4 and 2", "`cat`"]);
    refused(with("adapterhub_linear"), &ranks, &["`other`", "lora_alpha"]);
    // what stands in the place of weights
    let (model, host) = backbone("bert", &cpu());
    let named = model.named();
    let base = engraft_adapters::Base::new(model.sites(), &named);
    let config = parse("bitfit", &Fields::new()).unwrap();
    let biases = Adapter::new("b", config, base, &cpu(), &mut ParamSet::new(), 1).unwrap();
    let how = Recipe { weights: Some(vec![1.0]), density: Some(0.5), ..recipe("ties") };
    says(how.merge("new", &[&biases], &host).map(drop).map_err(|e| e.to_string()), &["cannot be pruned"]);
    says(
        with("svd").merge("a.b", &[&biases], &host).map(drop).map_err(|e| e.to_string()),
        &["`a.b` cannot be the name"],
    );
    assert_eq!(STRATEGIES.len(), 14);
}
