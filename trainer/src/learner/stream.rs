//! The hidden states of a learner's model, with its adapters.
use super::{below::Below, learner::Learner};
use crate::{Result, text::batch::Batch};
use engraft_engine::{Act, Cx, Pass};

impl Learner {
    /// The last hidden states of the rows that are read: (rows, channels). Others, if there are
    /// `more`, take what lies below from the same place.
    pub(super) fn hidden<'m>(
        &'m self,
        cx: &mut Cx<'m>,
        batch: &Batch,
        pass: Pass,
        below: (&mut Below, bool),
    ) -> Result<Act> {
        Ok(self.states(cx, batch, pass, below, &[])?.0)
    }
    /// The same, and the stream behind each of these layers of the same rows: (rows, channels). The
    /// layers are in order; those of an encoder-decoder that read the input are not all that it
    /// has, and none of them is asked for.
    pub(super) fn states<'m>(
        &'m self,
        cx: &mut Cx<'m>,
        batch: &Batch,
        pass: Pass,
        (below, more): (&mut Below, bool),
        layers: &[usize],
    ) -> Result<(Act, Vec<Act>)> {
        let (model, device) = (self.backbone().model(), self.backbone().device());
        let (rows, input) = (batch.rows(model.info()), batch.input_for(model.info())?);
        let from = layers.iter().copied().fold(self.first_layer()?, usize::min);
        let (mut at, mut seen, last) = (from, vec![], model.info().layers);
        let mut x = match (from, self.prefix()) {
            (0, _) => model.embed(cx, &input)?,
            (_, Some(p)) => below.stored(from, more, || p.stream(model, &input))?,
            (_, None) => below.in_front_of(from, (model, device), (&input, &rows), pass, more)?,
        };
        for l in layers.iter().filter(|l| **l + 1 < last) {
            x = model.run(cx, at..l + 1, x, &rows)?;
            at = l + 1;
            seen.push(cx.take_rows(&x, &rows)?);
        }
        let x = match self.prefix() {
            Some(p) if at == last => p.last(cx, x, &rows)?,
            None if at == last => x,
            _ => model.finish(cx, at, x, &input, &rows)?,
        };
        seen.extend(layers.iter().filter(|l| **l + 1 == last).map(|_| x.clone()));
        Ok((x, seen))
    }
}
