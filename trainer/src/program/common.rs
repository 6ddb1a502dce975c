//! What runs that follow each other have in common: the backbone, and what lies below their adapters.
use super::options::{AdapterChoice, Settings};
use super::setup::{open, open_backbone};
use engraft::{
    Error, Result,
    learner::{
        Backbone, Learner,
        prefix::{Precision, Prefix},
    },
    reports::metrics::Metric,
    text::examples::Examples,
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Where what lies below the adapters of several runs is kept, within the directory of all.
const BELOW: &str = ".below";

/// Each reads from a cache that is there if its own would lie in front of the same layer.
pub(super) fn cache_prefix(
    all: &mut [Learner],
    caches: &mut Vec<Arc<Prefix>>,
    directory: &Path,
    dtype: Precision,
    max_length: usize,
) -> Result<()> {
    for learner in all {
        let mut shared = false;
        for cache in caches.iter() {
            shared = shared || learner.share_prefix(cache)?;
        }
        if !shared {
            learner.cache_prefix(directory, dtype, max_length)?;
            caches.extend(learner.prefix().cloned());
        }
    }
    Ok(())
}

/// What runs that follow each other have in common.
#[derive(Default)]
pub struct Common {
    /// The backbone, once it is open.
    backbone: Option<Backbone>,
    /// Where what lies below adapters may be kept until the last of them is over.
    below: Option<PathBuf>,
    caches: Vec<Arc<Prefix>>,
    /// The directory of all of them.
    home: Option<PathBuf>,
    /// The scores of their task.
    pub metrics: Vec<Metric>,
}
impl Common {
    /// Of runs in directories within `home`.
    pub fn within(home: &Path) -> Common {
        Common { home: Some(home.into()), below: Some(home.join(BELOW)), ..Common::default() }
    }
    /// The directory of all of them, if they are several.
    pub fn home(&self) -> Option<&Path> {
        self.home.as_deref()
    }
    /// Forgets what was kept.
    pub fn close(self) -> Result<()> {
        let Common { caches, below, .. } = self;
        drop(caches); // they hold the directory
        let Some(below) = below else { return Ok(()) };
        match std::fs::remove_dir_all(&below) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::Read { path: below, source })
            }
            _ => Ok(()),
        }
    }
    /// The backbone that the settings name; one that trains serves one run.
    pub fn backbone(&mut self, s: &Settings) -> Result<Backbone> {
        if s.adapter == Some(AdapterChoice::Full) {
            return open_backbone(s, &open(s.device, s.threads)?);
        }
        if self.backbone.is_none() {
            self.backbone = Some(open_backbone(s, &open(s.device, s.threads)?)?);
        }
        self.backbone.clone().ok_or_else(|| unreachable!("it was opened"))
    }
    /// The commit of the backbone, if it is a model of the hub.
    pub fn commit(&self) -> Option<String> {
        self.backbone.as_ref()?.commit().map(String::from)
    }
    /// Keeps what lies below adapters for all, if that is asked for, possible, and not too large.
    pub fn cache(
        &mut self,
        s: &Settings,
        all: &mut [Learner],
        max_length: usize,
        examples: &Examples,
    ) -> Result<()> {
        /// The most bytes that are kept without being asked for.
        const MOST: usize = 4 << 30;
        if let Some(directory) = &s.cache_prefix {
            return cache_prefix(all, &mut self.caches, directory, s.cache_dtype, max_length);
        }
        let (Some(directory), None) = (&self.below, &s.memory_budget) else { return Ok(()) };
        for learner in all {
            let channels = learner.backbone().model().info().channels;
            let bytes = examples.tokens().saturating_mul(4 * channels);
            if !s.stream && bytes <= MOST && learner.without_prefix()?.is_none() {
                let one = std::slice::from_mut(learner);
                cache_prefix(one, &mut self.caches, directory, Precision::F32, max_length)?;
            }
        }
        Ok(())
    }
}
