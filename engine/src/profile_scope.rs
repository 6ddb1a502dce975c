//! Where in a model a pass is: the phase and the place under which a profile lists its launches.
use crate::{Part, Site};
use engraft_kernels::{
    Device,
    profile::{Mark, Place, SpanGuard},
};

/// The open spans of a pass; the inner one ends first.
#[derive(Debug)]
pub(crate) struct ProfileScope {
    at: Place,
    place: SpanGuard,
    phase: SpanGuard,
}

impl ProfileScope {
    /// A phase that begins at the embeddings.
    pub fn new(device: &Device, phase: &'static str) -> ProfileScope {
        let phase = device.mark(Mark::Phase(phase));
        let at = Site::EMBED.into();
        ProfileScope { at, place: device.mark(Mark::Place(at)), phase }
    }
    /// The place, as a recorded operation remembers it.
    pub fn place(&self) -> Place {
        self.at
    }
    /// What follows belongs to `at`.
    pub fn enter_place(&mut self, device: &Device, at: Place) {
        if at != self.at {
            self.place = SpanGuard::default();
            self.place = device.mark(Mark::Place(at));
            self.at = at;
        }
    }
    /// Another phase begins, at the same place.
    pub fn enter_phase(&mut self, device: &Device, phase: &'static str) {
        self.place = SpanGuard::default();
        self.phase = SpanGuard::default();
        self.phase = device.mark(Mark::Phase(phase));
        self.place = device.mark(Mark::Place(self.at));
    }
}

impl From<Site> for Place {
    fn from(s: Site) -> Place {
        match s.part {
            Part::Embed => Place { name: "embeddings", index: None },
            Part::Layer | Part::Attn | Part::Cross | Part::Ffn => {
                Place { name: "layer", index: Some(s.layer) }
            }
            Part::Memory => Place { name: "memory", index: None },
            Part::Head => Place { name: "head", index: None },
        }
    }
}
