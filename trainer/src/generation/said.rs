//! What is generated.

/// A token, as it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// The number of the prompt.
    pub prompt: usize,
    /// Which of its sequences.
    pub sequence: usize,
    /// The token.
    pub id: u32,
}
/// A sequence that was generated.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// The new tokens, with the one that ends them if there is one.
    pub ids: Vec<u32>,
    /// Of a beam search: the log-probability over the length to the power of the length penalty.
    pub score: Option<f32>,
}
