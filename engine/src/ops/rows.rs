//! Chosen rows: the first token of each sequence.
use crate::{Act, Backward, Cx, Grads, Result, Seq, pack, tape::NodeId};
use engraft_kernels::{Buffer, Class, gather, matmul::Matrix};
use std::sync::Arc;

struct Op {
    index: Buffer,
    rows: usize,
    cols: usize,
    x: Option<NodeId>,
}
impl<'m> Cx<'m> {
    /// The first token of every sequence that has one, after its prompt: (sequences, C), each a sequence of one row. What
    /// has no other rows is given back as it is.
    pub fn first_tokens(&mut self, x: &Act) -> Result<Act> {
        if x.rows == x.seqs.len() && x.seqs.iter().all(|s| (s.len, s.extra) == (1, 0)) {
            return Ok(x.clone());
        }
        let firsts: Vec<&Seq> = x.seqs.iter().filter(|s| s.len > s.extra).collect();
        let index: Vec<u32> = firsts.iter().map(|s| (s.start + s.extra) as u32).collect();
        let packed = pack(index.iter().map(|_| 1));
        let seqs = packed
            .iter()
            .zip(&firsts)
            .map(|(p, s)| Seq { item: s.item, route: s.route, ..p.clone() })
            .collect();
        let index = self.device().upload(Class::Scratch, &index)?;
        let mut y = self.alloc(firsts.len() * x.cols)?;
        gather::rows(self.device(), Matrix::plain(&x.buf, x.rows, x.cols), &index, &mut y, false)?;
        let y = Act::new(y, x.cols, seqs)?;
        if !self.needed(&[x.node], &[]) {
            return Ok(y);
        }
        index.set_class(Class::Saved);
        Ok(self.record(y, Op { index, rows: x.rows, cols: x.cols, x: x.node }))
    }
}
impl<'m> Backward<'m> for Op {
    fn name(&self) -> &'static str {
        "first_tokens"
    }
    fn saved(&self) -> usize {
        self.index.bytes()
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, cx: &mut Cx<'m>) -> Result<()> {
        let mut dx = cx.device().zeros::<f32>(Class::Scratch, self.rows * self.cols)?;
        gather::scatter(cx.device(), &dy, &self.index, self.cols, &mut dx)?;
        g.node(self.x, Arc::new(dx))
    }
}
