//! Eight floats.
use super::super::{
    MOST_LANES,
    vector::{F32s, Simd, with_numbers},
};
use crate::isa::Isa;
use half::{bf16, f16};
use std::{
    arch::x86_64::*,
    ops::{Add, Div, Mul, Neg, Sub},
};

/// The token of AVX2 and FMA.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());
/// Eight floats.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct F32x8(__m256);
operators!(F32x8: Add add _mm256_add_ps, Sub sub _mm256_sub_ps, Mul mul _mm256_mul_ps, Div div _mm256_div_ps);

impl Avx2 {
    /// The token, if the processor has the instructions.
    pub(crate) fn detect() -> Option<Self> {
        Isa::Avx2.available().then_some(Avx2(()))
    }
    /// The token, without asking.
    ///
    /// # Safety
    /// The processor has the instructions.
    #[inline(always)]
    pub(crate) unsafe fn assume() -> Self {
        Avx2(())
    }
    /// A vector of these bits.
    #[inline(always)]
    pub(crate) fn of_bits(self, bits: __m256i) -> F32x8 {
        F32x8(ask!(_mm256_castsi256_ps(bits)))
    }
}
#[inline(always)]
fn ints8(x: u32) -> __m256i {
    ask!(_mm256_set1_epi32(x as i32))
}
/// 2ⁿ for integers n in -126..=127.
#[inline(always)]
fn power8(n: __m256i) -> __m256 {
    ask!(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(n, _mm256_set1_epi32(127)))))
}
/// The first `n` of 8 lanes.
#[inline(always)]
fn first8(n: usize) -> __m256i {
    const ONES: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    // SAFETY: called with the instructions at hand only (see the module); 8 integers from at
    // most the eighth on.
    unsafe { _mm256_loadu_si256(ONES.as_ptr().add(8 - n.min(8)).cast()) }
}

