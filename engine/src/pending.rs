//! What is still to be dropped out.
use crate::Act;
use engraft_kernels::dropout::Dropout;

/// An activation that is still to be dropped out: by [`crate::Cx::dropped`], or by what reads it
/// ([`crate::Cx::drop_add_norm`]). The numbers are the same.
#[derive(Clone, Debug)]
pub struct Pending {
    pub(crate) x: Act,
    pub(crate) how: Option<Dropout>,
}
