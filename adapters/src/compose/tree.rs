//! What answers for a sequence: adapters one behind the other, mixed, or side by side along the
//! sequence. The answer is the same for every sequence that a tree is given.
use crate::{Adapter, AtClose, Fusion, Here, Inner, View};
use engraft_engine::{self as engine, Act, Cx, LinearRef, NormRef, Prefix, Site};

/// Adapters, composed.
#[derive(Clone, Debug)]
pub enum Tree<'a> {
    /// Nothing: the plain model.
    Identity,
    /// One adapter.
    One(&'a Adapter),
    /// Each reads what the one before gave.
    Stack(Vec<Tree<'a>>),
    /// The same as AdapterHub has it: at a linear layer the next one reads the product of the one
    /// before, and only that of the last is added.
    Chain(Vec<Tree<'a>>),
    /// Their outputs, mixed by a fusion.
    Fuse {
        /// What mixes.
        fusion: &'a Fusion,
        /// What is mixed.
        of: Vec<Tree<'a>>,
        /// For each of them the number of the fusion's adapter that it stands for.
        places: Vec<usize>,
        /// True if the residual of adapters beside a sub-layer is added a second time, as in
        /// AdapterHub.
        residual_twice: bool,
    },
    /// Each for so many rows of a sequence, one behind the other.
    Split {
        /// Rows of each.
        sizes: Vec<usize>,
        /// Who answers for them.
        of: Vec<Tree<'a>>,
    },
    /// The sum of their outputs, with these weights.
    Average {
        /// One for each.
        weights: Vec<f32>,
        /// Whose outputs.
        of: Vec<Tree<'a>>,
    },
}

/// A bottleneck, and what it is told.
#[derive(Clone, Copy)]
pub(super) struct Found<'a> {
    pub module: &'a dyn AtClose,
    pub here: Here<'a>,
}

impl<'a> Tree<'a> {
    /// What it is made of.
    pub fn children(&self) -> &[Tree<'a>] {
        match self {
            Tree::Identity | Tree::One(_) => &[],
            Tree::Stack(of) | Tree::Chain(of) => of,
            Tree::Fuse { of, .. } | Tree::Split { of, .. } | Tree::Average { of, .. } => of,
        }
    }
    /// Its adapters, in order.
    pub fn adapters(&self) -> Vec<&'a Adapter> {
        match self {
            Tree::One(a) => vec![a],
            _ => self.children().iter().flat_map(Tree::adapters).collect(),
        }
    }
    /// Its fusions.
    pub fn fusions(&self) -> Vec<&'a Fusion> {
        let own = if let Tree::Fuse { fusion, .. } = self { Some(*fusion) } else { None };
        own.into_iter().chain(self.children().iter().flat_map(Tree::fusions)).collect()
    }
    /// True if an adapter in it has a module at a site.
    pub fn touches(&self, s: Site) -> bool {
        match self {
            Tree::One(a) => !a.at(s).is_empty(),
            _ => self.children().iter().any(|t| t.touches(s)),
        }
    }
    /// True if what it answers depends on the place of a row in its sequence.
    pub fn reads_places(&self, layer: usize) -> bool {
        match self {
            Tree::One(a) => a.config().reads_places(layer),
            Tree::Split { .. } => true,
            _ => self.children().iter().any(|t| t.reads_places(layer)),
        }
    }
    /// The modules of some kind at a site, in order.
    fn at<T: 'a>(&self, s: Site, pick: impl Fn(View<'a>) -> Option<T> + Copy) -> Vec<(Here<'a>, T)> {
        match self {
            Tree::One(a) => a.at(s).iter().filter_map(|m| Some((a.here(s), pick(m.view())?))).collect(),
            _ => self.children().iter().flat_map(|t| t.at(s, pick)).collect(),
        }
    }
    /// The bottlenecks at the end of a sub-layer, in order.
    pub(super) fn closing(&self, s: Site) -> impl DoubleEndedIterator<Item = Found<'a>> {
        let pick = |v: View<'a>| if let View::Close(m) = v { Some(m) } else { None };
        self.at(s, pick).into_iter().map(|(here, module)| Found { module, here })
    }
    /// The residual stream. Behind the embeddings and in front of a head the first adapter alone
    /// answers, as in AdapterHub.
    pub(super) fn stream<'m>(&self, cx: &mut Cx<'m>, s: Site, mut x: Act) -> engine::Result<Act>
    where
        'a: 'm,
    {
        let pick = |v: View<'a>| if let View::Stream(m) = v { Some(m) } else { None };
        let all = match (s == Site::EMBED || s == Site::head(), self.adapters().first()) {
            (true, Some(first)) => Tree::One(first).at(s, pick),
            _ => self.at(s, pick),
        };
        for (here, m) in all {
            x = m.stream(cx, here, x)?;
        }
        Ok(x)
    }
    /// A linear layer.
    pub(super) fn linear<'m>(
        &self,
        cx: &mut Cx<'m>,
        s: Site,
        x: &Act,
        w: LinearRef<'m>,
    ) -> engine::Result<Act>
    where
        'a: 'm,
    {
        if !self.touches(s) {
            return cx.matmul(x, w);
        }
        // the model's own product is the same for all that are mixed
        let mut known: Option<(Act, Act)> = None;
        self.over(cx, s, x, &w, &mut |cx, x| {
            if let Some((_, y)) = known.as_ref().filter(|(of, _)| of.is_same(x)) {
                return Ok(y.clone());
            }
            let y = cx.matmul(x, w.clone())?;
            if self.mixes() {
                known = Some((x.clone(), y.clone()));
            }
            Ok(y)
        })
    }
    /// A linear layer, of which y is what the model makes of x.
    pub(super) fn linear_over<'m>(
        &self,
        cx: &mut Cx<'m>,
        s: Site,
        x: &Act,
        w: &LinearRef<'m>,
        y: &Act,
    ) -> engine::Result<Act>
    where
        'a: 'm,
    {
        self.over(cx, s, x, w, &mut |cx, of| match of.is_same(x) {
            true => Ok(y.clone()),
            false => cx.matmul(of, w.clone()),
        })
    }
    fn mixes(&self) -> bool {
        matches!(self, Tree::Average { .. }) || self.children().iter().any(Tree::mixes)
    }
    /// What it makes of a linear layer `inner`.
    fn over<'m>(
        &self,
        cx: &mut Cx<'m>,
        s: Site,
        x: &Act,
        w: &LinearRef<'m>,
        inner: Inner<'_, 'm>,
    ) -> engine::Result<Act>
    where
        'a: 'm,
    {
        match self {
            Tree::One(a) => through(a.here(s), a.at(s), cx, x, w, inner),
            Tree::Average { weights, of } => {
                let sum = weighted_sum(cx, of, weights, |cx, t| t.over(cx, s, x, w, inner))?;
                sum.map_or_else(|| inner(cx, x), Ok)
            }
            Tree::Stack(of) => Tree::stack_over(of, cx, s, x, w, inner),
            Tree::Chain(of) => Tree::chain_over(of, cx, s, x, w, inner),
            // these have nothing to say here
            Tree::Identity | Tree::Fuse { .. } | Tree::Split { .. } => inner(cx, x),
        }
    }
    /// What a stack of these makes of a linear layer: deltas add and scales multiply.
    fn stack_over<'m>(
        of: &[Tree<'a>],
        cx: &mut Cx<'m>,
        s: Site,
        x: &Act,
        w: &LinearRef<'m>,
        inner: Inner<'_, 'm>,
    ) -> engine::Result<Act>
    where
        'a: 'm,
    {
        match of.split_last() {
            None => inner(cx, x),
            Some((last, before)) => {
                last.over(cx, s, x, w, &mut |cx, x| Tree::stack_over(before, cx, s, x, w, inner))
            }
        }
    }
    /// What a chain of these makes of a linear layer.
    fn chain_over<'m>(
        of: &[Tree<'a>],
        cx: &mut Cx<'m>,
        s: Site,
        x: &Act,
        w: &LinearRef<'m>,
        inner: Inner<'_, 'm>,
    ) -> engine::Result<Act>
    where
        'a: 'm,
    {
        let y = inner(cx, x)?;
        let nothing = cx.scale(y.clone(), 0.0)?;
        let mut product: Option<Act> = None;
        for t in of.iter().filter(|t| t.touches(s)) {
            let read = product.as_ref().unwrap_or(x).clone();
            product = Some(t.over(cx, s, &read, w, &mut |_, _| Ok(nothing.clone()))?);
        }
        product.map_or_else(|| Ok(y.clone()), |product| cx.add(&y, &product))
    }
    /// Keys and values beside those of the tokens: of a later adapter in front of those of an
    /// earlier one.
    pub(super) fn prefix<'m>(&self, cx: &mut Cx<'m>, s: Site, x: &Act) -> engine::Result<Option<Prefix>>
    where
        'a: 'm,
    {
        let pick = |v: View<'a>| if let View::Prefix(m) = v { Some(m) } else { None };
        let mut all = vec![];
        for (here, m) in self.at(s, pick).into_iter().rev() {
            all.push(m.prefix(cx, here, x)?);
        }
        cx.join_prefixes(all)
    }
    /// True if an adapter has weights of its own for the norm at a site.
    pub(super) fn replaces_norm(&self, s: Site) -> bool {
        !self.at(s, |v| matches!(v, View::Norm(_)).then_some(())).is_empty()
    }
    /// The norm that takes the place of a model's.
    pub(super) fn replaced<'m>(
        &self,
        cx: &mut Cx<'m>,
        s: Site,
        mut n: NormRef<'m>,
    ) -> engine::Result<NormRef<'m>>
    where
        'a: 'm,
    {
        for (here, m) in self.at(s, |v| if let View::Norm(m) = v { Some(m) } else { None }) {
            n = m.norm(cx, here, n)?;
        }
        Ok(n)
    }
    /// A norm that stands by itself.
    pub(super) fn norm<'m>(&self, cx: &mut Cx<'m>, s: Site, x: &Act, n: NormRef<'m>) -> engine::Result<Act>
    where
        'a: 'm,
    {
        let n = self.replaced(cx, s, n)?;
        cx.normalise(x, n)
    }
}

