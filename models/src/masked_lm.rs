//! The head of a masked language model (Devlin et al. 2018, section 3.1):
//!
//! ```text
//! logits = E LN(act(W h + b)) + c      E: the table of embeddings, or a matrix of its own
//! ```
use crate::{
    ModelInfo, Result,
    weights::{Id, Layout, LinearId, NormId, Weights},
};
use engraft_engine::{Act, Activation, Cx, LinearForm, LinearRef, NormKind, Site, Weight};

/// What a family says of the head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MaskedLmHead {
    /// W and b.
    pub dense: &'static str,
    /// There is b.
    pub dense_bias: bool,
    /// act.
    pub act: Activation,
    /// LN.
    pub norm: &'static str,
    /// LN has a bias.
    pub norm_bias: bool,
    /// The module of E.
    pub decoder: &'static str,
    /// c, if there is one.
    pub last_bias: Option<&'static str>,
    /// Of two copies of c that beside E counts, not the one of its own name.
    pub beside_decoder: bool,
}
impl MaskedLmHead {
    /// What files may hold copies of the table of embeddings as.
    pub fn copies(&self, is_tied: bool) -> Vec<String> {
        is_tied.then(|| format!("{}.weight", self.decoder)).into_iter().collect()
    }
}
/// LN(act(W h + b)).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transform {
    dense: LinearId,
    act: Activation,
    norm: NormId,
}
/// The head of a model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MaskedLm {
    pub transform: Transform,
    decoder: Id,
    bias: Option<Id>,
}

impl Transform {
    /// From C channels to E. None if it is not in the files.
    pub fn load<P: Weight>(
        about: &MaskedLmHead,
        at: &mut Layout<'_, '_, P>,
        info: &ModelInfo,
        (channels, embedding): (usize, usize),
    ) -> Result<Option<Transform>> {
        if !at.has(&format!("{}.weight", about.dense)) {
            return Ok(None);
        }
        let form = LinearForm { no_bias: !about.dense_bias, ..LinearForm::default() };
        let dense = at.plain_linear(about.dense, (channels, embedding), form)?;
        let norm = match about.norm_bias {
            true => at.norm(None, about.norm, embedding, info.head_eps, NormKind::Layer)?,
            false => at.norm_without_bias(None, about.norm, embedding, info.head_eps)?,
        };
        Ok(Some(Transform { dense, act: about.act, norm }))
    }
    /// (rows, E)
    pub fn forward<'m, P: Weight>(&self, cx: &mut Cx<'m>, h: &Act, m: &'m Weights<P>) -> Result<Act> {
        let x = cx.matmul(h, m.linear(self.dense))?;
        let x = cx.activate(&x, self.act)?;
        Ok(cx.normalise(&x, m.norm(self.norm))?)
    }
}
impl MaskedLm {
    /// Loads the head, from C channels to the E of the table `word` of embeddings and to the
    /// vocabulary. None if it is not in the files: a model without a head was saved.
    pub fn load<P: Weight>(
        about: &MaskedLmHead,
        at: &mut Layout<'_, '_, P>,
        info: &ModelInfo,
        dims: (usize, usize),
        word: Id,
    ) -> Result<Option<MaskedLm>> {
        let own = format!("{}.weight", about.decoder);
        // two names of the same tensor, of which files have one or both
        let second = format!("{}.bias", about.decoder);
        let file = about.last_bias.map(|name| {
            let names = if about.beside_decoder { [&*second, name] } else { [name, &*second] };
            (name, names.into_iter().find(|n| at.has(n)))
        });
        if file.is_some_and(|(_, file)| file.is_none()) || !(info.is_tied || at.has(&own)) {
            return Ok(None);
        }
        let Some(transform) = Transform::load(about, at, info, dims)? else { return Ok(None) };
        let decoder = match info.is_tied {
            true => word,
            false => at.table(&own, info.vocabulary, dims.1)?,
        };
        let mut bias = None;
        if let Some((name, Some(file))) = file {
            bias = Some(at.vector_as(name, file, info.vocabulary)?);
            [name, &*second].iter().for_each(|n| at.ignore(n));
        }
        Ok(Some(MaskedLm { transform, decoder, bias }))
    }
    /// That of another head, which shares E, as x (rows, E) and E.
    pub fn of_embeddings<'m, P: Weight>(
        cx: &mut Cx<'m>,
        x: &Act,
        word: Id,
        m: &'m Weights<P>,
    ) -> Result<(Act, LinearRef<'m>)> {
        cx.enter(Site::head());
        let x = cx.stream(Site::head(), x.clone())?;
        Ok((x, LinearRef { w: m.get(word), b: None, in_out: false }))
    }
    /// What E is multiplied with, (rows, E), and E with c.
    pub fn forward<'m, P: Weight>(
        &self,
        cx: &mut Cx<'m>,
        h: &Act,
        m: &'m Weights<P>,
    ) -> Result<(Act, LinearRef<'m>)> {
        cx.enter(Site::head());
        let x = self.transform.forward(cx, h, m)?;
        let x = cx.stream(Site::head(), x)?;
        let b = self.bias.map(|b| m.get(b));
        Ok((x, LinearRef { w: m.get(self.decoder), b, in_out: false }))
    }
}
