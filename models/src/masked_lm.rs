//! The head of a masked language model (Devlin et al. 2018, section 3.1):
//!
//! ```text
//! logits = E LN(act(W h + b)) + c      E: the table of embeddings, or a matrix of its own
//! ```
use crate::{
    ModelInfo, Result,
    weights::{Id, Layout, LinearId, NormId, Weights},
};
use engraft_engine::{Act, Activation, Cx, LinearForm, LinearRef, NormKind, Site, SiteKind, Weight};

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
}
/// The head of a model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MaskedLm {
    dense: LinearId,
    act: Activation,
    norm: NormId,
    decoder: Id,
    bias: Option<Id>,
}

impl MaskedLm {
    /// Loads the head, from C channels to the E of the table `word` of embeddings and to the
    /// vocabulary. None if it is not in the files: a model without a head was saved.
    pub fn load<P: Weight>(
        about: &MaskedLmHead,
        at: &mut Layout<'_, '_, P>,
        info: &ModelInfo,
        (channels, embedding): (usize, usize),
        word: Id,
        root: &str,
    ) -> Result<Option<MaskedLm>> {
        let own = format!("{}.weight", about.decoder);
        // files that hold one of two names of the same tensor
        let second = format!("{}.bias", about.decoder);
        let bias = about.last_bias.map(|name| if at.has(name) { name } else { &*second });
        let is_there = at.has(&format!("{}.weight", about.dense))
            && bias.is_none_or(|name| at.has(name))
            && (info.is_tied || at.has(&own));
        if !is_there {
            return Ok(None);
        }
        let form = LinearForm { no_bias: !about.dense_bias, ..LinearForm::default() };
        let dense = at.plain_linear(about.dense, (channels, embedding), form)?;
        let (eps, ln) = (info.head_eps, NormKind::Layer);
        let norm = match about.norm_bias {
            true => at.norm(None, about.norm, embedding, eps, ln)?,
            false => at.norm_without_bias(None, about.norm, embedding, eps)?,
        };
        let decoder = match info.is_tied {
            true => {
                at.ignore(&own);
                word
            }
            false => at.table(&own, info.vocabulary, embedding)?,
        };
        let bias = bias.map(|name| at.vector(name, info.vocabulary)).transpose()?;
        if bias.is_some() {
            at.ignore(&second);
        }
        at.site(Site::head(), SiteKind::Stream { channels: embedding }, root);
        Ok(Some(MaskedLm { dense, act: about.act, norm, decoder, bias }))
    }
    /// What E is multiplied with, (rows, E), and E with c.
    pub fn forward<'m, P: Weight>(
        &self,
        cx: &mut Cx<'m>,
        h: &Act,
        m: &'m Weights<P>,
    ) -> Result<(Act, LinearRef<'m>)> {
        cx.enter(Site::head());
        let x = cx.matmul(h, m.linear(self.dense))?; //                        (rows, E)
        let x = cx.activate(&x, self.act)?;
        let x = cx.normalise(&x, m.norm(self.norm))?;
        let x = cx.stream(Site::head(), x)?;
        let b = self.bias.map(|b| m.get(b));
        Ok((x, LinearRef { w: m.get(self.decoder), b, in_out: false }))
    }
}
