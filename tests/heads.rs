//! Heads beside AdapterHub's and transformers': tagging, heads of language models, and their files.
mod support;
use engraft_adapters::{
    Adapter, Head, Host,
    export::directory,
    heads::{CausalLm, Classification, HEADS, Tagging},
};
use engraft_engine::checkpoint::{TensorData, save};
use engraft_engine::{
    Class, Cx, Gradients, ParamSet, Parameters, Pass, Rows, kernels::cross_entropy::IGNORED,
};
use engraft_models::{Holding, Tokens};
use serde_json::Value;
use support::{Expected, cpu, faults::json_of, files::tensors, fixture, host_of, relative};

#[test]
fn tags_of_tokens() {
    for (name, model) in [
        ("tagging/houlsby", "bert/model"),
        ("tagging/lora-two-layers", "bert/model"),
        ("tagging/gpt2-houlsby", "gpt2/model"),
        ("tagging/peft", "bert/model"),
        ("tagging/llama-peft", "llama/model"),
    ] {
        let (device, mut set, dir) = (cpu(), ParamSet::new(), fixture(name));
        let model = engraft_models::load_frozen(&fixture(model), &device, Holding::default()).unwrap().model;
        let host = host_of(&*model);
        let adapter = Adapter::load(&dir, &host, model.sites(), &device, &mut set).unwrap();
        let head = Head::load(&dir, &host, &device, &mut set).unwrap();
        assert!(head.config().is::<Tagging>().is_some() && !head.config().use_pooler());
        let v = json_of(&dir.join("input.json"));
        let lists =
            |key: &str| -> Vec<Vec<i64>> { serde_json::from_value(v[key].clone()).unwrap_or_default() };
        let ids: Vec<Vec<u32>> =
            lists("input_ids").iter().map(|s| s.iter().map(|x| *x as u32).collect()).collect();
        let types = lists("token_type_ids").concat().iter().map(|x| *x as u32).collect::<Vec<_>>();
        let mut tokens = Tokens::new(&ids);
        if !types.is_empty() {
            tokens.types = types;
        }
        let labels: Vec<u32> =
            lists("labels").concat().iter().map(|l| u32::try_from(*l).unwrap_or(IGNORED)).collect();
        let mut cx = Cx::new(&device, &adapter, Pass::gradients());
        let hidden = model.forward(&mut cx, &tokens, &Rows::All).unwrap();
        let logits = head.forward(&mut cx, &hidden, 0.0, None).unwrap();
        let z = logits.read().unwrap();
        let (sum, count) = cx.cross_entropy(&logits, &labels).unwrap();
        let mean = sum.read().unwrap()[0] / count as f32;
        let want = Expected::of(name);
        let errors = [relative(&z, &want.get("logits")), relative(&[mean], &want.get("loss"))];
        assert!(errors.iter().all(|e| *e < 1e-5), "{name}: {errors:?}");
        let mut g = Gradients::new();
        cx.backward(&sum, device.upload(Class::Scratch, &[1.0 / count as f32]).unwrap(), &mut g).unwrap();
        let mut compared = 0;
        let mut compare = |p: &engraft_engine::Param| {
            let e =
                relative(&g.get(p).unwrap().read::<f32>().unwrap(), &want.get(&format!("grad.{}", p.name())));
            assert!(e < 1e-4, "{name}: {} {e:.1e}", p.name());
            compared += 1;
        };
        adapter.visit(&mut compare);
        head.visit(&mut compare);
        assert_eq!(compared, want.gradients().len(), "{name}: every gradient of the library");
        // the head goes back to where it was
        let files = directory(Some(&adapter), Some(&head), None, &host).unwrap();
        let file = adapter.format().tensors();
        let to = tempfile::tempdir().unwrap();
        std::fs::write(to.path().join(file), &files.iter().find(|(n, _)| n == file).unwrap().1).unwrap();
        assert!(tensors(&to.path().join(file)).keys().eq(tensors(&dir.join(file)).keys()), "{name}");
    }
}
fn host(family: &str) -> Host {
    Host { model_type: family.into(), ..support::host() }
}

