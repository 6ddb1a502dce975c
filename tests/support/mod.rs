//! Fixtures made with the reference libraries (`tests/reference/bert.py`), and how to compare with
//! them.
#![allow(dead_code)] // each test file uses its part

pub mod composed;
pub mod curve;
pub mod differences;
pub mod families;
pub mod faults;
pub mod files;
pub mod grafted;
pub mod made;
pub mod torch;

use engraft_adapters::{Adapter, Head, Host, Merged, heads::Classification};
use engraft_engine::checkpoint::{TensorData, save};
use engraft_engine::{
    Act, Activations, AdamW, Checkpoint, Class, Cx, Device, Gradients, Hooks, Norms, Param, ParamSet,
    Parameters, Pass, Plain, Site,
};
use engraft_models::{Holding, Kind, Loaded, Model, Rows, Target, Tokens};
use std::path::{Path, PathBuf};

/// `tests/fixtures/<name>`, or `tests/fixtures/bert/<name>` where the name has no folder.
pub fn fixture(name: &str) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    if name.contains('/') { fixtures.join(name) } else { fixtures.join("bert").join(name) }
}
/// A tensor of a case's `expected.safetensors`.
pub struct Expected(Checkpoint);
impl Expected {
    pub fn of(case: &str) -> Expected {
        Expected::at(&fixture(case))
    }
    /// Those in the directory of a case.
    pub fn at(case: &Path) -> Expected {
        Expected(Checkpoint::open(&case.join("expected.safetensors")).unwrap())
    }
    pub fn get(&self, name: &str) -> Vec<f32> {
        let shape = self.0.shape(name).unwrap_or_else(|| panic!("no {name}")).to_vec();
        self.0.values(name, &shape).unwrap()
    }
    /// The names of all tensors.
    pub fn all(&self) -> Vec<String> {
        self.0.names().map(String::from).collect()
    }
    pub fn gradients(&self) -> Vec<String> {
        self.0.names().filter_map(|n| n.strip_prefix("grad.")).map(String::from).collect()
    }
}
/// The ragged batch of a case.
pub fn input(case: &str) -> (Tokens, Vec<u32>) {
    let text = std::fs::read_to_string(fixture(case).join("input.json")).unwrap();
    let v: serde_json::Value = serde_json::from_str(&text).unwrap();
    let numbers = |v: &serde_json::Value| {
        v.as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as u32).collect::<Vec<_>>()
    };
    let rows = |k: &str| v[k].as_array().unwrap().iter().map(numbers).collect::<Vec<_>>();
    let (ids, types) = (rows("input_ids"), rows("token_type_ids"));
    let tokens = Tokens { types: types.concat(), ..Tokens::new(&ids) };
    (tokens, if v["labels"].is_null() { vec![] } else { numbers(&v["labels"]) })
}
/// With a target as long as the tokens, for a model that reads one.
pub fn of_kind(model: &dyn Model, tokens: Tokens) -> Tokens {
    let Kind::EncoderDecoder { .. } = model.info().kind else { return tokens };
    let target = Target { ids: tokens.ids.clone(), lengths: tokens.lengths.clone() };
    Tokens { target: Some(target), ..tokens }
}
/// One sequence of a batch by itself.
pub fn alone(tokens: &Tokens, i: usize) -> Tokens {
    let of = |ids: &[u32], lengths: &[usize]| {
        let from: usize = lengths[..i].iter().sum();
        ids[from..from + lengths[i]].to_vec()
    };
    let one = Tokens::new(&[of(&tokens.ids, &tokens.lengths)]);
    match &tokens.target {
        Some(target) => one.with_target(&[of(&target.ids, &target.lengths)]),
        None => one,
    }
}
/// `n` reproducible values in (-2, 2), roughly normal.
pub fn noise(seed: u64, n: usize) -> Vec<f32> {
    let mut s = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut uniform = move || {
        s = s.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (s >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..n).map(|_| uniform() + uniform() + uniform() + uniform() - 2.0).collect()
}
/// max |got - want| over the largest |want|.
pub fn relative(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len());
    let top = want.iter().fold(1e-30f64, |m, x| m.max(f64::from(x.abs())));
    got.iter().zip(want).fold(0.0, |m, (g, w)| {
        let d = f64::from((g - w).abs()) / top;
        if d.is_nan() { f64::INFINITY } else { d.max(m) }
    })
}
/// The same for gradients, some of which are zero in exact arithmetic (that of a bias of keys): of
/// those max |got|.
pub fn relative_gradient(got: &[f32], want: &[f32]) -> f64 {
    let top = |x: &[f32]| x.iter().fold(0f64, |m, x| m.max(f64::from(x.abs())));
    if top(want) < 1e-7 { top(got) } else { relative(got, want) }
}
pub fn host() -> Host {
    Host {
        hidden_size: 32,
        embedding_size: 32,
        vocabulary: 61,
        model_class: "BertAdapterModel".into(),
        model_name: String::new(),
        model_type: "bert".into(),
        tied: true,
        norm_eps: 1e-12,
        fingerprint: None,
    }
}

