//! Sixteen floats.
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

/// The token of AVX-512 (F, BW, VL, DQ).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512(());
/// Sixteen floats.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct F32x16(__m512);
operators!(F32x16: Add add _mm512_add_ps, Sub sub _mm512_sub_ps, Mul mul _mm512_mul_ps, Div div _mm512_div_ps);

impl Avx512 {
    /// The token, if the processor has the instructions.
    pub(crate) fn detect() -> Option<Self> {
        Isa::Avx512.available().then_some(Avx512(()))
    }
    /// The token, without asking.
    ///
    /// # Safety
    /// The processor has the instructions.
    #[inline(always)]
    pub(crate) unsafe fn assume() -> Self {
        Avx512(())
    }
    /// A vector of these bits.
    #[inline(always)]
    pub(crate) fn of_bits(self, bits: __m512i) -> F32x16 {
        F32x16(ask!(_mm512_castsi512_ps(bits)))
    }
}
#[inline(always)]
fn ints16(x: u32) -> __m512i {
    ask!(_mm512_set1_epi32(x as i32))
}
/// The pairs of a and b, interleaved, from the low halves of each quarter.
#[inline(always)]
fn low(a: __m512, b: __m512) -> __m512 {
    ask!(_mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b))))
}
/// As [`low`], from the high halves.
#[inline(always)]
fn high(a: __m512, b: __m512) -> __m512 {
    ask!(_mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b))))
}
/// The first `n` of 16 lanes.
#[inline(always)]
fn first16(n: usize) -> __mmask16 {
    if n >= 16 { !0 } else { (1 << n) - 1 }
}

