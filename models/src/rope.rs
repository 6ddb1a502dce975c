//! Rotary positions in a pass: which rows are turned by which angles.
//!
//! The angles are those of the places that occur in the pass, computed once for all layers: a table
//! of every place that a model is made for would be larger than many a batch. Where frequencies
//! depend on a sequence's length, a sequence has those of its own, whatever stands beside it.
use crate::rope_scaling::Scaling;
use engraft_engine::{
    Act, Class, Cx, Error, Result, Seq,
    kernels::rotary::{Angles, Pairs},
    ops::Rotation,
};
use std::{collections::HashMap, ops::Range, sync::Arc};

/// How a model turns its queries and keys.
#[derive(Clone, Debug)]
pub(crate) struct Rope {
    pub scaling: Scaling,
    pub pairs: Pairs,
    /// Channels of a head.
    pub head_dim: usize,
}
/// The angles of every row of a batch.
#[derive(Clone, Debug)]
pub(crate) struct Turns {
    seqs: Arc<[Seq]>,
    /// Tokens of each item in passes before.
    before: Vec<usize>,
    angles: Arc<Angles>,
    /// For each row its angles.
    row: Vec<u32>,
}

impl Rope {
    /// Those of the rows of x, at the start of a pass: places count on from the rows before.
    pub fn start(&self, cx: &Cx<'_>, x: &Act) -> Result<Arc<Turns>> {
        let items = x.seqs().iter().map(|s| s.item + 1).max().unwrap_or(0);
        Ok(Arc::new(self.turns(cx, x.seqs(), (0..items).map(|i| cx.place(i)).collect())?))
    }
    /// The same in a layer: an adapter may have packed the rows in another way.
    pub fn of(&self, cx: &Cx<'_>, turns: &Arc<Turns>, x: &Act) -> Result<Arc<Turns>> {
        match *turns.seqs == **x.seqs() {
            true => Ok(turns.clone()),
            false => Ok(Arc::new(self.turns(cx, x.seqs(), turns.before.clone())?)),
        }
    }
    fn turns(&self, cx: &Cx<'_>, seqs: &Arc<[Seq]>, before: Vec<usize>) -> Result<Turns> {
        let all = &self.scaling.frequencies;
        let (mut number, mut frequencies) = (HashMap::new(), HashMap::new());
        let (mut angles, mut row): (Vec<f32>, Vec<u32>) = (vec![], vec![0; seqs.iter().map(|s| s.len).sum()]);
        for s in seqs.iter() {
            let past = before.get(s.item).copied().unwrap_or(0);
            let first = s.place + past;
            let key = all.key(first + s.len);
            if past > 0 && all.key(first) != key {
                let what = format!(
                    "has keys of item {} that were turned for a sequence of {first} tokens, not of {}",
                    s.item,
                    first + s.len
                );
                return Err(Error::Cache { what });
            }
            let f: &Vec<f32> = frequencies.entry(key).or_insert_with(|| all.of(key));
            for i in 0..s.len {
                let place = first + i;
                let next = number.len() as u32;
                let n = *number.entry((key, place)).or_insert_with(|| {
                    // an angle is a product in f32 in the reference libraries
                    angles.extend(f.iter().map(|f| place as f32 * f));
                    next
                });
                if let Some(row) = row.get_mut(s.start + i) {
                    *row = n;
                }
            }
        }
        let width = frequencies.values().next().map_or(0, Vec::len);
        let shape = (number.len(), width);
        let angles = Angles::of(cx.device(), Class::Scratch, angles, shape, self.scaling.scale)?;
        Ok(Turns { seqs: seqs.clone(), before, angles: Arc::new(angles), row })
    }
    /// Heads side by side (rows, heads · d), turned by the angles of their rows: of every sequence
    /// those from `first` on. (rows, heads · d)
    pub fn turn<'m>(&self, cx: &mut Cx<'m>, x: Act, turns: &Turns, first: &[usize]) -> Result<Act> {
        let columns = 0..x.cols();
        self.turn_columns(cx, x, turns, first, columns)
    }
    /// The same of these columns alone.
    pub fn turn_columns<'m>(
        &self,
        cx: &mut Cx<'m>,
        x: Act,
        turns: &Turns,
        first: &[usize],
        columns: Range<usize>,
    ) -> Result<Act> {
        let mut rows = vec![];
        for ((s, of), first) in x.seqs().iter().zip(turns.seqs.iter()).zip(first) {
            let from = of.start + first;
            rows.extend(turns.row.get(from..from + s.len).unwrap_or_default());
        }
        let angles = turns.angles.clone();
        let how = Rotation { angles, pairs: self.pairs, head_dim: self.head_dim, columns };
        cx.rotate(x, how, &rows) // refuses where rows are missing
    }
}
