//! Methods that change what a model reads: prefixes, prompts, invertible adapters, and unions with
//! them, beside AdapterHub's
//! `adapters` and PEFT on BERT and GPT-2: hidden states, logits, loss, every gradient, a training
//! curve, the files.
mod support;
use engraft_adapters::{Adapter, Base, Fields, Format, parse};
use engraft_engine::{Act, Class, Cx, Device, ParamSet, Pass, Rows, Site, pack};
use engraft_models::Tokens;
use serde_json::json;
use support::{
    cpu,
    families::{Family, backbone, bert_base},
    faults::*,
    fixture, relative,
};

const CASES: [&str; 26] = [
    "bert-prefix",
    "bert-prefix-flat",
    "bert-prefix-gates",
    "bert-peft-prefix",
    "gpt2-prefix",
    "gpt2-prefix-flat",
    "gpt2-peft-prefix",
    "gpt2-peft-prefix-class",
    "bert-prompt",
    "bert-prompt-after-first",
    "bert-peft-prompt",
    "gpt2-peft-prompt",
    "gpt2-peft-prompt-class",
    "bert-invertible",
    "gpt2-invertible",
    "gpt2-invertible-head",
    "bert-glow",
    "gpt2-glow",
    "gpt2-glow-head",
    "bert-loreft",
    "bert-loreft-tied",
    "bert-noreft",
    "gpt2-loreft",
    "gpt2-direft",
    "bert-mam",
    "gpt2-union",
];

/// Numbers that train.
const COUNTS: [(&str, usize); 8] = [
    ("prefix_tuning", 9_872_384),
    ("prompt_tuning", 7_680),
    ("loreft", 36_888),
    ("noreft", 36_888),
    ("direft", 36_888),
    ("mam", 22_493_984),
    ("seq_bn_inv", 894_528 + 2 * (2 * 384 * 192 + 192 + 384)),
    ("seq_bn_inv[inv_adapter=glow]", 894_528 + 2 * (3 * 384 * 192 + 192 + 2 * 384)),
];
/// What cannot be, and what its refusal says.
const REFUSED: &[(&str, &[&str])] = &[
    ("prefix_tuning[prefix_length=0]", &["`prefix_length` is 0", "expected 1"]),
    ("prefix_tuning[bottleneck_size=0]", &["`bottleneck_size` is 0"]),
    ("prefix_tuning[non_linearity=xielu]", &["`non_linearity` is `xielu`"]),
    ("prefix_tuning[dropout=1]", &["`dropout` is 1", "below 1"]),
    ("prefix_tuning[leave_out=[0,1,2]]", &["nothing to train"]),
    ("prefix_tuning[leave_out=[3]]", &["leave_out", "layer 3"]),
    ("prefix_tuning[length=3]", &["unknown field `length`"]),
    ("prefix_tuning|prefix_tuning_flat", &["two members of a union"]),
    ("prompt_tuning[prompt_length=0]", &["`prompt_length` is 0", "expected 1"]),
    ("prompt_tuning[prompt_init=from_string]", &["`prompt_init`", "`random_uniform`"]),
    ("prompt_tuning[combine=suffix]", &["unknown variant `suffix`"]),
    ("prompt_tuning[combine=prefix_after_bos,has_positions=True]", &["`combine`", "`prefix`"]),
    ("seq_bn_inv[inv_adapter=other]", &["`inv_adapter` is `other`", "`nice` and `glow`"]),
    (
        "seq_bn_inv[inv_adapter=glow,inv_adapter_reduction_factor=None]",
        &["`inv_adapter_reduction_factor` is missing"],
    ),
    ("seq_bn_inv[inv_adapter_reduction_factor=0]", &["`inv_adapter_reduction_factor` is 0"]),
    ("seq_bn_inv[inv_adapter_reduction_factor=100]", &["makes 0 channels of 16"]),
    ("loreft[r=0]", &["`r` is 0"]),
    ("loreft[r=32]", &["`r` is 32", "below 32"]),
    ("loreft[prefix_positions=0]", &["`prefix_positions`", "nothing to train"]),
    ("loreft[layers=[3]]", &["`layers` is [3]", "the model has 3"]),
    ("loreft[layers=some]", &["`layers` is neither `all` nor a list"]),
    ("loreft[dropout=1]", &["`dropout` is 1"]),
    ("loreft[non_linearity=xielu]", &["`non_linearity` is `xielu`"]),
    ("loreft[dtype=float16]", &["`dtype`"]),
    ("loreft[output_reft=False]", &["nothing to train"]),
    ("loreft|noreft", &["two members of a union"]),
    ("mam[r=2]", &["`r` is a field of a member"]),
    ("mam|lora", &["a union within a union"]),
];

#[test]
fn hidden_states_logits_loss_and_gradients() {
    CASES.iter().for_each(|name| Family::load(name).agrees(name));
}
#[test]
fn ten_steps_of_adamw() {
    CASES.iter().for_each(|name| Family::load(name).learns_alike(name));
}
#[test]
fn what_is_saved_is_what_the_library_saved() {
    CASES.iter().for_each(|name| Family::load(name).saves_alike(name));
}
#[test]
fn layers_computed_again_and_bytes_foretold() {
    CASES.iter().for_each(|name| Family::recomputes_and_predicts(name));
}

#[test]
fn as_many_weights_as_the_library_on_bert_base() {
    for (text, want) in COUNTS {
        let (mut set, device) = (ParamSet::new(), Device::null(1));
        let config = parse(text, &Fields::new()).unwrap();
        Adapter::new("task", config, &bert_base(), &device, &mut set, 1).unwrap();
        assert_eq!(set.elements(), want, "{text}");
    }
}