impl Simd for Avx512 {
    type V = F32x16;
    const ROWS: usize = 14;
    #[inline(always)]
    fn splat(self, x: f32) -> F32x16 {
        F32x16(ask!(_mm512_set1_ps(x)))
    }
    #[inline(always)]
    fn load(self, from: &[f32]) -> F32x16 {
        let from = &from[..16];
        // SAFETY: the instructions exist, and the slice holds 16 floats.
        F32x16(unsafe { _mm512_loadu_ps(from.as_ptr()) })
    }
    #[inline(always)]
    fn load_part(self, from: &[f32]) -> F32x16 {
        // SAFETY: the instructions exist; lanes beyond the slice are masked, so they are not read.
        F32x16(unsafe { _mm512_maskz_loadu_ps(first16(from.len()), from.as_ptr()) })
    }
    #[inline(always)]
    fn load_or(self, from: &[f32], fill: f32) -> F32x16 {
        let fill = self.splat(fill).0;
        // SAFETY: the instructions exist; lanes beyond the slice are masked, so they are not read.
        F32x16(unsafe { _mm512_mask_loadu_ps(fill, first16(from.len()), from.as_ptr()) })
    }
    #[inline(always)]
    unsafe fn load_at(self, p: *const f32) -> F32x16 {
        // SAFETY: the instructions exist; 16 floats are readable, says the caller.
        F32x16(unsafe { _mm512_loadu_ps(p) })
    }
    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, n: usize) -> F32x16 {
        // SAFETY: the instructions exist; `n` floats are readable, says the caller, and the
        // others are masked.
        F32x16(unsafe { _mm512_maskz_loadu_ps(first16(n), p) })
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const bf16) -> F32x16 {
        // SAFETY: the instructions exist; 16 values of 2 bytes are readable, says the caller. A
        // bf16 is the upper half of an f32.
        F32x16(unsafe {
            let h = _mm256_loadu_si256(p.cast());
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(h)))
        })
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const f16) -> F32x16 {
        // SAFETY: the instructions exist; 16 values of 2 bytes are readable, says the caller.
        F32x16(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) })
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const i8, scale: f32) -> F32x16 {
        // SAFETY: the instructions exist; 16 bytes are readable, says the caller.
        F32x16(unsafe {
            let q = _mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast()));
            _mm512_mul_ps(_mm512_cvtepi32_ps(q), _mm512_set1_ps(scale))
        })
    }
    /// A byte goes into the low half of a 64-bit word, which then names the first code,
    /// and its high four bits into the high half; of each half the permutation looks at
    /// the low four bits only.
    #[inline(always)]
    unsafe fn load_codes(self, p: *const u8, levels: &[f32; 16], scale: f32) -> F32x16 {
        // SAFETY: the instructions exist; 8 bytes are readable, says the caller.
        F32x16(unsafe {
            let pairs = _mm512_cvtepu8_epi64(_mm_loadl_epi64(p.cast()));
            let codes = _mm512_or_si512(pairs, _mm512_slli_epi64::<28>(pairs));
            let named = _mm512_permutexvar_ps(codes, _mm512_loadu_ps(levels.as_ptr()));
            _mm512_mul_ps(named, _mm512_set1_ps(scale))
        })
    }
    /// 64 shuffles.
    #[inline(always)]
    fn transpose_square(self, square: &mut [F32x16; MOST_LANES]) {
        // loops, not `map`: a closure would not have the target features
        let mut r = [self.splat(0.0).0; 16];
        for (r, v) in r.iter_mut().zip(&*square) {
            *r = v.0;
        }
        for (v, r) in square.iter_mut().zip(transpose16(r)) {
            *v = F32x16(r);
        }
    }
    #[inline(always)]
    fn factors(self, key: [u32; 2], col: u32, threshold: u32, scale: f32) -> F32x16 {
        let all = ints16;
        ask!({
            let lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            let c = _mm512_mullo_epi32(lane, all(0x9e37_79b9)); // a constant
            let c = _mm512_add_epi32(c, all(col.wrapping_mul(0x9e37_79b9)));
            let s = _mm512_add_epi32(_mm512_xor_si512(c, all(key[0])), all(key[1]));
            let s = _mm512_add_epi32(_mm512_mullo_epi32(s, all(747_796_405)), all(2_891_336_453));
            let by = _mm512_add_epi32(_mm512_srli_epi32::<28>(s), all(4));
            let w = _mm512_xor_si512(_mm512_srlv_epi32(s, by), s);
            let w = _mm512_mullo_epi32(w, all(277_803_737));
            let h = _mm512_xor_si512(_mm512_srli_epi32::<22>(w), w);
            let keep = _mm512_cmpge_epu32_mask(h, all(threshold));
            F32x16(_mm512_maskz_mov_ps(keep, _mm512_set1_ps(scale)))
        })
    }
}
/// 16 x 16 transpose: pairs, quadruples, then the four 128-bit quarters.
#[inline(always)]
fn transpose16(r: [__m512; 16]) -> [__m512; 16] {
    let (mut t, mut u, mut y) = (r, r, r);
    for i in 0..8 {
        t[2 * i] = ask!(_mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]));
        t[2 * i + 1] = ask!(_mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]));
    }
    for b in [0, 4, 8, 12] {
        u[b] = low(t[b], t[b + 2]);
        u[b + 1] = high(t[b], t[b + 2]);
        u[b + 2] = low(t[b + 1], t[b + 3]);
        u[b + 3] = high(t[b + 1], t[b + 3]);
    }
    for i in 0..4 {
        let a = ask!(_mm512_shuffle_f32x4::<0x88>(u[i], u[4 + i]));
        let b = ask!(_mm512_shuffle_f32x4::<0xdd>(u[i], u[4 + i]));
        let c = ask!(_mm512_shuffle_f32x4::<0x88>(u[8 + i], u[12 + i]));
        let d = ask!(_mm512_shuffle_f32x4::<0xdd>(u[8 + i], u[12 + i]));
        y[i] = ask!(_mm512_shuffle_f32x4::<0x88>(a, c));
        y[8 + i] = ask!(_mm512_shuffle_f32x4::<0xdd>(a, c));
        y[4 + i] = ask!(_mm512_shuffle_f32x4::<0x88>(b, d));
        y[12 + i] = ask!(_mm512_shuffle_f32x4::<0xdd>(b, d));
    }
    y
}

