//! Keys and values of the tokens so far, for decoding: a pass that remembers computes only those
//! of its own tokens.
//!
//! They lie in blocks of a few tokens (Kwon et al. 2023). Sequences that go on from one another, as
//! beams do, share the blocks that are full, and only the last one is copied when they part.
use crate::{Act, Error, Result, Seq};
use engraft_kernels::{Buffer, Class, Device, View, ViewMut, attention::Keys, elementwise};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    ops::Range,
    sync::Arc,
};

/// Tokens of a block.
const BLOCK: usize = 16;
/// Blocks that are allocated at once, at least.
const SLAB: usize = 16;

/// The keys and values of the self-attention of every layer, for so many sequences of at most so
/// many tokens, and those of what else its layers attend to.
///
/// A pass takes it along ([`crate::Cx::with_cache`]) and gives it back
/// ([`crate::Cx::into_cache`]) with those of its own tokens behind the ones that were there. Its
/// sequences are told apart by their items; [`KvCache::select`] says which items go on.
#[derive(Debug)]
pub struct KvCache {
    sequences: usize,
    capacity: usize,
    layers: BTreeMap<usize, Layer>,
    others: BTreeMap<usize, Other>,
}
#[derive(Debug)]
struct Layer {
    cols: usize,
    /// So many blocks of each of the two.
    slabs: Vec<[Buffer; 2]>,
    blocks_of_slab: usize,
    /// How many items hold each block.
    holders: Vec<usize>,
    items: Vec<Held>,
}
/// What is remembered of an item.
#[derive(Clone, Debug, Default)]
struct Held {
    blocks: Vec<usize>,
    tokens: usize,
}
/// Keys and values that are computed once.
#[derive(Debug)]
struct Other {
    kv: [Act; 2],
    /// The rows of each item.
    of: Vec<Option<Seq>>,
}
/// What a layer holds, its own tokens included.
pub(crate) struct Remembered<'a> {
    layer: &'a Layer,
    /// Tokens of each sequence before this pass.
    before: Vec<usize>,
}

impl KvCache {
    /// Room for so many sequences of so many tokens; memory is taken as it is filled.
    pub fn new(sequences: usize, capacity: usize) -> KvCache {
        KvCache { sequences, capacity, layers: BTreeMap::new(), others: BTreeMap::new() }
    }
    /// Tokens of an item that every layer remembers: the place of its next one.
    pub fn tokens(&self, item: usize) -> usize {
        self.layers.values().map(|l| l.items.get(item).map_or(0, |i| i.tokens)).min().unwrap_or(0)
    }
    /// Forgets an item.
    pub fn forget(&mut self, item: usize) {
        for layer in self.layers.values_mut() {
            if let Some(held) = layer.items.get_mut(item).map(std::mem::take) {
                held.blocks.iter().for_each(|b| layer.holders[*b] -= 1);
            }
        }
        self.others.values_mut().filter_map(|o| o.of.get_mut(item)).for_each(|of| *of = None);
    }
    /// Item i of the next pass goes on from what was item `order[i]`; those that are not named are
    /// forgotten. Of items that are named several times what does not fill a block is copied, and
    /// nothing else.
    pub fn select(&mut self, device: &Device, order: &[usize]) -> Result<()> {
        if let Some(n) = order.iter().chain([&order.len()]).find(|n| **n > self.sequences) {
            let what = format!("has room for {} sequences, not for item {n}", self.sequences);
            return Err(Error::Cache { what });
        }
        for layer in self.layers.values_mut() {
            layer.select(device, order)?;
        }
        for other in self.others.values_mut() {
            other.of = order.iter().map(|i| other.of.get(*i).cloned().flatten()).collect();
        }
        Ok(())
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
        let layer = self.layers.entry(layer).or_insert_with(|| Layer {
            cols: kv[0].cols(),
            slabs: vec![],
            blocks_of_slab: sequences.max(SLAB),
            holders: vec![],
            items: vec![Held::default(); sequences],
        });
        let wrong = |what: String| Err(Error::Cache { what });
        if layer.cols != kv[0].cols() {
            return wrong(format!("has {} channels, not {}", layer.cols, kv[0].cols()));
        }
        let before: Vec<usize> = layer.items.iter().map(|i| i.tokens).collect();
        for s in seqs {
            let Some(held) = layer.items.get(s.item) else {
                return wrong(format!("has room for {sequences} sequences, not for item {}", s.item));
            };
            if held.tokens != before[s.item] {
                return wrong(format!("holds one sequence of item {}, not several", s.item));
            }
            if held.tokens + s.len > capacity {
                return wrong(format!(
                    "has room for {capacity} tokens of item {}, not for {}",
                    s.item,
                    held.tokens + s.len
                ));
            }
            layer.append(device, s.item, kv, s.start..s.start + s.len)?;
        }
        Ok(Remembered { layer, before })
    }
    /// Keys and values that a layer attends to besides its tokens', for each item: those that it
    /// has, or `new` ones from now on.
    pub(crate) fn other(&mut self, layer: usize, new: Option<[Act; 2]>) -> Option<[Act; 2]> {
        let other = match (self.others.entry(layer), new) {
            (Entry::Occupied(e), _) => e.into_mut(),
            (Entry::Vacant(_), None) => return None,
            (Entry::Vacant(e), Some(kv)) => {
                let of = |item| kv[0].seqs.iter().find(|s| s.item == item).cloned();
                let of = (0..self.sequences).map(of).collect();
                e.insert(Other { kv, of })
            }
        };
        let seqs = other.of.iter().enumerate();
        let seqs = seqs.filter_map(|(item, of)| of.clone().map(|s| Seq { item, ..s }));
        let seqs: Arc<[Seq]> = seqs.collect();
        Some(other.kv.clone().map(|x| Act { seqs: seqs.clone(), ..x }))
    }
}

