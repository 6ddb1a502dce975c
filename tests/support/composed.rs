//! Setups of saved adapters on the tiny models, as `tests/reference/compose.py` has them.
use super::{Expected, families::lists, fixture, host_of, relative};
use engraft_adapters::{Active, Adapter, AdapterSet, Compat, Fusion, Setup};
use engraft_engine::{
    Act, Activations, Class, Cx, Device, Gradients, Hooks, Param, ParamSet, Parameters, Pass,
};
use engraft_models::{Holding, Model, Rows, Tokens};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A case of `tests/reference/compose.py`.
pub struct Composed {
    pub device: Device,
    pub name: String,
    pub setup: Setup,
    pub model: Box<dyn Model>,
    pub set: AdapterSet,
    pub tokens: Tokens,
    pub skip: Vec<usize>,
    pub compat: Compat,
    /// Of the library's fusion: (layer, place, mean share of each adapter).
    pub shares: Vec<(usize, String, Vec<f64>)>,
}
/// Where the cases of a family are.
fn folder_of(family: &str) -> PathBuf {
    let own = family.contains('/'); // `encoders/roberta`
    fixture(&if own { format!("{family}/compose") } else { format!("compose/{family}") })
}
/// What the library computed for a family.
pub fn expected(family: &str) -> Expected {
    Expected::at(&folder_of(family))
}
pub fn cases(family: &str, device: &Device) -> Vec<Composed> {
    let folder = folder_of(family);
    let cases: Value =
        serde_json::from_str(&std::fs::read_to_string(folder.join("cases.json")).unwrap()).unwrap();
    let numbers = |v: &Value| v.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as u32).collect();
    let sequences = lists(&cases, "sequences").unwrap();
    let targets = lists(&cases, "targets");
    let one = |case: &Value| {
        let model =
            engraft_models::load_frozen(&fixture(&format!("{family}/model")), device, Holding::default());
        let model = model.unwrap().model;
        let setup: Setup = case["setup"].as_str().unwrap().parse().unwrap();
        let fusion = case["fusion"].as_str().map(|f| folder.join("fusions").join(f));
        let set = set_of(&*model, &folder.join("adapters"), &setup, fusion, device);
        let which: Vec<u32> = numbers(&case["sequences"]);
        let chosen = |of: &Vec<Vec<u32>>| which.iter().map(|i| of[*i as usize].clone()).collect::<Vec<_>>();
        let tokens = Tokens::new(&chosen(&sequences));
        let skip: Vec<u32> = numbers(&case["skip"]);
        Composed {
            device: device.clone(),
            name: case["name"].as_str().unwrap().into(),
            setup,
            model,
            set,
            tokens: match &targets {
                Some(targets) => tokens.with_target(&chosen(targets)),
                None => tokens,
            },
            skip: skip.iter().map(|l| *l as usize).collect(),
            shares: serde_json::from_value(case["shares"].clone()).unwrap_or_default(),
            compat: if case["compat"] == true { Compat::Adapters130 } else { Compat::Documented },
        }
    };
    cases["cases"].as_array().unwrap().iter().map(one).collect()
}
/// The adapters, in folders of their names, and the fusion of a setup, all of which train.
pub fn set_of(
    model: &dyn Model,
    adapters: &Path,
    setup: &Setup,
    fusion: Option<PathBuf>,
    device: &Device,
) -> AdapterSet {
    let (mut params, mut set) = (ParamSet::new(), AdapterSet::new());
    let mut names = setup.names();
    names.sort_unstable();
    names.dedup();
    for name in names {
        set.add(
            Adapter::load(&adapters.join(name), &host_of(model), model.sites(), device, &mut params).unwrap(),
        )
        .unwrap();
    }
    if let Some(dir) = fusion {
        set.add_fusion(Fusion::load(&dir, &host_of(model), model.sites(), device, &mut params).unwrap())
            .unwrap();
    }
    set
}
impl Composed {
    pub fn active(&self) -> Active<'_> {
        let active = self.set.activate_like(self.compat, &self.setup, self.tokens.lengths.len());
        active.unwrap().without_layers(self.skip.clone())
    }
    /// Last hidden states, and gradients of Σ y g with g of the script.
    pub fn pass(&self, policy: &Activations) -> (Vec<f32>, Vec<(String, Vec<f32>)>) {
        let (y, g) = run(&*self.model, &self.device, &self.active(), &self.tokens, policy);
        let mut gradients = vec![];
        self.set.visit(&mut |p: &Param| {
            gradients.extend(g.get(p).map(|b| (p.name().to_string(), b.read::<f32>().unwrap())));
        });
        (y, gradients)
    }
    /// Hidden states and every gradient are those of the library: the largest errors of both.
    pub fn agrees(&self, family: &str, want: &Expected, policy: &Activations) -> (f64, f64) {
        let name = format!("{family} {}", self.name);
        let (hidden, gradients) = self.pass(policy);
        let of_hidden = relative(&hidden, &want.get(&format!("{}/hidden", self.name)));
        assert!(of_hidden < 1e-5, "{name}: {of_hidden:.1e}");
        let start = format!("{}/", self.name);
        let named: Vec<String> = want.all().into_iter().filter(|n| n.starts_with(&start)).collect();
        let mut scale = 0f32;
        for n in named.iter().filter(|n| n.contains("grad.")) {
            scale = want.get(n).iter().fold(scale, |m, x| m.max(x.abs()));
        }
        let (mut found, mut worst) = (0, 0f64);
        for (parameter, got) in &gradients {
            let tensor = format!("{start}grad.{parameter}");
            if !named.contains(&tensor) {
                // the library has no gradient for what no sequence reaches
                assert!(got.iter().all(|x| *x == 0.0), "{name}: {parameter}");
                continue;
            }
            found += 1;
            let want = want.get(&tensor);
            // the gradient of a key's bias is 0: it moves all scores alike
            let top = want.iter().fold(1e-6 * scale, |m, x| m.max(x.abs()));
            let e = got.iter().zip(&want).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / top;
            let bound = if parameter.contains("key.bias") { 1.0 } else { 1e-4 };
            assert!(e < bound, "{name}: {parameter} {e:.1e} of {top:.1e}");
            worst = worst.max(f64::from(if bound < 1.0 { e } else { 0.0 }));
        }
        // an adapter that no sequence chooses has no gradient here, and zeros there
        let is_nought = |n: &&String| want.get(n).iter().all(|x| *x == 0.0);
        let noughts = named.iter().filter(is_nought).count();
        let all = named.len() - 1;
        assert!((all - noughts..=all).contains(&found), "{name}: every gradient of the library");
        (of_hidden, worst)
    }
}
pub fn run(
    model: &dyn Model,
    device: &Device,
    hooks: &dyn Hooks,
    tokens: &Tokens,
    policy: &Activations,
) -> (Vec<f32>, Gradients) {
    let mut cx = Cx::new(device, hooks, Pass::gradients()).with_activations(policy);
    let y = model.forward(&mut cx, tokens, &Rows::All).unwrap();
    let values = y.read().unwrap();
    let g = weights(&y);
    let mut into = Gradients::new();
    if y.is_recorded() {
        let g = device.upload(Class::Scratch, &g).unwrap();
        cx.backward(&y, g, &mut into).unwrap();
    }
    (values, into)
}
/// g[s][t][c] = sin(0.7 (s + 1) + 0.3 t + 0.11 c)
pub fn weights(y: &Act) -> Vec<f32> {
    let mut g = vec![0f32; y.rows() * y.cols()];
    for (s, q) in y.seqs().iter().enumerate() {
        for t in 0..q.len {
            for c in 0..y.cols() {
                let at = 0.7 * (s + 1) as f64 + 0.3 * t as f64 + 0.11 * c as f64;
                g[(q.start + t) * y.cols() + c] = at.sin() as f32;
            }
        }
    }
    g
}
