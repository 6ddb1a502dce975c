//! Bottleneck adapters: the registry row, and what a `BnConfig` puts where. The module is in
//! [`super::bottleneck_module`].
use super::{
    BnConfig, Config, Method, Scaling, bottleneck_module::build, invertible, overlaid, read, written,
};
use crate::{Common, Error, Module, Place, Result, files::older, grammar::Fields};
use engraft_engine::{SiteKind, Source};
use serde_json::Value;

/// The registry row.
pub(super) const METHOD: Method = Method {
    names: &[
        "houlsby",
        "double_seq_bn",
        "pfeiffer",
        "seq_bn",
        "parallel",
        "par_bn",
        "scaled-parallel",
        "scaled_par_bn",
        "scaled_parallel",
        "adapter_plus",
        "adapter-plus",
        "compacter",
        "compacter++",
        "seq_bn_inv",
        "pfeiffer+inv",
        "double_seq_bn_inv",
        "houlsby+inv",
    ],
    architecture: None,
    preset: |name, fields| {
        let preset = BnConfig::preset(name)
            .ok_or_else(|| Error::Config(format!("there is no bottleneck adapter `{name}`")))?;
        Ok(Box::new(overlaid(&preset, fields)?))
    },
    read: |mut fields, version| {
        older::bottleneck(&mut fields)?;
        if version.is_none() {
            // files older than the `version` field used these names for the other formula
            match fields.get("non_linearity").and_then(Value::as_str) {
                Some("gelu") => drop(fields.insert("non_linearity".into(), "gelu_new".into())),
                Some("gelu_orig") => drop(fields.insert("non_linearity".into(), "gelu".into())),
                _ => {}
            }
        }
        Ok(Box::new(read::<BnConfig>(fields)?))
    },
    peft: None, // PEFT has no bottlenecks
};

impl Config for BnConfig {
    fn check(&self) -> Result<()> {
        self.activation()?;
        self.reduction_factor.check()?;
        invertible::check(self)?;
        if self.phm_layer {
            self.check_phm()?;
        }
        match () {
            () if !(0.0..1.0).contains(&self.depth()) => Err(Error::Config(format!(
                "`stochastic_depth` is {}, expected 0 to below 1",
                self.stochastic_depth.unwrap_or_default()
            ))),
            () if !(self.dropout >= 0.0 && (self.dropout as f32) < 1.0) => {
                Err(Error::Config(format!("`dropout` is {}, expected 0 to below 1", self.dropout)))
            }
            () if matches!(self.scaling, Scaling::Fixed(s) if !(s as f32).is_finite()) => {
                Err(Error::Config("`scaling` is not a finite number".into()))
            }
            () if !(self.mh_adapter || self.output_adapter || self.cross_adapter) => Err(Error::Config(
                "none of `mh_adapter`, `output_adapter` and `cross_adapter` is set: there is nothing to train".into(),
            )),
            () => Ok(()),
        }
    }
    fn leave_out(&self) -> Vec<usize> {
        self.leave_out.clone()
    }
    fn reads_places(&self, layer: usize) -> bool {
        // a gate reads every row of a sequence
        self.use_gating && !self.leave_out.contains(&layer)
    }
    fn common(&self, place: &Place<'_>, to: &mut Common, from: &mut Source<'_, '_>) -> Result<()> {
        invertible::common(self, place, to, from)?;
        match place.info.kind {
            SiteKind::Stream { channels } if self.phm_layer => self.phm_common(channels, place, to, from),
            _ => Ok(()),
        }
    }
    fn build(&self, place: &Place<'_>, from: &mut Source<'_, '_>) -> Result<Vec<Box<dyn Module>>> {
        let SiteKind::Close { channels } = place.info.kind else {
            return invertible::build(self, place.info.site);
        };
        if !self.stands_at(place.info.site) {
            return Ok(vec![]);
        }
        Ok(vec![build(self, channels, place, from)?])
    }
    fn adapterhub(&self) -> Result<Fields> {
        written(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_read_back_as_they_were_written() {
        for name in METHOD.names {
            let c = BnConfig::preset(name).unwrap();
            c.check().unwrap();
            let text = serde_json::to_string(&c).unwrap();
            assert_eq!(serde_json::from_str::<BnConfig>(&text).unwrap(), c, "{name}");
        }
        assert!(
            serde_json::to_string(&BnConfig::houlsby()).unwrap().contains("\"scaling\":1.0"),
            "a float, as the library wants"
        );
    }
    #[test]
    fn what_is_not_computed_is_refused() {
        let base = serde_json::to_value(BnConfig::houlsby()).unwrap();
        for (field, value) in [
            ("inv_adapter", serde_json::json!("realnvp")),
            ("stochastic_depth", serde_json::json!(1.0)),
            ("stochastic_depth", serde_json::json!(-0.1)),
            ("non_linearity", serde_json::json!("xielu")),
            ("dropout", serde_json::json!(1.0)),
        ] {
            let mut v = base.clone();
            v[field] = value;
            let c: BnConfig = serde_json::from_value(v).unwrap();
            assert!(c.check().unwrap_err().to_string().contains(field), "{field}");
        }
        let mut v = base;
        v["a_new_field"] = serde_json::json!(1);
        assert!(serde_json::from_value::<BnConfig>(v).unwrap_err().to_string().contains("a_new_field"));
    }
}