/// The sum of what `f` gives for each tree, times its weight; none of no trees.
pub(super) fn weighted_sum<'t, 'a, 'm>(
    cx: &mut Cx<'m>,
    of: &'t [Tree<'a>],
    weights: &[f32],
    mut f: impl FnMut(&mut Cx<'m>, &'t Tree<'a>) -> engine::Result<Act>,
) -> engine::Result<Option<Act>> {
    let mut sum: Option<Act> = None;
    for (tree, weight) in of.iter().zip(weights) {
        let y = f(cx, tree)?;
        let y = cx.scale(y, *weight)?;
        sum = Some(match sum {
            Some(sum) => cx.add(&sum, &y)?,
            None => y,
        });
    }
    Ok(sum)
}

/// A linear layer as the modules of an adapter make it: the last one has the last word.
fn through<'m>(
    here: Here<'m>,
    modules: &'m [Box<dyn crate::Module>],
    cx: &mut Cx<'m>,
    x: &Act,
    w: &LinearRef<'m>,
    inner: Inner<'_, 'm>,
) -> engine::Result<Act> {
    match modules.split_last() {
        None => inner(cx, x),
        Some((last, before)) => match last.view() {
            View::Linear(m) => m.linear(cx, here, x, w, &mut |cx, x| through(here, before, cx, x, w, inner)),
            _ => through(here, before, cx, x, w, inner),
        },
    }
}
