//! The modules of prefix tuning (see [`super::prefix`]): a prefix at an attention, and the places
//! that prefixes take.
use crate::{AtPrefix, AtStream, Common, Here, Module, Place, Result, View};
use engraft_engine::{
    self as engine, Act, Activation, Cx, Frozen, Init, Linear, LinearRef, Param, Parameters, Part, Prefix,
    Rows, Seq, Site, SiteInfo, Source, Tensor, W, Weight, checkpoint::TensorData,
};

/// What AdapterHub's checkpoints call the gates.
const COLLECTION: &str = "prefix_tuning.prefix_gates";

/// What AdapterHub's checkpoints call the generator.
const GENERATOR: &str = "prefix_tuning.prefix_tunings";
/// The attentions whose prefixes have one generator, and (collection, tensor) of its weights.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub flat: (&'static str, &'static str),
    pub rows: (&'static str, &'static str),
    pub down: (&'static str, &'static str),
    pub down_bias: (&'static str, &'static str),
    pub up: (&'static str, &'static str),
    pub up_bias: (&'static str, &'static str),
}
macro_rules! kind {
    ($name:literal) => {
        Kind {
            flat: (GENERATOR, concat!($name, ".control_trans")),
            rows: (GENERATOR, concat!($name, ".wte.weight")),
            down: (GENERATOR, concat!($name, ".control_trans.0.weight")),
            down_bias: (GENERATOR, concat!($name, ".control_trans.0.bias")),
            up: (GENERATOR, concat!($name, ".control_trans.2.weight")),
            up_bias: (GENERATOR, concat!($name, ".control_trans.2.bias")),
        }
    };
}
/// Self-attention: of a decoder where there is an encoder too.
pub(super) static OWN: Kind = kind!("self_prefix");
/// Self-attention of the encoder of an encoder-decoder.
pub(super) static ENCODER: Kind = kind!("encoder_prefix");
/// Attention of a decoder to the encoder's output.
pub(super) static CROSS: Kind = kind!("cross_prefix");
impl Kind {
    /// That of an attention, in a model with these sites.
    pub fn of(site: Site, sites: &[SiteInfo]) -> &'static Kind {
        let memory = sites.iter().find(|i| i.site.part == Part::Memory);
        match (site.part, memory) {
            (Part::Cross, _) => &CROSS,
            (_, Some(memory)) if site.layer < memory.site.layer => &ENCODER,
            _ => &OWN,
        }
    }
    /// The names of its weights.
    pub fn tensors(&self) -> [&'static str; 6] {
        [self.flat, self.rows, self.down, self.down_bias, self.up, self.up_bias].map(|(_, tensor)| tensor)
    }
}

/// The rows of one layer among those that a generator makes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prefixes {
    /// Whose.
    pub kind: &'static Kind,
    /// P: rows.
    pub length: usize,
    /// The number of the layer among those with a prefix.
    pub index: usize,
    /// Layers with a prefix.
    pub of: usize,
    /// C: channels of keys and of values.
    pub channels: usize,
    /// f; none if there is no generator.
    pub act: Option<Activation>,
}
impl Prefixes {
    /// Keys and values side by side: (P, 2C).
    pub fn generated<'m>(&self, cx: &mut Cx<'m>, common: &'m Common) -> engine::Result<Act> {
        let Prefixes { kind, length, of, channels: c, .. } = *self;
        let here = 2 * self.index * c..2 * (self.index + 1) * c;
        let Some(act) = self.act else {
            return cx.part(&common.weight(kind.flat), (length, 2 * of * c), [0..length, here]);
        };
        let rows = cx.values(common.weight(kind.rows))?; //                                   (P, inputs)
        let down =
            LinearRef { w: common.weight(kind.down), b: Some(common.weight(kind.down_bias)), in_out: false };
        let h = cx.matmul(&rows, down)?;
        let h = cx.activate(&h, act)?; //                                                      (P, bottleneck)
        let up = common.weight(kind.up);
        let (all, width) = (2 * of * c, up.shape()[1]);
        let w = cx.part(&up, (all, width), [here.clone(), 0..width])?;
        let b = cx.part(&common.weight(kind.up_bias), (1, all), [0..1, here])?;
        let up = LinearRef { w: W::Computed(w), b: Some(W::Computed(b)), in_out: false };
        cx.matmul(&h, up)
    }
}

