//! Rotary positions: heads of queries and keys turned by angles that grow with the position. Keeps
//! each row's position.
use crate::{
    Act, Backward, Cx, Error, Grads, Result,
    tape::{NodeId, owned},
};
use engraft_kernels::{
    Buffer, Class, ViewMut,
    rotary::{self, Angles, Pairs, Rotary},
};
use std::{ops::Range, sync::Arc};

/// How heads are turned.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// The angles of every position.
    pub angles: Arc<Angles>,
    /// Which channels of a head make a pair.
    pub pairs: Pairs,
    /// Channels of a head.
    pub head_dim: usize,
    /// Which columns hold heads to be turned.
    pub columns: Range<usize>,
}
struct Op {
    how: Rotation,
    positions: Buffer,
    cols: usize,
    x: Option<NodeId>,
}
impl Rotation {
    fn apply(&self, x: &mut Buffer, cols: usize, positions: &Buffer, back: bool) -> Result<()> {
        let device = positions.device();
        let Rotation { ref angles, pairs, head_dim, .. } = *self;
        let part = ViewMut::of(x, positions.len(), cols)?.cols_of(self.columns.clone())?;
        Ok(rotary::rotate(device, Rotary { angles, pairs, head_dim, back }, positions, part)?)
    }
}
impl<'m> Cx<'m> {
    /// x (T, C) with the heads in some of its columns turned; `positions` hold one for each row.
    pub fn rotate(&mut self, x: Act, how: Rotation, positions: &[u32]) -> Result<Act> {
        if positions.len() != x.rows {
            let left = vec![x.rows, x.cols];
            return Err(Error::Shape { op: "rotate", left, right: vec![positions.len()] });
        }
        let Act { buf, rows, cols, node, seqs, .. } = x;
        let positions = self.device().upload(Class::Scratch, positions)?;
        let mut y = owned(buf)?;
        how.apply(&mut y, cols, &positions, false)?;
        let y = Act::of(y, (rows, cols), seqs);
        if !self.needed(&[node], &[]) {
            return Ok(y);
        }
        positions.set_class(Class::Saved);
        Ok(self.record(y, Op { how, positions, cols, x: node }))
    }
}
impl<'m> Backward<'m> for Op {
    fn name(&self) -> &'static str {
        "rotate"
    }
    fn saved(&self) -> usize {
        self.positions.bytes()
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, _: &mut Cx<'m>) -> Result<()> {
        let mut d = owned(dy)?;
        self.how.apply(&mut d, self.cols, &self.positions, true)?;
        g.node(self.x, Arc::new(d))
    }
}
