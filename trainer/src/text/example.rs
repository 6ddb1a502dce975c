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
    /// The one that stands for each of several sequences: the tokens of the example are those of
    /// one behind the other, and so many are of each.
    Choices(Vec<usize>),
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
    /// How many rows are read of an example of so many tokens.
    pub fn count(&self, tokens: usize) -> usize {
        match self {
            Reads::Summary => 1,
            Reads::All => tokens,
            Reads::These(rows) => rows.len(),
            Reads::Choices(lengths) => lengths.len(),
            Reads::Decoded { tokens, .. } => 1 + tokens.len(),
        }
    }
    /// How many sequences an example is.
    pub fn sequences(&self) -> usize {
        if let Reads::Choices(lengths) = self { lengths.len() } else { 1 }
    }
    /// Whether only those rows are read that stand for a whole sequence.
    pub fn is_summary(&self) -> bool {
        matches!(self, Reads::Summary | Reads::Choices(_))
    }
    /// Tokens that a decoder reads beside the input.
    pub fn decoded(&self) -> usize {
        if let Reads::Decoded { .. } = self { self.count(0) } else { 0 }
    }
}

/// A sequence of tokens, or several that belong together, ready for the model.
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
    /// What the rows that are read stand for within the record, such as the numbers of words: one
    /// number for each of them, or for all examples of a data set the same number of them; empty
    /// where there is nothing to say.
    pub parts: Vec<u32>,
}

impl Example {
    /// A sequence of one segment.
    pub fn new(ids: Vec<u32>, reads: Reads, labels: Vec<u32>) -> Self {
        Self { types: vec![0; ids.len()], ids, reads, labels, ..Self::default() }
    }
    /// Several sequences with their token types, of which the one with this number is the right one,
    /// if that is known: it has the label 0, and the others have none.
    pub fn choices(sequences: Vec<(Vec<u32>, Vec<u32>)>, right: Option<usize>) -> Self {
        let lengths: Vec<usize> = sequences.iter().map(|(ids, _)| ids.len()).collect();
        let label = |i: usize| if Some(i) == right { 0 } else { IGNORED };
        let labels = (0..lengths.len()).map(label).collect();
        let (ids, types): (Vec<_>, Vec<_>) = sequences.into_iter().unzip();
        Self { types: types.concat(), ..Self::new(ids.concat(), Reads::Choices(lengths), labels) }
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
