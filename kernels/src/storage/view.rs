//! Stored matrices as the kernels read them: line by line, decoded to f32 as they are loaded.
//!
//! A line is a row as it lies in memory. A kernel is generic over [`Stored`], and [`stored!`] picks
//! the view that fits a [`Matrix`](super::Matrix).
use super::nf4;
use crate::{
    Element, Nf4Pair,
    simd::{F32s, MOST_LANES, Simd},
};
use half::{bf16, f16};

/// A matrix in storage.
pub(crate) trait Stored: Copy + Send + Sync {
    /// True if the elements are f32 as they lie.
    const IS_F32: bool = false;
    /// True if it has `lines` lines of at least `each` elements, with all that belongs to them.
    fn holds(&self, lines: usize, each: usize) -> bool;
    /// `LANES` elements of a line from element `at`, decoded. Where values share a scale within a
    /// line, `at` is a multiple of `LANES`.
    ///
    /// # Safety
    /// The matrix holds those elements.
    unsafe fn load<S: Simd>(&self, s: S, line: usize, at: usize) -> S::V;
    /// The first `n` of them, 1 <= n <= LANES, and zeros; nothing behind them is read.
    ///
    /// # Safety
    /// The matrix holds those elements.
    unsafe fn load_first<S: Simd>(&self, s: S, line: usize, at: usize, n: usize) -> S::V;
    /// If the elements are f32 as they lie: the address of one, which need not exist if nothing is
    /// read there, and the distance between lines.
    fn in_place(&self, _line: usize, _at: usize) -> Option<(*const f32, usize)> {
        None
    }
    /// The address of an element, or of the byte that it is in. The element need not exist if
    /// nothing is read there.
    fn address(&self, line: usize, at: usize) -> *const u8;
    /// Elements of a line from element `at`, decoded without vectors.
    fn decode(&self, line: usize, at: usize, to: &mut [f32]);
}

/// A float in storage: how it becomes f32.
pub(crate) trait Float: Element {
    /// A vector's worth of elements from `p`, decoded.
    ///
    /// # Safety
    /// They may be read.
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::V;
    /// `n` elements, decoded; for processors without vectors.
    fn decode(from: &[Self], to: &mut [f32]);

    /// The first `n` elements from `p`, 1 <= n <= LANES, decoded, and zeros; nothing
    /// behind them is read.
    ///
    /// # Safety
    /// `n` elements may be read from `p`.
    #[inline(always)]
    unsafe fn load_first<S: Simd>(s: S, p: *const Self, n: usize) -> S::V {
        let mut padded = [Self::default(); MOST_LANES];
        // SAFETY: `n` elements may be read (precondition) and fit in `padded`, which holds
        // at least `LANES`.
        unsafe {
            std::ptr::copy_nonoverlapping(p, padded.as_mut_ptr(), n);
            Self::load(s, padded.as_ptr())
        }
    }
}
impl Float for f32 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const f32) -> S::V {
        // SAFETY: the precondition is the same.
        unsafe { s.load_at(p) }
    }
    fn decode(from: &[f32], to: &mut [f32]) {
        to.copy_from_slice(from);
    }
}
impl Float for bf16 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const bf16) -> S::V {
        // SAFETY: the precondition is the same.
        unsafe { s.load_bf16(p) }
    }
    fn decode(from: &[bf16], to: &mut [f32]) {
        to.iter_mut().zip(from).for_each(|(t, f)| *t = f.to_f32());
    }
}
impl Float for f16 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const f16) -> S::V {
        // SAFETY: the precondition is the same.
        unsafe { s.load_f16(p) }
    }
    fn decode(from: &[f16], to: &mut [f32]) {
        to.iter_mut().zip(from).for_each(|(t, f)| *t = f.to_f32());
    }
}

/// The elements of `lines` lines, `stride` apart, the last of which is `each` long, fit into `len`.
pub(crate) fn fits(len: usize, lines: usize, stride: usize, each: usize) -> bool {
    let last = lines.saturating_sub(1).checked_mul(stride);
    lines == 0 || each == 0 || last.and_then(|l| l.checked_add(each)).is_some_and(|end| end <= len)
}

