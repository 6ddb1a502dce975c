//! Models with adapters and heads for the guards, and passes over them.
use super::*;
use engraft_adapters::{BnConfig, Reduction, heads::Classification};

/// A model, an adapter with `configure` on top of a preset, and a head.
pub fn build(preset: &str, device: &Device, configure: impl Fn(&mut BnConfig)) -> Case {
    let (mut set, model) = (ParamSet::new(), model(device, &mut ParamSet::new(), false).model);
    let mut config =
        BnConfig { reduction_factor: Reduction::Factor(4.0), ..BnConfig::preset(preset).unwrap() };
    configure(&mut config);
    let adapter = Adapter::new("task", config, model.sites(), device, &mut set, 5).unwrap();
    let labels = ["no", "yes"].map(String::from);
    let head = Classification::new(&labels);
    let head = Head::new("task", head, &host(), device, &mut set, 6).unwrap();
    let (tokens, labels) = input("houlsby");
    Case { device: device.clone(), model, adapter: Some(adapter), head, set, tokens, labels, rows: Rows::All }
}
/// A batch big enough for several threads to have work.
pub fn large() -> (Tokens, Vec<u32>) {
    let ids: Vec<Vec<u32>> =
        (0..40).map(|s| (0..1 + (s * 7) % 24).map(|i| (s * 13 + i * 5) % 61).collect()).collect();
    (Tokens::new(&ids), (0..40).map(|s| s % 2).collect())
}
/// What the tape of a training pass lists.
pub fn tape(case: &Case) -> Vec<(&'static str, usize)> {
    let mut cx = Cx::new(&case.device, case.hooks(), Pass::gradients());
    let hidden = case.model.forward(&mut cx, &case.tokens, &Rows::All).unwrap();
    let pooled = case.pooled(&mut cx, &hidden);
    let logits = case.head.forward(&mut cx, &pooled, 0.0, None).unwrap();
    cx.cross_entropy(&logits, &case.labels).unwrap();
    cx.tape().collect()
}
pub fn train(case: &mut Case, optimiser: &mut AdamW, number: u64) -> (f32, Gradients) {
    let mut g = Gradients::new();
    let loss = case.pass(Pass::train(3, number), &mut g).2;
    super::step(optimiser, &mut case.parameters(), &g, 1e-2, 1.0);
    (loss, g)
}
pub fn trained(case: &Case) -> Vec<Vec<f32>> {
    let mut v = vec![];
    let mut f = |p: &Param| v.push(p.tensor().to_f32().unwrap());
    case.adapter.iter().for_each(|a| a.visit(&mut f));
    case.head.visit(&mut f);
    v
}
pub fn hidden(case: &Case, pass: Pass) -> Vec<f32> {
    let mut cx = Cx::new(&case.device, case.hooks(), pass);
    case.model.forward(&mut cx, &case.tokens, &Rows::All).unwrap().read().unwrap()
}
