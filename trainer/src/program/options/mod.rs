//! The configuration of a run of training.
//!
//! There is one list of options, in `table.rs`. It makes [`Options`], in which every option may be
//! missing: the flags of `engraft train` and the keys of `run.toml` (a flag's name without its
//! dashes). And it makes [`Settings`], in which every option has its value: what a run works with,
//! and what it writes into its output directory as `run.toml`, so that `--config out/run.toml`
//! repeats it.
//!
//! Flags win over the file, the file over presets, presets over defaults. Of two options that
//! exclude each other the one that wins takes the other's place: `--bottleneck 64` overrides a
//! `reduction-factor` in the file, and `--adapter none` everything in it that shapes an adapter.
//! Both in one place is an error, like a key that does not exist and a value out of range. Paths
//! are relative to the working directory wherever they stand.

mod adapter;
mod bytes;
mod checks;
mod choices;
mod earlier;
mod grafted;
#[macro_use]
mod listing;
mod parallel;
mod paths;
pub mod sets;
mod table;
mod tasks;
mod teaching;
mod texts;
mod values;
mod variant;

use std::path::Path;

pub use adapter::{AdapterChoice, Methods};
pub use bytes::ByteSize;
pub use choices::{
    ActivationsChoice, AdapterDtype, AdapterInit, BackboneCompute, BackboneDtype, Backend, CompatChoice,
    FormatChoice, Head, PlacementChoice,
};
pub use grafted::{Composed, SavedAdapter};
pub use listing::Mark;
pub use table::{MODEL, Options, Settings};
pub use texts::{Layers, ReductionFactor, ScalingChoice};
pub use variant::{Variant, names_a_directory};

use engraft::adapters::methods::METHODS;
use engraft::data::Columns;
use engraft::engine::{Activations, Keep};
use engraft::run::{
    recipe::{Recipe, Reports},
    schedule::Warmup,
};
use engraft::tasks::Told;
use engraft::text::batch::BatchSize;
use engraft::{Error, Result};

/// Texts in a batch unless something is said.
const DEFAULT_BATCH: usize = 32;

/// Examples that a stream is shuffled among unless something is said.
const DEFAULT_BUFFER: usize = 4096;

/// The name under which a run's settings are saved.
pub const FILE: &str = "run.toml";

