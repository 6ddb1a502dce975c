//! Who answers the hooks of a pass.
//!
//! Each sequence is given what it would get alone. Where all sequences have the same tree nothing
//! is copied; where they have not, the sequences of each tree are taken out, answered, and put
//! back.
use super::{together::Together, tree::Tree, walk::Ends};
use crate::{Adapter, Error, Result, Shares};
use engraft_engine::{self as engine, Act, Cx, Hooks, LinearRef, NormRef, Part, Pending, Prefix, Seq, Site};

/// The adapters that answer in a pass, and for which sequences.
#[derive(Clone, Debug)]
pub struct Active<'a> {
    trees: Vec<Tree<'a>>,
    /// For each channel and item the tree that answers.
    channels: Vec<Vec<usize>>,
    /// Layers in which nobody answers.
    skipped: Vec<usize>,
    /// The tree that enters for all of them, and the one that leaves; none: each for itself.
    by_ends: Option<(usize, usize)>,
    /// The first place of a pass at which an adapter stands: see [`place`].
    first: usize,
    /// Where the shares of fusions are collected, if they are looked at.
    shares: Option<&'a Shares>,
}
/// In front of which part of a pass a site stands: the embeddings, a layer, the head. The output of an
/// encoder is read by every layer of the decoder, so it stands behind whatever is adapted.
fn place(s: Site) -> usize {
    match s.part {
        Part::Embed => 0,
        Part::Memory | Part::Head => usize::MAX,
        _ => s.layer + 1,
    }
}

/// The sequences that one tree answers for, by their numbers.
struct Group<'t, 'a> {
    tree: &'t Tree<'a>,
    sequences: Vec<usize>,
}

