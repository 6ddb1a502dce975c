//! `engraft fold`: an adapter added to a copy of a model's weights.
use super::adapters::write;
use crate::program::{
    args::Fold,
    options::Backend,
    print::{note, note_unused, say, warn_of_strangers},
    setup::{is_same, open},
};
use anyhow::{Result, bail};
use engraft::{
    adapters::Head,
    engine::output,
    learner::{Backbone, Opening},
    reports::progress::Mode,
};

pub fn run(f: &Fold) -> Result<()> {
    let device = open(Backend::Cpu, f.threads)?;
    let how = Opening { progress: Mode::detect(false), ..Opening::default() };
    let backbone = Backbone::open(&f.model, &device, how)?;
    note_unused(&backbone);
    output::check_writable(&f.out)?;
    if is_same(backbone.directory(), &f.out) {
        bail!("--out is the model's own directory {}: the weights it holds would be lost", f.out.display());
    }
    let _held = output::reading(&f.adapter)?;
    warn_of_strangers(&backbone, &f.adapter, false)?;
    let adapter = backbone.load_adapter(&f.adapter)?;
    let mut files = backbone.folded(&adapter)?;
    let parameters: usize = backbone.model().named().iter().map(|(_, t)| t.elements()).sum();
    let head = Head::find(&f.adapter, backbone.host(), &device, &mut Default::default())?;
    if let Some(head) = &head {
        files.extend(head.files(backbone.host())?);
    }
    write(&f.out, &files, &[&f.adapter])?;
    if f.json {
        let (name, head) = (adapter.name(), head.as_ref().map(Head::name));
        let done = serde_json::json!({
            "adapter": name, "parameters": parameters, "head": head, "out": f.out,
        });
        return say(&done.to_string());
    }
    let out = f.out.display();
    let use_it = format!("the head lies beside the weights: --model {out} --adapter {out} is both");
    note(head.is_some().then_some(use_it), false);
    say(&format!("`{}` is in the weights, {parameters} of them in f32; written to {out}", adapter.name()))
}
