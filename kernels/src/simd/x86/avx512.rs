//! Sixteen floats.
use super::super::vector::{F32s, Simd, with_numbers};
use crate::isa::Isa;
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
    hints!();
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
    #[inline(always)]
    fn transpose(self, from: &[f32], stride: usize, rows: usize, cols: usize, to: &mut [f32], width: usize) {
        let mut r = [self.splat(0.0).0; 16];
        for (i, r) in r.iter_mut().enumerate().take(rows) {
            *r = self.load_part(&from[i * stride..][..cols]).0;
        }
        let r = transpose16(r);
        for (c, r) in r.into_iter().enumerate().take(cols) {
            F32x16(r).store(&mut to[c * width..]);
        }
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
        // SAFETY: the instructions exist; the first `n` floats are writable, says the caller, the others are masked.
        unsafe { _mm512_mask_storeu_ps(to, first16(n), self.0) }
    }
}
