//! Adapters with their fusions and a head as the files of one directory.
//!
//! ```text
//! one adapter       adapter_config.json, adapter.safetensors, head_config.json, model_head.safetensors
//! a composition     adapter_setup.json, and a folder for each adapter, each fusion and the head, as AdapterHub's
//!                   `save_adapter_setup` writes them
//! ```
use crate::{
    Adapter, AdapterSet, Base, Error, Format, Fusion, Head, Host, Loading, Result, Setup,
    files::{
        HEAD_CONFIG, SETUP, VERSION, json, object,
        peft::{OUTER, ROOT, files},
    },
    heads::in_peft,
};
use engraft_engine::{Device, ParamSet, Storage};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The files of a directory that holds an adapter, a head, or both; in the adapter's own format
/// unless another is asked for. Heads are written as AdapterHub's, and in PEFT's format into the
/// adapter's tensors too, where transformers has such a one.
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
            Format::Peft => peft(adapter, head, host)?,
        });
    }
    Ok(all)
}
/// The files of a directory that holds the adapters and fusions of a setup, and a head.
pub fn composition(
    set: &AdapterSet,
    setup: &Setup,
    head: Option<&Head>,
    host: &Host,
) -> Result<Vec<(String, Vec<u8>)>> {
    match setup {
        Setup::Identity => return directory(None, head, None, host),
        Setup::One(name) => return directory(Some(set.get(name)?), head, None, host),
        _ => {}
    }
    let mut all = vec![];
    let mut folder = |name: &str, files: Vec<(String, Vec<u8>)>| {
        all.extend(files.into_iter().map(|(file, bytes)| (format!("{name}/{file}"), bytes)));
    };
    let (names, mut frozen) = (setup.distinct(), vec![]);
    for name in &names {
        let adapter = set.get(name)?;
        folder(name, directory(Some(adapter), None, None, host)?);
        if !adapter.trains() {
            frozen.push(*name);
        }
    }
    for fusion in setup.fusions() {
        folder(&fusion.name, set.fusion(&fusion.name)?.files(host)?);
    }
    if let Some(head) = head {
        folder(head.name(), head.files(host)?);
    }
    let card = serde_json::json!({
        "adapter_setup": setup.to_json(),
        "head_setup": head.map(Head::name),
        "version": VERSION,
        // of ours: who does not train
        "frozen": frozen,
    });
    all.push((SETUP.into(), json(&card)?));
    Ok(all)
}

/// What [`composition`] wrote, or AdapterHub's `save_adapter_setup`.
#[derive(Debug)]
pub struct Composition {
    /// The adapters and fusions.
    pub set: AdapterSet,
    /// How they are put together.
    pub setup: Setup,
    /// Where the head is, if there is one.
    pub head: Option<PathBuf>,
}
/// How they are loaded.
struct Loader<'a> {
    host: &'a Host,
    base: Base<'a>,
    device: &'a Device,
    /// Where what trains is counted; none if nothing does.
    params: Option<&'a mut ParamSet>,
    storage: Option<Storage>,
}
impl Loader<'_> {
    fn adapter(&mut self, directory: &Path, trains: bool) -> Result<Adapter> {
        let (host, base, device) = (self.host, self.base, self.device);
        match self.params.as_deref_mut().filter(|_| trains) {
            Some(params) => Adapter::load(directory, host, base, device, params),
            None => {
                let how = Loading { storage: self.storage, ..Loading::default() };
                Adapter::load_as(&how, directory, host, base, device, None)
            }
        }
    }
    fn fusion(&mut self, directory: &Path) -> Result<Fusion> {
        let (host, base, device) = (self.host, self.base, self.device);
        match self.params.as_deref_mut() {
            Some(params) => Fusion::load(directory, host, base, device, params),
            None => Fusion::load_frozen(directory, host, base, device),
        }
    }
}
impl Composition {
    /// True if a directory holds one.
    pub fn is_in(directory: &Path) -> bool {
        directory.join(SETUP).exists()
    }
    /// Loads the adapters and fusions of a directory; those that are not named as frozen train.
    pub fn load(
        directory: &Path,
        host: &Host,
        base: Base<'_>,
        device: &Device,
        params: &mut ParamSet,
    ) -> Result<Composition> {
        Composition::read(directory, Loader { host, base, device, params: Some(params), storage: None })
    }
    /// The same; none of them trains. The matrices of adapters are stored like that: see
    /// [`crate::Loading::storage`].
    pub fn load_stored(
        directory: &Path,
        host: &Host,
        base: Base<'_>,
        device: &Device,
        storage: Option<Storage>,
    ) -> Result<Composition> {
        Composition::read(directory, Loader { host, base, device, params: None, storage })
    }
    fn read(directory: &Path, mut how: Loader<'_>) -> Result<Composition> {
        let path = directory.join(SETUP);
        let bad = |what: String| Error::File { path: path.clone(), what };
        let fields = object(&path)?;
        let setup = fields.get("adapter_setup").ok_or_else(|| bad("no field `adapter_setup`".into()))?;
        let setup = Setup::from_json(setup).map_err(|e| bad(e.to_string()))?;
        let frozen: Vec<&str> = match fields.get("frozen") {
            None | Some(Value::Null) => vec![],
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            Some(v) => return Err(bad(format!("`frozen` is {v}, expected a list of names"))),
        };
        let inside = |name: &str| match engraft_engine::output::is_name(name) && !name.contains('/') {
            true => Ok(directory.join(name)),
            false => Err(bad(format!("`{name}` cannot be the name of a folder"))),
        };
        let mut set = AdapterSet::new();
        for name in setup.distinct() {
            let dir = inside(name)?;
            let adapter = how.adapter(&dir, !frozen.contains(&name))?;
            set.add(if adapter.name() == name { adapter } else { adapter.renamed(name)? })?;
        }
        for fusion in setup.fusions() {
            set.add_fusion(how.fusion(&inside(&fusion.name)?)?)?;
        }
        let head = match fields.get("head_setup") {
            None | Some(Value::Null) => None,
            Some(Value::String(name)) => Some(inside(name)?),
            // the library's way to say: the head of the whole model
            Some(Value::Bool(true)) => Some(directory.into()),
            Some(v) => return Err(bad(format!("`head_setup` is {v}; only one head is supported"))),
        };
        let head = head.filter(|dir| dir.join(HEAD_CONFIG).exists());
        Ok(Composition { set, setup, head })
    }
}

/// An adapter's files, with the head among its tensors if transformers has such a one.
fn peft(adapter: &Adapter, head: Option<&Head>, host: &Host) -> Result<Vec<(String, Vec<u8>)>> {
    let (mut fields, mut all) = adapter.peft()?;
    if let Some((task, modules, tensors)) = head.map_or(Ok(None), |head| in_peft(head, host))? {
        let root = if fields.contains_key("num_virtual_tokens") { OUTER } else { ROOT };
        fields.insert("task_type".into(), task.into());
        fields.insert("modules_to_save".into(), modules.into_iter().collect());
        all.extend(tensors.into_iter().map(|(name, t)| (format!("{root}{name}"), t)));
    }
    files(&fields, &all, host)
}