/// f32, bf16 or f16.
#[derive(Clone, Copy)]
pub(crate) struct Floats<'a, E> {
    pub data: &'a [E],
    /// Elements from line to line.
    pub stride: usize,
}
impl<E> Floats<'_, E> {
    /// The first `cols` elements of a row.
    pub(crate) fn row(&self, i: usize, cols: usize) -> &[E] {
        if cols == 0 { &[] } else { &self.data[i * self.stride..][..cols] }
    }
}
impl<E: Float> Stored for Floats<'_, E> {
    const IS_F32: bool = matches!(E::DTYPE, crate::DType::F32);
    fn holds(&self, lines: usize, each: usize) -> bool {
        fits(self.data.len(), lines, self.stride, each)
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(&self, s: S, line: usize, at: usize) -> S::V {
        // SAFETY: the precondition; the elements are in `data`.
        unsafe { E::load(s, self.data.as_ptr().add(line * self.stride + at)) }
    }
    #[inline(always)]
    unsafe fn load_first<S: Simd>(&self, s: S, line: usize, at: usize, n: usize) -> S::V {
        // SAFETY: the precondition; the elements are in `data`.
        unsafe { E::load_first(s, self.data.as_ptr().add(line * self.stride + at), n) }
    }
    fn in_place(&self, line: usize, at: usize) -> Option<(*const f32, usize)> {
        Self::IS_F32.then(|| (self.address(line, at).cast(), self.stride))
    }
    #[inline(always)]
    fn address(&self, line: usize, at: usize) -> *const u8 {
        self.data.as_ptr().wrapping_add(line.wrapping_mul(self.stride).wrapping_add(at)).cast()
    }
    fn decode(&self, line: usize, at: usize, to: &mut [f32]) {
        E::decode(&self.data[line * self.stride + at..][..to.len()], to);
    }
}

/// Eight-bit integers with a scale for each line.
#[derive(Clone, Copy)]
pub(crate) struct Int8<'a> {
    pub data: &'a [i8],
    pub scales: &'a [f32],
    /// Elements from line to line.
    pub stride: usize,
}
impl Stored for Int8<'_> {
    fn holds(&self, lines: usize, each: usize) -> bool {
        fits(self.data.len(), lines, self.stride, each) && self.scales.len() >= lines
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(&self, s: S, line: usize, at: usize) -> S::V {
        // SAFETY: the precondition; the elements are in `data` and the line has a scale.
        unsafe {
            s.load_i8(self.data.as_ptr().add(line * self.stride + at), *self.scales.get_unchecked(line))
        }
    }
    #[inline(always)]
    unsafe fn load_first<S: Simd>(&self, s: S, line: usize, at: usize, n: usize) -> S::V {
        let mut padded = [0; MOST_LANES];
        // SAFETY: `n` elements are in `data` (precondition) and fit in `padded`, which holds at
        // least `LANES`; the line has a scale.
        unsafe {
            let from = self.data.as_ptr().add(line * self.stride + at);
            std::ptr::copy_nonoverlapping(from, padded.as_mut_ptr(), n);
            s.load_i8(padded.as_ptr(), *self.scales.get_unchecked(line))
        }
    }
    #[inline(always)]
    fn address(&self, line: usize, at: usize) -> *const u8 {
        self.data.as_ptr().wrapping_add(line.wrapping_mul(self.stride).wrapping_add(at)).cast()
    }
    fn decode(&self, line: usize, at: usize, to: &mut [f32]) {
        let scale = self.scales[line];
        let from = &self.data[line * self.stride + at..][..to.len()];
        to.iter_mut().zip(from).for_each(|(t, q)| *t = f32::from(*q) * scale);
    }
}

