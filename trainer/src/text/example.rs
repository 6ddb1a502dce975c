//! What a model reads at once, and what a task reads of what comes out.

/// The label of a row that has none: its loss is not counted.
pub const IGNORED: u32 = u32::MAX;

/// Which rows of the last hidden states of a sequence a task reads.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Reads {
    /// The one that stands for the whole sequence: which that is, the model says.
    #[default]
    Summary,
    /// Every row.
    All,
    /// Some rows, in order.
    These(Vec<usize>),
    /// Every row of a decoder that reads these tokens beside the input, as an encoder-decoder has
    /// one.
    Decoded {
        /// What stands in front of them; that of the model if nothing is said.
        start: Option<u32>,
        /// They; where one is [`IGNORED`] the model's padding token stands.
        tokens: Vec<u32>,
    },
}

impl Reads {
    /// How many rows are read of a sequence of so many tokens.
    pub fn count(&self, tokens: usize) -> usize {
        match self {
            Reads::Summary => 1,
            Reads::All => tokens,
            Reads::These(rows) => rows.len(),
            Reads::Decoded { tokens, .. } => 1 + tokens.len(),
        }
    }
    /// Tokens that a decoder reads beside the input.
    pub fn decoded(&self) -> usize {
        if let Reads::Decoded { .. } = self { self.count(0) } else { 0 }
    }
}

/// A sequence of tokens, ready for the model.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Example {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Token types, one per token.
    pub types: Vec<u32>,
    /// Which rows are read.
    pub reads: Reads,
    /// A label for each row that is read, or [`IGNORED`]; empty where labels are not known.
    pub labels: Vec<u32>,
    /// The numbers that are to be found, the same count for each row that is read, row by row;
    /// empty where there are none. A row that has numbers has the label 0.
    pub values: Vec<f32>,
    /// The record of the data that it comes from.
    pub record: usize,
    /// What the rows that are read stand for within the record, such as the numbers of words; empty
    /// where there is nothing to say.
    pub parts: Vec<u32>,
}

impl Example {
    /// A sequence of one segment.
    pub fn new(ids: Vec<u32>, reads: Reads, labels: Vec<u32>) -> Self {
        Self { types: vec![0; ids.len()], ids, reads, labels, ..Self::default() }
    }
    /// A sequence beside which a decoder says these labels, one after the other: from each it is to
    /// tell the next, and from the model's start token the first.
    pub fn said(ids: Vec<u32>, labels: Vec<u32>) -> Self {
        let tokens = labels[..labels.len().saturating_sub(1)].to_vec();
        Self::new(ids, Reads::Decoded { start: None, tokens }, labels)
    }
    /// How many rows are read.
    pub fn rows(&self) -> usize {
        self.reads.count(self.ids.len())
    }
    /// Whether a row has a label.
    pub fn is_labelled(&self) -> bool {
        self.labels.iter().any(|label| *label != IGNORED)
    }
}
