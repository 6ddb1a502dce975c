//! Bottlenecks of every kind: how many parameters they have, how they start, what they share, what
//! is refused.
mod support;
use engraft_adapters::{
    Adapter, AdapterSet, Base, Config, Fields, Fusion, Host, Member, Setup, fusion, parse,
};
use engraft_engine::{
    Checkpoint, Cx, Device, ParamSet, Part, Pass, Point, Site, SiteInfo, SiteKind,
    checkpoint::{TensorData, save},
};
use engraft_models::{Rows, Tokens};
use std::path::Path;
use support::*;

/// The sites of a BERT where bottlenecks stand.
fn sites(layers: usize, channels: usize) -> Vec<SiteInfo> {
    let mut sites = vec![SiteInfo::new(Site::EMBED, SiteKind::Stream { channels }, "bert")];
    for l in 0..layers {
        for (site, module) in [(Site::after_attn(l), "attention.output"), (Site::after_ffn(l), "output")] {
            let path = format!("bert.encoder.layer.{l}.{module}");
            sites.push(SiteInfo::new(site, SiteKind::Close { channels }, path));
        }
    }
    sites
}
fn config(text: &str) -> Box<dyn Config> {
    parse(text, &Fields::new()).unwrap()
}
/// A new adapter of BERT-base on a device that computes nothing.
fn base_sized(text: &str) -> (Adapter, usize) {
    let mut set = ParamSet::new();
    let sites = sites(12, 768);
    let a = Adapter::new("task", config(text), Base::from(&sites), &Device::null(1), &mut set, 1).unwrap();
    (a, set.elements())
}

#[test]
fn parameters_on_bert_base_are_as_many_as_the_library_has() {
    for (text, want) in [
        ("pfeiffer", 894_528),
        ("seq_bn", 894_528),
        ("houlsby", 1_789_056),
        ("double_seq_bn", 1_789_056),
        ("par_bn", 7_091_712),
        ("compacter", 57_088),
        ("compacter++", 28_576),
        ("houlsby[reduction_factor=12]", 2_379_264), // 64 channels behind both sub-layers
    ] {
        assert_eq!(base_sized(text).1, want, "{text}");
    }
    let (gated, plain) = (base_sized("houlsby[use_gating=True]").1, base_sized("houlsby").1);
    assert_eq!(gated - plain, 24 * 769, "a gate for each bottleneck");
    let kept = base_sized("compacter[learn_phm=False]").1;
    assert_eq!(57_088 - kept, 64, "the rule does not train");
}

fn spread(v: &[f32]) -> (f64, f64) {
    let n = v.len() as f64;
    let mean = v.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
    let largest = v.iter().fold(0f64, |m, x| m.max(f64::from(x.abs())));
    ((v.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / n).sqrt(), largest)
}
/// (deviation, largest magnitude) of all tensors whose names end so.
fn started(text: &str, end: &str) -> (f64, f64) {
    let (sites, mut set) = (sites(12, 768), ParamSet::new());
    let a = Adapter::new("task", config(text), Base::from(&sites), &cpu(), &mut set, 3).unwrap();
    let named = a.named();
    let found = named.iter().filter(|(n, _)| n.ends_with(end));
    let all: Vec<f32> = found.flat_map(|(_, t)| t.to_f32().unwrap()).collect();
    assert!(!all.is_empty(), "{text} has `{end}`");
    spread(&all)
}
#[test]
fn new_weights_start_as_in_the_library() {
    let near = |what: &str, got: f64, want: f64| assert!((got / want - 1.0).abs() < 0.15, "{what}: {got}");
    near("a shared rule", started("compacter", "phm_rule").0, 1e-4);
    near("more of it", started("compacter[phm_init_range=0.5,phm_dim=8]", "phm_rule").0, 0.5);
    let (deviation, most) = started("compacter[phm_c_init=uniform]", "phm_rule");
    assert!(most <= 1.0 && deviation > 0.45, "{deviation}, {most}");
    near("own rules", started("compacter[shared_phm_rule=False]", "phm_rule").0, 0.01);
    let most = started("compacter[shared_phm_rule=False,phm_c_init=uniform]", "phm_rule").1;
    assert!(most <= 0.01 && most > 0.009, "{most}");
    // 192 rows of rank 1, and 6 columns
    near("W_left", started("compacter++", "down.0.W_left").0, (2.0f64 / 193.0).sqrt());
    near("W_right", started("compacter++", "down.0.W_right").0, (2.0f64 / 7.0).sqrt());
    near("W", started("compacter++[factorized_phm_W=False]", "down.0.W").0, (2.0f64 / 198.0).sqrt());
    assert_eq!(started("compacter", ".b").1, 0.0);
    near("a gate", started("houlsby[use_gating=True]", "gate.weight").0, 0.02);
    assert_eq!(started("houlsby[use_gating=True]", "gate.bias").1, 0.0);
    let bound = 1.0 / 768f64.sqrt();
    let (deviation, most) = started("adapter_plus[use_gating=True]", "gate.weight");
    assert!(most <= bound * 1.0001 && deviation > 0.5 * bound);
    assert!(started("adapter_plus", "adapter_up.weight").1 <= 0.02);
    assert_eq!(started("adapter_plus", "scaling"), (0.0, 1.0));
    assert_eq!(started("par_bn", "adapter_up.weight").1, 0.0);
}

