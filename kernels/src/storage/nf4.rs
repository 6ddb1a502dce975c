//! NormalFloat in four bits with double quantisation, as in QLoRA (Dettmers et al.
//! 2023, section 3).
//!
//! A row is cut into blocks of 64 values (the last may be shorter). A block has a scale a, at first
//! its largest magnitude, and each value is the nearest of a · [`LEVELS`], which are quantiles of
//! the normal distribution. The scales are quantised in turn: of 256 that follow one another, m is
//! the mean and r the largest distance from it, and each becomes the nearest of m + r · [`STEPS`],
//! one byte. The values are then rounded to levels of the scale that is kept.
//!
//! The paper subtracts one mean from all scales of a tensor; here each group has its own.

/// Values in a block, which share a scale.
pub const BLOCK: usize = 64;
/// Blocks in a group, which share what their scales are quantised by.
pub const GROUP: usize = 256;

/// The sixteen levels: for x the quantiles of the standard normal distribution at 8 and 9 evenly
/// spaced probabilities from 1/2 to 0.9677083 (where the outermost is as far from its tail as from
/// its neighbour), -x for the lower half and x for the upper, divided by the largest (Dettmers et
/// al. 2023, equation 4 and appendix E).
pub static LEVELS: [f32; 16] = ALL;
const ALL: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];
/// The level that is zero.
pub(crate) const ZERO: u8 = 7;
/// Between which neighbouring levels a value is nearer to the upper one.
const BOUNDS: [f32; 15] = {
    let (mut b, mut i) = ([0.0; 15], 0);
    while i < 15 {
        b[i] = 0.5 * (ALL[i] + ALL[i + 1]);
        i += 1;
    }
    b
};

/// What scales are rounded to, ascending: ±10ⁱ⁻⁶ times the middles of 2ⁱ equal parts of 0.1 to 1,
/// for i from 0 to 6, with 0 and 1. Dense around zero, where most scales are (the dynamic map of
/// Dettmers 2016, arXiv:1511.04561).
pub static STEPS: [f32; 256] = {
    let (mut steps, mut at, mut i, mut unit) = ([0.0; 256], 0, 0, 1e-6);
    while i < 7 {
        let (parts, mut j) = (1 << i, 0);
        while j < parts {
            let x = (unit * (0.1 + 0.9 * (2 * j + 1) as f64 / (2 * parts) as f64)) as f32;
            steps[128 + at] = x;
            steps[126 - at] = -x;
            (at, j) = (at + 1, j + 1);
        }
        (i, unit) = (i + 1, unit * 10.0);
    }
    steps[255] = 1.0;
    steps
};

/// Bytes that hold the codes of a row.
pub fn pairs(cols: usize) -> usize {
    cols.div_ceil(2)
}
/// Blocks of a row.
pub fn blocks(cols: usize) -> usize {
    cols.div_ceil(BLOCK)
}
/// Numbers that the scales of so many blocks are quantised by.
pub fn ranges(blocks: usize) -> usize {
    2 * blocks.div_ceil(GROUP)
}

/// The code of the level nearest to `x`.
#[inline(always)]
pub(crate) fn code(x: f32) -> u8 {
    BOUNDS.iter().map(|b| u8::from(x > *b)).sum()
}
/// m and r of a group of scales.
pub(crate) fn range(scales: &[f32]) -> (f32, f32) {
    let mean = scales.iter().map(|s| f64::from(*s)).sum::<f64>() / scales.len().max(1) as f64;
    let mean = mean as f32;
    (mean, scales.iter().fold(0.0, |r, s| (s - mean).abs().max(r)))
}
/// The code of the step that brings m + r · step nearest to `scale`.
pub(crate) fn step((m, r): (f32, f32), scale: f32) -> u8 {
    let x = if r > 0.0 { (scale - m) / r } else { 0.0 };
    let above = STEPS.partition_point(|s| *s < x).clamp(1, 255);
    (if x - STEPS[above - 1] <= STEPS[above] - x { above - 1 } else { above }) as u8
}
/// A block's scale. Two roundings, on every processor.
#[inline(always)]
pub(crate) fn scale((m, r): (f32, f32), step: u8) -> f32 {
    m + r * STEPS[step as usize]
}
