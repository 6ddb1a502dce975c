//! Cases of one adapter on the tiny model of its family, with a head or the model's own.
use super::{Expected, cpu, curve, files::tensors, input, relative, relative_gradient};
use engraft_adapters::{Adapter, Base, Format, Head, Host, export::directory};
use engraft_engine::kernels::cross_entropy::IGNORED;
use engraft_engine::{
    Act, Activations, Checkpoint, Class, Cx, Device, Gradients, Param, ParamSet, Parameters, Part, Pass,
    Rows, Site, SiteInfo, SiteKind,
};
use engraft_models::{Holding, Model, Tokens};
use serde_json::Value;
use std::path::{Path, PathBuf};

pub struct Family {
    pub device: Device,
    pub model: Box<dyn Model>,
    pub host: Host,
    pub adapter: Adapter,
    pub head: Option<Head>,
    pub tokens: Tokens,
    /// For each sequence its label, or those of its tokens.
    labels: Vec<Value>,
    directory: PathBuf,
}
pub fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}
/// Token ids of every sequence, if there are such.
pub fn lists(v: &Value, name: &str) -> Option<Vec<Vec<u32>>> {
    serde_json::from_value(v.get(name)?.clone()).ok()
}
/// Every family that has a tiny model among the fixtures: `bert`, `encoders/roberta`.
pub fn all() -> Vec<String> {
    let root = super::fixture("./");
    let (mut found, mut left) = (vec![], vec![root.clone()]);
    while let Some(dir) = left.pop() {
        let inside = std::fs::read_dir(&dir).unwrap().map(|f| f.unwrap().path());
        left.extend(inside.filter(|p| p.is_dir() && !p.ends_with("generation")));
        if dir.join("model/config.json").exists() {
            found.push(dir.strip_prefix(&root).unwrap().to_str().unwrap().to_string());
        }
    }
    found.sort();
    found
}
/// The names of the folders of a case or a family, in order.
pub fn folders(of: &str) -> Vec<String> {
    let dirs = std::fs::read_dir(super::fixture(of)).unwrap().map(|f| f.unwrap());
    let dirs = dirs.filter(|d| d.path().is_dir());
    let mut names: Vec<String> = dirs.map(|d| d.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
/// The frozen model of a family, and what files say of it.
pub fn backbone(family: &str, device: &Device) -> (Box<dyn Model>, Host) {
    let directory = super::fixture(&format!("{family}/model"));
    let model = engraft_models::load_frozen(&directory, device, Holding::default()).unwrap().model;
    let host = super::host_of(&*model);
    (model, host)
}
/// The sites of a model of BERT-base's shape: those of the tiny one's first layer, twelve times and
/// wider.
pub fn bert_base() -> Vec<SiteInfo> {
    let (model, _) = backbone("bert", &cpu());
    let wide = |n: usize| if n == 32 { 768 } else { 3072 };
    let mut sites = vec![];
    for l in 0..12 {
        for i in model.sites().iter().filter(|i| i.site.layer == 0 && (i.site.part != Part::Embed || l == 0))
        {
            let kind = match i.kind {
                SiteKind::Stream { .. } => SiteKind::Stream { channels: 768 },
                SiteKind::Prefix { .. } => SiteKind::Prefix { channels: 768 },
                SiteKind::Norm { .. } => SiteKind::Norm { channels: 768 },
                SiteKind::Close { .. } => SiteKind::Close { channels: 768 },
                SiteKind::Linear { input, output, parts, in_out, bias } => {
                    SiteKind::Linear { input: wide(input), output: wide(output), parts, in_out, bias }
                }
            };
            let site = Site { layer: l, ..i.site };
            sites.push(SiteInfo::new(site, kind, i.path.replace("layer.0", &format!("layer.{l}"))));
        }
    }
    sites
}
impl Family {
    /// `inputs/{family}-...`, or `{folder}/{family}-...`, or `{family}/...`
    pub fn load(name: &str) -> Family {
        Family::on(name, &cpu())
    }
    pub fn on(name: &str, device: &Device) -> Family {
        let path = if name.contains('/') { name.into() } else { format!("inputs/{name}") };
        let (directory, mut set) = (super::fixture(&path), ParamSet::new());
        let (folder, case) = path.rsplit_once('/').unwrap();
        let has_model = super::fixture(&format!("{folder}/model")).exists();
        let family = if has_model { folder } else { case.split('-').next().unwrap() };
        let (model, host) = backbone(family, device);
        let adapter = {
            let named = model.named();
            let base = Base::new(model.sites(), &named);
            Adapter::load(&directory, &host, base, device, &mut set).unwrap()
        };
        let head = Head::find(&directory, &host, device, &mut set).unwrap();
        let v = json(&directory.join("input.json"));
        let tokens = match v.get("token_type_ids") {
            Some(_) => input(&path).0,
            None => Tokens::new(&lists(&v, "input_ids").unwrap()),
        };
        let tokens = match lists(&v, "decoder_input_ids") {
            Some(target) => tokens.with_target(&target),
            None => tokens,
        };
        let labels = v["labels"].as_array().unwrap().clone();
        Family { device: device.clone(), model, host, adapter, head, tokens, labels, directory }
    }
    /// (hidden states of all tokens, logits, sum of the losses and their number)
    pub fn pass<'m>(&'m self, cx: &mut Cx<'m>, rows: &Rows) -> (Vec<f32>, Vec<f32>, (Act, usize)) {
        let hidden = self.model.forward(cx, &self.tokens, rows).unwrap();
        let h = hidden.read().unwrap();
        if let Some(labels) = self.labels.iter().map(Value::as_u64).collect::<Option<Vec<_>>>() {
            let head = self.head.as_ref().unwrap();
            // what stands for a sequence may be no token
            let summary = match rows {
                Rows::All => {
                    let x = self.model.forward(cx, &self.tokens, &self.model.info().summary).unwrap();
                    cx.take_rows(&x, &self.model.info().summary).unwrap()
                }
                _ => hidden,
            };
            let x = match head.config().use_pooler() {
                true => self.model.pool(cx, &summary).unwrap(),
                false => summary,
            };
            let logits = head.forward(cx, &x, 0.0, None).unwrap();
            let labels: Vec<u32> = labels.iter().map(|l| *l as u32).collect();
            let loss = cx.cross_entropy(&logits, &labels).unwrap();
            return (h, logits.read().unwrap(), loss);
        }
        let features = self.head.as_ref().map(|head| head.features(cx, &hidden, 0.0).unwrap());
        let (x, own) = self.model.to_vocabulary(cx, features.as_ref().unwrap_or(&hidden)).unwrap().unwrap();
        let last = match &self.head {
            Some(head) => head.last(Some(own.w)).unwrap(),
            None => own,
        };
        let logits = cx.matmul(&x, last.clone()).unwrap().read().unwrap();
        let mut targets = vec![];
        for labels in &self.labels {
            let of: Vec<i64> = serde_json::from_value(labels.clone()).unwrap();
            let of: Vec<u32> = of.iter().map(|l| u32::try_from(*l).unwrap_or(IGNORED)).collect();
            match self.tokens.target {
                Some(_) => targets.extend(of), // what is read has been shifted
                None => targets.extend(of[1..].iter().chain([&IGNORED])), // the row in front of a token predicts it
            }
        }
        let loss = cx.linear_cross_entropy(&x, last, &targets).unwrap();
        (h, logits, loss)
    }
    /// The mean loss and all gradients of a pass in which only the rows that are read are computed.
    pub fn gradients(&self, policy: &Activations, pass: Pass) -> (f32, Gradients) {
        let mut g = Gradients::new();
        let mut cx = Cx::new(&self.device, &self.adapter, pass).with_activations(policy);
        let rows = if self.labels[0].is_u64() { self.model.info().summary.clone() } else { Rows::All };
        let (sum, count) = self.pass(&mut cx, &rows).2;
        let mean = sum.read().unwrap()[0] / count as f32;
        let dy = self.device.upload(Class::Scratch, &[1.0 / count as f32]).unwrap();
        cx.backward(&sum, dy, &mut g).unwrap();
        (mean, g)
    }
    pub fn visit(&self, f: &mut dyn FnMut(&Param)) {
        self.adapter.visit(f);
        self.head.iter().for_each(|h| h.visit(f));
    }
    pub fn hidden(&self, adapter: &Adapter) -> Vec<f32> {
        let mut cx = Cx::new(&self.device, adapter, Pass::infer());
        self.model.forward(&mut cx, &self.tokens, &Rows::All).unwrap().read().unwrap()
    }
    /// Hidden states, logits, loss and every gradient are those of the library.
    pub fn agrees(&self, name: &str) {
        let want = Expected::at(&self.directory);
        let mut cx = Cx::new(&self.device, &self.adapter, Pass::infer());
        let (hidden, logits, (sum, count)) = self.pass(&mut cx, &Rows::All);
        let errors = [
            relative(&hidden, &want.get("last_hidden_state")),
            relative(&logits, &want.get("logits")),
            relative(&[sum.read().unwrap()[0] / count as f32], &want.get("loss")),
        ];
        assert!(errors.iter().all(|e| *e < 1e-5), "{name}: {errors:?}");
        let (_, g) = self.gradients(&Activations::default(), Pass::gradients());
        let (mut compared, mut worst) = (0, 0f64);
        self.visit(&mut |p| {
            let got = g.get(p).unwrap_or_else(|| panic!("{name}: {}", p.name())).read::<f32>().unwrap();
            let e = relative_gradient(&got, &want.get(&format!("grad.{}", p.name())));
            assert!(e < 1e-4, "{name}: {} {e:.1e}", p.name());
            (compared, worst) = (compared + 1, worst.max(e));
        });
        // the norm in front of a bottleneck has two names in the library's files
        let twice = want.gradients().iter().filter(|n| n.contains("adapter_norm_before")).count();
        assert_eq!(compared, want.gradients().len() - twice, "{name}: every gradient of the library");
        println!("{name}: {errors:?}, {compared} gradients {worst:.1e}");
    }
    /// Ten steps of training, with weights that decay where the library's do.
    pub fn learns_alike(mut self, name: &str) {
        let how = json(&self.directory.join("curve.json"));
        let listed = |k: &str, n: &str| how[k].as_array().unwrap().iter().any(|x| x == n);
        self.visit(&mut |p| {
            let list = if p.role().decays { "decayed" } else { "not_decayed" };
            assert!(listed(list, p.name()), "{name}: {} is not {list}", p.name());
        });
        curve::follow(&self.directory.clone(), |optimiser, rate| {
            let (loss, g) = self.gradients(&Activations::default(), Pass::gradients());
            let mut all: Vec<&mut dyn Parameters> = vec![&mut self.adapter];
            all.extend(self.head.as_mut().map(|h| h as &mut dyn Parameters));
            curve::update(optimiser, &mut all, &g, rate);
            loss
        });
    }
    /// What is saved has the library's configuration, and its tensors under one name each; it reads
    /// back.
    pub fn saves_alike(&self, name: &str) {
        let dir = tempfile::tempdir().unwrap();
        for (n, bytes) in directory(Some(&self.adapter), self.head.as_ref(), None, &self.host).unwrap() {
            std::fs::write(dir.path().join(n), bytes).unwrap();
        }
        let format = self.adapter.format();
        let saved = tensors(&dir.path().join(format.tensors()));
        let file =
            format.readable().map(|f| self.directory.join(f)).into_iter().find(|f| f.exists()).unwrap();
        let theirs = Checkpoint::open(&file).unwrap();
        for n in theirs.names().filter(|n| !n.contains(".prefix_tuning.pool.")) {
            let t = saved.get(n).unwrap_or_else(|| panic!("{name}: no {n}"));
            assert_eq!(&t.shape, theirs.shape(n).unwrap(), "{name} {n}");
            assert!(t.values() == theirs.values(n, &t.shape).unwrap(), "{name} {n}");
        }
        assert!(saved.keys().all(|n| theirs.has(n)), "{name}: {:?}", saved.keys());
        let (mut a, mut b) = (
            json(&dir.path().join("adapter_config.json")),
            json(&self.directory.join("adapter_config.json")),
        );
        for v in [&mut a, &mut b] {
            v.as_object_mut().unwrap().remove("modules_to_save"); // PEFT adds all heads that it knows
            v.as_object_mut().unwrap().remove("model_class"); // with the model's own head it is another
            whole_numbers(v);
        }
        assert_eq!(a, b, "{name}");
        let again =
            Adapter::load_frozen(dir.path(), &self.host, Base::from(self.model.sites()), &self.device)
                .unwrap();
        assert!(self.hidden(&again) == self.hidden(&self.adapter), "{name}");
        assert_eq!(format == Format::Peft, again.format() == Format::Peft);
    }
    /// Layers that are computed again give the same bits, and the Null device knows every byte.
    pub fn recomputes_and_predicts(name: &str) {
        use engraft_engine::Keep;
        let run = |device: &Device, keep| {
            let case = Family::on(name, device);
            let (loss, g) = case.gradients(&Activations::all(keep), Pass::train(3, 1));
            let mut all = vec![loss];
            case.visit(&mut |p| all.extend(g.get(p).unwrap().read::<f32>().unwrap()));
            (all, device.ledger().usage())
        };
        let (kept, again) = (run(&cpu(), Keep::F32), run(&cpu(), Keep::Recompute));
        assert!(kept.0 == again.0, "{name}: computed again");
        for (keep, measured) in [(Keep::F32, kept.1), (Keep::Recompute, again.1)] {
            assert_eq!(run(&Device::null(2), keep).1, measured, "{name}: {keep:?}");
        }
    }
}
/// 4 and 4.0 are one number.
fn whole_numbers(v: &mut Value) {
    match v {
        Value::Number(n) => *v = n.as_f64().unwrap().into(),
        Value::Array(all) => all.iter_mut().for_each(whole_numbers),
        Value::Object(all) => all.values_mut().for_each(whole_numbers),
        _ => {}
    }
}