/// A prefix at an attention.
#[derive(Debug)]
struct PrefixModule<P: Weight> {
    rows: Prefixes,
    dropout: f32,
    /// One for keys and values, or one for each.
    gate: Option<Linear<P>>,
}
/// The prefix at an attention, with so many gates that read `channels`.
pub(super) fn build(
    rows: Prefixes,
    dropout: f32,
    gates: usize,
    channels: usize,
    place: &Place<'_>,
    from: &mut Source<'_, '_>,
) -> Result<Box<dyn Module>> {
    fn gate<P: Weight>(
        (channels, gates): (usize, usize),
        path: &str,
        from: &mut Source<'_, '_>,
    ) -> Result<Option<Linear<P>>> {
        let bias = Init::Uniform((channels as f32).sqrt().recip());
        let linear =
            (gates > 0).then(|| from.linear(path, (channels, gates), Init::Normal(0.02), Some(bias)));
        Ok(linear.transpose()?)
    }
    let (dims, path) = ((channels, gates), place.module(COLLECTION));
    Ok(match place.trains {
        true => Box::new(PrefixModule::<Param> { rows, dropout, gate: gate(dims, &path, from)? }),
        false => Box::new(PrefixModule::<Frozen> { rows, dropout, gate: gate(dims, &path, from)? }),
    })
}
impl<P: Weight> AtPrefix for PrefixModule<P> {
    fn prefix<'m>(&'m self, cx: &mut Cx<'m>, here: Here<'m>, x: &Act) -> engine::Result<Prefix> {
        let (c, n, length) = (self.rows.channels, x.seqs().len(), self.rows.length);
        let both = self.rows.generated(cx, here.common)?;
        let (mut k, mut v) = (cx.take_columns(&both, 0..c)?, cx.take_columns(&both, c..2 * c)?);
        if self.gate.is_none() && self.dropout == 0.0 {
            return Ok(Prefix::shared(k, v, n));
        }
        // what differs between sequences they cannot share
        (k, v) = (cx.take_sequences(&k, &vec![0; n])?, cx.take_sequences(&v, &vec![0; n])?);
        k = cx.dropout(k, self.dropout, here.site, 0)?;
        v = cx.dropout(v, self.dropout, here.site, 1)?;
        if let Some(gate) = &self.gate {
            let open = cx.matmul(x, gate.get())?;
            let open = cx.activate(&open, Activation::Sigmoid)?;
            let open = cx.sequence_means(&open)?; //                                                    (sequences, gates)
            let items = x.seqs().iter().map(|s| s.item + 1).max().unwrap_or(0);
            let each = Rows::These(vec![vec![0; length]; items].into());
            let open = cx.take_rows(&open, &each)?; //                                         (sequences · P, gates)
            let last = open.cols() - 1;
            let (of_k, of_v) = (cx.take_columns(&open, 0..1)?, cx.take_columns(&open, last..last + 1)?);
            let all = [c].into();
            (k, v) = (cx.spread(&k, &of_k, &all)?, cx.spread(&v, &of_v, &all)?);
        }
        let own = |i: usize| {
            let rows = i * length..(i + 1) * length;
            vec![rows]
        };
        let of = (0..n).map(own).collect();
        Ok(Prefix { k, v, of })
    }
}
impl<P: Weight> Module for PrefixModule<P> {
    fn view(&self) -> View<'_> {
        View::Prefix(self)
    }
    fn collection(&self) -> &'static str {
        COLLECTION
    }
    fn each<'a>(&'a self, f: &mut dyn FnMut(String, &'a Tensor)) {
        for (name, w) in self.gate.iter().flat_map(|g| [("weight", Some(&g.w)), ("bias", g.b.as_ref())]) {
            w.iter().for_each(|w| f(name.into(), w.tensor()));
        }
    }
    fn peft(&self) -> Result<Vec<(&'static str, TensorData<'_>)>> {
        Ok(vec![]) // what the configuration shares is all there is
    }
    fn freeze(self: Box<Self>) -> Box<dyn Module> {
        let PrefixModule { rows, dropout, gate } = *self;
        Box::new(PrefixModule { rows, dropout, gate: gate.map(Linear::freeze) })
    }
}
impl<P: Weight> Parameters for PrefixModule<P> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.gate.iter().for_each(|g| g.visit(f));
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.gate.iter_mut().for_each(|g| g.visit_mut(f));
    }
}

/// So many places in front of the tokens are taken.
#[derive(Debug)]
struct Places(usize);
/// The module by which the tokens stand behind so many places.
pub(super) fn places_behind(length: usize) -> Box<dyn Module> {
    Box::new(Places(length))
}
impl AtStream for Places {
    fn stream<'m>(&'m self, _: &mut Cx<'m>, _: Here<'m>, x: Act) -> engine::Result<Act> {
        let seqs = x.seqs().iter().map(|s| Seq { place: s.place + self.0, ..s.clone() }).collect();
        x.repacked(seqs)
    }
}
impl Module for Places {
    fn view(&self) -> View<'_> {
        View::Stream(self)
    }
    fn collection(&self) -> &'static str {
        COLLECTION
    }
    fn each<'a>(&'a self, _: &mut dyn FnMut(String, &'a Tensor)) {}
    fn peft(&self) -> Result<Vec<(&'static str, TensorData<'_>)>> {
        Ok(vec![])
    }
    fn freeze(self: Box<Self>) -> Box<dyn Module> {
        self
    }
}
impl Parameters for Places {
    fn visit<'a>(&'a self, _: &mut dyn FnMut(&'a Param)) {}
    fn visit_mut<'a>(&'a mut self, _: &mut dyn FnMut(&'a mut Param)) {}
}