#[test]
fn language_model_heads_with_and_without_a_matrix_of_their_own() {
    for name in ["converted", "one-layer", "two-layers", "three-layers"] {
        let dir = fixture(&format!("heads/{name}"));
        let file = tensors(&dir.join("model_head.safetensors"));
        for tied in [true, false] {
            let host = Host { tied, model_class: "GPT2AdapterModel".into(), ..host("gpt2") };
            let head = Head::load_frozen(&dir, &host, &cpu()).unwrap();
            let config = head.config().is::<CausalLm>().unwrap();
            let named = head.named();
            // the library writes the table of embeddings, which a tied head does not hold
            assert_eq!(named.len(), file.len() - usize::from(tied), "{name}");
            assert!(named.iter().all(|(n, t)| file[n].values() == t.to_f32().unwrap()), "{name}");
            assert_eq!((head.labels().len(), config.shift_labels), (0, true));
            let to = tempfile::tempdir().unwrap();
            head.save(to.path(), &host).unwrap();
            let card = |d: &std::path::Path| json_of(&d.join("head_config.json"));
            let without_class = |mut v: Value| {
                v.as_object_mut().unwrap().remove("model_class");
                v
            };
            assert_eq!(without_class(card(to.path())), without_class(card(&dir)), "{name}");
            Head::load_frozen(to.path(), &host, &cpu()).unwrap(); // with or without the matrix
        }
    }
    // that of the model's class by itself is AdapterHub's after its loader has taken it over
    let host = Host { vocabulary: 97, tied: false, ..host("gpt2") };
    let [built_in, converted] = ["built-in", "converted"]
        .map(|name| Head::load_frozen(&fixture(&format!("heads/{name}")), &host, &cpu()).unwrap());
    assert_eq!(built_in.config().fields().unwrap(), converted.config().fields().unwrap());
    assert_eq!(built_in.named()[0].1.to_f32().unwrap(), converted.named()[0].1.to_f32().unwrap());
    assert_eq!(built_in.named()[0].0, "heads.default.0.weight");
}

#[test]
fn a_head_takes_its_own_tensors_and_no_others() {
    let (device, host) = (cpu(), support::host());
    let labels = ["a", "b"].map(String::from);
    let mut set = ParamSet::new();
    let head = Head::new("ab", Classification::new(&labels), &host, &device, &mut set, 1).unwrap();
    let names: Vec<_> = head.named().into_iter().map(|(n, _)| n).collect();
    assert_eq!(names, ["heads.ab.1.weight", "heads.ab.1.bias", "heads.ab.4.weight", "heads.ab.4.bias"]);
    let own = Host { tied: false, ..host.clone() };
    let lm = Head::new("lm", CausalLm::new(61, 32), &own, &device, &mut set, 1).unwrap();
    assert_eq!(lm.named().len(), 1);
    let tied = Head::new("lm", CausalLm::new(61, 32), &host, &device, &mut set, 1).unwrap();
    assert!(tied.named().is_empty() && tied.last(None).unwrap_err().to_string().contains("embeddings"));
    let tags = Head::new("t", Tagging::new(&labels), &host, &device, &mut set, 1).unwrap();
    assert_eq!(tags.labels(), labels);
}

#[test]
fn the_head_of_every_class_of_transformers_with_one_layer() {
    let (device, host) = (cpu(), Host { tied: false, ..host("bert") });
    for (kind, class) in HEADS.iter().flat_map(|t| t.built_in.iter().map(move |b| (t, b))) {
        let named: Vec<&str> = class.modules.iter().flatten().copied().collect();
        let [module] = named[..] else { continue };
        let (dir, fields) = (tempfile::tempdir().unwrap(), (class.fields)());
        let (rows, has_bias) = match kind.name {
            "multiple_choice" => (1, true),
            "question_answering" => (2, true),
            _ if class.labelled => (3, fields["bias"].as_bool().unwrap_or(true)),
            _ => (host.vocabulary, fields["bias"].as_bool().unwrap_or(false)),
        };
        let values = support::noise(1, rows * 32);
        let mut all = vec![(format!("{module}.weight"), TensorData::f32(&values, &[rows, 32]))];
        if has_bias {
            all.push((format!("{module}.bias"), TensorData::f32(&values[..rows], &[rows])));
        }
        save(&dir.path().join("model_head.safetensors"), &all).unwrap();
        let card = serde_json::json!({"config": null, "model_class": class.class, "model_type": "bert",
            "hidden_size": 32, "num_labels": 3, "label2id": null, "name": null});
        std::fs::write(dir.path().join("head_config.json"), card.to_string()).unwrap();
        let head = Head::load_frozen(dir.path(), &host, &device).unwrap();
        assert_eq!(head.config().head_type(), kind.name, "{}", class.class);
        let n = head.named().len();
        assert_eq!(n, 1 + usize::from(has_bias), "{}", class.class);
        assert!(head.named()[0].1.to_f32().unwrap() == values, "{}", class.class);
    }
}
