//! Adapters on GPT-2 beside AdapterHub's `adapters` and PEFT: hidden states, logits, loss, every gradient, a training curve, the
//! files. The query, key and value projections are one layer here, and norms stand in front.
mod support;
use engraft_adapters::{Adapter, Format, Head, Host, export::directory};
use engraft_engine::kernels::cross_entropy::IGNORED;
use engraft_engine::{Act, Class, Cx, Device, Gradients, Param, ParamSet, Parameters, Pass, Rows};
use engraft_models::{Holding, Model, Tokens};
use serde_json::Value;
use std::path::{Path, PathBuf};
use support::{Expected, cpu, curve, files::tensors, relative};

/// Bottlenecks, LoRA in AdapterHub's grouped form and in PEFT's dense form; the model's own head, heads of language models
/// that share its embeddings, classification of the last token.
const CASES: [&str; 19] = [
    "houlsby",
    "pfeiffer",
    "parallel",
    "houlsby-class",
    "parallel-class",
    "adapter-plus",
    "norms",
    "res-before-ln",
    "gated",
    "compacter",
    "compacter++",
    "phm-shared",
    "lora-qv",
    "lora-k",
    "lora-all",
    "lora-class",
    "peft-attn",
    "peft-all",
    "peft-class",
];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gpt2").join(name)
}
fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}
struct Case {
    device: Device,
    model: Box<dyn Model>,
    host: Host,
    adapter: Adapter,
    head: Option<Head>,
    tokens: Tokens,
    /// For each sequence its label, or those of its tokens.
    labels: Vec<Value>,
}
impl Case {
    fn load(name: &str) -> Case {
        let (device, mut set, dir) = (cpu(), ParamSet::new(), fixture(name));
        let model =
            engraft_models::load_frozen(&fixture("model"), &device, Holding::default()).unwrap().model;
        let info = model.info();
        let host = Host {
            hidden_size: info.channels,
            vocabulary: info.vocabulary,
            model_class: info.class.into(),
            model_name: String::new(),
            model_type: info.family.into(),
            tied: info.is_tied,
            norm_eps: info.head_eps,
        };
        let adapter = Adapter::load(&dir, &host, model.sites(), &device, &mut set).unwrap();
        let has_head = dir.join("head_config.json").exists() || name == "peft-class";
        let head = has_head.then(|| Head::load(&dir, &host, &device, &mut set).unwrap());
        let v = json(&dir.join("input.json"));
        let ids: Vec<Vec<u32>> = serde_json::from_value(v["input_ids"].clone()).unwrap();
        let labels = v["labels"].as_array().unwrap().clone();
        Case { device, model, host, adapter, head, tokens: Tokens::new(&ids), labels }
    }
    /// (hidden states, logits, sum of the losses and their number)
    fn pass<'m>(&'m self, cx: &mut Cx<'m>) -> (Vec<f32>, Vec<f32>, (Act, usize)) {
        let hidden = self.model.forward(cx, &self.tokens, &Rows::All).unwrap();
        let h = hidden.read().unwrap();
        if let Some(labels) = self.labels.iter().map(Value::as_u64).collect::<Option<Vec<_>>>() {
            let x = cx.take_rows(&hidden, &self.model.info().summary).unwrap();
            let logits = self.head.as_ref().unwrap().forward(cx, &x, 0.0, None).unwrap();
            let labels: Vec<u32> = labels.iter().map(|l| *l as u32).collect();
            let loss = cx.cross_entropy(&logits, &labels).unwrap();
            return (h, logits.read().unwrap(), loss);
        }
        let (x, vocabulary) = self.model.to_vocabulary(cx, &hidden).unwrap().unwrap();
        let (x, last) = match &self.head {
            Some(head) => (head.features(cx, &x, 0.0).unwrap(), head.last(Some(vocabulary.w)).unwrap()),
            None => (x, vocabulary),
        };
        let logits = cx.matmul(&x, last.clone()).unwrap().read().unwrap();
        let mut targets = vec![];
        for labels in &self.labels {
            // the row in front of a token predicts it
            let of: Vec<i64> = serde_json::from_value(labels.clone()).unwrap();
            targets.extend(of[1..].iter().map(|l| u32::try_from(*l).unwrap_or(IGNORED)).chain([IGNORED]));
        }
        let loss = cx.linear_cross_entropy(&x, last, &targets).unwrap();
        (h, logits, loss)
    }
    fn gradients(&self) -> (f32, Gradients) {
        let (mut g, mut cx) = (Gradients::new(), Cx::new(&self.device, &self.adapter, Pass::gradients()));
        let (sum, count) = self.pass(&mut cx).2;
        let mean = sum.read().unwrap()[0] / count as f32;
        let dy = self.device.upload(Class::Scratch, &[1.0 / count as f32]).unwrap();
        cx.backward(&sum, dy, &mut g).unwrap();
        (mean, g)
    }
    fn visit(&self, f: &mut dyn FnMut(&Param)) {
        self.adapter.visit(f);
        self.head.iter().for_each(|h| h.visit(f));
    }
}

