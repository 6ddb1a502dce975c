//! How saved adapters are loaded, where it is not as they are.
use crate::{Error, Methods, Result};
use engraft_engine::{Part, SiteInfo, Storage};
use serde_json::Value;

/// How a saved adapter is loaded: see [`crate::Adapter::load_as`].
#[derive(Clone, Debug, Default)]
pub struct Loading {
    /// What its file may name.
    pub methods: Methods,
    /// Layers, counted from 0, whose modules are left out, as its configuration will say then
    /// (`leave_out`). PEFT's cannot say it, and are refused.
    pub leave_out: Vec<usize>,
    /// What its matrices are stored as; as they are in the file if it is `None`. They are decoded
    /// where they are used, and everything is computed in f32. What trains is f32 and takes `None`
    /// only.
    pub storage: Option<Storage>,
}

impl Loading {
    /// Adds the layers to those that a configuration of AdapterHub leaves out.
    pub(crate) fn leave_out(&self, config: &mut Value) -> Result<()> {
        if self.leave_out.is_empty() {
            return Ok(());
        }
        let Some(fields) = config.as_object_mut() else {
            return Err(Error::Config("`config` has no fields, so it cannot say what is left out".into()));
        };
        if let Some(members) = fields.get_mut("configs").and_then(|v| v.as_array_mut()) {
            return members.iter_mut().try_for_each(|member| self.leave_out(member));
        }
        let before = fields.get("leave_out").and_then(|v| v.as_array()).cloned().unwrap_or_default();
        let mut all: Vec<usize> = before.iter().filter_map(|l| Some(l.as_u64()? as usize)).collect();
        all.extend(&self.leave_out);
        all.sort_unstable();
        all.dedup();
        fields.insert("leave_out".into(), all.into());
        Ok(())
    }
    /// True for what is in one of the layers that are left out.
    pub(crate) fn is_left_out(&self, info: &SiteInfo) -> bool {
        !matches!(info.site.part, Part::Embed | Part::Head) && self.leave_out.contains(&info.site.layer)
    }
}
