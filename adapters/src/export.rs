//! An adapter with its head as the files of one directory.
use crate::{
    Adapter, Format, Head, Host, Result,
    files::peft::{ROOT, files},
};
use engraft_engine::checkpoint::TensorData;

/// The files of a directory that holds an adapter, a head, or both; in the adapter's own format unless another is asked for.
/// Heads are written as AdapterHub's, and in PEFT's format into the adapter's tensors too, where transformers has such a one.
pub fn directory(
    adapter: Option<&Adapter>,
    head: Option<&Head>,
    format: Option<Format>,
    host: &Host,
) -> Result<Vec<(String, Vec<u8>)>> {
    let mut all = head.map_or(Ok(vec![]), |h| h.files(host))?;
    if let Some(adapter) = adapter {
        all.extend(match format.unwrap_or(adapter.format()) {
            Format::AdapterHub => adapter.files_as(Format::AdapterHub, host)?,
            Format::Peft => peft(adapter, head)?,
        });
    }
    Ok(all)
}

/// An adapter's files, with the head among its tensors if transformers has such a one.
fn peft(adapter: &Adapter, head: Option<&Head>) -> Result<Vec<(String, Vec<u8>)>> {
    let (mut fields, mut all) = adapter.peft()?;
    if let Some((head, (module, task))) = head.and_then(|h| Some((h, h.config().transformers()?))) {
        fields.insert("task_type".into(), task.into());
        fields.insert("modules_to_save".into(), vec![module].into());
        for (name, t) in head.named() {
            let tensor = name.rsplit('.').next().unwrap_or_default();
            all.push((format!("{ROOT}{module}.{tensor}"), TensorData::f32(&t.to_f32()?, t.shape())));
        }
    }
    files(&fields, &all)
}
