//! `engraft adapters convert`.
use super::{For, settings, write};
use crate::program::{args::Convert, print::say};
use anyhow::Result;
use engraft::{
    adapters::{Format, Head, export::directory},
    reports::{
        card::{self, Card},
        side_by_side::Left,
    },
};
use engraft_engine::output::reading;

pub fn run(c: &Convert) -> Result<()> {
    let on = For::model(&c.model)?;
    let (host, mut adapter) = (&on.backbone.recorded_host()?, on.adapter(&c.directory)?);
    let _held = reading(&c.directory)?;
    let mut head = Head::find(&c.directory, host, &on.device, &mut Default::default())?;
    if let Some(name) = &c.name {
        // a head that is called as its adapter stays so
        let is_own = |h: &Head| h.name() == adapter.name();
        head = head.map(|h| if is_own(&h) { h.renamed(name) } else { h });
        adapter = adapter.renamed(name)?;
    }
    let format = Format::from(c.to);
    let mut files = directory(Some(&adapter), head.as_ref(), Some(format), host)?;
    if card::is_ours(&c.out) {
        let run = Left::of(&c.directory)?;
        let card = Card {
            name: adapter.name(),
            model: &host.model_name,
            is_of_hub: on.backbone.commit().is_some(),
            model_type: &host.model_type,
            files: files.iter().map(|(name, _)| name.as_str()).collect(),
            head: head.as_ref().map(|head| head.config().head_type()),
            metrics: run.as_ref().and_then(|run| run.report.metrics.as_ref()),
            ..Card::default()
        };
        let keys = run.as_ref().map(|run| &run.settings[..]).unwrap_or_default();
        let text = card.with_settings(keys).text();
        files.push((card::FILE.into(), text.into_bytes()));
    }
    files.extend(settings(&c.directory)?);
    write(&c.out, &files, &[&c.directory])?;
    say(&format!("`{}` in {}'s format, written to {}", adapter.name(), format.name(), c.out.display()))
}
