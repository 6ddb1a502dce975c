//! What lies below the first adapted layer: a function of the batch, and of the pass where the
//! model drops out. Learners on one model share it, so it is computed once for all of them.
use crate::Result;
use engraft_engine::{Act, Cx, Device, Pass, Plain, Rows};
use engraft_models::{Model, Tokens};

/// The residual stream of a batch, as far up as it was asked for.
#[derive(Default)]
pub(crate) struct Below {
    at: Option<Stream>,
}
struct Stream {
    pass: Pass,
    /// The layer that it stands in front of.
    layer: usize,
    x: Act,
}

impl Below {
    /// The stream in front of a layer; behind the last one the last hidden states of the rows that
    /// the batch reads. `more` says that it will be asked for again; otherwise it is given away,
    /// and held no longer than it is needed.
    ///
    /// What was computed for a lower layer is gone on from. All who ask hand over the same model
    /// and input.
    pub fn in_front_of(
        &mut self,
        layer: usize,
        (model, device): (&dyn Model, &Device),
        (input, rows): (&Tokens, &Rows),
        pass: Pass,
        more: bool,
    ) -> Result<Act> {
        let drops = model.info().dropout > 0.0;
        let before = self.at.take().filter(|s| s.layer <= layer && (!drops || s.pass == pass));
        let mut cx = Cx::new(device, &Plain, pass);
        let (from, x) = match before {
            Some(stream) => (stream.layer, stream.x),
            None => (0, model.embed(&mut cx, input)?),
        };
        let x = model.run(&mut cx, from..layer, x, rows)?;
        Ok(self.given(Stream { pass, layer, x }, more))
    }
    /// The same out of a store, which is read if it is not at hand. What is stored is of a model
    /// that drops nothing.
    pub fn stored(&mut self, layer: usize, more: bool, read: impl FnOnce() -> Result<Act>) -> Result<Act> {
        let x = match self.at.take().filter(|s| s.layer == layer) {
            Some(stream) => stream.x,
            None => read()?,
        };
        Ok(self.given(Stream { pass: Pass::infer(), layer, x }, more))
    }
    fn given(&mut self, stream: Stream, more: bool) -> Act {
        let x = stream.x.clone();
        self.at = Some(stream).filter(|_| more);
        x
    }
}
