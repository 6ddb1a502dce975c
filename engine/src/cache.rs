//! Keys and values of the tokens so far, for decoding: a pass that remembers computes only those
//! of its own tokens.
use crate::{Error, Result, Seq};
use engraft_kernels::{Buffer, Class, Device, View, ViewMut, elementwise};
use std::collections::{BTreeMap, btree_map::Entry};

/// The keys and values of the self-attention of every layer, for sequences of at
/// most so many tokens.
///
/// A pass takes it along ([`crate::Cx::with_cache`]) and gives it back
/// ([`crate::Cx::into_cache`]) with those of its own tokens behind the ones that were there. Its
/// sequences are told apart by their items.
#[derive(Debug)]
pub struct KvCache {
    sequences: usize,
    capacity: usize,
    layers: BTreeMap<usize, Layer>,
}
#[derive(Debug)]
struct Layer {
    /// (sequences · capacity, cols) each.
    kv: [Buffer; 2],
    cols: usize,
    /// Tokens of each sequence.
    filled: Vec<usize>,
}
/// What a layer holds, its own tokens included.
pub(crate) struct Remembered<'a> {
    layer: &'a Layer,
    capacity: usize,
    /// Tokens of each sequence before this pass.
    before: Vec<usize>,
}

impl KvCache {
    /// Room for so many sequences of so many tokens; memory is taken when a layer first fills it.
    pub fn new(sequences: usize, capacity: usize) -> KvCache {
        KvCache { sequences, capacity, layers: BTreeMap::new() }
    }
    /// Tokens of an item that every layer remembers: the place of its next one.
    pub fn tokens(&self, item: usize) -> usize {
        self.layers.values().map(|l| l.filled.get(item).copied().unwrap_or(0)).min().unwrap_or(0)
    }
    /// Forgets an item's tokens.
    pub fn forget(&mut self, item: usize) {
        self.layers.values_mut().filter_map(|l| l.filled.get_mut(item)).for_each(|n| *n = 0);
    }
    /// Puts keys and values of sequences behind those that a layer holds.
    pub(crate) fn append(
        &mut self,
        device: &Device,
        layer: usize,
        kv: [View<'_>; 2],
        seqs: &[Seq],
    ) -> Result<Remembered<'_>> {
        let KvCache { sequences, capacity, .. } = *self;
        let (rows, cols) = (sequences * capacity, kv[0].cols());
        let layer = match self.layers.entry(layer) {
            Entry::Occupied(e) => e.into_mut(),
            Entry::Vacant(e) => {
                let room = || device.alloc::<f32>(Class::Scratch, rows * cols);
                e.insert(Layer { kv: [room()?, room()?], cols, filled: vec![0; sequences] })
            }
        };
        let wrong = |what: String| Err(Error::Cache { what });
        if layer.cols != cols {
            return wrong(format!("has {} channels, not {cols}", layer.cols));
        }
        let before = layer.filled.clone();
        for s in seqs {
            let Some(filled) = before.get(s.item) else {
                return wrong(format!("has room for {sequences} sequences, not for item {}", s.item));
            };
            if layer.filled[s.item] != *filled {
                return wrong(format!("holds one sequence of item {}, not several", s.item));
            }
            if filled + s.len > capacity {
                return wrong(format!(
                    "has room for {capacity} tokens of item {}, not for {}",
                    s.item,
                    filled + s.len
                ));
            }
            let first = s.item * capacity + filled;
            for (from, to) in kv.iter().zip(&mut layer.kv) {
                let to = ViewMut::of(to, rows, cols)?.rows_of(first..first + s.len)?;
                elementwise::copy(device, from.rows_of(s.start..s.start + s.len)?, to)?;
            }
            layer.filled[s.item] += s.len;
        }
        Ok(Remembered { layer, capacity, before })
    }
}
impl Remembered<'_> {
    /// The first row of a sequence, and its tokens before this pass.
    pub(crate) fn place(&self, s: &Seq) -> (usize, usize) {
        (s.item * self.capacity, self.before.get(s.item).copied().unwrap_or(0))
    }
    /// Keys and values.
    pub(crate) fn views(&self) -> Result<[View<'_>; 2]> {
        let rows = self.before.len() * self.capacity;
        let [k, v] = &self.layer.kv;
        Ok([View::of(k, rows, self.layer.cols)?, View::of(v, rows, self.layer.cols)?])
    }
}