impl Layer {
    /// A block that nobody holds.
    fn free_block(&mut self, device: &Device) -> Result<usize> {
        let free = match self.holders.iter().position(|n| *n == 0) {
            Some(free) => free,
            None => {
                let floats = self.blocks_of_slab * BLOCK * self.cols;
                let room = || device.alloc::<f32>(Class::Scratch, floats);
                self.slabs.push([room()?, room()?]);
                let first = self.holders.len();
                self.holders.resize(first + self.blocks_of_slab, 0);
                first
            }
        };
        self.holders[free] = 1;
        Ok(free)
    }
    /// In which slab some tokens of a block are, and their rows there.
    fn rows(&self, block: usize, tokens: Range<usize>) -> (usize, Range<usize>) {
        let first = block % self.blocks_of_slab * BLOCK;
        (block / self.blocks_of_slab, first + tokens.start..first + tokens.end)
    }
    fn views(&self, slab: usize) -> Result<[View<'_>; 2]> {
        let [k, v] = &self.slabs[slab];
        let rows = self.blocks_of_slab * BLOCK;
        Ok([View::of(k, rows, self.cols)?, View::of(v, rows, self.cols)?])
    }
    fn write(
        &mut self,
        device: &Device,
        (slab, to): (usize, Range<usize>),
        from: [View<'_>; 2],
    ) -> Result<()> {
        let rows = self.blocks_of_slab * BLOCK;
        for (from, into) in from.into_iter().zip(&mut self.slabs[slab]) {
            let to = ViewMut::of(into, rows, self.cols)?.rows_of(to.clone())?;
            elementwise::copy(device, from, to)?;
        }
        Ok(())
    }
    fn append(
        &mut self,
        device: &Device,
        item: usize,
        kv: [View<'_>; 2],
        mut rows: Range<usize>,
    ) -> Result<()> {
        while !rows.is_empty() {
            let filled = self.items[item].tokens % BLOCK;
            if filled == 0 {
                let block = self.free_block(device)?;
                self.items[item].blocks.push(block);
            }
            let Held { blocks, tokens } = &mut self.items[item];
            let n = rows.len().min(BLOCK - filled);
            *tokens += n;
            let last = blocks.last().copied().unwrap_or_default();
            let to = self.rows(last, filled..filled + n);
            let from = rows.start..rows.start + n;
            self.write(device, to, [kv[0].rows_of(from.clone())?, kv[1].rows_of(from)?])?;
            rows.start += n;
        }
        Ok(())
    }
    fn select(&mut self, device: &Device, order: &[usize]) -> Result<()> {
        let all = self.items.len();
        let mut items: Vec<Held> =
            order.iter().map(|i| self.items.get(*i).cloned().unwrap_or_default()).collect();
        items.resize(all, Held::default());
        self.items = items;
        self.holders.fill(0);
        self.items.iter().flat_map(|held| &held.blocks).for_each(|b| self.holders[*b] += 1);
        for item in 0..all {
            let Held { blocks, tokens } = &self.items[item];
            let filled = tokens % BLOCK;
            let Some(shared) = blocks.last().copied().filter(|b| filled > 0 && self.holders[*b] > 1) else {
                continue;
            };
            let own = self.free_block(device)?;
            self.holders[shared] -= 1;
            self.items[item].blocks.pop();
            self.items[item].blocks.push(own);
            self.copy(device, shared, own, filled)?;
        }
        Ok(())
    }
    /// The first tokens of a block, in another.
    fn copy(&mut self, device: &Device, from: usize, to: usize, tokens: usize) -> Result<()> {
        let (from, to) = (self.rows(from, 0..tokens), self.rows(to, 0..tokens));
        let all = self.blocks_of_slab * BLOCK;
        for side in 0..2 {
            let mut part = device.alloc::<f32>(Class::Scratch, tokens * self.cols)?;
            let source = self.views(from.0)?[side].rows_of(from.1.clone())?;
            elementwise::copy(device, source, ViewMut::of(&mut part, tokens, self.cols)?)?;
            let target = ViewMut::of(&mut self.slabs[to.0][side], all, self.cols)?.rows_of(to.1.clone())?;
            elementwise::copy(device, View::of(&part, tokens, self.cols)?, target)?;
        }
        Ok(())
    }
}

impl Remembered<'_> {
    /// The tokens of a sequence before this pass.
    pub(crate) fn before(&self, s: &Seq) -> usize {
        self.before.get(s.item).copied().unwrap_or(0)
    }
    /// Where keys and values lie: [`Remembered::keys`] counts them.
    pub(crate) fn views(&self) -> Result<Vec<[View<'_>; 2]>> {
        (0..self.layer.slabs.len()).map(|slab| self.layer.views(slab)).collect()
    }
    /// The keys of a sequence, in their order.
    pub(crate) fn keys(&self, s: &Seq) -> Vec<Keys> {
        let mut keys: Vec<Keys> = vec![];
        let Some(Held { blocks, tokens }) = self.layer.items.get(s.item) else { return keys };
        for (i, block) in blocks.iter().enumerate() {
            let (of, rows) = self.layer.rows(*block, 0..BLOCK.min(tokens - i * BLOCK));
            match keys.last_mut().filter(|last| last.of == of && last.rows.end == rows.start) {
                Some(last) => last.rows.end = rows.end,
                None => keys.push(Keys { of, rows }),
            }
        }
        keys
    }
}
