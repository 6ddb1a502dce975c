//! Sequences of an activation by themselves, several activations in one, and rows in front of
//! others: what routes and prompts need. Keeps which rows went where.
use crate::{Act, Backward, Cx, Error, Grads, Prefix, Result, Seq, tape::NodeId};
use engraft_kernels::{Buffer, Class, ViewMut, gather, matmul::Matrix};
use std::sync::Arc;

struct Op {
    /// Of each activation the rows of the result that its rows became.
    parts: Vec<(Option<NodeId>, Buffer)>,
    rows: usize,
    cols: usize,
}
impl<'m> Cx<'m> {
    /// The sequences of x (T, C) with these numbers, in that order.
    pub fn take_sequences(&mut self, x: &Act, which: &[usize]) -> Result<Act> {
        let (mut index, mut seqs) = (vec![], vec![]);
        for i in which {
            let Some(s) = x.seqs.get(*i) else {
                return Err(Error::Shape { op: "take_sequences", left: vec![x.seqs.len()], right: vec![*i] });
            };
            seqs.push(Seq { start: index.len(), ..s.clone() });
            index.extend((s.start..s.start + s.len).map(|row| row as u32));
        }
        self.take_indexed("take_sequences", x, &index, seqs)
    }
    /// The sequences of several activations of C channels in one: sequence j of a part becomes
    /// number `which[j]`, and every number is taken once. It undoes [`Cx::take_sequences`].
    pub fn merge_sequences(&mut self, parts: &[(&Act, &[usize])]) -> Result<Act> {
        let wrong =
            |left, right| Error::Shape { op: "merge_sequences", left: vec![left], right: vec![right] };
        let count = parts.iter().map(|(_, which)| which.len()).sum();
        let mut from: Vec<Option<(usize, &Seq)>> = vec![None; count];
        for (p, (x, which)) in parts.iter().enumerate() {
            if x.seqs.len() != which.len() {
                return Err(wrong(x.seqs.len(), which.len()));
            }
            for (s, to) in x.seqs.iter().zip(*which) {
                match from.get_mut(*to) {
                    Some(free @ None) => *free = Some((p, s)),
                    _ => return Err(wrong(count, *to)), // beyond the end, or taken
                }
            }
        }
        let (mut seqs, mut pieces, mut start) = (vec![], vec![], 0);
        for (p, s) in from.into_iter().flatten() {
            pieces.push((p, s.clone(), start));
            seqs.push(Seq { start, ..s.clone() });
            start += s.len;
        }
        let parts: Vec<&Act> = parts.iter().map(|(x, _)| *x).collect();
        self.assemble("merge_sequences", &parts, pieces, seqs)
    }
    /// The sequences of x (T, C), each with the rows of the one of `front` that has its item and
    /// its route in front of its own. Those in front are no tokens.
    pub fn prepend(&mut self, front: &Act, x: &Act) -> Result<Act> {
        let (mut seqs, mut pieces, mut start) = (vec![], vec![], 0);
        for s in x.seqs.iter() {
            let f = front.seqs.iter().find(|f| (f.item, f.route) == (s.item, s.route));
            let f = f.ok_or(Error::NoKeys { op: "prepend", item: s.item })?;
            pieces.extend([(0, f.clone(), start), (1, s.clone(), start + f.len)]);
            seqs.push(Seq { start, len: f.len + s.len, extra: f.len + s.extra, first: 0, ..s.clone() });
            start += f.len + s.len;
        }
        self.assemble("prepend", &[front, x], pieces, seqs)
    }
    /// Each sequence of x (T, C) in pieces of these sizes, one behind the other: an activation for
    /// each piece. The pieces must be long enough for every sequence, and those of a shorter one
    /// are empty at its end.
    pub fn split_sequences(&mut self, x: &Act, sizes: &[usize]) -> Result<Vec<Act>> {
        let most: usize = sizes.iter().sum();
        if let Some(s) = x.seqs.iter().find(|s| s.len > most) {
            return Err(Error::Shape { op: "split_sequences", left: vec![s.len], right: sizes.to_vec() });
        }
        let (mut parts, mut from) = (vec![], 0);
        for size in sizes {
            let (mut index, mut seqs): (Vec<u32>, Vec<Seq>) = (vec![], vec![]);
            for s in x.seqs.iter() {
                let rows = s.start + from.min(s.len)..s.start + (from + size).min(s.len);
                let extra = s.extra.saturating_sub(from).min(rows.len());
                seqs.push(Seq { start: index.len(), len: rows.len(), extra, ..s.clone() });
                index.extend(rows.map(|row| row as u32));
            }
            parts.push(self.take_indexed("split_sequences", x, &index, seqs)?);
            from += size;
        }
        Ok(parts)
    }
    /// Undoes [`Cx::split_sequences`]: the pieces of each sequence one behind the other,
    /// packed as `seqs` say.
    pub fn join_sequences(&mut self, parts: &[&Act], seqs: &Arc<[Seq]>) -> Result<Act> {
        let mut pieces = vec![];
        for (i, whole) in seqs.iter().enumerate() {
            let mut to = whole.start;
            for (p, x) in parts.iter().enumerate() {
                let piece = x.seqs.get(i).ok_or_else(|| Error::Shape {
                    op: "join_sequences",
                    left: vec![seqs.len()],
                    right: vec![x.seqs.len()],
                })?;
                pieces.push((p, piece.clone(), to));
                to += piece.len;
            }
            if to != whole.start + whole.len {
                let (left, right) = (vec![whole.len], vec![to - whole.start]);
                return Err(Error::Shape { op: "join_sequences", left, right });
            }
        }
        self.assemble("join_sequences", parts, pieces, seqs.to_vec())
    }
    /// Several prefixes of the same sequences, each in front of the next; none if there is none.
    pub fn join_prefixes(&mut self, mut all: Vec<Prefix>) -> Result<Option<Prefix>> {
        if all.len() < 2 {
            return Ok(all.pop());
        }
        let mut of = vec![vec![]; all.first().map_or(0, |p| p.of.len())];
        let (mut rows, mut sequences, mut places) = (0, 0, vec![]);
        for p in &all {
            for (of, more) in of.iter_mut().zip(&p.of) {
                of.extend(more.iter().map(|r| rows + r.start..rows + r.end));
            }
            rows += p.k.rows();
            let here = p.k.seqs().len();
            places.push((sequences..sequences + here).collect::<Vec<_>>());
            sequences += here;
        }
        let mut stack = |of: fn(&Prefix) -> &Act| {
            let parts: Vec<_> = all.iter().zip(&places).map(|(p, to)| (of(p), to.as_slice())).collect();
            self.merge_sequences(&parts)
        };
        let (k, v) = (stack(|p| &p.k)?, stack(|p| &p.v)?);
        Ok(Some(Prefix { k, v, of }))
    }
    /// One activation of pieces: (which part, which of its rows, to which row of the result). Every
    /// row of every part is in one piece, and the pieces fill the result.
    fn assemble(
        &mut self,
        op: &'static str,
        parts: &[&Act],
        pieces: Vec<(usize, Seq, usize)>,
        seqs: Vec<Seq>,
    ) -> Result<Act> {
        let cols = parts.first().map_or(0, |x| x.cols);
        let rows: usize = pieces.iter().map(|(_, s, _)| s.len).sum();
        let mut index: Vec<Vec<u32>> = parts.iter().map(|x| vec![u32::MAX; x.rows]).collect();
        for (p, s, to) in pieces {
            (to..).zip(&mut index[p][s.start..s.start + s.len]).for_each(|(to, row)| *row = to as u32);
        }
        let mut y = self.device().zeros::<f32>(Class::Scratch, rows * cols)?;
        let mut saved = vec![];
        for (x, index) in parts.iter().zip(index) {
            if x.cols != cols || index.contains(&u32::MAX) {
                return Err(Error::Shape { op, left: vec![rows, cols], right: vec![x.rows, x.cols] });
            }
            let index = self.device().upload(Class::Scratch, &index)?;
            gather::scatter(self.device(), x.view()?, &index, ViewMut::of(&mut y, rows, cols)?)?;
            saved.push((x.node, index));
        }
        let y = Act::new(y, cols, seqs.into())?;
        if !self.needed(&parts.iter().map(|x| x.node).collect::<Vec<_>>(), &[]) {
            return Ok(y);
        }
        saved.retain(|(node, _)| node.is_some());
        saved.iter().for_each(|(_, index)| index.set_class(Class::Saved));
        Ok(self.record(y, Op { parts: saved, rows, cols }))
    }
}
impl<'m> Backward<'m> for Op {
    fn name(&self) -> &'static str {
        "assemble"
    }
    fn saved(&self) -> usize {
        self.parts.iter().map(|(_, index)| index.bytes()).sum()
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, cx: &mut Cx<'m>) -> Result<()> {
        let dy = Matrix::plain(&dy, self.rows, self.cols);
        for (node, index) in &self.parts {
            let mut dx = cx.alloc(index.len() * self.cols)?;
            gather::rows(cx.device(), dy, index, ViewMut::of(&mut dx, index.len(), self.cols)?, false)?;
            g.node(*node, Arc::new(dx))?;
        }
        Ok(())
    }
}