#[test]
fn adapters_behind_cross_attention_stand_where_a_model_has_it() {
    let mut sites = sites(2, 32);
    let cross = Site { layer: 1, part: Part::Cross, point: Point::Close };
    sites.push(SiteInfo::new(cross, SiteKind::Close { channels: 32 }, "decoder.block.1.layer.1"));
    for (text, want) in [
        ("houlsby", false),
        ("houlsby[cross_adapter=True]", true),
        ("houlsby[cross_adapter=True,leave_out=[1]]", false),
        ("pfeiffer[cross_adapter=True,output_adapter=False]", true),
    ] {
        let a = Adapter::new("task", config(text), Base::from(&sites), &cpu(), &mut ParamSet::new(), 1);
        let is_there = a.unwrap().modules().any(|(i, _)| i.site == cross);
        assert_eq!(is_there, want, "{text}");
    }
}

#[test]
fn what_makes_no_bottleneck_is_refused_by_the_name_of_the_field() {
    for (text, names) in [
        ("compacter[phm_dim=5]", "`phm_dim` is 5, which does not divide the channels, 32"),
        ("compacter[reduction_factor=3]", "does not divide the width of the bottleneck, 10"),
        ("compacter[phm_dim=0]", "`phm_dim` is 0"),
        ("compacter[phm_dim=100000]", "`phm_dim` is 100000"),
        ("compacter[phm_rank=0]", "`phm_rank`"),
        ("compacter[phm_rank=None]", "`phm_rank`"),
        ("compacter[phm_c_init=zeros]", "`phm_c_init`"),
        ("compacter[phm_init_range=-1]", "`phm_init_range`"),
        ("compacter[hypercomplex_nonlinearity=relu]", "`hypercomplex_nonlinearity`"),
        ("compacter[init_weights=mam_adapter]", "`init_weights`"),
        ("compacter[shared_W_phm=True,reduction_factor={'default': 4}]", "`shared_W_phm`"),
        ("adapter_plus[stochastic_depth=1.0]", "`stochastic_depth` is 1"),
        ("houlsby[mh_adapter=False,output_adapter=False]", "`cross_adapter`"),
        ("compacter+", "`compacter+` is not the name of a method"),
    ] {
        let sites = sites(2, 32);
        let made = parse(text, &Fields::new())
            .and_then(|c| Adapter::new("task", c, Base::from(&sites), &cpu(), &mut ParamSet::new(), 1));
        let e = made.unwrap_err().to_string();
        assert!(e.contains(names), "{text}: {e}");
    }
}

#[test]
fn a_preset_that_drops_sequences_is_saved_and_loaded() {
    let (device, dir) = (cpu(), tempfile::tempdir().unwrap());
    let model = model(&device, &mut ParamSet::new(), false).model;
    let text = "adapter_plus[reduction_factor=8]";
    let a = Adapter::new("task", config(text), model.sites(), &device, &mut ParamSet::new(), 1).unwrap();
    a.save(dir.path(), &host()).unwrap();
    let card: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(dir.path().join("adapter_config.json")).unwrap())
            .unwrap();
    assert_eq!(card["config"]["stochastic_depth"], 0.1);
    let again = Adapter::load(dir.path(), &host(), model.sites(), &device, &mut ParamSet::new()).unwrap();
    let run = |pass| {
        let mut cx = Cx::new(&device, &again, pass);
        let tokens = Tokens::new(&[vec![3, 4, 5], vec![6, 7], vec![8], vec![9, 1]]);
        model.forward(&mut cx, &tokens, &Rows::All).unwrap().read().unwrap()
    };
    assert_ne!(run(Pass::train(1, 1)), run(Pass::train(1, 2)));
}

