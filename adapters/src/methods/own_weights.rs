//! Modules that take the place of small weights of the model: the bias of a linear layer, the
//! weights of a norm. They start as what they replace.
use crate::{AtLinear, AtNorm, Here, Inner, Module, Place, Replaced, Result, View};
use engraft_engine::{
    self as engine, Act, Cx, Frozen, LinearRef, NormRef, Param, Parameters, Role, SiteInfo, Source, Tensor,
    Weight, checkpoint::TensorData,
};
use std::ops::Range;

/// A weight that starts as the model's `tensor`, of which it is the part at `columns`.
fn copy<P: Weight>(
    place: &Place<'_>,
    (home, tensor): (&str, &str),
    columns: &[Range<usize>],
    name: &str,
    from: &mut Source<'_, '_>,
) -> Result<P> {
    let len = columns.iter().map(ExactSizeIterator::len).sum();
    let values = match from {
        Source::New(_) => {
            let home = place.info.in_model(home);
            let all = place.base.weight(&format!("{home}.{tensor}"))?.to_f32()?;
            columns.iter().flat_map(|c| all.get(c.clone()).unwrap_or_default()).copied().collect()
        }
        Source::File(_) => vec![],
    };
    Ok(from.get_from(name, &[len], Role::BIAS, || values)?)
}

/// A bias b' in the place of a linear layer's b: y + (b' - b).
#[derive(Debug)]
pub(super) struct OwnBias<P: Weight> {
    collection: &'static str,
    bias: P,
    /// The columns that it is for, one behind the other.
    columns: Vec<Range<usize>>,
}
impl<P: Weight> OwnBias<P> {
    /// At the linear layer of a place, for these columns of its output.
    pub fn build(
        place: &Place<'_>,
        collection: &'static str,
        columns: Vec<Range<usize>>,
        from: &mut Source<'_, '_>,
    ) -> Result<OwnBias<P>> {
        let name = format!("{}.bias", place.module(collection));
        let bias = copy(place, (&place.info.path, "bias"), &columns, &name, from)?;
        Ok(OwnBias { collection, bias, columns })
    }
    /// (its own columns, those of the layer).
    fn parts(&self) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
        let mut at = 0;
        self.columns.iter().map(move |c| {
            let own = at..at + c.len();
            at = own.end;
            (own, c.clone())
        })
    }
}
impl<P: Weight> AtLinear for OwnBias<P> {
    fn linear<'m>(
        &'m self,
        cx: &mut Cx<'m>,
        _: Here<'m>,
        x: &Act,
        w: &LinearRef<'m>,
        inner: Inner<'_, 'm>,
    ) -> engine::Result<Act> {
        let mut y = inner(cx, x)?;
        let own = cx.values(self.bias.get())?; // (1, columns)
        for (part, columns) in self.parts() {
            let mut more = cx.take_columns(&own, part)?;
            if let Some(b) = &w.b {
                let b = cx.values(b.clone())?;
                let b = cx.take_columns(&b, columns.clone())?;
                let less = cx.scale(b, -1.0)?;
                more = cx.add(&more, &less)?;
            }
            y = cx.add_row(y, &more, columns)?;
        }
        Ok(y)
    }
}
impl<P: Weight> Module for OwnBias<P> {
    fn view(&self) -> View<'_> {
        View::Linear(self)
    }
    fn collection(&self) -> &'static str {
        self.collection
    }
    fn each<'a>(&'a self, f: &mut dyn FnMut(String, &'a Tensor)) {
        f("bias".into(), self.bias.tensor());
    }
    fn replaces(&self) -> Result<Vec<Replaced>> {
        let all = self.bias.tensor().to_f32()?;
        let part = |(own, to): (Range<usize>, Range<usize>)| Replaced {
            tensor: "bias",
            at: to.start,
            values: all[own].to_vec(),
        };
        Ok(self.parts().map(part).collect())
    }
    fn freeze(self: Box<Self>) -> Box<dyn Module> {
        let OwnBias { collection, bias, columns } = *self;
        Box::new(OwnBias { collection, bias: bias.freeze(), columns })
    }
}
impl<P: Weight> Parameters for OwnBias<P> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.bias.visit(f);
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.bias.visit_mut(f);
    }
}