impl<'a> Active<'a> {
    pub(super) fn new(trees: Vec<Tree<'a>>, channels: Vec<Vec<usize>>) -> Active<'a> {
        let (skipped, by_ends, first, shares) = (vec![], None, 0, None);
        Active { trees, channels, skipped, by_ends, first, shares }.without_layers([])
    }
    /// One tree for every sequence of a batch of one.
    pub fn single(tree: Tree<'a>) -> Active<'a> {
        Active::new(vec![tree], vec![vec![0]])
    }
    /// Answers of several sets in one batch, each for items of its own: a mixed batch of adapters
    /// that need not know of each other. `of_item` says for each item which of `parts`, made for
    /// one item, answers. An error if one of them has several channels, or leaves out layers.
    pub fn mixed(parts: &[Active<'a>], of_item: &[usize]) -> Result<Active<'a>> {
        let mut trees = vec![];
        for part in parts {
            match (part.channels.as_slice(), part.tree(0, 0)) {
                ([items], Some(tree)) if items.len() == 1 && part.skipped.is_empty() => {
                    trees.push(tree.clone())
                }
                _ => {
                    let what = "a mixed batch takes one answer for one sequence from each, in every layer";
                    return Err(Error::Config(what.into()));
                }
            }
        }
        if let Some(i) = of_item.iter().find(|i| **i >= trees.len()) {
            return Err(Error::Config(format!(
                "an item has the adapter number {i}, and there are {}",
                trees.len()
            )));
        }
        Ok(Active::new(trees, vec![of_item.to_vec()]))
    }
    /// One adapter for every item of a batch of so many.
    pub fn for_all(adapter: &'a Adapter, items: usize) -> Active<'a> {
        Active::new(vec![Tree::One(adapter)], vec![vec![0; items]])
    }
    /// The same without these layers (AdapterDrop, Rücklé et al. 2021): in them the model computes
    /// as if it were plain.
    pub fn without_layers(self, layers: impl IntoIterator<Item = usize>) -> Active<'a> {
        let mut active = Active { skipped: layers.into_iter().collect(), ..self };
        let adapters = active.trees.iter().flat_map(Tree::adapters);
        let sites = adapters.flat_map(|a| a.modules().map(|(i, _)| i.site));
        active.first = sites.filter(|s| !active.is_skipped(*s)).map(place).min().unwrap_or(usize::MAX);
        active
    }
    /// The same, with the shares of each fusion added to `shares` as it mixes.
    pub fn with_shares(self, shares: &'a Shares) -> Active<'a> {
        Active { shares: Some(shares), ..self }
    }
    /// The same where the first tree enters for all and the last one leaves, as in AdapterHub. An
    /// error where these do not stand at the end of a sub-layer at which others do.
    pub(super) fn between_ends(self) -> Result<Active<'a>> {
        let first = self.channels.first().and_then(|c| c.first()).copied();
        let last = self.channels.last().and_then(|c| c.last()).copied();
        let active = Active { by_ends: first.zip(last), ..self };
        let sites = active.trees.iter().flat_map(Tree::adapters).flat_map(Adapter::modules);
        for (info, _) in sites {
            let closes = active.trees.iter().any(|t| t.closing(info.site).next().is_some());
            if closes && active.ends(info.site).is_none() {
                return Err(Error::Config(format!(
                    "adapters 1.3.0 cannot compute children of which the first or the last has nothing at `{}`",
                    info.path
                )));
            }
        }
        Ok(active)
    }
    /// The bottleneck that enters for all trees, and the one that leaves.
    fn ends(&self, s: Site) -> Option<Ends<'a>> {
        let (first, last) = self.by_ends?;
        let first = self.trees.get(first)?.closing(s).next()?;
        let last = self.trees.get(last)?.closing(s).next_back()?;
        Some(Ends { first, last })
    }
    /// The same for items each of which is answered as the item of that number was: a part of a
    /// batch, in any order.
    pub(super) fn at(self, items: &[usize]) -> Active<'a> {
        let one = |of: &Vec<usize>| items.iter().map(|i| of[i % of.len()]).collect();
        Active { channels: self.channels.iter().filter(|of| !of.is_empty()).map(one).collect(), ..self }
    }
    /// How often a batch is computed: once, or once for each member of a Parallel.
    pub fn channels(&self) -> usize {
        self.channels.len()
    }
    /// What answers for an item in a channel.
    pub fn tree(&self, channel: usize, item: usize) -> Option<&Tree<'a>> {
        self.trees.get(*self.channels.get(channel)?.get(item)?)
    }
    /// The adapter whose head reads an item in a channel: the last one of what answers for it.
    pub fn head(&self, channel: usize, item: usize) -> Option<&'a str> {
        self.tree(channel, item)?.adapters().last().map(|a| a.name())
    }
    fn is_skipped(&self, s: Site) -> bool {
        !matches!(s.part, Part::Embed | Part::Head) && self.skipped.contains(&s.layer)
    }
    /// The sequences with the trees that answer for them: of each channel copies of their own from
    /// the first adapted layer on.
    fn routed<'m>(&self, cx: &mut Cx<'m>, s: Site, x: Act) -> engine::Result<Act> {
        let items = self.channels.first().map_or(0, Vec::len);
        let of = |channel: usize, q: &Seq| -> engine::Result<usize> {
            let route = self.channels.get(channel).and_then(|c| c.get(q.item));
            route.copied().ok_or(engine::Error::Route { item: q.item, items })
        };
        let n = self.channels.len();
        let x = match n {
            1 => x,
            _ if x.seqs().len() == items && self.first <= place(s) => {
                let all: Vec<usize> = (0..n).flat_map(|_| 0..items).collect();
                cx.take_sequences(&x, &all)?
            }
            _ => return Ok(x), // copied already, or not yet
        };
        let channel = |i: usize| if n == 1 { 0 } else { i / items };
        let routed = |(i, q): (usize, &Seq)| Ok(Seq { route: of(channel(i), q)?, ..q.clone() });
        let seqs: engine::Result<Vec<Seq>> = x.seqs().iter().enumerate().map(routed).collect();
        x.repacked(seqs?.into())
    }
    /// The trees of these sequences.
    fn groups(&self, seqs: &[Seq]) -> Vec<Group<'_, 'a>> {
        let mut groups: Vec<(usize, Group<'_, 'a>)> = vec![];
        for (i, q) in seqs.iter().enumerate() {
            match groups.iter_mut().find(|(route, _)| *route == q.route) {
                Some((_, g)) => g.sequences.push(i),
                None => {
                    let Some(tree) = self.trees.get(q.route) else { continue };
                    groups.push((q.route, Group { tree, sequences: vec![i] }));
                }
            }
        }
        groups.into_iter().map(|(_, g)| g).collect()
    }
    /// `f` on the sequences of each tree, of all `xs` alike, put back in their order.
    fn each<'m>(
        &self,
        cx: &mut Cx<'m>,
        xs: &[&Act],
        mut f: impl FnMut(&mut Cx<'m>, &Tree<'a>, &[&Act]) -> engine::Result<Act>,
    ) -> engine::Result<Act> {
        let groups = self.groups(xs[0].seqs());
        if let [one] = groups.as_slice() {
            return f(cx, one.tree, xs);
        }
        let mut parts = vec![];
        for g in groups {
            let mut own = vec![];
            for x in xs {
                own.push(cx.take_sequences(x, &g.sequences)?);
            }
            parts.push((f(cx, g.tree, &own.iter().collect::<Vec<_>>())?, g.sequences));
        }
        let parts: Vec<(&Act, &[usize])> = parts.iter().map(|(x, of)| (x, of.as_slice())).collect();
        cx.merge_sequences(&parts)
    }
    fn any(&self, s: Site) -> bool {
        !self.is_skipped(s) && self.trees.iter().any(|t| t.touches(s))
    }
}