impl Simd for Avx2 {
    type V = F32x8;
    const ROWS: usize = 6;
    #[inline(always)]
    fn splat(self, x: f32) -> F32x8 {
        F32x8(ask!(_mm256_set1_ps(x)))
    }
    #[inline(always)]
    fn load(self, from: &[f32]) -> F32x8 {
        let from = &from[..8];
        // SAFETY: the instructions exist, and the slice holds 8 floats.
        F32x8(unsafe { _mm256_loadu_ps(from.as_ptr()) })
    }
    #[inline(always)]
    fn load_part(self, from: &[f32]) -> F32x8 {
        // SAFETY: the instructions exist; lanes beyond the slice are masked, so they are not read.
        F32x8(unsafe { _mm256_maskload_ps(from.as_ptr(), first8(from.len())) })
    }
    #[inline(always)]
    fn load_or(self, from: &[f32], fill: f32) -> F32x8 {
        let (part, fill) = (self.load_part(from).0, self.splat(fill).0);
        F32x8(ask!(_mm256_blendv_ps(fill, part, _mm256_castsi256_ps(first8(from.len())))))
    }
    #[inline(always)]
    unsafe fn load_at(self, p: *const f32) -> F32x8 {
        // SAFETY: the instructions exist; 8 floats are readable, says the caller.
        F32x8(unsafe { _mm256_loadu_ps(p) })
    }
    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, n: usize) -> F32x8 {
        // SAFETY: the instructions exist; `n` floats are readable, says the caller, and the
        // others are masked.
        F32x8(unsafe { if n >= 8 { _mm256_loadu_ps(p) } else { _mm256_maskload_ps(p, first8(n)) } })
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const bf16) -> F32x8 {
        // SAFETY: the instructions exist; 8 values of 2 bytes are readable, says the caller. A bf16
        // is the upper half of an f32.
        F32x8(unsafe {
            let h = _mm_loadu_si128(p.cast());
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(h)))
        })
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const f16) -> F32x8 {
        // SAFETY: F16C comes with the others; 8 values of 2 bytes are readable, says the caller.
        F32x8(unsafe { _mm256_cvtph_ps(_mm_loadu_si128(p.cast())) })
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const i8, scale: f32) -> F32x8 {
        // SAFETY: the instructions exist; 8 bytes are readable, says the caller.
        F32x8(unsafe {
            let q = _mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast()));
            _mm256_mul_ps(_mm256_cvtepi32_ps(q), _mm256_set1_ps(scale))
        })
    }
    /// Each lane shifts its code to the bottom. A permutation reaches 8 levels: the code's highest
    /// bit, moved to the sign, chooses between the lower and the upper ones.
    #[inline(always)]
    unsafe fn load_codes(self, p: *const u8, levels: &[f32; 16], scale: f32) -> F32x8 {
        // SAFETY: the instructions exist; 4 bytes are readable, says the caller, and
        // there are 16 levels.
        F32x8(unsafe {
            let pairs = _mm256_set1_epi32(p.cast::<i32>().read_unaligned());
            let codes = _mm256_srlv_epi32(pairs, _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
            let low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(levels.as_ptr()), codes);
            let high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(levels.as_ptr().add(8)), codes);
            let upper = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(codes));
            _mm256_mul_ps(_mm256_blendv_ps(low, high, upper), _mm256_set1_ps(scale))
        })
    }
    /// 24 shuffles: pairs, quadruples, then halves.
    #[inline(always)]
    fn transpose_square(self, square: &mut [F32x8; MOST_LANES]) {
        ask!({
            // loops, not `map`: a closure would not have the target features
            let mut t = [_mm256_setzero_ps(); 8];
            for i in 0..4 {
                t[2 * i] = _mm256_unpacklo_ps(square[2 * i].0, square[2 * i + 1].0);
                t[2 * i + 1] = _mm256_unpackhi_ps(square[2 * i].0, square[2 * i + 1].0);
            }
            let mut u = t;
            for q in 0..2 {
                let mut v = [_mm256_setzero_pd(); 4];
                for i in 0..4 {
                    v[i] = _mm256_castps_pd(t[4 * q + i]);
                }
                u[4 * q] = _mm256_castpd_ps(_mm256_unpacklo_pd(v[0], v[2]));
                u[4 * q + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(v[0], v[2]));
                u[4 * q + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(v[1], v[3]));
                u[4 * q + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(v[1], v[3]));
            }
            for i in 0..4 {
                square[i] = F32x8(_mm256_permute2f128_ps::<0x20>(u[i], u[4 + i]));
                square[4 + i] = F32x8(_mm256_permute2f128_ps::<0x31>(u[i], u[4 + i]));
            }
        })
    }
    #[inline(always)]
    fn factors(self, key: [u32; 2], col: u32, threshold: u32, scale: f32) -> F32x8 {
        let all = ints8;
        ask!({
            let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            let c = _mm256_mullo_epi32(lane, all(0x9e37_79b9)); // a constant
            let c = _mm256_add_epi32(c, all(col.wrapping_mul(0x9e37_79b9)));
            let s = _mm256_add_epi32(_mm256_xor_si256(c, all(key[0])), all(key[1]));
            let s = _mm256_add_epi32(_mm256_mullo_epi32(s, all(747_796_405)), all(2_891_336_453));
            let by = _mm256_add_epi32(_mm256_srli_epi32::<28>(s), all(4));
            let w = _mm256_xor_si256(_mm256_srlv_epi32(s, by), s);
            let w = _mm256_mullo_epi32(w, all(277_803_737));
            let h = _mm256_xor_si256(_mm256_srli_epi32::<22>(w), w);
            // h >= threshold, unsigned, is max(h, threshold) == h
            let keep = _mm256_cmpeq_epi32(_mm256_max_epu32(h, all(threshold)), h);
            F32x8(_mm256_and_ps(_mm256_castsi256_ps(keep), _mm256_set1_ps(scale)))
        })
    }
}

