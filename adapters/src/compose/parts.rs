//! What each block of a composition can put together.
//!
//! ```text
//! Stack            every module: bottlenecks and streams one behind the other, deltas added, prefixes beside each other
//! Average          bottlenecks, and what stands at linear layers
//! Split, Fuse      bottlenecks; a fusion mixes adapters, other fusions and stacks of both
//! ```
//! Behind the embeddings and in front of a head the first adapter alone answers, in whatever block
//! it stands.
use super::tree::Tree;
use crate::{Error, Result, View};
use engraft_engine::Site;

impl Tree<'_> {
    /// Refuses a block that holds what it cannot put together.
    pub(super) fn check(self) -> Result<Self> {
        let (block, mixes_linear) = match &self {
            Tree::Identity | Tree::One(_) | Tree::Stack(_) => return Ok(self),
            Tree::Chain(_) => return self.check_chain(),
            Tree::Average { .. } => ("Average", true),
            Tree::Split { .. } => ("Split", false),
            Tree::Fuse { of, .. } => {
                if !of.iter().all(Tree::is_mixable) {
                    let what = "a Fuse mixes adapters, other Fuses and Stacks of both, and no other blocks";
                    return Err(Error::Config(what.into()));
                }
                ("Fuse", false)
            }
        };
        for adapter in self.adapters() {
            for (info, module) in adapter.modules() {
                let is_taken = match module.view() {
                    View::Close(_) => true,
                    View::Linear(_) => mixes_linear,
                    View::Stream(_) => [Site::EMBED, Site::head()].contains(&info.site),
                    View::Prefix(_) | View::Norm(_) => false,
                };
                if !is_taken {
                    let (name, path) = (adapter.name(), &info.path);
                    return Err(Error::Config(format!(
                        "{block} cannot put together what `{name}` does at `{path}`"
                    )));
                }
            }
        }
        Ok(self)
    }
    /// Refuses a chain of what has no product to hand on.
    fn check_chain(self) -> Result<Self> {
        for adapter in self.adapters() {
            let has_no_product = |m: View<'_>| matches!(m, View::Linear(m) if m.factors().is_none());
            if let Some((info, _)) = adapter.modules().find(|(_, m)| has_no_product(m.view())) {
                return Err(Error::Config(format!(
                    "what adapters 1.3.0 makes of a stack with `{}` at `{}` is not reproduced",
                    adapter.name(),
                    info.path
                )));
            }
        }
        Ok(self)
    }
    /// True for adapters and fusions one behind the other.
    fn is_mixable(&self) -> bool {
        let is_one = |t: &Tree<'_>| matches!(t, Tree::Identity | Tree::One(_) | Tree::Fuse { .. });
        match self {
            Tree::Stack(of) | Tree::Chain(of) => of.iter().all(is_one),
            one => is_one(one),
        }
    }
}
