//! The fusions of a setup, their names, and what they mix.
use super::Setup;

/// A fusion of a setup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fused<'a> {
    /// Its name.
    pub name: String,
    /// What it mixes.
    pub of: Vec<Mixable<'a>>,
}
/// What a fusion of a setup mixes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mixable<'a> {
    /// An adapter by its name.
    Adapter(&'a str),
    /// Another fusion by its name.
    Fusion(String),
}

impl Setup {
    /// Its fusions, each once, one that is mixed in front of the one that mixes it.
    pub fn fusions(&self) -> Vec<Fused<'_>> {
        let own = match self {
            Setup::Fuse { of, name } => Some(Fused {
                name: Setup::fusion_name(of, name.as_deref()),
                of: of.iter().filter_map(Setup::mixed).collect(),
            }),
            _ => None,
        };
        let mut all: Vec<Fused<'_>> = vec![];
        for fusion in self.children().iter().flat_map(Setup::fusions).chain(own) {
            if all.iter().all(|other| other.name != fusion.name) {
                all.push(fusion);
            }
        }
        all
    }
    /// What of it a fusion mixes: itself, or what stands last in it.
    fn mixed(&self) -> Option<Mixable<'_>> {
        match self {
            Setup::Fuse { of, name } => Some(Mixable::Fusion(Setup::fusion_name(of, name.as_deref()))),
            Setup::Stack(of) => of.iter().rev().find_map(Setup::mixed),
            _ => self.last().map(Mixable::Adapter),
        }
    }
    /// What a fusion calls it: by the name of its last adapter or, where a fusion stands last, by
    /// the fusion's in brackets; nothing if there is none of both.
    pub fn label(&self) -> Option<String> {
        self.mixed().map(|mixed| match mixed {
            Mixable::Adapter(name) => name.into(),
            Mixable::Fusion(name) => Setup::label_of_fusion(&name),
        })
    }
    /// What a fusion calls another one of this name.
    pub(crate) fn label_of_fusion(name: &str) -> String {
        format!("({name})")
    }
    /// The name of a fusion of these, AdapterHub's: `a,b`, and of what it mixes fusions stand in
    /// brackets, as `(a,b),(c,d)`.
    pub fn fusion_name(of: &[Setup], name: Option<&str>) -> String {
        let names = || of.iter().filter_map(Setup::label).collect::<Vec<_>>().join(",");
        name.map_or_else(names, String::from)
    }
}
