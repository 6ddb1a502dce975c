//! Setups of saved adapters on the tiny models, as `tests/reference/compose.py` has them.
use super::{families::lists, fixture, host_of};
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
pub fn cases(family: &'static str, device: &Device) -> Vec<Composed> {
    let folder = fixture(&format!("compose/{family}"));
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
