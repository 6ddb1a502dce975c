//! Options that do not go together.

use super::adapter::AdapterChoice;
use super::choices::{BackboneCompute, BackboneDtype};
use super::table::Options;
use engraft::engine::Compute;
use engraft::learner::Opening;
use engraft::{Error, Result};

impl Options {
    /// Pairs of options that exclude each other.
    fn exclusive(&self) -> [[(&'static str, bool); 2]; 6] {
        [
            [
                ("bottleneck", self.bottleneck.is_some()),
                ("reduction-factor", self.reduction_factor.is_some()),
            ],
            [("warmup-ratio", self.warmup_ratio.is_some()), ("warmup-steps", self.warmup_steps.is_some())],
            [("layers", self.layers.is_some()), ("leave-out", self.leave_out.is_some())],
            [("batch-size", self.batch_size.is_some()), ("batch-tokens", self.batch_tokens.is_some())],
            [("activations", self.activations.is_some()), ("memory-budget", self.memory_budget.is_some())],
            [("no-shuffle", self.no_shuffle == Some(true)), ("stream-buffer", self.stream_buffer.is_some())],
        ]
    }

    /// Removes from `lower` what excludes an option given here.
    pub(super) fn displace(&self, lower: &mut Self) {
        let [shape, warmup, layers, batch, memory, order] =
            self.exclusive().map(|pair| pair.iter().any(|(_, given)| *given));
        if shape {
            (lower.bottleneck, lower.reduction_factor) = (None, None);
        }
        if warmup {
            (lower.warmup_ratio, lower.warmup_steps) = (None, None);
        }
        if layers {
            (lower.layers, lower.leave_out) = (None, None);
        }
        if batch {
            (lower.batch_size, lower.batch_tokens) = (None, None);
        }
        if memory {
            (lower.activations, lower.memory_budget) = (None, None);
        }
        if order {
            (lower.no_shuffle, lower.stream_buffer) = (None, None);
        }
        if self.stream == Some(false) {
            lower.stream_buffer = None;
        }
        if self.folds.is_some() || self.fold.is_some() {
            (lower.folds, lower.fold, lower.eval) = (None, None, None);
        }
        if self.eval.is_some() {
            (lower.folds, lower.fold) = (None, None);
        }
        if self.seeds.is_some() || self.seed.is_some() {
            (lower.seeds, lower.seed) = (None, None);
        }
        if self.curve.is_some() || self.train_examples.is_some() {
            (lower.curve, lower.train_examples) = (None, None);
        }
        if self.model.is_some() {
            lower.model_commit = None;
        }
        if matches!(self.adapter, Some(AdapterChoice::None | AdapterChoice::Full)) {
            lower.adapter_drop = None;
            lower.unshape();
        }
        if self.adapter == Some(AdapterChoice::Full) {
            (lower.backbone_dtype, lower.backbone_compute) = (None, None);
        }
        // products in integers and weights that are stored as anything but them
        if self.backbone_compute.is_some_and(|c| c != BackboneCompute::F32) {
            lower.backbone_dtype = lower.backbone_dtype.filter(|d| integers_read(*d));
        }
        if self.backbone_dtype.is_some_and(|d| !integers_read(d)) {
            lower.backbone_compute = None;
        }
        if self.init.is_some() {
            lower.unshape();
            (lower.adapter, lower.head, lower.name, lower.task) = (None, None, None, None);
            (lower.adapters, lower.setup, lower.fusion, lower.joint) = (None, None, None, None);
        } else if self.makes_new().is_some() {
            lower.init = None;
        }
    }

    /// An option that says what a new adapter is like, which a saved one knows itself.
    fn makes_new(&self) -> Option<&'static str> {
        let preset = self.adapter.as_ref().is_some_and(|a| *a != AdapterChoice::Full);
        let saved = ("adapters", self.adapters.is_some());
        let new = [("adapter", preset), ("name", self.name.is_some()), saved];
        // layers can be left out of a saved one too
        let shaping = self.shaping().into_iter().filter(|(option, _)| *option != "leave-out");
        new.into_iter().chain(shaping).find(|(_, given)| *given).map(|(option, _)| option)
    }

    /// Forgets what only an adapter can use.
    fn unshape(&mut self) {
        (self.bottleneck, self.reduction_factor, self.placement, self.scaling) = (None, None, None, None);
        (self.non_linearity, self.adapter_dropout, self.adapter_init) = (None, None, None);
        (self.ln_before, self.ln_after, self.layers, self.leave_out) = (None, None, None, None);
    }

    /// Options that only an adapter can use.
    fn shaping(&self) -> [(&'static str, bool); 11] {
        [
            ("bottleneck", self.bottleneck.is_some()),
            ("reduction-factor", self.reduction_factor.is_some()),
            ("placement", self.placement.is_some()),
            ("non-linearity", self.non_linearity.is_some()),
            ("adapter-dropout", self.adapter_dropout.is_some()),
            ("scaling", self.scaling.is_some()),
            ("ln-before", self.ln_before.is_some()),
            ("ln-after", self.ln_after.is_some()),
            ("adapter-init", self.adapter_init.is_some()),
            ("layers", self.layers.is_some()),
            ("leave-out", self.leave_out.is_some()),
        ]
    }

    /// Checks what one option says about another.
    pub(super) fn check_together(&self) -> Result<()> {
        for [(one, a), (other, b)] in self.exclusive() {
            if a && b {
                return Err(Error::Exclusive { one, other });
            }
        }
        if self.memory_budget.is_some() && self.cache_prefix.is_some() {
            // what a cached step holds depends on what was cached before
            return Err(Error::Exclusive { one: "memory-budget", other: "cache-prefix" });
        }
        for (option, all) in [("variant", &self.variant), ("tasks", &self.tasks)] {
            let Some(all) = all else { continue };
            let mut names: Vec<&str> = all.iter().map(|v| v.name.as_str()).collect();
            names.sort_unstable();
            if let Some(name) = names.windows(2).find(|w| w[0] == w[1]).map(|w| w[0]) {
                return Err(refused(option, format!("`{name}` twice"), "a name stands for one"));
            }
            if names.is_empty() {
                return Err(refused(option, "empty", "it names some"));
            }
            if self.profile.is_some() {
                return Err(Error::Exclusive { one: option, other: "profile" });
            }
        }
        self.check_mixed()?;
        self.check_series()?;
        self.check_tasks()?;
        self.check_teaching()?;
        self.check_earlier()?;
        let streams = self.stream == Some(true);
        if streams && self.cache_prefix.is_some() {
            // the cache knows every text by its hash, in memory
            return Err(Error::Exclusive { one: "stream", other: "cache-prefix" });
        }
        // those of tasks are their own
        let is_one = self.train.is_some() && self.tasks.is_none();
        let has_data = self.train.is_some() || self.tasks.is_some();
        let generates = self.predict_with_generate == Some(true);
        if generates && self.memory_budget.is_some() {
            // what a generation holds depends on what is said
            return Err(Error::Exclusive { one: "memory-budget", other: "predict-with-generate" });
        }
        let needs = [
            ("model-commit", self.model_commit.is_some(), "model", self.model.is_some()),
            ("eval", self.eval.is_some(), "train", has_data),
            ("adapter-column", self.adapter_column.is_some(), "train", self.train.is_some()),
            ("text-column", self.text_column.is_some(), "train", has_data),
            ("text-pair-column", self.text_pair_column.is_some(), "train", has_data),
            ("label-column", self.label_column.is_some(), "train", has_data),
            ("format", self.format.is_some(), "train", has_data),
            ("fusion", self.fusion.is_some(), "adapters", self.adapters.is_some()),
            ("scheme-from", self.scheme_from.is_some(), "scheme-to", self.scheme_to.is_some()),
            ("scheme-to", self.scheme_to.is_some(), "scheme-from", self.scheme_from.is_some()),
            ("joint", self.joint == Some(true), "adapters", self.adapters.is_some()),
            ("stream-buffer", self.stream_buffer.is_some(), "stream", streams),
            // The built-in demonstration brings data to evaluate on.
            ("eval-every", self.eval_every.is_some() && is_one, "eval", self.is_evaluated()),
            ("patience", self.patience.is_some() && is_one, "eval", self.is_evaluated()),
            ("shared", self.shared == Some(true), "tasks", self.tasks.is_some()),
            ("sampling", self.sampling.is_some(), "tasks", self.tasks.is_some()),
            ("order", self.order.is_some(), "tasks", self.tasks.is_some()),
            ("task-weight", self.task_weight.is_some(), "tasks", self.tasks.is_some()),
            ("predict-with-generate", generates, "eval", self.is_evaluated()),
            ("num-beams", self.num_beams.is_some(), "predict-with-generate", generates),
            ("max-new-tokens", self.max_new_tokens.is_some(), "predict-with-generate", generates),
        ];
        if let Some((option, _, needs, _)) = needs.into_iter().find(|(_, given, _, there)| *given && !*there)
        {
            return Err(Error::Needs { option, needs });
        }
        if let (true, Some(other)) = (self.init.is_some(), self.makes_new()) {
            return Err(Error::Exclusive { one: "init", other });
        }
        let opening = Opening {
            dropout: None,
            storage: self.backbone_dtype.map(Into::into),
            compute: self.backbone_compute.map(Into::into).unwrap_or_default(),
            ..Opening::default()
        };
        opening.check(self.adapter == Some(AdapterChoice::Full))?;
        let bare = match self.adapter {
            Some(AdapterChoice::None) => "none",
            Some(AdapterChoice::Full) => "full",
            _ => return Ok(()),
        };
        let is_left_out = self.adapter_drop.is_some() && self.adapters.is_none();
        let drop = ("adapter-drop", is_left_out);
        match self.shaping().into_iter().chain([drop]).find(|(_, given)| *given) {
            Some((option, _)) => {
                let why = format!("`adapter` is {bare}, so there is no adapter that it could shape");
                Err(Error::Option { option, value: "given".into(), why })
            }
            None => Ok(()),
        }
    }
}

impl Options {
    /// Checks what several tasks, or rows that name their adapters, go with: new adapters, all of
    /// one kind.
    fn check_mixed(&self) -> Result<()> {
        let one = match (&self.adapter_column, &self.tasks) {
            (None, None) => return Ok(()),
            (Some(_), Some(_)) => return Err(Error::Exclusive { one: "tasks", other: "adapter-column" }),
            (Some(_), None) => "adapter-column",
            (None, Some(_)) => "tasks",
        };
        let others = [
            ("variant", self.variant.is_some()),
            ("init", self.init.is_some()),
            ("adapters", self.adapters.is_some()),
            ("setup", self.setup.is_some()),
            ("fusion", self.fusion.is_some()),
            ("joint", self.joint == Some(true)),
            ("adapter-drop", self.adapter_drop.is_some()),
            ("stream", self.stream == Some(true)),
            ("profile", self.profile.is_some()),
        ];
        if let Some((other, _)) = others.into_iter().find(|(_, given)| *given) {
            return Err(Error::Exclusive { one, other });
        }
        match self.adapter {
            Some(AdapterChoice::Full) => {
                Err(refused("adapter", "full", "a backbone that trains serves one run by itself"))
            }
            _ => Ok(()),
        }
    }
}

impl Options {
    /// Checks what runs that follow each other go with, and runs on a part of their data.
    fn check_series(&self) -> Result<()> {
        let series = [
            ("folds", self.folds.is_some()),
            ("seeds", self.seeds.is_some()),
            ("curve", self.curve.is_some()),
        ];
        let parts = [
            ("fold", self.fold.is_some()),
            ("folds", self.folds.is_some()),
            ("train-examples", self.train_examples.is_some()),
            ("curve", self.curve.is_some()),
        ];
        let given = |all: &[(&'static str, bool)]| all.iter().find(|(_, given)| *given).map(|(one, _)| *one);
        let excluded = [
            (given(&series), "variant", self.variant.is_some()),
            (given(&series), "profile", self.profile.is_some()),
            (given(&series).or(given(&parts)), "adapter-column", self.adapter_column.is_some()),
            (given(&series).or(given(&parts)), "tasks", self.tasks.is_some()),
            (given(&parts), "stream", self.stream == Some(true)),
            (self.folds.map(|_| "folds"), "fold", self.fold.is_some()),
            (self.folds.map(|_| "folds"), "eval", self.eval.is_some()),
            (self.fold.map(|_| "fold"), "eval", self.eval.is_some()),
            (self.seeds.as_ref().map(|_| "seeds"), "seed", self.seed.is_some()),
            (self.curve.as_ref().map(|_| "curve"), "train-examples", self.train_examples.is_some()),
        ];
        if let Some((Some(one), other, _)) =
            excluded.into_iter().find(|(one, _, other)| one.is_some() && *other)
        {
            return Err(Error::Exclusive { one, other });
        }
        let is_folded = self.folds.is_some() || self.fold.is_some();
        let needs = [
            ("folds", self.folds.is_some(), "train", self.train.is_some()),
            ("fold", self.fold.is_some(), "train", self.train.is_some()),
            ("group-column", self.group_column.is_some(), "folds", is_folded),
            ("seeds", self.seeds.is_some() && self.train.is_some(), "eval", self.is_evaluated()),
            ("curve", self.curve.is_some() && self.train.is_some(), "eval", self.is_evaluated()),
        ];
        if let Some((option, _, needs, _)) = needs.into_iter().find(|(_, given, _, there)| *given && !*there)
        {
            return Err(Error::Needs { option, needs });
        }
        let lists = [
            ("seeds", self.seeds.clone()),
            ("curve", self.curve.as_ref().map(|c| c.iter().map(|n| *n as u64).collect())),
        ];
        for (option, list) in lists {
            let Some(mut list) = list else { continue };
            list.sort_unstable();
            if let Some(twice) = list.windows(2).find(|w| w[0] == w[1]) {
                return Err(refused(option, twice[0], "it stands twice"));
            }
            if list.is_empty() {
                return Err(refused(option, "empty", "it names runs"));
            }
        }
        Ok(())
    }
    /// Whether there is something to evaluate on.
    fn is_evaluated(&self) -> bool {
        self.eval.is_some() || self.folds.is_some() || self.fold.is_some()
    }
}

/// Whether products in 8-bit integers go with a backbone that is asked for like this.
fn integers_read(dtype: BackboneDtype) -> bool {
    let opening = Opening { storage: Some(dtype.into()), compute: Compute::Int8, ..Opening::default() };
    opening.check(false).is_ok()
}

pub(super) fn refused(option: &'static str, value: impl ToString, why: impl Into<String>) -> Error {
    Error::Option { option, value: value.to_string(), why: why.into() }
}