/// A new adapter on a tiny model.
fn made(text: &str, family: &str, device: &Device) -> Result<Adapter, String> {
    let (model, _) = backbone(family, device);
    let config = parse(text, &Fields::new()).map_err(|e| e.to_string())?;
    let base = Base::from(model.sites());
    Adapter::new("task", config, base, device, &mut ParamSet::new(), 3).map_err(|e| e.to_string())
}
#[test]
fn configurations_are_taken_or_refused_by_name() {
    for (text, words) in REFUSED {
        says(made(text, "bert", &cpu()).map(drop), words);
    }
}
#[test]
fn files_of_peft_are_taken_or_refused_by_name() {
    let path = |dir: &tempfile::TempDir| dir.path().join("adapter_config.json");
    for (case, field, value, word) in [
        ("bert-peft-prefix", "num_virtual_tokens", json!(0), "expected 1 to"),
        ("bert-peft-prefix", "num_virtual_tokens", json!(5), "[4, 192]"),
        ("bert-peft-prefix", "num_transformer_submodules", json!(2), "only 1"),
        ("bert-peft-prefix", "a_new_field", json!(3), "a_new_field"),
        ("bert-peft-prompt", "num_virtual_tokens", json!("many"), "expected 1 to"),
        ("bert-peft-prompt", "num_virtual_tokens", json!(2), "[3, 32]"),
        ("bert-peft-prompt", "a_new_field", json!(3), "a_new_field"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let from = fixture(&format!("inputs/{case}"));
        std::fs::copy(from.join("adapter_model.safetensors"), dir.path().join("adapter_model.safetensors"))
            .unwrap();
        let mut v = json_of(&from.join("adapter_config.json"));
        v[field] = value;
        std::fs::write(path(&dir), v.to_string()).unwrap();
        says(try_adapter(dir.path()).map(drop), &["adapter_", word]);
    }
}
/// What trains with a generator is written without one, and gives the same numbers.
#[test]
fn a_generated_prefix_in_pefts_format() {
    for family in ["bert", "gpt2"] {
        let (text, device) = ("prefix_tuning[prefix_length=3,bottleneck_size=5,has_positions=True]", cpu());
        let (model, host) = backbone(family, &device);
        let new = made(text, family, &device).unwrap();
        assert_eq!(new.format(), Format::Peft);
        says(
            new.files_as(Format::AdapterHub, &host).map(drop).map_err(|e| e.to_string()),
            &["no prefixes with positions"],
        );
        let dir = tempfile::tempdir().unwrap();
        new.save(dir.path(), &host).unwrap();
        let again = Adapter::load_frozen(dir.path(), &host, Base::from(model.sites()), &device).unwrap();
        let run = |a: &Adapter| {
            let mut cx = Cx::new(&device, a, Pass::infer());
            let tokens = Tokens::new(&[vec![3, 4, 5], vec![6]]);
            model.forward(&mut cx, &tokens, &Rows::All).unwrap().read().unwrap()
        };
        assert!(relative(&run(&again), &run(&new)) < 1e-6, "{family}");
    }
}

#[test]
fn adapterhubs_prompts_need_a_norm_of_the_embeddings() {
    says(made("prompt_tuning", "gpt2", &cpu()).map(drop), &["has_positions"]);
    made("prompt_tuning[has_positions=True]", "gpt2", &cpu()).unwrap();
}
/// y = NICE(x) or GLOW(x), and back.
#[test]
fn an_invertible_adapter_is_undone() {
    let device = cpu();
    for text in [
        "seq_bn_inv[non_linearity=gelu]",
        "double_seq_bn_inv[inv_adapter_reduction_factor=5]",
        "seq_bn_inv[inv_adapter=glow]",
        "double_seq_bn_inv[inv_adapter=glow,inv_adapter_reduction_factor=3,non_linearity=tanh]",
    ] {
        let adapter = made(text, "gpt2", &device).unwrap();
        let x = support::noise(4, 7 * 32);
        let mut cx = Cx::new(&device, &adapter, Pass::infer());
        let act = Act::new(device.upload(Class::Scratch, &x).unwrap(), 32, pack([3, 4])).unwrap();
        let y = cx.stream(Site::EMBED, act).unwrap();
        assert!(relative(&y.read().unwrap(), &x) > 1e-4, "{text}: it does something");
        let back = cx.stream(Site::head(), y).unwrap();
        let e = relative(&back.read().unwrap(), &x);
        assert!(e < 1e-5, "{text}: {e:.1e}");
    }
}
/// R has orthonormal rows, from the start.
#[test]
fn a_new_loreft_is_orthogonal_and_so_is_its_base() {
    let adapter = made("loreft[r=3]", "bert", &cpu()).unwrap();
    let all = adapter.named();
    let bases: Vec<_> = all.iter().filter(|(n, _)| n.ends_with(".0.base")).collect();
    assert_eq!(bases.len(), 6, "two for each layer");
    for (name, base) in bases {
        let b = base.to_f32().unwrap();
        for i in 0..32 {
            for j in 0..32 {
                let dot: f32 = (0..32).map(|k| b[i * 32 + k] * b[j * 32 + k]).sum();
                assert!((dot - f32::from(u8::from(i == j))).abs() < 1e-5, "{name}: rows {i} and {j}");
            }
        }
    }
}
