//! Buckets of relative positions (Raffel et al. 2020, section 2.1): near distances have one each,
//! far ones share them by the logarithm, and beyond some distance all share the last.
use std::sync::Arc;

/// The bucket of each distance.
#[derive(Clone, Debug)]
pub(crate) struct Buckets {
    /// That of each distance from `-far` to `far`; beyond it is that of the end.
    near: Vec<u32>,
    far: usize,
}
impl Buckets {
    /// So many buckets for distances up to `far`. `both_ways` has half of them for keys behind the
    /// query; otherwise those have the bucket of distance 0. None if there are too few.
    pub fn new(count: usize, far: usize, both_ways: bool) -> Option<Buckets> {
        let half = if both_ways { count / 2 } else { count };
        let exact = half / 2;
        if exact == 0 || far <= exact {
            return None;
        }
        // in f32, as transformers computes
        let scale = ((far as f64 / exact as f64).ln()) as f32;
        let one = |n: usize| {
            let log = (n as f32 / exact as f32).ln() / scale * (half - exact) as f32;
            if n < exact { n } else { (exact + log as usize).min(half - 1) }
        };
        let before = (0..=far).rev().map(one);
        let behind = (1..=far).map(|n| if both_ways { half + one(n) } else { 0 });
        Some(Buckets { near: before.chain(behind).map(|b| b as u32).collect(), far })
    }
    /// The bucket of each distance (key - query) from `-most` to `most`, and where that of 0 is.
    pub fn up_to(&self, most: usize) -> (Arc<[u32]>, usize) {
        let at = |i: usize| (i + self.far).saturating_sub(most).min(2 * self.far);
        ((0..=2 * most).map(|i| self.near[at(i)]).collect(), most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_share_buckets() {
        let of = |both_ways, most| {
            let (all, zero) = Buckets::new(8, 6, both_ways).unwrap().up_to(most);
            assert_eq!((all.len(), zero), (2 * most + 1, most));
            all.to_vec()
        };
        // by hand: 2 exact buckets of 4 each way, log(n / 2) / log(3) · 2 for the others
        assert_eq!(of(true, 3), [2, 2, 1, 0, 5, 6, 6]);
        assert_eq!(of(true, 8), [3, 3, 3, 3, 3, 2, 2, 1, 0, 5, 6, 6, 7, 7, 7, 7, 7]);
        // 4 exact buckets of 8, log(n / 4) / log(1.5) · 4
        assert_eq!(of(false, 7), [7, 7, 6, 4, 3, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(of(false, 0), [0]);
    }

    #[test]
    fn too_few_are_refused() {
        assert!(Buckets::new(3, 128, true).is_none() && Buckets::new(1, 128, false).is_none());
        assert!(Buckets::new(32, 8, true).is_none() && Buckets::new(32, 9, true).is_some());
    }
}