/// What files say of a model.
pub fn host_of(model: &dyn Model) -> Host {
    let info = model.info();
    Host {
        hidden_size: info.channels,
        embedding_size: info.embedding,
        vocabulary: info.vocabulary,
        model_class: info.class.into(),
        model_name: String::new(),
        model_type: info.family.into(),
        tied: info.is_tied,
        norm_eps: info.head_eps,
        fingerprint: None,
    }
}
/// The tiny model of a family with weights that an adapter is merged into, saved and loaded.
pub fn merged_model(merged: &Merged, family: &str, device: &Device) -> Box<dyn Model> {
    let dir = tempfile::tempdir().unwrap();
    let config = fixture(&format!("{family}/model")).join("config.json");
    std::fs::copy(config, dir.path().join("config.json")).unwrap();
    std::fs::write(dir.path().join("model.safetensors"), merged.file().unwrap()).unwrap();
    engraft_models::load_frozen(dir.path(), device, Holding::default()).unwrap().model
}

/// A case: the tiny model, and its adapter and head, which train or do not.
pub struct Case {
    pub device: Device,
    pub model: Box<dyn Model>,
    pub adapter: Option<Adapter>,
    pub head: Head,
    pub set: ParamSet,
    pub tokens: Tokens,
    pub labels: Vec<u32>,
    /// Which rows of the last layer are computed.
    pub rows: Rows,
}
/// Threads every test runs with unless it says otherwise.
pub fn cpu() -> Device {
    Device::cpu(2).unwrap()
}
pub fn model(device: &Device, set: &mut ParamSet, train: bool) -> Loaded {
    let dir = fixture("model");
    match train {
        true => engraft_models::load_trained(&dir, device, set),
        false => engraft_models::load_frozen(&dir, device, Holding::default()),
    }
    .unwrap()
}
/// One step without clipping.
pub fn step(o: &mut AdamW, of: &mut [&mut dyn Parameters], g: &Gradients, lr: f64, scale: f64) {
    o.step(of, g, &Norms::default(), lr, scale).unwrap();
}
/// The rows that a classification head reads: through the pooler if it asks for that.
pub fn pooled<'m>(cx: &mut Cx<'m>, model: &'m dyn Model, hidden: &Act, pooler: bool) -> Act {
    cx.enter(Site::head());
    let x = cx.take_rows(hidden, &model.info().summary).unwrap();
    if pooler { model.pool(cx, &x).unwrap() } else { x }
}
/// The head of `BertForSequenceClassification` (`classifier`), as a head of AdapterHub: the same
/// layer under other names.
fn classifier(dir: &Path) -> PathBuf {
    let to =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("classifier-{:?}", std::thread::current().id()));
    std::fs::create_dir_all(&to).unwrap();
    let from = Checkpoint::open(&dir.join("model_head.safetensors")).unwrap();
    let tensors: Vec<_> = ["weight", "bias"]
        .map(|n| {
            let name = format!("classifier.{n}");
            let shape = from.shape(&name).unwrap().to_vec();
            (format!("heads.full.1.{n}"), TensorData::f32(&from.values(&name, &shape).unwrap(), &shape))
        })
        .into();
    save(&to.join("model_head.safetensors"), &tensors).unwrap();
    let labels: Vec<String> = (0..from.shape("classifier.bias").unwrap()[0]).map(|i| i.to_string()).collect();
    let mut config = serde_json::json!(Classification::linear(&labels, true));
    config["head_type"] = "classification".into();
    let card = serde_json::json!({"config": config, "name": "full"});
    std::fs::write(to.join("head_config.json"), card.to_string()).unwrap();
    to
}
impl Case {
    /// With an adapter and a head that train.
    pub fn load(name: &str, device: &Device) -> Case {
        Case::with(name, device, true)
    }
    /// With an adapter and a head that do not.
    pub fn frozen(name: &str, device: &Device) -> Case {
        Case::with(name, device, false)
    }
    /// With an adapter and a head that train, and another `config` in the adapter's file.
    pub fn changed(name: &str, device: &Device, change: impl FnOnce(&mut serde_json::Value)) -> Case {
        let (to, from) = (tempfile::tempdir().unwrap(), fixture(name));
        for file in std::fs::read_dir(&from).unwrap().map(|f| f.unwrap().path()) {
            std::fs::copy(&file, to.path().join(file.file_name().unwrap())).unwrap();
        }
        let path = to.path().join("adapter_config.json");
        let mut card: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        change(&mut card["config"]);
        std::fs::write(&path, card.to_string()).unwrap();
        Case::at(name, to.path(), device, true)
    }
    fn with(name: &str, device: &Device, trains: bool) -> Case {
        Case::at(name, &fixture(name), device, trains)
    }
    fn at(name: &str, dir: &Path, device: &Device, trains: bool) -> Case {
        let mut set = ParamSet::new();
        let full = name == "full";
        let model = model(device, &mut set, full).model;
        let sites = model.sites();
        let adapter = (!full).then(|| match trains {
            true => Adapter::load(dir, &host(), sites, device, &mut set).unwrap(),
            false => Adapter::load_frozen(dir, &host(), sites, device).unwrap(),
        });
        let head = if full { classifier(dir) } else { dir.to_path_buf() };
        let head = match trains {
            true => Head::load(&head, &host(), device, &mut set).unwrap(),
            false => Head::load_frozen(&head, &host(), device).unwrap(),
        };
        let (tokens, labels) = input(name);
        Case { device: device.clone(), model, adapter, head, set, tokens, labels, rows: Rows::All }
    }
    pub fn hooks(&self) -> &dyn Hooks {
        self.adapter.as_ref().map_or(&Plain as &dyn Hooks, |a| a)
    }
    /// (last hidden state, logits, loss) of a pass; gradients are added to `into`. Also how many
    /// operations were recorded.
    pub fn pass(&self, pass: Pass, into: &mut Gradients) -> (Vec<f32>, Vec<f32>, f32, usize) {
        self.pass_with(&Activations::default(), pass, into)
    }
    /// The same, with layers that keep what `policy` says.
    pub fn pass_with(
        &self,
        policy: &Activations,
        pass: Pass,
        into: &mut Gradients,
    ) -> (Vec<f32>, Vec<f32>, f32, usize) {
        let mut cx = Cx::new(&self.device, self.hooks(), pass).with_activations(policy);
        let hidden = self.model.forward(&mut cx, &self.tokens, &self.rows).unwrap();
        let pooled = self.pooled(&mut cx, &hidden);
        let logits = self.head.forward(&mut cx, &pooled, self.model.info().head_dropout, None).unwrap();
        let (loss, count) = cx.cross_entropy(&logits, &self.labels).unwrap();
        let mean = loss.read().unwrap()[0] / count as f32;
        let out = (hidden.read().unwrap(), logits.read().unwrap(), mean, cx.recorded());
        drop(hidden);
        if out.3 > 0 {
            let dy = self.device.upload(Class::Scratch, &[1.0 / count as f32]).unwrap();
            cx.backward(&loss, dy, into).unwrap();
        }
        out
    }
    /// The rows that the head reads.
    pub fn pooled<'m>(&'m self, cx: &mut Cx<'m>, hidden: &Act) -> Act {
        pooled(cx, &*self.model, hidden, self.head.config().use_pooler())
    }
    /// Every `Param`, with its gradient.
    pub fn gradients(&self, g: &Gradients) -> Vec<(String, Option<Vec<f32>>)> {
        let mut v = vec![];
        let mut f = |p: &Param| v.push((p.name().to_string(), g.get(p).map(|b| b.read::<f32>().unwrap())));
        self.model.visit(&mut f);
        self.adapter.iter().for_each(|a| a.visit(&mut f));
        self.head.visit(&mut f);
        v
    }
    /// Everything that may train.
    pub fn parameters(&mut self) -> Vec<&mut dyn Parameters> {
        let mut v: Vec<&mut dyn Parameters> = vec![];
        v.extend(self.adapter.as_mut().map(|a| a as &mut dyn Parameters));
        v.push(&mut self.head);
        v.push(&mut *self.model);
        v
    }
}
