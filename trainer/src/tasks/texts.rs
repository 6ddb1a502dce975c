//! What tasks share that have one answer for each text or pair of texts.
use super::{
    one_line::one_line,
    task::{Carry, Purpose},
    top::Top,
};
use crate::{
    Result,
    data::{Dataset, Record},
    text::{
        batch::Batch,
        example::{Example, IGNORED, Reads},
        tokenizer::Tokenizer,
    },
};
use engraft_engine::{Act, Cx, Rows};
use serde_json::{Map, Value, json};

/// An example for each record; unless it is to be predicted, `label` gives its label and numbers.
pub fn encode(
    data: &Dataset,
    tokenizer: &Tokenizer,
    purpose: Purpose,
    carry: &mut Carry,
    label: impl Fn(&Record) -> Result<(u32, Vec<f32>)>,
) -> Result<Vec<Example>> {
    let labels: Vec<_> = match purpose {
        Purpose::Predict => vec![],
        Purpose::Train | Purpose::Evaluate => data.records.iter().map(label).collect::<Result<_>>()?,
    };
    let mut labels = labels.into_iter();
    let tokens = tokenizer.encode_all(data)?;
    carry.cut += tokens.iter().filter(|t| t.is_cut).count();
    let example = |(record, t): (usize, crate::text::tokenizer::TokenizedText)| {
        let (labels, values) = labels.next().map_or((vec![], vec![]), |(label, v)| (vec![label], v));
        let reads = Reads::Summary;
        Example { ids: t.ids, types: t.types, reads, labels, values, record, parts: vec![] }
    };
    Ok(tokens.into_iter().enumerate().map(example).collect())
}

/// The logits of the texts of a batch that have numbers to be found, and all of these.
pub fn with_values<'m>(cx: &mut Cx<'m>, top: Top<'m>, x: &Act, batch: &Batch) -> Result<(Act, Vec<f32>)> {
    let logits = top.logits(cx, x)?;
    labelled(cx, logits, batch)
}
/// The same of the logits of all texts of the batch.
pub fn labelled(cx: &mut Cx<'_>, logits: Act, batch: &Batch) -> Result<(Act, Vec<f32>)> {
    let has = |label: &u32| *label != IGNORED;
    let labelled: Vec<Vec<usize>> =
        batch.labels.iter().map(|l| if has(l) { vec![0] } else { vec![] }).collect();
    let logits = match batch.labels.iter().all(has) {
        true => logits,
        false => cx.take_rows(&logits, &Rows::These(labelled.into()))?,
    };
    let values = batch.labels.iter().zip(&batch.values).filter(|(l, _)| has(l));
    Ok((logits, values.flat_map(|(_, v)| v.iter().copied()).collect()))
}

/// An object with what was read in front of what is said of it.
pub fn said_of(record: &Record, more: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let mut all = Map::from_iter([("text".to_string(), json!(record.text()))]);
    all.extend(record.pair().map(|pair| ("text_pair".to_string(), json!(pair))));
    all.extend(more.into_iter().map(|(name, value)| (name.to_string(), value)));
    all.into()
}
/// What was read, on one line: both texts of a pair with a tab between.
pub fn shown(record: &Record) -> String {
    let text = record.text();
    match record.pair() {
        Some(pair) => format!("{}\t{}", one_line(&text), one_line(pair)),
        None => one_line(&text).into_owned(),
    }
}