impl F32x8 {
    /// Its bits.
    #[inline(always)]
    pub(crate) fn bits(self) -> __m256i {
        ask!(_mm256_castps_si256(self.0))
    }
}
impl F32s for F32x8 {
    const LANES: usize = 8;
    #[inline(always)]
    fn all(self, x: f32) -> Self {
        F32x8(ask!(_mm256_set1_ps(x)))
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        F32x8(ask!(_mm256_fmadd_ps(self.0, b.0, c.0)))
    }
    #[inline(always)]
    fn square_plus(self, c: Self) -> Self {
        self.fma(self, c)
    }
    #[inline(always)]
    fn recip(self) -> Self {
        self.all(1.0) / self
    }
    #[inline(always)]
    fn abs(self) -> Self {
        F32x8(ask!(_mm256_andnot_ps(self.all(-0.0).0, self.0)))
    }
    #[inline(always)]
    fn copysign(self, of: Self) -> Self {
        let sign = self.all(-0.0).0;
        F32x8(ask!(_mm256_or_ps(_mm256_andnot_ps(sign, self.0), _mm256_and_ps(sign, of.0))))
    }
    #[inline(always)]
    fn scale2(self, n: Self) -> Self {
        // in two steps: 2ⁿ itself may lie outside the normal numbers
        ask!({
            let n = _mm256_cvtps_epi32(n.0);
            let half = _mm256_srai_epi32::<1>(n);
            F32x8(_mm256_mul_ps(_mm256_mul_ps(self.0, power8(half)), power8(_mm256_sub_epi32(n, half))))
        })
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        F32x8(ask!(_mm256_max_ps(self.0, other.0)))
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        F32x8(ask!(_mm256_min_ps(self.0, other.0)))
    }
    #[inline(always)]
    fn clamp(self, lo: f32, hi: f32) -> Self {
        // of two numbers one of which is NaN, the instructions give the second
        let (lo, hi) = (self.all(lo).0, self.all(hi).0);
        F32x8(ask!(_mm256_min_ps(hi, _mm256_max_ps(lo, self.0))))
    }
    #[inline(always)]
    fn if_less(self, bound: f32, yes: Self, no: Self) -> Self {
        let bound = self.all(bound).0;
        F32x8(ask!(_mm256_blendv_ps(no.0, yes.0, _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, bound))))
    }
    #[inline(always)]
    fn unless_less(self, of: Self, bound: f32) -> Self {
        let bound = self.all(bound).0;
        F32x8(ask!(_mm256_and_ps(_mm256_cmp_ps::<_CMP_NLT_UQ>(of.0, bound), self.0)))
    }
    #[inline(always)]
    fn first(self, n: usize) -> Self {
        F32x8(ask!(_mm256_and_ps(_mm256_castsi256_ps(first8(n)), self.0)))
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        ask!({
            let h = _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let q = _mm_add_ps(h, _mm_movehl_ps(h, h));
            _mm_cvtss_f32(_mm_add_ss(q, _mm_shuffle_ps::<1>(q, q)))
        })
    }
    #[inline(always)]
    fn largest(self) -> f32 {
        ask!({
            let h = _mm_max_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let q = _mm_max_ps(h, _mm_movehl_ps(h, h));
            _mm_cvtss_f32(_mm_max_ss(q, _mm_shuffle_ps::<1>(q, q)))
        })
    }
    #[inline(always)]
    fn magnitude(self, top: Self) -> Self {
        let bits = ask!(_mm256_max_epu32(_mm256_castps_si256(self.abs().0), _mm256_castps_si256(top.0)));
        F32x8(ask!(_mm256_castsi256_ps(bits)))
    }
    #[inline(always)]
    fn store_bytes(self, to: &mut [u8]) {
        let to = &mut to[..8];
        // SAFETY: the instructions exist, and the slice holds 8 bytes.
        unsafe {
            let low = _mm256_and_si256(_mm256_castps_si256(self.0), _mm256_set1_epi32(0xff));
            let halves = _mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256::<1>(low));
            _mm_storel_epi64(to.as_mut_ptr().cast(), _mm_packus_epi16(halves, halves));
        }
    }
    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        let to = &mut to[..8];
        // SAFETY: the instructions exist, and the slice holds 8 floats.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), self.0) }
    }
    #[inline(always)]
    fn store_part(self, to: &mut [f32]) {
        // SAFETY: lanes beyond the slice are masked.
        unsafe { self.store_at(to.as_mut_ptr(), to.len()) }
    }
    #[inline(always)]
    unsafe fn store_at(self, to: *mut f32, n: usize) {
        // SAFETY: the instructions exist; the first `n` floats are writable, says the caller, the
        // others are masked.
        unsafe {
            if n >= 8 {
                _mm256_storeu_ps(to, self.0);
            } else {
                _mm256_maskstore_ps(to, first8(n), self.0);
            }
        }
    }
}