impl Options {
    /// Reads a `run.toml`.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text =
            std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
        Self::parse(path, &text)
    }

    /// Reads the text of a `run.toml`; `path` only names it in errors.
    pub fn parse(path: impl AsRef<Path>, text: &str) -> Result<Self> {
        let path = path.as_ref();
        toml::from_str(text).map_err(|error| {
            let why = why(error.message());
            match error.span() {
                Some(span) => Error::line(path, 1 + text[..span.start].matches('\n').count(), why),
                None => Error::file(path, why),
            }
        })
    }

    /// Of the run that left something in a directory: the options that whoever uses what was
    /// learned follows too.
    pub fn recorded(directory: &Path) -> Result<Self> {
        let file = directory.join(FILE);
        if file.exists() { Ok(Self::read(file)?.only(Mark::Use)) } else { Ok(Self::default()) }
    }

    /// Where these options say something else than those that were `recorded`: a line for each.
    pub fn overriding(&self, recorded: &Self) -> Vec<String> {
        let table = |options: &Self| toml::Table::try_from(options.only(Mark::Use)).unwrap_or_default();
        let (given, recorded) = (table(self), table(recorded));
        let line = |(key, value): (&String, &toml::Value)| {
            let before = recorded.get(key).filter(|before| *before != value)?;
            Some(format!("--{key} {value} is given; what was learned was learned with {before}"))
        };
        given.iter().filter_map(line).collect()
    }

    /// These options, and those of `lower` where these say nothing.
    pub fn over(self, mut lower: Self) -> Self {
        self.displace(&mut lower);
        self.or(lower)
    }

    /// Checks everything and fills in the defaults. Of several runs each gets all that is its own.
    pub fn resolve(self) -> Result<Settings> {
        let mut this = self.in_parallel()?;
        this.check_together()?;
        if let Some(mut variants) = this.variant.take() {
            variants.sort_by(|a, b| a.name.cmp(&b.name));
            let settle = |v: &Variant| {
                let own =
                    v.within(this.with(&v.own, &[]).and_then(Self::resolve))?.to_options().only(Mark::Own);
                let own = toml::Table::try_from(own).map_err(|e| Error::Model(e.to_string()));
                Ok(Variant { name: v.name.clone(), own: v.within(own)? })
            };
            let settled = variants.iter().map(settle).collect::<Result<_>>()?;
            this = Self { variant: Some(settled), ..this.without(Mark::Own) };
        }
        let settings = this.settle()?;
        if let Some(Composed(setup)) = &settings.setup {
            settings.recipe().check_setup(setup)?;
        }
        if settings.name.is_none() {
            settings.tasks()?;
        }
        Ok(settings)
    }

    /// These options with what is a run's own among several; it may have `more` than a variant.
    pub fn with(&self, own: &toml::Table, more: &[&str]) -> Result<Self> {
        let own = Self::own(own, &[Mark::Own], more)?;
        if own.adapter == Some(AdapterChoice::Full) {
            let why = "a backbone that trains serves one run by itself".into();
            return Err(Error::Option { option: "adapter", value: "full".into(), why });
        }
        Ok(own.over(Self { variant: None, ..self.clone() }))
    }

    /// What is one's own among several: options all of which have one of these marks, or `more`.
    fn own(own: &toml::Table, marks: &[Mark], more: &[&str]) -> Result<Self> {
        let own: Self =
            own.clone().try_into().map_err(|e: toml::de::Error| Error::Model(why(e.message())))?;
        let shared = marks.iter().fold(own.clone(), |own, mark| own.without(*mark)).keys_given();
        if let Some(key) = shared.iter().find(|key| !more.contains(&key.as_str())) {
            let own: Vec<String> = marks.iter().flat_map(|mark| Self::keys_of(*mark)).collect();
            let own = own.join(", ");
            return Err(Error::Model(format!("`{key}` is the same for all; each may have its own {own}")));
        }
        Ok(own)
    }

    /// Fills in the defaults for who does not train; what goes together there is theirs to say.
    pub fn settle(mut self) -> Result<Settings> {
        if self.epochs.is_none() && self.max_steps.is_none() {
            self.epochs = Some(3);
        }
        if self.batch_size.is_none() && self.batch_tokens.is_none() {
            let of_setup = self.setup.as_ref().and_then(|Composed(setup)| setup.items());
            self.batch_size = Some(of_setup.unwrap_or(DEFAULT_BATCH));
        }
        if self.warmup_ratio.is_none() && self.warmup_steps.is_none() {
            self.warmup_ratio = Some(0.06);
        }
        if self.adapter.is_none() && self.init.is_none() {
            self.adapter = Some(match self.adapters {
                Some(_) => AdapterChoice::None, // those that were saved serve
                None => AdapterChoice::Of(METHODS[0].names[0].into()),
            });
        }
        if self.lr.is_none() && self.adapter == Some(AdapterChoice::Full) {
            self.lr = Some(5e-5);
        }
        let settings = self.fill();
        settings.check_values()?;
        Ok(settings)
    }
}