impl F32x16 {
    /// Its bits.
    #[inline(always)]
    pub(crate) fn bits(self) -> __m512i {
        ask!(_mm512_castps_si512(self.0))
    }
}
impl F32s for F32x16 {
    const LANES: usize = 16;
    #[inline(always)]
    fn all(self, x: f32) -> Self {
        F32x16(ask!(_mm512_set1_ps(x)))
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        F32x16(ask!(_mm512_fmadd_ps(self.0, b.0, c.0)))
    }
    #[inline(always)]
    fn square_plus(self, c: Self) -> Self {
        self.fma(self, c)
    }
    #[inline(always)]
    fn recip(self) -> Self {
        // 14 bits and a step of Newton's: a third of what a division takes
        let r = F32x16(ask!(_mm512_rcp14_ps(self.0)));
        (-self).fma(r, self.all(1.0)).fma(r, r)
    }
    #[inline(always)]
    fn abs(self) -> Self {
        F32x16(ask!(_mm512_abs_ps(self.0)))
    }
    #[inline(always)]
    fn copysign(self, of: Self) -> Self {
        let sign = self.all(-0.0).0;
        F32x16(ask!(_mm512_or_ps(_mm512_andnot_ps(sign, self.0), _mm512_and_ps(sign, of.0))))
    }
    #[inline(always)]
    fn scale2(self, n: Self) -> Self {
        F32x16(ask!(_mm512_scalef_ps(self.0, n.0)))
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        F32x16(ask!(_mm512_max_ps(self.0, other.0)))
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        F32x16(ask!(_mm512_min_ps(self.0, other.0)))
    }
    #[inline(always)]
    fn clamp(self, lo: f32, hi: f32) -> Self {
        // of two numbers one of which is NaN, the instructions give the second
        let (lo, hi) = (self.all(lo).0, self.all(hi).0);
        F32x16(ask!(_mm512_min_ps(hi, _mm512_max_ps(lo, self.0))))
    }
    #[inline(always)]
    fn if_less(self, bound: f32, yes: Self, no: Self) -> Self {
        let bound = self.all(bound).0;
        F32x16(ask!({
            let less = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, bound);
            _mm512_mask_blend_ps(less, no.0, yes.0)
        }))
    }
    #[inline(always)]
    fn unless_less(self, of: Self, bound: f32) -> Self {
        let bound = self.all(bound).0;
        F32x16(ask!(_mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NLT_UQ>(of.0, bound), self.0)))
    }
    #[inline(always)]
    fn first(self, n: usize) -> Self {
        F32x16(ask!(_mm512_maskz_mov_ps(first16(n), self.0)))
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        ask!(_mm512_reduce_add_ps(self.0))
    }
    #[inline(always)]
    fn largest(self) -> f32 {
        ask!(_mm512_reduce_max_ps(self.0))
    }
    #[inline(always)]
    fn magnitude(self, top: Self) -> Self {
        let bits = ask!(_mm512_max_epu32(_mm512_castps_si512(self.abs().0), _mm512_castps_si512(top.0)));
        F32x16(ask!(_mm512_castsi512_ps(bits)))
    }
    #[inline(always)]
    fn store_bytes(self, to: &mut [u8]) {
        let to = &mut to[..16];
        // SAFETY: the instructions exist, and the slice holds 16 bytes.
        unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(_mm512_castps_si512(self.0))) }
    }
    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        let to = &mut to[..16];
        // SAFETY: the instructions exist, and the slice holds 16 floats.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self.0) }
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
        unsafe { _mm512_mask_storeu_ps(to, first16(n), self.0) }
    }
}
