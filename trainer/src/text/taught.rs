//! What a teacher says of an example, to be learned beside its labels.

/// The outputs of a teacher for one example.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Taught {
    /// Of each row that is read a number for each output of the task, (rows, outputs): what the
    /// student is to say at the temperature of the lesson. Zeros where the row has no label.
    pub targets: Vec<f32>,
    /// Of some layers the hidden states of the rows that have a label, each of length 1: (layers,
    /// rows, channels); empty where none are learned.
    pub hidden: Vec<f32>,
}
