//! The end of a sub-layer, through a tree of adapters.
//!
//! The first bottleneck that stands there enters, each does its work, the last one leaves; a
//! bottleneck within a stack enters again with what the one before gave. The rules are those of
//! AdapterHub's `methods/bottleneck.py`, where they are no accidents.
use super::tree::{Found, Tree, weighted_sum};
use crate::{
    At, Shares, State,
    fusion::{Child, Mixed, Residuals},
};
use engraft_engine::{self as engine, Act, Cx, NormRef, Pending, Site};

impl<'a> Tree<'a> {
    /// The end of a sub-layer. What fusions mix is added to `shares`, if they are looked at.
    pub(super) fn close<'m>(
        &self,
        cx: &mut Cx<'m>,
        s: Site,
        h: Pending,
        r: &Act,
        norm: Option<NormRef<'m>>,
        shares: Option<&Shares>,
    ) -> engine::Result<Act>
    where
        'a: 'm,
    {
        let norm = norm.map(|n| self.replaced(cx, s, n)).transpose()?;
        if self.closing(s).next().is_none() {
            return cx.drop_add_norm(h, r, norm);
        }
        let h = cx.dropped(h)?;
        let walk = Walk { site: s, at: At { r, norm }, last: None, shares };
        walk.close(cx, self, h)
    }
}

/// Who enters and who leaves for all of several trees, as in AdapterHub.
#[derive(Clone, Copy)]
pub(super) struct Ends<'m> {
    pub first: Found<'m>,
    pub last: Found<'m>,
}
impl<'a> Tree<'a> {
    /// The end of a sub-layer with output h, entered and left by others.
    pub(super) fn close_between<'m>(
        &self,
        cx: &mut Cx<'m>,
        ends: Ends<'m>,
        (h, r): (&Act, &Act),
        (s, norm): (Site, Option<NormRef<'m>>),
        shares: Option<&Shares>,
    ) -> engine::Result<Act>
    where
        'a: 'm,
    {
        let mut walk = Walk { site: s, at: At { r, norm }, last: None, shares };
        let entered = ends.first.module.enter(cx, h, &walk.at)?;
        let given = walk.walk(cx, self, entered)?;
        ends.last.module.leave(cx, given.x, h, &walk.at)
    }
}

struct Walk<'w, 'm> {
    site: Site,
    at: At<'w, 'm>,
    /// The bottleneck that ran last.
    last: Option<Found<'m>>,
    shares: Option<&'w Shares>,
}

