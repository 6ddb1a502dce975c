//! What pre-norm models have in common: which rows the last layer computes, and what a decoder's
//! logits are a product with.
use crate::{
    Result, Rows,
    weights::{Id, Layout, LinearId, Weights},
};
use engraft_engine::{self as engine, Act, Cx, LinearForm, LinearRef, NormRef, Seq, Site, Weight, ops::Mask};
use std::ops::Range;

/// Layers `range` of `of`, and behind the last one the norm: the last hidden states of these rows.
///
/// The last layer computes no others where its mask, the one handed over, knows the places of the
/// queries: without a mask they make no difference, and of rows that follow one another they are
/// known. Others are taken afterwards, and so they are where an adapter reads places.
pub(crate) fn run<'m>(
    cx: &mut Cx<'m>,
    (range, of): (Range<usize>, usize),
    mut x: Act,
    (rows, mask): (&Rows, Mask),
    last_norm: NormRef<'m>,
    layer: impl Fn(&mut Cx<'m>, usize, Act, Option<&Rows>) -> engine::Result<Act> + Clone + 'm,
) -> engine::Result<Act> {
    let ends = range.end == of && !range.is_empty();
    let mut late = false;
    for l in range {
        let is_last = l + 1 == of;
        let knows = mask == Mask::None || rows.are_in_line();
        let early = (is_last && knows && !cx.reads_places(l)).then(|| rows.clone());
        late = is_last && early.is_none();
        let layer = layer.clone();
        x = cx.layer(l, x, move |cx, x| layer(cx, l, x, early.as_ref()))?;
    }
    if ends {
        cx.enter(Site::head());
        if late {
            x = cx.take_rows(&x, rows)?;
        }
        x = cx.norm(Site::LAST_NORM, &x, last_norm)?;
    }
    Ok(x)
}

/// The place in its sequence of the first of these rows; none: of all rows.
pub(crate) fn first_of(rows: Option<&Rows>, seqs: &[Seq]) -> Vec<usize> {
    seqs.iter().map(|s| rows.and_then(|rows| rows.begin(s)).unwrap_or(0)).collect()
}

/// What logits are a product with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Vocabulary {
    /// The table of the embeddings, and a bias where there is one.
    Tied(Id, Option<Id>),
    /// A layer of its own.
    Own(LinearId),
    /// There is none.
    Missing,
}
/// The table `name` of embeddings; where logits are a product with it, files may have it as
/// `lm_head`, or both.
pub(crate) fn embeddings<P: Weight>(
    at: &mut Layout<'_, '_, P>,
    (name, is_tied): (&str, bool),
    (n, c): (usize, usize),
) -> Result<Id> {
    Ok(at.tied_table(name, if is_tied { &["lm_head.weight"] } else { &[] }, n, c)?)
}
impl Vocabulary {
    /// `lm_head`, or the table `word` (n, c) where that `is_tied`; with a bias if `has_bias`.
    pub fn load<P: Weight>(
        at: &mut Layout<'_, '_, P>,
        (word, is_tied): (Id, bool),
        (c, n): (usize, usize),
        has_bias: bool,
    ) -> Result<Vocabulary> {
        if is_tied {
            return match (has_bias, at.has("lm_head.bias")) {
                (false, _) => Ok(Vocabulary::Tied(word, None)),
                (true, true) => Ok(Vocabulary::Tied(word, Some(at.vector("lm_head.bias", n)?))),
                (true, false) => Ok(Vocabulary::Missing),
            };
        }
        match at.has("lm_head.weight") {
            true => {
                let form = LinearForm { no_bias: !has_bias, ..LinearForm::default() };
                Ok(Vocabulary::Own(at.plain_linear("lm_head", (c, n), form)?))
            }
            false => Ok(Vocabulary::Missing),
        }
    }
    pub fn is_missing(self) -> bool {
        matches!(self, Vocabulary::Missing)
    }
    /// At its point of use.
    pub fn get<P: Weight>(self, weights: &Weights<P>) -> Option<LinearRef<'_>> {
        match self {
            Vocabulary::Tied(word, bias) => {
                let b = bias.map(|b| weights.get(b));
                Some(LinearRef { w: weights.get(word), b, in_out: false })
            }
            Vocabulary::Own(l) => Some(weights.linear(l)),
            Vocabulary::Missing => None,
        }
    }
}
