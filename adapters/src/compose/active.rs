//! Who answers the hooks of a pass.
use super::tree::Tree;
use crate::Adapter;
use engraft_engine::{self as engine, Act, Cx, Hooks, LinearRef, NormRef, Pending, Prefix, Site};

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
        Tree::One(self).close(cx, s, h, r, norm)
    }
    fn touches(&self, s: Site) -> bool {
        Tree::One(self).touches(s)
    }
    fn reads_places(&self, layer: usize) -> bool {
        Tree::One(self).reads_places(layer)
    }
}