impl Hooks for Active<'_> {
    fn stream<'m>(&'m self, cx: &mut Cx<'m>, s: Site, x: Act) -> engine::Result<Act> {
        let x = self.routed(cx, s, x)?;
        match self.any(s) {
            true => self.each(cx, &[&x], |cx, tree, xs| tree.stream(cx, s, xs[0].clone())),
            false => Ok(x),
        }
    }
    fn linear<'m>(&'m self, cx: &mut Cx<'m>, s: Site, x: &Act, w: LinearRef<'m>) -> engine::Result<Act> {
        if !self.any(s) {
            return cx.matmul(x, w);
        }
        if let [one] = self.groups(x.seqs()).as_slice() {
            return one.tree.linear(cx, s, x, w);
        }
        // the model's own product is computed for all sequences at once
        let y = cx.matmul(x, w.clone())?;
        self.each(cx, &[x, &y], |cx, tree, xs| tree.linear_over(cx, s, xs[0], &w, xs[1]))
    }
    fn prefix<'m>(&'m self, cx: &mut Cx<'m>, s: Site, x: &Act) -> engine::Result<Option<Prefix>> {
        if !self.any(s) {
            return Ok(None);
        }
        let mut all = vec![];
        for g in self.groups(x.seqs()) {
            let own = cx.take_sequences(x, &g.sequences)?;
            if let Some(p) = g.tree.prefix(cx, s, &own)? {
                let mut of = vec![vec![]; x.seqs().len()];
                g.sequences.iter().zip(p.of).for_each(|(i, rows)| of[*i] = rows);
                all.push(Prefix { of, ..p });
            }
        }
        cx.join_prefixes(all)
    }
    fn norm<'m>(&'m self, cx: &mut Cx<'m>, s: Site, x: &Act, n: NormRef<'m>) -> engine::Result<Act> {
        if !self.any(s) {
            return cx.normalise(x, n);
        }
        self.each(cx, &[x], |cx, tree, xs| tree.norm(cx, s, xs[0], n.clone()))
    }
    fn close<'m>(
        &'m self,
        cx: &mut Cx<'m>,
        s: Site,
        h: Pending,
        r: &Act,
        norm: Option<NormRef<'m>>,
    ) -> engine::Result<Act> {
        if !self.any(s) {
            return cx.drop_add_norm(h, r, norm);
        }
        if let [one] = self.groups(r.seqs()).as_slice() {
            return one.tree.close(cx, s, h, r, norm, self.shares);
        }
        let h = cx.dropped(h)?;
        if let Some(ends) = self.ends(s) {
            return self.each(cx, &[&h, r], |cx, tree, xs| {
                tree.close_between(cx, ends, (xs[0], xs[1]), (s, norm.clone()), self.shares)
            });
        }
        if let Some(together) = Together::of(&self.trees, s) {
            return together.close(cx, &h, r, norm);
        }
        self.each(cx, &[&h, r], |cx, tree, xs| {
            let h = cx.drop_later(xs[0].clone(), 0.0, s, 0);
            tree.close(cx, s, h, xs[1], norm.clone(), self.shares)
        })
    }
    fn touches(&self, s: Site) -> bool {
        self.any(s)
    }
    fn reads_places(&self, layer: usize) -> bool {
        !self.skipped.contains(&layer) && self.trees.iter().any(|t| t.reads_places(layer))
    }
}

/// By itself.
impl Hooks for Adapter {
    fn stream<'m>(&'m self, cx: &mut Cx<'m>, s: Site, x: Act) -> engine::Result<Act> {
        Tree::One(self).stream(cx, s, x)
    }
    fn linear<'m>(&'m self, cx: &mut Cx<'m>, s: Site, x: &Act, w: LinearRef<'m>) -> engine::Result<Act> {
        Tree::One(self).linear(cx, s, x, w)
    }
    fn prefix<'m>(&'m self, cx: &mut Cx<'m>, s: Site, x: &Act) -> engine::Result<Option<Prefix>> {
        Tree::One(self).prefix(cx, s, x)
    }
    fn norm<'m>(&'m self, cx: &mut Cx<'m>, s: Site, x: &Act, n: NormRef<'m>) -> engine::Result<Act> {
        Tree::One(self).norm(cx, s, x, n)
    }
    fn close<'m>(
        &'m self,
        cx: &mut Cx<'m>,
        s: Site,
        h: Pending,
        r: &Act,
        norm: Option<NormRef<'m>>,
    ) -> engine::Result<Act> {
        Tree::One(self).close(cx, s, h, r, norm, None)
    }
    fn touches(&self, s: Site) -> bool {
        Tree::One(self).touches(s)
    }
    fn reads_places(&self, layer: usize) -> bool {
        Tree::One(self).reads_places(layer)
    }
}
