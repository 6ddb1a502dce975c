//! A `Parallel` in training: each of its members has a head of its own and learns from every text,
//! so that their losses add up. That is a run for each of them over the same batches, as variants
//! are: what lies below their first adapters is computed once, each is saved by itself, and learns
//! what it learns alone.
use super::adapter::AdapterChoice;
use super::checks::refused;
use super::grafted::{Composed, SavedAdapter};
use super::table::Options;
use super::variant::{Variant, names_a_directory};
use engraft::adapters::{Setup, methods::METHODS};
use engraft::{Error, Result};

impl Options {
    /// These options with a variant for each answer that their setup gives for a text, if there are
    /// several.
    pub(super) fn in_parallel(mut self) -> Result<Self> {
        let several = |setup: &Composed| Ok::<_, Error>(Some(setup.0.answers()?).filter(|all| all.len() > 1));
        let is_alone = self.tasks.is_none() && self.adapter_column.is_none();
        let setup = self.setup.clone().filter(|_| is_alone);
        let Some(answers) = setup.as_ref().map(several).transpose()?.flatten() else { return Ok(self) };
        if self.variant.is_some() {
            let why = "it is a run for each of its members, as variants are: give it in no run that has some";
            return Err(self.refused_setup(why));
        }
        self.check_shared(&answers)?;
        let all = answers.iter().map(|answer| self.variant_of(answer)).collect::<Result<Vec<_>>>()?;
        (self.setup, self.adapters, self.name, self.adapter) = (None, None, None, None);
        (self.fusion, self.joint) = (None, None);
        Ok(Self { variant: Some(all), ..self })
    }
    fn refused_setup(&self, why: impl Into<String>) -> Error {
        refused("setup", self.setup.as_ref().map(ToString::to_string).unwrap_or_default(), why)
    }
    /// The saved adapters that a setup names.
    fn saved_in(&self, setup: &Setup) -> Vec<SavedAdapter> {
        let names = setup.distinct();
        self.adapters.iter().flatten().filter(|a| names.contains(&a.name.as_str())).cloned().collect()
    }
    /// The adapters that a setup names and nobody saved.
    fn new_in<'s>(&self, setup: &'s Setup) -> Vec<&'s str> {
        let is_saved = |name: &str| self.adapters.iter().flatten().any(|a| a.name == name);
        setup.distinct().into_iter().filter(|name| !is_saved(name)).collect()
    }
    /// Refuses what the members do not have each for itself.
    fn check_shared(&self, answers: &[Setup]) -> Result<()> {
        let new: Vec<&str> = answers.iter().flat_map(|a| self.new_in(a)).collect();
        if let [first, others @ ..] = new.as_slice()
            && let Some(other) = others.first()
        {
            let why = format!(
                "`{first}` and `{other}` were saved nowhere, and would be the same new adapter twice: say what each is with \
                 --variant, as in --variant '{first}: adapter=houlsby', of which there may be any number over the same batches"
            );
            return Err(self.refused_setup(why));
        }
        if let Some(new) = new.first().filter(|new| self.name.as_deref().is_some_and(|name| name != **new)) {
            let why =
                format!("it names `{new}`, which is neither one of --adapters nor the new one of --name");
            return Err(self.refused_setup(why));
        }
        let named: Vec<&str> = answers.iter().flat_map(Setup::distinct).collect();
        if let Some(idle) = self.adapters.iter().flatten().find(|a| !named.contains(&a.name.as_str())) {
            return Err(self.refused_setup(format!("it does not name the adapter `{}`", idle.name)));
        }
        let twice = |(i, name): (usize, &&str)| named[..i].contains(name);
        match named.iter().enumerate().find(|(i, name)| self.joint == Some(true) && twice((*i, *name))) {
            Some((_, name)) => {
                let why = format!(
                    "with --joint `{name}` would learn from several of its members: train it in one of them"
                );
                Err(self.refused_setup(why))
            }
            None => Ok(()),
        }
    }
    /// A run of its own for one answer.
    fn variant_of(&self, answer: &Setup) -> Result<Variant> {
        let (saved, new) = (self.saved_in(answer), self.new_in(answer));
        let adapter = match new.first() {
            Some(_) => self.adapter.clone().unwrap_or(AdapterChoice::Of(METHODS[0].names[0].into())),
            None => AdapterChoice::None,
        };
        let has_saved = !saved.is_empty();
        let own = Self {
            adapter: Some(adapter),
            name: new.first().map(|name| (*name).into()),
            fusion: self.fusion.clone().filter(|_| has_saved),
            joint: self.joint.filter(|_| has_saved),
            adapters: Some(saved).filter(|_| has_saved),
            setup: Some(Composed(answer.clone())).filter(|_| *answer != Setup::Identity),
            ..Self::default()
        };
        let names = answer.distinct();
        let name = if names.is_empty() { answer.to_string() } else { names.join("+") };
        if !names_a_directory(&name) {
            let why = format!("`{name}` cannot be the name of a run, which is that of its directory");
            return Err(self.refused_setup(why));
        }
        let own = toml::Table::try_from(own).map_err(|e| Error::Model(e.to_string()))?;
        Ok(Variant { name, own })
    }
}