/// Four-bit codes, two a byte, with a quantised scale for each block of 64.
#[derive(Clone, Copy)]
pub(crate) struct Nf4<'a> {
    pub data: &'a [Nf4Pair],
    pub codes: &'a [u8],
    pub ranges: &'a [f32],
    /// Bytes of `data` from line to line.
    pub stride: usize,
    /// Blocks from line to line.
    pub blocks: usize,
    /// The block that the first element is the first of.
    pub first_block: usize,
}
impl Nf4<'_> {
    /// The scale of the block that element `at` of a line is in.
    ///
    /// # Safety
    /// The matrix holds that element.
    #[inline(always)]
    unsafe fn scale(&self, line: usize, at: usize) -> f32 {
        let block = self.first_block + line * self.blocks + at / nf4::BLOCK;
        let group = block / nf4::GROUP * 2;
        // SAFETY: the precondition: `holds` has counted blocks and groups.
        unsafe {
            let range = (*self.ranges.get_unchecked(group), *self.ranges.get_unchecked(group + 1));
            nf4::scale(range, *self.codes.get_unchecked(block))
        }
    }
}
impl Stored for Nf4<'_> {
    fn holds(&self, lines: usize, each: usize) -> bool {
        let codes = self.codes.get(self.first_block..).unwrap_or_default();
        fits(self.data.len(), lines, self.stride, nf4::pairs(each))
            && (lines == 0 || nf4::blocks(each) <= self.blocks)
            && fits(codes.len(), lines, self.blocks, nf4::blocks(each))
            && self.ranges.len() >= nf4::ranges(self.codes.len())
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(&self, s: S, line: usize, at: usize) -> S::V {
        debug_assert!(at.is_multiple_of(S::V::LANES));
        // SAFETY: the precondition; LANES codes are LANES / 2 bytes from at / 2 on, and one block
        // holds them all because `at` is a multiple of LANES, which divides 64.
        unsafe {
            let from = self.data.as_ptr().add(line * self.stride + at / 2).cast();
            s.load_codes(from, &nf4::LEVELS, self.scale(line, at))
        }
    }
    #[inline(always)]
    unsafe fn load_first<S: Simd>(&self, s: S, line: usize, at: usize, n: usize) -> S::V {
        debug_assert!(at.is_multiple_of(S::V::LANES));
        let mut padded = [nf4::ZERO << 4 | nf4::ZERO; MOST_LANES / 2];
        // SAFETY: the precondition; n codes are the first ⌈n / 2⌉ bytes from at / 2 on, and fit in
        // `padded`, which holds LANES / 2 at least.
        unsafe {
            let from = self.data.as_ptr().add(line * self.stride + at / 2).cast::<u8>();
            std::ptr::copy_nonoverlapping(from, padded.as_mut_ptr(), nf4::pairs(n));
            if n % 2 == 1 {
                padded[n / 2] = padded[n / 2] & 15 | nf4::ZERO << 4;
            }
            s.load_codes(padded.as_ptr(), &nf4::LEVELS, self.scale(line, at))
        }
    }
    #[inline(always)]
    fn address(&self, line: usize, at: usize) -> *const u8 {
        self.data.as_ptr().wrapping_add(line.wrapping_mul(self.stride).wrapping_add(at / 2)).cast()
    }
    fn decode(&self, line: usize, at: usize, to: &mut [f32]) {
        let mut scale = None;
        for (k, t) in (at..).zip(to) {
            let pair = self.data[line * self.stride + k / 2].0;
            if k.is_multiple_of(nf4::BLOCK) || scale.is_none() {
                let block = self.first_block + line * self.blocks + k / nf4::BLOCK;
                let group = block / nf4::GROUP * 2;
                scale = Some(nf4::scale((self.ranges[group], self.ranges[group + 1]), self.codes[block]));
            }
            let code = if k.is_multiple_of(2) { pair & 15 } else { pair >> 4 };
            *t = nf4::LEVELS[usize::from(code)] * scale.unwrap_or_default();
        }
    }
}

/// `body` with `view` for the [`Stored`] that reads a checked matrix in host memory.
macro_rules! stored {
    ($w:expr, $view:ident => $body:expr) => {{
        use $crate::{DType, storage::Scales};
        let w: $crate::matmul::Matrix<'_> = $w;
        match (w.data.dtype(), w.scales) {
            (DType::I8, Some(Scales::Rows(scales))) => {
                let $view = w.int8(w.data.host()?, scales.host()?);
                $body
            }
            (DType::Nf4, Some(Scales::Blocks { codes, ranges })) => {
                let $view = w.nf4(w.data.host()?, codes.host()?, ranges.host()?);
                $body
            }
            (DType::Bf16, _) => {
                let $view = w.floats(w.data.host::<half::bf16>()?);
                $body
            }
            (DType::F16, _) => {
                let $view = w.floats(w.data.host::<half::f16>()?);
                $body
            }
            _ => {
                let $view = w.floats(w.data.host::<f32>()?);
                $body
            }
        }
    }};
}
pub(crate) use stored;
