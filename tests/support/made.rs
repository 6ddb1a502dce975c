//! New adapters on the tiny models, and what models compute with them.
use super::families::backbone;
use engraft_adapters::{Adapter, Base, Fields, parse};
use engraft_engine::{Cx, Device, Hooks, ParamSet, Pass, Rows};
use engraft_models::{Model, Tokens};

/// A new adapter, and how many numbers of it train.
pub fn made(family: &str, text: &str, device: &Device) -> Result<(Adapter, usize), String> {
    let (model, _) = backbone(family, device);
    let (named, mut set) = (model.named(), ParamSet::new());
    let config = parse(text, &Fields::new()).map_err(|e| e.to_string())?;
    let base = Base::new(model.sites(), &named);
    let a = Adapter::new("task", config, base, device, &mut set, 1).map_err(|e| e.to_string())?;
    Ok((a, set.elements()))
}
pub fn hidden(model: &dyn Model, hooks: &dyn Hooks, tokens: &Tokens, device: &Device) -> Vec<f32> {
    let mut cx = Cx::new(device, hooks, Pass::infer());
    model.forward(&mut cx, tokens, &Rows::All).unwrap().read().unwrap()
}
pub fn tokens() -> Tokens {
    Tokens::new(&[vec![3, 7, 1, 9, 4], vec![5, 2, 8], vec![6], vec![2, 2, 9, 1]])
}
