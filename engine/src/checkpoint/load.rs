//! Weights by name, from a checkpoint onto a device.
use super::read::Checkpoint;
use crate::{Compute, Error, Group, Linear, Norm, NormKind, ParamSet, Result, Role, Weight, tensor::upload};
use engraft_kernels::{Class, Device, Storage};
use std::collections::{BTreeMap, BTreeSet};

/// Loading a module: tensors by name from a checkpoint onto a device, `Param`s registered in a set.
pub struct Load<'a> {
    from: &'a Checkpoint,
    device: &'a Device,
    set: &'a mut ParamSet,
    storage: Option<Storage>,
    compute: Compute,
    prefix: &'a str,
    /// Names in the file of tensors that have another one today.
    older: BTreeMap<String, String>,
    group: Group,
    used: BTreeSet<String>,
}

/// How a linear layer is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinearForm {
    /// There is no bias.
    pub no_bias: bool,
    /// The weight is stored (in, out), as GPT-2's `Conv1D` does.
    pub in_out: bool,
}

impl<'a> Load<'a> {
    /// A loader.
    pub fn new(from: &'a Checkpoint, device: &'a Device, set: &'a mut ParamSet) -> Load<'a> {
        let (compute, group, older) = (Compute::F32, Group::default(), BTreeMap::new());
        Load { from, device, set, storage: None, compute, prefix: "", older, group, used: BTreeSet::new() }
    }
    /// Files may leave out this beginning of a name: `bert.` or `transformer.` in those of a
    /// model without a head.
    pub fn without(mut self, prefix: &'a str) -> Load<'a> {
        self.prefix = prefix;
        self
    }
    /// Files may have older names: `today` says what such a tensor is called now.
    pub fn renaming(mut self, today: impl Fn(&str) -> Option<String>) -> Load<'a> {
        self.older = self.from.names().filter_map(|old| Some((today(old)?, old.to_string()))).collect();
        self
    }
    /// What trains belongs to this group.
    pub fn grouped(mut self, group: Group) -> Load<'a> {
        self.group = group;
        self
    }
    /// Frozen matrices shall be stored like that; as the checkpoint has them if it is `None`.
    pub fn storing(mut self, storage: Option<Storage>) -> Load<'a> {
        self.storage = storage;
        self
    }
    /// The products of frozen linear layers shall be computed like that: in integers, their weights
    /// are stored as int8, whatever the other matrices are.
    pub fn computing(mut self, compute: Compute) -> Load<'a> {
        self.compute = compute;
        self
    }
    /// The checkpoint.
    pub fn checkpoint(&self) -> &'a Checkpoint {
        self.from
    }
    /// A weight of the given shape. Frozen matrices stay in their storage type and in the mapped
    /// file, unless [`Load::storing`] asks for another type: then they are converted, one after the
    /// other. Everything else becomes f32; what is quantised cannot train.
    pub fn get<P: Weight>(&mut self, name: &str, shape: &[usize], role: Role) -> Result<P> {
        self.stored(name, name, shape, role, self.storage)
    }
    /// The same of the tensor that the files call `file`: they may hold one weight under one of
    /// several names.
    pub fn get_as<P: Weight>(&mut self, name: &str, file: &str, shape: &[usize], role: Role) -> Result<P> {
        self.stored(name, file, shape, role, self.storage)
    }
    /// The name that a file has for a tensor: an older one, or without the beginning that files may
    /// leave out, if it is there so.
    fn in_file<'n>(&'n self, name: &'n str) -> &'n str {
        match name.strip_prefix(self.prefix) {
            _ if self.from.has(name) => name,
            Some(rest) if self.from.has(rest) => rest,
            _ => self.older.get(name).map_or(name, String::as_str),
        }
    }
    /// Why a tensor is not there, if the file has its name with something in front, or without its
    /// beginning.
    fn misnamed(&self, name: &str) -> Option<Error> {
        let rest = name.strip_prefix(self.prefix).unwrap_or(name);
        let longer = |n: &str| {
            let more = [name, rest].into_iter().find_map(|name| n.strip_suffix(name))?;
            more.ends_with('.').then(|| format!("begin with `{more}`, which has to be taken off"))
        };
        let shorter = |n: &str| {
            let less = name.strip_suffix(n)?;
            less.ends_with('.').then(|| format!("lack `{less}` in front"))
        };
        let what = self.from.names().find_map(|n| longer(n).or_else(|| shorter(n)))?;
        Some(Error::Misnamed { path: self.from.path().into(), name: name.into(), what })
    }
    /// True if the checkpoint has a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.from.has(self.in_file(name))
    }
    /// The tensor that the files call `file`, as the weight `name`.
    fn stored<P: Weight>(
        &mut self,
        name: &str,
        file: &str,
        shape: &[usize],
        role: Role,
        storage: Option<Storage>,
    ) -> Result<P> {
        let file = &self.in_file(file).to_string();
        if !self.from.has(file)
            && let Some(error) = self.misnamed(file)
        {
            return Err(error);
        }
        self.used.insert(file.into());
        let quantised = self.from.quantised(file);
        let tensor = match (P::TRAINABLE, shape) {
            (true, _) => {
                if let Some((stored, _)) = quantised {
                    let what = format!(
                        "is stored as {stored} and cannot train: take the model that it was made from"
                    );
                    return Err(self.from.wrong(file, what));
                }
                self.from.copied(self.device, Class::Adapter, file, shape)?
            }
            (false, &[rows, cols]) => {
                self.used.extend(quantised.into_iter().flat_map(|(_, beside)| beside));
                self.from.matrix(self.device, file, [rows, cols], storage)?.computing(self.compute)
            }
            _ => self.from.copied(self.device, Class::Backbone, file, shape)?.computing(self.compute),
        };
        P::make(self.set, name, tensor, role.of(self.group))
    }
    /// The weight `name` of these values, which were made of those that the file has under that
    /// name.
    pub fn made<P: Weight>(&mut self, name: &str, values: &[f32], shape: &[usize], role: Role) -> Result<P> {
        self.mark(name);
        let tensor = upload(self.device, Class::Adapter, values, shape)?;
        P::make(self.set, name, tensor, role.of(self.group))
    }
    /// Says that a tensor is known, and held under another name too.
    pub fn mark(&mut self, name: &str) {
        let file = self.in_file(name).to_string();
        self.used.insert(file);
    }
    /// The weight `name`, which older files call `old`.
    fn renamed<P: Weight>(&mut self, name: &str, old: &str, shape: &[usize], role: Role) -> Result<P> {
        let file = if !self.has(name) && self.has(old) { old } else { name };
        self.stored(name, file, shape, role, self.storage)
    }
    /// `{path}.weight`, (output, input) or the other way round, and `{path}.bias` (output).
    pub fn linear<P: Weight>(
        &mut self,
        path: &str,
        (input, output): (usize, usize),
        form: LinearForm,
    ) -> Result<Linear<P>> {
        let storage = if self.compute == Compute::F32 { self.storage } else { Some(Storage::Int8) };
        let (name, in_out) = (format!("{path}.weight"), form.in_out);
        let shape = if in_out { [input, output] } else { [output, input] };
        let w = self.stored(&name, &name, &shape, Role::WEIGHT, storage)?;
        let b = match form.no_bias {
            true => None,
            false => Some(self.get(&format!("{path}.bias"), &[output], Role::BIAS)?),
        };
        Ok(Linear { w, b, in_out })
    }
    /// `{path}.weight` and `{path}.bias`, called `gamma` and `beta` in checkpoints converted from
    /// TensorFlow. An RMSNorm has no bias.
    pub fn norm<P: Weight>(
        &mut self,
        path: &str,
        channels: usize,
        eps: f32,
        kind: NormKind,
    ) -> Result<Norm<P>> {
        let w = self.of_norm(path, "weight", "gamma", channels)?;
        let b = match kind {
            NormKind::Layer => Some(self.of_norm(path, "bias", "beta", channels)?),
            NormKind::Rms => None,
        };
        Ok(Norm { w, b, eps, kind })
    }
    /// A LayerNorm that has no bias.
    pub fn norm_without_bias<P: Weight>(&mut self, path: &str, channels: usize, eps: f32) -> Result<Norm<P>> {
        let w = self.of_norm(path, "weight", "gamma", channels)?;
        Ok(Norm { w, b: None, eps, kind: NormKind::Layer })
    }
    fn of_norm<P: Weight>(&mut self, path: &str, name: &str, old: &str, channels: usize) -> Result<P> {
        self.renamed(&format!("{path}.{name}"), &format!("{path}.{old}"), &[channels], Role::BIAS)
    }
    /// Tensors of the checkpoint that nothing asked for.
    pub fn unused(&self) -> Vec<String> {
        self.from.names().filter(|n| !self.used.contains(*n)).map(String::from).collect()
    }
}
