//! Many bottlenecks at the end of one sub-layer, each for sequences of its own, as one operation:
//! no row is moved.
use super::tree::{Found, Tree};
use crate::{At, Rules, State};
use engraft_engine::{self as engine, Act, Cx, NormRef, Seq, Site, ops::RowsBottleneck};

/// A bottleneck, or none, for each of some trees.
pub(super) struct Together<'m> {
    first: Found<'m>,
    of: Vec<Option<Found<'m>>>,
}
impl<'m> Together<'m> {
    /// Those of the trees at a site, if they enter and leave alike and do nothing else.
    pub fn of(trees: &[Tree<'m>], s: Site) -> Option<Together<'m>> {
        let mut of = vec![];
        for tree in trees {
            of.push(match tree {
                Tree::Identity => None,
                Tree::One(_) if tree.replaces_norm(s) => return None,
                Tree::One(_) => tree.closing(s).next(),
                _ => return None,
            });
        }
        let rules = |found: &Found<'m>| {
            let narrow = found.module.narrow()?;
            narrow.layers().and(narrow.rules())
        };
        let first = *of.iter().flatten().next()?;
        let own = rules(&first)?;
        let is_alike = |found: &Option<Found<'m>>| match found {
            Some(found) => rules(found) == Some(own),
            // the plain sub-layer: norm(h + r)
            None => own == Rules { adds_to_output: true, norm_after: true, ..own },
        };
        of.iter().all(is_alike).then_some(Together { first, of })
    }
    /// What becomes of the output h of the sub-layer: each sequence by the tree of its route.
    pub fn close(&self, cx: &mut Cx<'m>, h: &Act, r: &Act, norm: Option<NormRef<'m>>) -> engine::Result<Act> {
        let at = At { r, norm };
        let State { x, res } = self.first.module.enter(cx, h, &at)?;
        let y = cx.bottlenecks(&x, self.parts(h.seqs()), Some(&res))?;
        self.first.module.leave(cx, y, h, &at)
    }
    /// The rows of neighbours with one tree are one part.
    fn parts(&self, seqs: &[Seq]) -> Vec<RowsBottleneck<'m>> {
        let mut parts: Vec<(usize, RowsBottleneck<'m>)> = vec![];
        for q in seqs {
            let rows = q.start..q.start + q.len;
            if let Some((_, last)) =
                parts.last_mut().filter(|(route, p)| (*route, p.rows.end) == (q.route, rows.start))
            {
                last.rows.end = rows.end;
                continue;
            }
            let found = self.of.get(q.route).copied().flatten();
            if let Some((down, f, up)) = found.and_then(|f| f.module.narrow()?.layers()) {
                parts.push((q.route, RowsBottleneck { rows, down, f, up }));
            }
        }
        parts.into_iter().map(|(_, p)| p).collect()
    }
}
