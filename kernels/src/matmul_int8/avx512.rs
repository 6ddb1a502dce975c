//! AVX-512 VNNI: vectors of 16 words, tiles of up to 9 x 48 or 6 x 64 as in f32, with four times the products.
use super::{
    cpu::{Piece, Tile, TileFn},
    words::{self, Words},
};
use crate::matmul::{F32x16, Vector};
use std::arch::x86_64::*;

/// Sixteen words.
#[derive(Clone, Copy)]
struct Wordsx16(__m512i);

impl Words for Wordsx16 {
    type Floats = F32x16;
    type Left = __m512i;
    const RAW: bool = true;
    #[inline(always)]
    unsafe fn of(floats: F32x16) -> Self {
        // SAFETY: the processor has AVX-512 (precondition of the trait).
        Wordsx16(unsafe { _mm512_castps_si512(floats.0) })
    }
    #[inline(always)]
    unsafe fn bits(self) -> F32x16 {
        // SAFETY: AVX-512.
        F32x16(unsafe { _mm512_castsi512_ps(self.0) })
    }
    #[inline(always)]
    unsafe fn negated(self) -> Self {
        // SAFETY: AVX-512.
        Wordsx16(unsafe { _mm512_sub_epi32(_mm512_setzero_si512(), self.0) })
    }
    #[inline(always)]
    unsafe fn scaled(self, by: F32x16) -> F32x16 {
        // SAFETY: AVX-512.
        F32x16(unsafe { _mm512_mul_ps(_mm512_cvtepi32_ps(self.0), by.0) })
    }
    #[inline(always)]
    unsafe fn product(a: F32x16, b: F32x16) -> F32x16 {
        // SAFETY: AVX-512.
        F32x16(unsafe { _mm512_mul_ps(a.0, b.0) })
    }
    #[inline(always)]
    unsafe fn left(p: *const u8) -> __m512i {
        // SAFETY: AVX-512, and a word may be read from `p`.
        unsafe { Self::of(F32x16::splat(p.cast())).0 }
    }
    #[inline(always)]
    unsafe fn dot(self, a: __m512i, b: Self) -> Self {
        // SAFETY: AVX-512 VNNI.
        Wordsx16(unsafe { _mm512_dpbusd_epi32(self.0, a, b.0) })
    }
    #[inline(always)]
    unsafe fn interleave(lines: [Self; 4]) -> [Self; 4] {
        // SAFETY: AVX-512 (BW for bytes); registers only.
        unsafe {
            let [a, b, c, d] = [lines[0].0, lines[1].0, lines[2].0, lines[3].0];
            let (ab, ab_high) = (_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b));
            let (cd, cd_high) = (_mm512_unpacklo_epi8(c, d), _mm512_unpackhi_epi8(c, d));
            // columns 0-3, 4-7, 8-11 and 12-15 of each quarter
            let (e, f) = (_mm512_unpacklo_epi16(ab, cd), _mm512_unpackhi_epi16(ab, cd));
            let (g, h) = (_mm512_unpacklo_epi16(ab_high, cd_high), _mm512_unpackhi_epi16(ab_high, cd_high));
            let even = (_mm512_shuffle_i32x4::<0x88>(e, f), _mm512_shuffle_i32x4::<0x88>(g, h));
            let odd = (_mm512_shuffle_i32x4::<0xdd>(e, f), _mm512_shuffle_i32x4::<0xdd>(g, h));
            [
                Wordsx16(_mm512_shuffle_i32x4::<0x88>(even.0, even.1)),
                Wordsx16(_mm512_shuffle_i32x4::<0x88>(odd.0, odd.1)),
                Wordsx16(_mm512_shuffle_i32x4::<0xdd>(even.0, even.1)),
                Wordsx16(_mm512_shuffle_i32x4::<0xdd>(odd.0, odd.1)),
            ]
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn entry<const MR: usize, const NV: usize>(t: &Tile) {
    // SAFETY: the features are enabled here, and the caller answers for the pointers.
    unsafe { words::tile::<Wordsx16, MR, NV>(t) }
}

/// The kernel for tiles of `rows` x 16 `vectors`.
pub(super) fn tile(rows: usize, vectors: usize) -> TileFn {
    macro_rules! pick {
        ($nv:literal: $($mr:literal)*) => {
            match rows { $($mr => entry::<$mr, $nv>,)* _ => unreachable!("{rows} rows of {vectors} vectors") }
        };
    }
    match vectors {
        1 => pick!(1: 1 2 3 4 5 6 7 8 9),
        2 => pick!(2: 1 2 3 4 5 6 7 8 9),
        3 => pick!(3: 1 2 3 4 5 6 7 8 9),
        _ => pick!(4: 1 2 3 4 5 6),
    }
}

/// [`words::pack`] with AVX-512 VNNI.
///
/// # Safety
/// As there, and the processor has AVX-512 and VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn pack(from: &Piece, panel: usize, to: *mut u32) {
    // SAFETY: the features are enabled here, and the caller answers for the pointers.
    unsafe { words::pack::<Wordsx16>(from, panel, to) }
}