/// How the tensors of an [`OwnNorm`] are named, and which there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct NormNames {
    /// What AdapterHub's checkpoints would call the modules.
    pub collection: &'static str,
    /// What PEFT's checkpoints call them: [weight, bias].
    pub peft: Option<[&'static str; 2]>,
    /// γ is replaced too, not only β.
    pub weight: bool,
}
/// γ and β in the place of a norm's.
#[derive(Debug)]
pub(super) struct OwnNorm<P: Weight> {
    names: NormNames,
    weight: Option<P>,
    bias: Option<P>,
}
impl<P: Weight> OwnNorm<P> {
    /// At the norm of a place with so many channels, named under `path`; nothing if there is
    /// nothing to replace.
    pub fn build(
        place: &Place<'_>,
        names: NormNames,
        channels: usize,
        path: &str,
        from: &mut Source<'_, '_>,
    ) -> Result<Option<OwnNorm<P>>> {
        let Some(norm) = &place.info.norm else { return Ok(None) };
        let all = 0..channels;
        let all = std::slice::from_ref(&all);
        let mut get = |tensor: &str, is_there: bool| match is_there {
            true => copy(place, (&norm.path, tensor), all, &format!("{path}.{tensor}"), from).map(Some),
            false => Ok(None),
        };
        let (weight, bias) = (get("weight", names.weight)?, get("bias", norm.bias)?);
        Ok((weight.is_some() || bias.is_some()).then_some(OwnNorm { names, weight, bias }))
    }
    fn tensors(&self) -> impl Iterator<Item = (usize, &'static str, &Tensor)> {
        let own = [(0, "weight", &self.weight), (1, "bias", &self.bias)];
        own.into_iter().filter_map(|(i, name, w)| Some((i, name, w.as_ref()?.tensor())))
    }
}
impl<P: Weight> AtNorm for OwnNorm<P> {
    fn norm<'m>(&'m self, _: &mut Cx<'m>, _: Here<'m>, n: NormRef<'m>) -> engine::Result<NormRef<'m>> {
        let own = |w: &'m Option<P>| w.as_ref().map(P::get);
        Ok(NormRef { w: own(&self.weight).unwrap_or(n.w), b: own(&self.bias).or(n.b), ..n })
    }
}
impl<P: Weight> Module for OwnNorm<P> {
    fn view(&self) -> View<'_> {
        View::Norm(self)
    }
    fn collection(&self) -> &'static str {
        self.names.collection
    }
    fn home<'i>(&self, info: &'i SiteInfo) -> &'i str {
        info.norm.as_ref().map_or(&info.path, |n| &n.path)
    }
    fn each<'a>(&'a self, f: &mut dyn FnMut(String, &'a Tensor)) {
        self.tensors().for_each(|(_, name, t)| f(name.into(), t));
    }
    fn peft(&self) -> Result<Vec<(&'static str, TensorData<'_>)>> {
        let names = self.names.peft.ok_or_else(crate::module::not_in_peft)?;
        let data =
            |(i, _, t): (usize, &str, &Tensor)| Ok((names[i], TensorData::f32(&t.to_f32()?, t.shape())));
        self.tensors().map(data).collect()
    }
    fn replaces(&self) -> Result<Vec<Replaced>> {
        let one = |(_, tensor, t): (usize, _, &Tensor)| Ok(Replaced { tensor, at: 0, values: t.to_f32()? });
        self.tensors().map(one).collect()
    }
    fn freeze(self: Box<Self>) -> Box<dyn Module> {
        let OwnNorm { names, weight, bias } = *self;
        let own = OwnNorm::<Frozen> { names, weight: weight.map(P::freeze), bias: bias.map(P::freeze) };
        Box::new(own)
    }
}
impl<P: Weight> Parameters for OwnNorm<P> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.weight.iter().chain(&self.bias).for_each(|w| w.visit(f));
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.weight.iter_mut().chain(&mut self.bias).for_each(|w| w.visit_mut(f));
    }
}

/// An [`OwnNorm`] that trains or does not.
pub(super) fn own_norm(
    place: &Place<'_>,
    names: NormNames,
    channels: usize,
    path: &str,
    from: &mut Source<'_, '_>,
) -> Result<Vec<Box<dyn Module>>> {
    fn boxed<P: Weight>(own: OwnNorm<P>) -> Box<dyn Module> {
        Box::new(own)
    }
    let own = match place.trains {
        true => OwnNorm::<Param>::build(place, names, channels, path, from)?.map(boxed),
        false => OwnNorm::<Frozen>::build(place, names, channels, path, from)?.map(boxed),
    };
    Ok(own.into_iter().collect())
}
