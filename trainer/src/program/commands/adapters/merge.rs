//! `engraft adapters merge`.
use super::{For, write};
use crate::program::{args::Merge, print::say};
use anyhow::{Context, Result, bail};
use engraft::adapters::{
    Adapter, Head,
    arithmetic::{Recipe, Strategy, tensors::Majority},
};
use std::path::Path;

pub fn run(m: &Merge) -> Result<()> {
    let majority = |name: &String| {
        let found = Majority::ALL.iter().find(|(n, _)| n == name).map(|(_, m)| *m);
        found.with_context(|| format!("--majority-sign is `{name}`, expected total or frequency"))
    };
    let recipe = Recipe {
        weights: m.weights.clone(),
        normalise: m.normalise,
        rank: m.rank,
        density: m.density,
        majority: m.majority_sign.as_ref().map(majority).transpose()?,
        seed: m.seed,
        compat: m.compat.map(Into::into).unwrap_or_default(),
        ..Recipe::new(Strategy::named(&m.method)?)
    };
    let on = For::model(&m.model)?;
    let host = &on.backbone.recorded_host()?;
    let load = |a: &crate::program::options::SavedAdapter| Ok(on.adapter(&a.directory)?.renamed(&a.name)?);
    let adapters = m.adapters.iter().map(load).collect::<Result<Vec<Adapter>>>()?;
    let mut files = recipe.merge(&m.name, &adapters.iter().collect::<Vec<_>>(), host)?;
    if m.heads {
        let mut heads = vec![];
        for a in &m.adapters {
            match Head::find(&a.directory, host, &on.device, &mut Default::default())? {
                Some(head) => heads.push(head),
                None => bail!("there is no head in {}", a.directory.display()),
            }
        }
        files.extend(recipe.head(&m.name, &heads.iter().collect::<Vec<_>>(), host)?);
    }
    let from: Vec<&Path> = m.adapters.iter().map(|a| a.directory.as_path()).collect();
    write(&m.out, &files, &from)?;
    let parameters = engraft::adapters::files::find(&m.out).map_or(0, |found| found.parameters);
    let (name, method, out) = (&m.name, &m.method, &m.out);
    if m.json {
        let merged: Vec<&str> = adapters.iter().map(Adapter::name).collect();
        let done = serde_json::json!({
            "name": name, "method": method, "adapters": merged, "parameters": parameters, "out": out,
        });
        return say(&done.to_string());
    }
    let count = adapters.len();
    say(&format!(
        "{count} adapters by {method}: `{name}`, {parameters} parameters, written to {}",
        out.display()
    ))
}
