//! Outputs that are learned from those of a teacher, beside the labels (Hinton et al. 2015, §2).
use super::{outputs::Outputs, task::Task, texts::labelled, top::Top};
use crate::{
    Error, Result,
    text::{batch::Batch, example::IGNORED},
};
use engraft_engine::{Act, Cx};

/// How much the outputs of a teacher count, and how soft they are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Soft {
    /// The share α of the loss that is the distance from the teacher, 0 to 1; the rest is that from
    /// the labels.
    pub alpha: f64,
    /// The temperature τ by which the logits of both are divided, above 0.
    pub temperature: f64,
}
impl Default for Soft {
    fn default() -> Soft {
        Soft { alpha: 0.5, temperature: 2.0 }
    }
}

/// What a task that has such outputs learns; an error names one that has none.
pub fn outputs(task: &dyn Task) -> Result<Outputs> {
    let why = || "what it says is not learned from a teacher".into();
    let refused = || Error::Option { option: "teacher", value: format!("task {}", task.name()), why: why() };
    task.outputs().ok_or_else(refused)
}

/// The sum over the labelled rows of a batch that is taught:
///
/// ```text
/// (1 - α) CE(y, z) + α τ² KL(q ‖ softmax(z/τ))      classes
/// (1 - α) BCE(y, z) + α τ² BCE(q, z/τ)              labels, the mean over those of a row
/// (1 - α) (z - y)² + α (z - q)²                     numbers
/// ```
/// where q is what the teacher says ([`Outputs::softened`]).
pub fn loss<'m>(
    cx: &mut Cx<'m>,
    (task, top): (&dyn Task, Top<'m>),
    x: &Act,
    batch: &Batch,
    Soft { alpha, temperature }: Soft,
) -> Result<Act> {
    let outputs = outputs(task)?;
    let logits = top.logits(cx, x)?;
    let (by, square) = ((1.0 / temperature) as f32, temperature * temperature);
    let (hard, soft, square) = match outputs {
        Outputs::Classes => {
            let q: Vec<f32> = batch.taught.iter().flat_map(|t| t.targets.iter().copied()).collect();
            let hard = cx.cross_entropy(&logits, &batch.labels)?.0;
            (hard, cx.divergence(&logits, &q, by)?, square)
        }
        Outputs::Labels | Outputs::Numbers => {
            let (logits, y) = labelled(cx, logits, batch)?;
            let taught = batch.labels.iter().zip(&batch.taught).filter(|(label, _)| **label != IGNORED);
            let q: Vec<f32> = taught.flat_map(|(_, t)| t.targets.iter().copied()).collect();
            match outputs {
                Outputs::Numbers => (cx.squared_error(&logits, &y)?.0, cx.squared_error(&logits, &q)?.0, 1.0),
                _ => {
                    let hard = cx.binary_cross_entropy(&logits, &y)?.0;
                    let cooled = cx.scale(logits, by)?;
                    (hard, cx.binary_cross_entropy(&cooled, &q)?.0, square)
                }
            }
        }
    };
    let (hard, soft) = (cx.scale(hard, (1.0 - alpha) as f32)?, cx.scale(soft, (alpha * square) as f32)?);
    Ok(cx.add(&hard, &soft)?)
}