fn case_hidden(case: &Case, adapter: &Adapter, tokens: &Tokens) -> Vec<f32> {
    let mut cx = Cx::new(&case.device, adapter, Pass::infer());
    case.model.forward(&mut cx, tokens, &Rows::All).unwrap().read().unwrap()
}
#[test]
fn a_gate_weighs_each_sequence_by_its_own_rows() {
    for name in ["gated", "gated-parallel", "phm-own"] {
        let case = Case::frozen(name, &cpu());
        let adapter = case.adapter.as_ref().unwrap();
        let sequences = [vec![3, 7, 1, 9, 4], vec![5], vec![11, 6, 2, 13]];
        let all = case_hidden(&case, adapter, &Tokens::new(&sequences));
        let mut start = 0;
        for s in sequences {
            let alone = case_hidden(&case, adapter, &Tokens::new(std::slice::from_ref(&s)));
            let e = relative(&all[start * 32..][..s.len() * 32], &alone);
            assert!(e < 1e-6, "{name}: {e:.1e}");
            start += s.len();
        }
    }
}

/// A fusion reads a bottleneck in its parts: mixed evenly they are the average of what the adapters
/// give.
#[test]
fn hypercomplex_bottlenecks_are_fused_like_any_other() {
    let (device, mut set, mut params) = (cpu(), AdapterSet::new(), ParamSet::new());
    let model = model(&device, &mut ParamSet::new(), false).model;
    for name in ["compacter", "houlsby"] {
        let adapter = Adapter::load_frozen(&fixture(name), &host(), model.sites(), &device).unwrap();
        set.add(adapter.renamed(&name[..1]).unwrap()).unwrap();
    }
    let shared = config("compacter[shared_W_phm=True,phm_dim=2,reduction_factor=4,phm_init_range=0.3]");
    set.add(Adapter::new("s", shared, model.sites(), &device, &mut params, 5).unwrap()).unwrap();
    let names = ["c", "h", "s"];
    let of: Vec<&dyn Member> = names.iter().map(|n| set.get(n).unwrap() as _).collect();
    let even = fusion::parse("weighted", &Fields::new()).unwrap();
    let made = Fusion::new(even, &of, model.sites(), &device, &mut params, 7).unwrap();
    set.add_fusion(made).unwrap();
    let tokens = Tokens::new(&[vec![3, 7, 1, 9, 4], vec![5, 2, 8]]);
    let run = |setup: &str| {
        let setup: Setup = setup.parse().unwrap();
        let active = set.activate(&setup, 2).unwrap();
        let mut cx = Cx::new(&device, &active, Pass::infer());
        model.forward(&mut cx, &tokens, &Rows::All).unwrap().read().unwrap()
    };
    let (fused, average) = (run("Fuse(c, h, s)"), run("Average(c, h, s)"));
    assert!(relative(&fused, &average) < 1e-5);
    assert!(relative(&fused, &run("c")) > 1e-3, "they differ");
}

fn names(dir: &Path) -> Vec<String> {
    let file = Checkpoint::open(&dir.join("adapter.safetensors")).unwrap();
    file.names().map(String::from).collect()
}
#[test]
fn what_modules_share_is_saved_under_the_adapters_name_and_the_models_path() {
    let (device, dir) = (cpu(), tempfile::tempdir().unwrap());
    let model = model(&device, &mut ParamSet::new(), false).model;
    let load = |dir: &Path, host: &Host| Adapter::load_frozen(dir, host, model.sites(), &device);
    let a = load(&fixture("compacter"), &host()).unwrap();
    a.renamed("other").unwrap().save(dir.path(), &host()).unwrap();
    assert!(names(dir.path()).contains(&"bert.shared_parameters.other.phm_rule".into()));
    load(dir.path(), &host()).unwrap();
    // a plain `BertModel` is saved without the first part of every path
    let file = Checkpoint::open(&dir.path().join("adapter.safetensors")).unwrap();
    let short: Vec<_> = names(dir.path())
        .into_iter()
        .map(|n| {
            let shape = file.shape(&n).unwrap().to_vec();
            let data = TensorData::f32(&file.values(&n, &shape).unwrap(), &shape);
            (n.strip_prefix("bert.").unwrap().to_string(), data)
        })
        .collect();
    drop(file);
    save(&dir.path().join("adapter.safetensors"), &short).unwrap();
    let again = load(dir.path(), &host()).unwrap();
    again.save(dir.path(), &host()).unwrap();
    assert!(names(dir.path()).iter().all(|n| n.starts_with("bert.")), "{:?}", names(dir.path()));
    load(dir.path(), &host()).unwrap();
}