impl<'w, 'm> Walk<'w, 'm> {
    /// What becomes of the output h of the sub-layer.
    fn close(mut self, cx: &mut Cx<'m>, tree: &Tree<'m>, h: Act) -> engine::Result<Act> {
        let (x, res) = (h.clone(), self.at.r.clone());
        let given = match tree {
            // an adapter by itself is a stack of one
            Tree::One(_) => self.behind(cx, tree, State { x, res })?,
            _ => self.walk(cx, tree, State { x, res })?,
        };
        match self.last {
            Some(last) => last.module.leave(cx, given.x, &h, &self.at),
            None => cx.add_norm(&h, self.at.r, self.at.norm.clone()),
        }
    }
    fn run(&mut self, cx: &mut Cx<'m>, found: Found<'m>, state: State) -> engine::Result<State> {
        self.last = Some(found);
        let res = state.res.clone();
        Ok(State { x: found.module.run(cx, found.here, state)?, res })
    }
    /// A member of a stack: it enters with what the one before gave.
    fn behind(&mut self, cx: &mut Cx<'m>, tree: &Tree<'m>, state: State) -> engine::Result<State> {
        let Tree::One(_) = tree else { return self.walk(cx, tree, state) };
        match tree.closing(self.site).next() {
            Some(found) => {
                let entered = found.module.enter(cx, &state.x, &self.at)?;
                self.run(cx, found, entered)
            }
            None => Ok(state),
        }
    }
    /// A tree that reads what was entered with.
    fn walk(&mut self, cx: &mut Cx<'m>, tree: &Tree<'m>, state: State) -> engine::Result<State> {
        match tree {
            Tree::Identity => Ok(state),
            Tree::One(_) => match tree.closing(self.site).next() {
                Some(found) => self.run(cx, found, state),
                None => Ok(state),
            },
            Tree::Stack(of) | Tree::Chain(of) => {
                of.iter().try_fold(state, |state, t| self.behind(cx, t, state))
            }
            Tree::Fuse { .. } => {
                let Some(last) = tree.closing(self.site).next_back() else { return Ok(state) };
                let entered = last.module.enter(cx, &state.x, &self.at)?;
                match self.mixture(cx, tree, (&state.x, &entered))? {
                    Some((mixed, residual)) => {
                        Ok(State { x: mixed.of.added(cx, &residual)?, res: entered.res })
                    }
                    None => Ok(state),
                }
            }
            Tree::Average { weights, of } => {
                let Some(first) = tree.closing(self.site).next() else { return Ok(state) };
                let entered = first.module.enter(cx, &state.x, &self.at)?;
                let sum = weighted_sum(cx, of, weights, |cx, t| self.member(cx, t, first, entered.clone()))?;
                Ok(State { x: sum.unwrap_or(entered.x), res: entered.res })
            }
            Tree::Split { sizes, of } => {
                let Some(first) = tree.closing(self.site).next() else { return Ok(state) };
                let entered = first.module.enter(cx, &state.x, &self.at)?;
                let [x, res, r] = [&entered.x, &entered.res, self.at.r].map(|x| cx.split_sequences(x, sizes));
                let (x, res, r) = (x?, res?, r?);
                let mut parts = vec![];
                for (i, t) in of.iter().enumerate() {
                    let at = At { r: &r[i], norm: self.at.norm.clone() };
                    let mut inner = Walk { site: self.site, at, last: self.last, shares: self.shares };
                    let state = State { x: x[i].clone(), res: res[i].clone() };
                    parts.push(inner.member(cx, t, first, state)?);
                    self.last = inner.last;
                }
                let x = cx.join_sequences(&parts.iter().collect::<Vec<_>>(), entered.x.seqs())?;
                Ok(State { x, res: entered.res })
            }
        }
    }
    /// What a member of a mixture gives that `first` has entered: one that does not stand here adds
    /// nothing.
    fn member(
        &mut self,
        cx: &mut Cx<'m>,
        tree: &Tree<'m>,
        first: Found<'m>,
        s: State,
    ) -> engine::Result<Act> {
        match tree.closing(self.site).next() {
            Some(_) => Ok(self.walk(cx, tree, s)?.x),
            None => {
                self.last.get_or_insert(first);
                first.module.idle(cx, s)
            }
        }
    }
    /// What a fusion mixes that read the output h of a sub-layer and what its last adapter entered
    /// with, and the residual that it is added to; none where it does not stand here.
    fn mixture(
        &mut self,
        cx: &mut Cx<'m>,
        tree: &Tree<'m>,
        read: (&Act, &State),
    ) -> engine::Result<Option<(Mixed, Act)>> {
        let Tree::Fuse { fusion, of, places, residual_twice } = tree else { return Ok(None) };
        let Some(last) = tree.closing(self.site).next_back() else { return Ok(None) };
        let Some((mixer, here)) = fusion.at(self.site) else { return Ok(None) };
        let chosen = mixer.choose(cx, here, read, places)?;
        let mut children = vec![];
        for (index, t) in places.iter().zip(of) {
            let only = chosen.as_ref().and_then(|c| c.sequences.get(*index));
            children.extend(self.child_of(cx, (*index, t), read, only)?);
        }
        self.last = Some(last);
        let of_each = read.1.res.clone();
        let after = match residual_twice {
            true => of_each.clone(),
            false => last.module.idle(cx, read.1.clone())?,
        };
        let residuals = Residuals { after: after.clone(), of_each };
        let mixed = mixer.mix(cx, here, read, residuals, &children, chosen.as_ref())?;
        if let Some(shares) = self.shares {
            let mixed_here = || children.iter().map(|c| c.index).collect::<Vec<_>>();
            let columns = chosen.as_ref().map_or_else(mixed_here, |c| c.adapters.clone());
            shares.add(fusion, self.site, &columns, &mixed.shares)?;
        }
        Ok(Some((mixed, after)))
    }
    /// A fused child, for all sequences or for some of them.
    fn child_of(
        &mut self,
        cx: &mut Cx<'m>,
        (index, tree): (usize, &Tree<'m>),
        (h, entered): (&Act, &State),
        only: Option<&Vec<usize>>,
    ) -> engine::Result<Option<Child<'m>>> {
        match only {
            None => self.child(cx, index, tree, (h, entered)),
            Some(none) if none.is_empty() => Ok(None),
            Some(only) => {
                let h = cx.take_sequences(h, only)?;
                let x = cx.take_sequences(&entered.x, only)?;
                let res = cx.take_sequences(&entered.res, only)?;
                let r = cx.take_sequences(self.at.r, only)?;
                let at = At { r: &r, norm: self.at.norm.clone() };
                let mut inner = Walk { site: self.site, at, last: self.last, shares: self.shares };
                inner.child(cx, index, tree, (&h, &State { x, res }))
            }
        }
    }
    /// A fused child: what it computes in its bottleneck, or mixes, without a residual.
    fn child(
        &mut self,
        cx: &mut Cx<'m>,
        index: usize,
        tree: &Tree<'m>,
        (h, entered): (&Act, &State),
    ) -> engine::Result<Option<Child<'m>>> {
        let Some(found) = tree.closing(self.site).next_back() else { return Ok(None) };
        match tree {
            Tree::Stack(of) | Tree::Chain(of) => {
                let is_here = |t: &&Tree<'m>| t.closing(self.site).next().is_some();
                let here: Vec<&Tree<'m>> = of.iter().filter(is_here).collect();
                let Some((last, before)) = here.split_last() else { return Ok(None) };
                let mut state = entered.clone();
                for t in before {
                    state = self.behind(cx, t, state)?;
                }
                // it enters again, as in the library, whose fusions were trained so
                let again = found.module.enter(cx, &state.x, &self.at)?;
                self.child(cx, index, last, (&state.x, &again))
            }
            Tree::Fuse { .. } => {
                let Some((mixed, residual)) = self.mixture(cx, tree, (h, entered))? else { return Ok(None) };
                let (a, up) = mixed.of.raised(cx, &residual)?;
                let is_parallel = found.module.narrow().is_some_and(|narrow| narrow.is_parallel());
                Ok(Some(Child { index, a, up, is_parallel }))
            }
            _ => {
                let Some(narrow) = found.module.narrow() else { return Ok(None) };
                let a = narrow.hidden(cx, found.here, &entered.x)?;
                let up = narrow.up(cx, found.here)?;
                Ok(Some(Child { index, a, up, is_parallel: narrow.is_parallel() }))
            }
        }
    }
}
