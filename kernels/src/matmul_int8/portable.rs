//! Any processor, in plain Rust.
use super::{
    plan::TOP,
    tile::{Piece, Tile, TileFn},
};

/// Columns of a tile.
const LANES: usize = 8;

fn bytes(word: u32) -> [i8; 4] {
    word.to_le_bytes().map(|b| b as i8)
}

/// One tile of R rows.
///
/// # Safety
/// As of [`TileFn`], with one vector of 8.
unsafe fn rows<const R: usize>(t: &Tile) {
    let of = &t.of;
    let ((base, base_row), _) = of.plus.addresses(of.c);
    let panel = t.panel.cast::<u32>();
    // SAFETY: every access lies inside the areas that the caller vouches for; A's rows
    // are aligned words.
    unsafe {
        let mut sums = [[0i32; LANES]; R];
        sums.fill(*panel.cast());
        for p in 0..of.depth {
            let row: [u32; LANES] = *panel.add((TOP + p) * LANES).cast();
            for (i, sums) in sums.iter_mut().enumerate() {
                let a = bytes(*of.a.0.add(i * of.a.1).cast::<u32>().add(p) ^ 0x8080_8080);
                for (sum, b) in sums.iter_mut().zip(row) {
                    let b = bytes(b);
                    *sum += (0..4).map(|k| i32::from(a[k]) * i32::from(b[k])).sum::<i32>();
                }
            }
        }
        let (scales, bias): ([f32; LANES], [f32; LANES]) =
            (*panel.add(LANES).cast(), *panel.add(2 * LANES).cast());
        for (i, sums) in sums.iter().enumerate() {
            for (j, sum) in sums[..of.last].iter().enumerate() {
                let v = *sum as f32 * *t.scales.add(i) * scales[j] + bias[j];
                let base = if base.is_null() { None } else { Some(*base.add(i * base_row + j)) };
                *of.c.0.add(i * of.c.1 + j) = base.map_or(v, |b| v + b);
            }
        }
    }
}

/// The kernel for tiles of so many rows and one vector.
pub(super) fn tile(high: usize, _vectors: usize) -> TileFn {
    match high {
        1 => rows::<1>,
        2 => rows::<2>,
        3 => rows::<3>,
        _ => rows::<4>,
    }
}

/// Packs a piece in panels of one vector.
///
/// # Safety
/// As of [`super::tile::PackFn`].
pub(super) unsafe fn pack(from: &Piece, _panel: usize, to: *mut u32) {
    let (col, row) = if from.transposed { (from.stride, 1) } else { (1, from.stride) };
    let words = from.depth.div_ceil(4);
    for first in (0..from.cols).step_by(LANES) {
        for j in 0..LANES {
            // SAFETY: elements below `depth` and `cols` are in the piece; the panels before this
            // one take first x (TOP + words) words, and this one has (TOP + words) x 8.
            unsafe {
                let to = to.add(first * (TOP + words) + j);
                *to = 0;
                for w in 0..words {
                    let mut word = [0; 4];
                    for (k, byte) in word.iter_mut().enumerate() {
                        let p = 4 * w + k;
                        if p < from.depth && first + j < from.cols {
                            *byte = *from.at.add(p * row + (first + j) * col) as u8;
                        }
                    }
                    *to.add((TOP + w) * LANES) = u32::from_le_bytes(word);
                }
            }
        }
    }
}