/// What is wrong with options, as their reader says it.
fn why(message: &str) -> String {
    match message.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`')) {
        Some((key, _)) => unknown(key),
        None => message.replace('\n', " "),
    }
}

/// What to say of a key that does not exist.
fn unknown(key: &str) -> String {
    let dashed = key.replace('_', "-");
    if Options::keys().contains(&dashed) {
        return format!("unknown key `{key}`; did you mean `{dashed}`?");
    }
    format!("unknown key `{key}`; the keys are {}", Options::keys().join(", "))
}

impl Default for Settings {
    fn default() -> Self {
        Options::default().resolve().expect("the defaults are valid")
    }
}

impl Settings {
    /// The text of a `run.toml` that gives these settings again.
    pub fn to_toml(&self) -> String {
        let all = self.to_options();
        let options = if self.variant.is_some() { all.without(Mark::Own) } else { all };
        let options = toml::to_string(&options).expect("options are plain values");
        format!("# The settings of this run. `engraft train --config {FILE}` repeats it.\n{options}")
    }

    /// The runs of these settings, with their names: one without a name, or several, each as it
    /// would be by itself.
    pub fn runs(&self) -> Result<Vec<(Option<String>, Self)>> {
        let Some(variants) = &self.variant else { return Ok(vec![(None, self.clone())]) };
        let shared = self.to_options().without(Mark::Own);
        let one = |v: &Variant| {
            let own = Options { out: Some(self.out.join(&v.name)), ..v.within(shared.with(&v.own, &[]))? };
            Ok((Some(v.name.clone()), v.within(own.resolve())?))
        };
        variants.iter().map(one).collect()
    }

    /// One of the runs of these settings whose rows name their adapters.
    pub fn of_adapter(&self, name: &str) -> Self {
        Self { name: Some(name.into()), out: self.out.join(name), ..self.clone() }
    }

    /// The file that says what the run is.
    pub fn file(&self) -> (String, Vec<u8>) {
        (FILE.into(), self.to_toml().into_bytes())
    }

    /// What the task is told.
    pub fn told(&self) -> Told {
        let told = serde_json::to_value(self.to_options().only(Mark::Task));
        Told::new(told.ok().and_then(|all| all.as_object().cloned()).unwrap_or_default())
    }

    /// Where the columns of the data files are.
    pub fn columns(&self) -> Columns {
        Columns {
            text: self.text_column.clone(),
            pair: self.text_pair_column.clone(),
            label: self.label_column.clone(),
            adapter: self.adapter_column.clone(),
            group: self.group_column.clone(),
            header: self.header,
            documents: self.documents,
            quotes: self.quotes,
            label_separator: self.label_separator.clone(),
            skip_unlabelled: self.skip_unlabelled,
            schemes: self.scheme_from.zip(self.scheme_to),
            format: self.format.clone(),
        }
    }

    /// The schedule's warm-up.
    fn warmup(&self) -> Warmup {
        match self.warmup_steps {
            Some(steps) => Warmup::Steps(steps),
            None => Warmup::Ratio(self.warmup_ratio.unwrap_or(0.0)),
        }
    }

    /// How much a batch of training holds.
    fn batch(&self) -> BatchSize {
        match (self.batch_tokens, self.batch_size) {
            (Some(n), _) => BatchSize::Tokens(n),
            (None, n) => BatchSize::Examples(n.unwrap_or(DEFAULT_BATCH)),
        }
    }

    /// Examples that a stream is shuffled among.
    pub fn buffer(&self) -> usize {
        self.stream_buffer.unwrap_or(DEFAULT_BUFFER)
    }

    /// How the run goes.
    pub fn recipe(&self) -> Recipe {
        Recipe {
            batch: self.batch(),
            accumulation: self.gradient_accumulation,
            epochs: self.epochs,
            max_steps: self.max_steps,
            shuffle: !self.no_shuffle,
            seed: self.seed,
            lr: self.lr,
            schedule: self.schedule,
            warmup: self.warmup(),
            weight_decay: self.weight_decay,
            betas: (self.adam_beta1, self.adam_beta2),
            epsilon: self.adam_eps,
            clip: self.clip,
            activations: Activations::all(self.activations.map_or(Keep::F32, Keep::from)),
            adapter_drop: self.adapter_drop,
            eval_every: self.eval_every,
            eval_batch: BatchSize::Examples(self.eval_batch_size),
            metric: self.metric.clone(),
            patience: self.patience,
            checkpoint_every: self.checkpoint_every,
            log_every: self.log_every,
            reports: Reports { page: self.report, events: self.tensorboard },
        }
    }
}

#[cfg(test)]
mod tests;
