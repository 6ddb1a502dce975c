//! LoRA (Hu et al. 2022): a product of two narrow matrices beside a linear layer.
//!
//! ```text
//! y = x Wᵀ + b + s (dropout(x) Aᵀ) Bᵀ        A (r, in), B (out, r)        s = α / r, or α / √r (rsLoRA, Kalajdzievski 2023)
//! ```
//! Where query, key and value are one layer (GPT-2's `c_attn`), AdapterHub's form has an A and a B
//! for each of the n projections that it adapts, stacked to A (n r, in) and B (n out/3, r); PEFT's
//! treats the layer as one.
//!
//! With `use_gating` s is σ(w x + b), averaged over the rows of a sequence, for each projection
//! (UniPELT, Mao et al. 2022), whatever α is. With the `composition_mode` `scale` it is an IA3
//! (`ia3.rs`), with `vera_d` a VeRA (`vera.rs`).
use super::{
    Config, Method, PeftMethod,
    ia3_module::{self, Scaled},
    lora_module::{self, COLLECTION, MOST, scale},
    magnitude::Dora,
    overlaid, peft_ia3,
    peft_lora::{self, Said},
    peft_vera, read,
    start::LoraStart,
    vera_module, written,
};
use crate::{Common, Error, Module, Place, Result, grammar::Fields};
use engraft_engine::{LowRank, Point, SiteInfo, SiteKind, Source, checkpoint::TensorData};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The registry row.
pub(super) const METHOD: Method = Method {
    names: &["lora"],
    architecture: Some("lora"),
    preset: |_, fields| Ok(Box::new(overlaid(&LoraConfig::default(), fields)?)),
    read: |fields, version| Ok(Box::new(LoraConfig::of_file(fields, version)?)),
    peft: Some(PeftMethod { name: "LORA", read: |fields| Ok(Box::new(peft_lora::PeftLora::read(fields)?)) }),
};

/// A matrix of an attention (`attn_matrices`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Matrix {
    /// The query projection.
    Q,
    /// The key projection.
    K,
    /// The value projection.
    V,
    /// The output projection; AdapterHub has none there.
    O,
    /// Query, key and value where they are one layer, taken as one; AdapterHub takes them apart.
    Qkv,
}

/// LoRA, as AdapterHub describes it, with PEFT's `use_rslora`. What engraft does not compute is
/// refused unless it is at the value that changes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoraConfig {
    /// α: what the product is multiplied with, before it is divided by the rank.
    #[serde(serialize_with = "whole")]
    pub alpha: f64,
    /// Which matrices of an attention are adapted.
    pub attn_matrices: Vec<Matrix>,
    /// How it meets the weight: `add`, a product that is added, or `scale`, factors (IA3).
    pub composition_mode: String,
    /// Dropout of what A reads while training.
    pub dropout: f64,
    /// The type of the library's tensors: only f32 is supported.
    pub dtype: Option<String>,
    /// How new weights start.
    pub init_weights: LoraStart,
    /// The library's seed for new weights; it says nothing about loaded ones.
    pub init_weights_seed: Option<u64>,
    /// The first feed-forward projection is adapted.
    pub intermediate_lora: bool,
    /// Layers without LoRA.
    pub leave_out: Vec<usize>,
    /// The second feed-forward projection is adapted.
    pub output_lora: bool,
    /// The rank r.
    pub r: usize,
    /// The matrices of attentions are adapted.
    pub selfattn_lora: bool,
    /// The rows of the weight have lengths that train (DoRA).
    pub use_dora: bool,
    /// A gate for each projection that is adapted, in the place of α / r; in that of α with the
    /// mode `scale`.
    pub use_gating: bool,
    /// Computed as PEFT does where the libraries differ (`use_dora`, `vera_d`), and saved so.
    /// AdapterHub has no such field.
    #[serde(skip_serializing)]
    pub as_peft: bool,
    /// rsLoRA: the product is divided by √r instead of r. AdapterHub has no such field.
    #[serde(skip_serializing)]
    pub use_rslora: bool,
    /// VeRA, whose vector behind B starts at this value.
    pub vera_b: Option<f64>,
    /// VeRA, whose vector between A and B starts at this value.
    pub vera_d: Option<f64>,
}
impl Default for LoraConfig {
    fn default() -> LoraConfig {
        LoraConfig {
            alpha: 8.0,
            attn_matrices: vec![Matrix::Q, Matrix::V],
            composition_mode: "add".into(),
            dropout: 0.0,
            dtype: None,
            init_weights: LoraStart::Lora,
            init_weights_seed: None,
            intermediate_lora: false,
            leave_out: vec![],
            output_lora: false,
            r: 8,
            selfattn_lora: true,
            use_dora: false,
            as_peft: false,
            use_gating: false,
            use_rslora: false,
            vera_b: None,
            vera_d: None,
        }
    }
}
/// Whole numbers without a point, as the library writes them.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn whole<S: serde::Serializer>(x: &f64, s: S) -> Result<S::Ok, S::Error> {
    match x.fract() == 0.0 && x.abs() < 1e15 {
        true => s.serialize_i64(*x as i64),
        false => s.serialize_f64(*x),
    }
}