#[test]
fn hidden_states_logits_loss_and_gradients() {
    for name in CASES {
        let (case, want) = (Case::load(name), Expected::at(&fixture(name)));
        let mut cx = Cx::new(&case.device, &case.adapter, Pass::infer());
        let (hidden, logits, (sum, count)) = case.pass(&mut cx);
        let errors = [
            relative(&hidden, &want.get("last_hidden_state")),
            relative(&logits, &want.get("logits")),
            relative(&[sum.read().unwrap()[0] / count as f32], &want.get("loss")),
        ];
        assert!(errors.iter().all(|e| *e < 1e-5), "{name}: {errors:?}");
        let (_, g) = case.gradients();
        let (mut compared, mut worst) = (0, 0f64);
        case.visit(&mut |p| {
            let got = g.get(p).unwrap_or_else(|| panic!("{name}: {}", p.name())).read::<f32>().unwrap();
            let e = relative(&got, &want.get(&format!("grad.{}", p.name())));
            assert!(e < 1e-4, "{name}: {} {e:.1e}", p.name());
            (compared, worst) = (compared + 1, worst.max(e));
        });
        // the norm in front of a bottleneck has two names in the library's files
        let twice = want.gradients().iter().filter(|n| n.contains("adapter_norm_before")).count();
        assert_eq!(compared, want.gradients().len() - twice, "{name}: every gradient of the library");
        println!("{name}: {errors:?}, {compared} gradients {worst:.1e}");
    }
}

#[test]
fn ten_steps_of_adamw() {
    for name in CASES {
        let (mut case, how) = (Case::load(name), json(&fixture(name).join("curve.json")));
        let listed = |k: &str, n: &str| how[k].as_array().unwrap().iter().any(|x| x == n);
        case.visit(&mut |p| {
            let list = if p.role().decays { "decayed" } else { "not_decayed" };
            assert!(listed(list, p.name()), "{name}: {} is not {list}", p.name());
        });
        curve::follow(&fixture(name), |optimiser, rate| {
            let (loss, g) = case.gradients();
            let mut all: Vec<&mut dyn Parameters> = vec![&mut case.adapter];
            all.extend(case.head.as_mut().map(|h| h as &mut dyn Parameters));
            curve::update(optimiser, &mut all, &g, rate);
            loss
        });
    }
}

#[test]
fn what_is_saved_is_what_the_library_saved() {
    for name in CASES {
        let case = Case::load(name);
        let dir = tempfile::tempdir().unwrap();
        for (n, bytes) in directory(Some(&case.adapter), case.head.as_ref(), None, &case.host).unwrap() {
            std::fs::write(dir.path().join(n), bytes).unwrap();
        }
        let files = [case.adapter.format().tensors(), "model_head.safetensors"];
        for file in files.into_iter().filter(|f| fixture(name).join(f).exists()) {
            let (a, mut b) = (tensors(&dir.path().join(file)), tensors(&fixture(name).join(file)));
            if file.contains("head") && !name.ends_with("class") {
                b.pop_last(); // the table of embeddings, which the model has
            }
            assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>(), "{name} {file}");
            for (n, t) in &a {
                assert!((&t.shape, &t.bytes) == (&b[n].shape, &b[n].bytes), "{name} {n}");
            }
        }
        for file in ["adapter_config.json", "head_config.json"] {
            if fixture(name).join(file).exists() {
                let (mut a, mut b) = (json(&dir.path().join(file)), json(&fixture(name).join(file)));
                for v in [&mut a, &mut b] {
                    v.as_object_mut().unwrap().remove("modules_to_save"); // PEFT adds all heads that it knows
                    v.as_object_mut().unwrap().remove("model_class"); // with the model's own head it is another
                    let float = |v: &mut Value| *v = v.as_f64().unwrap().into(); // 4 and 4.0
                    match v["config"].get_mut("reduction_factor") {
                        Some(Value::Object(by_layer)) => by_layer.values_mut().for_each(float),
                        Some(one) => float(one),
                        None => {} // a LoRA and a head have none
                    }
                }
                assert_eq!(a, b, "{name} {file}");
            }
        }
    }
}

#[test]
fn the_grouped_form_in_pefts_dense_one() {
    for name in ["lora-qv", "lora-k", "lora-all"] {
        let case = Case::load(name);
        let dir = tempfile::tempdir().unwrap();
        for (n, bytes) in directory(Some(&case.adapter), None, Some(Format::Peft), &case.host).unwrap() {
            std::fs::write(dir.path().join(n), bytes).unwrap();
        }
        let dense = Adapter::load_frozen(dir.path(), &case.host, case.model.sites(), &case.device).unwrap();
        let run = |a: &Adapter| {
            let mut cx = Cx::new(&case.device, a, Pass::infer());
            case.model.forward(&mut cx, &case.tokens, &Rows::All).unwrap().read().unwrap()
        };
        let e = relative(&run(&dense), &run(&case.adapter));
        assert!(e < 1e-6, "{name}: {e:.1e}");
    }
}

#[test]
fn merged_where_weights_are_stored_the_other_way_round() {
    for name in ["lora-qv", "lora-k", "lora-all", "peft-attn", "peft-all"] {
        let case = Case::load(name);
        let mut merged = engraft_adapters::Merged::copy(&case.model.named()).unwrap();
        let before = merged.file().unwrap();
        merged.merge(&case.adapter).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::copy(fixture("model").join("config.json"), dir.path().join("config.json")).unwrap();
        std::fs::write(dir.path().join("model.safetensors"), merged.file().unwrap()).unwrap();
        let plain = engraft_models::load_frozen(dir.path(), &case.device, Holding::default()).unwrap().model;
        let mut cx = Cx::new(&case.device, &engraft_engine::Plain, Pass::infer());
        let got = plain.forward(&mut cx, &case.tokens, &Rows::All).unwrap().read().unwrap();
        let e = relative(&got, &Expected::at(&fixture(name)).get("last_hidden_state"));
        assert!(e < 1e-5, "{name}: {e:.1e}");
        merged.unmerge();
        assert!(merged.file().unwrap() == before, "{name}");
    }
}
