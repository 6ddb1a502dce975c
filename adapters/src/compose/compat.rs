//! Whose results count.

/// Whose results count where a library computes something else than it documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compat {
    /// What is documented.
    #[default]
    Documented,
    /// What AdapterHub's `adapters` 1.3.0 computes:
    ///
    /// * an Average is divided by the number of its members once more;
    /// * a fusion of adapters beside a sub-layer adds the residual twice;
    /// * in a Stack of LoRAs the first one's product is what the next one reads, and is not added;
    /// * the children of a BatchSplit or a Parallel all enter as the first one does and leave as
    ///   the last one; a Stack among them enters once more.
    ///
    /// What the library cannot compute at all is refused.
    Adapters130,
}