impl LoraConfig {
    /// What a file of AdapterHub says.
    fn of_file(mut fields: Fields, version: Option<&str>) -> Result<LoraConfig> {
        // fields of ours
        if let Some(field) = ["use_rslora", "as_peft"].into_iter().find(|f| fields.contains_key(*f)) {
            return Err(Error::Config(format!("unknown field `{field}`")));
        }
        // the library adapts no output projection, whatever its configuration says
        if let Some(Value::Array(list)) = fields.get_mut("attn_matrices") {
            list.retain(|m| m != "o");
        }
        let mut config: LoraConfig = read(fields)?;
        if config.is_computed() {
            return Err(Error::Config(format!(
                "unknown variant `{}` of `init_weights`",
                config.init_weights
            )));
        }
        let release = version.and_then(|v| v.strip_prefix("adapters."));
        let number = |v: &str| v.split('.').take(2).map(|n| n.parse().unwrap_or(0)).collect::<Vec<u32>>();
        if release.is_some_and(|v| number(v) < vec![1, 1]) {
            config.alpha = config.r as f64; // they computed so, whatever α was
        }
        Ok(config)
    }
    /// IA3 rather than a product.
    fn scales(&self) -> bool {
        self.composition_mode == "scale"
    }
    fn is_vera(&self) -> bool {
        self.vera_b.is_some() || self.vera_d.is_some()
    }
    /// The model's weights decide how it starts.
    fn is_computed(&self) -> bool {
        self.init_weights.is_pissa() || self.init_weights == LoraStart::Loftq
    }
    /// What its files say: a LoRA that does not start from anywhere any more, of twice the rank
    /// where it differs from what it started with.
    fn saved(&self) -> LoraConfig {
        let mut saved = self.clone();
        if self.is_computed() {
            saved.init_weights = LoraStart::Lora;
        }
        if self.init_weights.is_pissa() {
            (saved.r, saved.alpha) = peft_lora::doubled(self.r, self.alpha, self.use_rslora);
        }
        saved
    }
    /// s: what the product of A and B is multiplied with.
    fn scale(&self) -> f64 {
        scale(self.alpha, self.r, self.use_rslora)
    }
    /// Which of `of` projections that stand side by side at a site are adapted, and how many there
    /// are: one where the layer is taken as a whole.
    fn parts(&self, info: &SiteInfo, of: usize) -> Option<(Vec<usize>, usize)> {
        if self.leave_out.contains(&info.site.layer) {
            return None;
        }
        let attn = |m: Matrix| self.selfattn_lora && self.attn_matrices.contains(&m);
        let is_here = match info.known_as {
            Point::Q => attn(Matrix::Q),
            Point::K => attn(Matrix::K),
            Point::V => attn(Matrix::V),
            Point::O => attn(Matrix::O),
            Point::Up => self.intermediate_lora,
            Point::Down => self.output_lora,
            Point::Qkv if attn(Matrix::Qkv) => true,
            Point::Qkv => {
                let each = [Matrix::Q, Matrix::K, Matrix::V].into_iter().take(of).enumerate();
                let parts: Vec<usize> = each.filter(|(_, m)| attn(*m)).map(|(i, _)| i).collect();
                return (!parts.is_empty()).then_some((parts, of));
            }
            _ => false,
        };
        is_here.then(|| (vec![0], 1))
    }
}
impl Config for LoraConfig {
    fn check(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::Config(what));
        let finite = |x: f64| (x as f32).is_finite();
        let refuse = |field: &str| Err(Error::Config(format!("`{field}` of a LoRA is not supported")));
        match () {
            () if !["add", "scale"].contains(&self.composition_mode.as_str()) => {
                wrong(format!("`composition_mode` is `{}`, expected `add` or `scale`", self.composition_mode))
            }
            () if self.scales() && self.r != 1 => {
                wrong(format!("`r` is {}; with the `composition_mode` `scale` it is 1", self.r))
            }
            () if self.scales() && self.dropout != 0.0 => {
                wrong(format!("`dropout` is {}; the `composition_mode` `scale` has none", self.dropout))
            }
            () if self.scales() && self.use_dora => {
                wrong("`use_dora` says nothing of the `composition_mode` `scale`".into())
            }
            () if self.is_computed() && (self.use_dora || self.use_gating || self.scales()) => {
                wrong(format!(
                    "`init_weights` is `{}`, which is a start of a LoRA without `use_dora`, `use_gating` and `scale`",
                    self.init_weights
                ))
            }
            () if self.as_peft && self.use_gating => {
                wrong("`as_peft` is set, and PEFT has no gates (`use_gating`)".into())
            }
            () if self.is_vera() && !(self.vera_b.is_some_and(finite) && self.vera_d.is_some_and(finite)) => {
                wrong("`vera_b` and `vera_d` belong together, and are finite numbers".into())
            }
            () if self.is_vera() && self.use_dora => {
                wrong("`use_dora` with `vera_d`, which is DVoRA, is not supported".into())
            }
            () if self.is_vera() && (self.scales() || self.is_computed()) => wrong(format!(
                "`vera_d` says nothing of the `composition_mode` `{}` and of the `init_weights` `{}`",
                self.composition_mode, self.init_weights
            )),
            () if self.dtype.as_ref().is_some_and(|t| t != "float32") => refuse("dtype"),
            () if !(1..=MOST).contains(&self.r) => {
                wrong(format!("`r` is {}, expected a rank from 1 to {MOST}", self.r))
            }
            () if self.scales() && self.use_rslora => {
                wrong("`use_rslora` says nothing of the `composition_mode` `scale`".into())
            }
            () if !(self.scale() as f32).is_finite() => {
                wrong(format!("`alpha` is {}, expected a finite number", self.alpha))
            }
            () if !(self.dropout >= 0.0 && (self.dropout as f32) < 1.0) => {
                wrong(format!("`dropout` is {}, expected 0 to below 1", self.dropout))
            }
            () if self.attn_matrices.contains(&Matrix::Qkv) && self.attn_matrices.len() > 1 => {
                wrong("`attn_matrices` names `qkv`, which is all of them as one, and others".into())
            }
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
        if !self.is_vera() {
            return Ok(());
        }
        let size = |i: &SiteInfo| match i.kind {
            SiteKind::Linear { input, output, parts, .. } => {
                self.parts(i, parts).map(|(_, of)| (input, output / of))
            }
            _ => None,
        };
        let sizes: Vec<(usize, usize)> = place.base.sites.iter().filter_map(size).collect();
        let Some(first) = sizes.first() else { return Ok(()) };
        if !self.as_peft && sizes.iter().any(|s| s != first) {
            return Err(Error::Config(
                "VeRA's layers share two matrices, and here they differ in size: PEFT's may (`as_peft`)"
                    .into(),
            ));
        }
        let most = sizes.iter().fold(*first, |m, s| (m.0.max(s.0), m.1.max(s.1)));
        let (shapes, starts) = ([[self.r, most.0], [most.1, self.r]], self.init_weights.of(most.0, self.r));
        vera_module::share(place, shapes, starts, false, to, from)
    }
    fn build(&self, place: &Place<'_>, from: &mut Source<'_, '_>) -> Result<Vec<Box<dyn Module>>> {
        let SiteKind::Linear { input, output, parts, .. } = place.info.kind else { return Ok(vec![]) };
        let Some((parts, of)) = self.parts(place.info, parts) else { return Ok(vec![]) };
        let path = place.module(COLLECTION);
        let (name, gate) = (|n: &str| format!("{path}.{n}"), self.use_gating.then_some(path.clone()));
        if self.scales() {
            let (scaled, alpha) = (Scaled::Outputs { of, parts }, self.alpha as f32);
            let (name, start) = (name("lora_B"), self.init_weights.of(input, 1).1);
            let form = ia3_module::Form { scaled, alpha, dims: (input, output), name, start, gate };
            return ia3_module::build(place.trains, form, from);
        }
        if self.is_vera() {
            if of > 1 {
                return Err(Error::Config(format!(
                    "VeRA does not take `{}` apart: `as_peft=True,attn_matrices=[qkv]`",
                    place.path
                )));
            }
            let starts = (self.vera_d.unwrap_or_default() as f32, self.vera_b.unwrap_or_default() as f32);
            let scale = if self.as_peft { 1.0 } else { self.scale() as f32 };
            let (how, shape) = (LowRank::whole(scale, self.dropout as f32), (input, output, self.r));
            let names = ["vera_D", "vera_B"].map(name);
            let form = vera_module::Form { how, shape, starts, names, is_pefts: false, gate };
            return vera_module::build(place.trains, form, from);
        }
        let (shape, names) = ((input, output, self.r), ["lora_A", "lora_B"].map(name));
        let dora = match (self.use_dora, self.as_peft) {
            (false, _) => None,
            (true, true) if of > 1 => {
                return Err(Error::Config(format!(
                    "PEFT's DoRA has lengths for all of `{path}`: `attn_matrices=[qkv]`"
                )));
            }
            (true, true) => Some((Dora::Peft, name("m.weight"))),
            (true, false) => Some((Dora::AdapterHub, name("m.weight"))),
        };
        let how = LowRank { scale: self.scale() as f32, dropout: self.dropout as f32, of, parts };
        let form = lora_module::Form { how, shape, names, start: self.init_weights, gate, dora };
        lora_module::build(place, form, from)
    }
    fn adapterhub(&self) -> Result<Fields> {
        let cannot =
            |what: &str| Err(Error::Config(format!("AdapterHub's format has no {what}; PEFT's has")));
        if self.as_peft {
            return cannot("LoRA as PEFT computes it (`as_peft`)");
        }
        if self.use_rslora {
            return cannot("rsLoRA");
        }
        for (m, what) in [(Matrix::O, "LoRA on `o`"), (Matrix::Qkv, "LoRA on `qkv` as one")] {
            if self.attn_matrices.contains(&m) {
                return cannot(what);
            }
        }
        let mut fields = written(&self.saved())?;
        fields.insert("architecture".into(), "lora".into());
        Ok(fields)
    }
    fn peft(&self, sites: &[SiteInfo]) -> Result<Fields> {
        if self.use_gating {
            return Err(Error::Config("PEFT's format has no gates".into()));
        }
        let LoraConfig { r, alpha, use_rslora: rslora, dropout, .. } = self.saved();
        // n products of rank r side by side are one of rank n r
        let at = |i: &SiteInfo| match i.kind {
            SiteKind::Linear { parts, .. } => {
                let n = self.parts(i, parts)?.0.len();
                let by = if rslora { (n as f64).sqrt() } else { n as f64 };
                Some((n * r, alpha * by))
            }
            _ => None,
        };
        if self.scales() {
            return peft_ia3::fields(sites, at);
        }
        if self.is_vera() {
            return peft_vera::fields(sites, at, self.r, self.dropout);
        }
        if self.use_dora && !self.as_peft {
            return Err(lora_module::not_pefts());
        }
        peft_lora::fields(sites, at, Said { r, alpha, rslora, dropout, dora: self.use_dora })
    }
    fn peft_tensors<'c>(&self, common: &'c Common) -> Result<Vec<(String, TensorData<'c>)>> {
        if self.is_vera() { peft_vera::tensors(common) } else { Ok(vec![]) }
    }
}
