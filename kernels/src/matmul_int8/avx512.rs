//! AVX-512 VNNI: vectors of 16 words, tiles of up to 9 x 48 or 6 x 64 as in f32, with four
//! times the products.
use super::{
    dot::{self, ByteDot},
    tile::{Piece, Tile, TileFn},
};
use crate::{
    matmul::tile::Arithmetic,
    simd::{Avx512, Simd},
};
use std::arch::x86_64::*;

/// The token of AVX-512 with VNNI.
#[derive(Clone, Copy)]
struct Vnni(Avx512);
impl Vnni {
    /// The token, without asking.
    ///
    /// # Safety
    /// The processor has AVX-512 and VNNI.
    #[inline(always)]
    unsafe fn assume() -> Vnni {
        // SAFETY: the precondition.
        Vnni(unsafe { Avx512::assume() })
    }
}

impl Arithmetic for Vnni {
    type S = Avx512;
    type V = __m512i;
    type Left = __m512i;
    const NEAR: bool = false;
    #[inline(always)]
    fn zero(self) -> __m512i {
        self.0.splat(0.0).bits()
    }
    #[inline(always)]
    unsafe fn left(self, p: *const f32) -> __m512i {
        // SAFETY: the precondition: a word may be read from `p`.
        self.0.splat(unsafe { *p }).bits()
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m512i {
        // SAFETY: the token proves the instructions, and 16 words may be read from `p`.
        unsafe { _mm512_loadu_si512(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store(self, v: __m512i, p: *mut f32) {
        // SAFETY: the token proves the instructions, and 16 words may be written to `p`.
        unsafe { _mm512_storeu_si512(p.cast(), v) }
    }
    #[inline(always)]
    fn step(self, sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the token proves the instructions; registers only.
        unsafe { _mm512_dpbusd_epi32(sum, a, b) }
    }
}
impl ByteDot for Vnni {
    const RAW: bool = true;
    #[inline(always)]
    fn simd(self) -> Avx512 {
        self.0
    }
    #[inline(always)]
    fn of(self, floats: dot::Floats<Self>) -> __m512i {
        floats.bits()
    }
    #[inline(always)]
    fn bits(self, words: __m512i) -> dot::Floats<Self> {
        self.0.of_bits(words)
    }
    #[inline(always)]
    fn negated(self, words: __m512i) -> __m512i {
        // SAFETY: the token proves the instructions; registers only.
        unsafe { _mm512_sub_epi32(_mm512_setzero_si512(), words) }
    }
    #[inline(always)]
    fn numbers(self, words: __m512i) -> dot::Floats<Self> {
        // SAFETY: the token proves the instructions; registers only.
        self.0.of_bits(unsafe { _mm512_castps_si512(_mm512_cvtepi32_ps(words)) })
    }
    #[inline(always)]
    fn interleave(self, [a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
        // SAFETY: the token proves the instructions; registers only.
        unsafe {
            let (ab, ab_high) = (_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b));
            let (cd, cd_high) = (_mm512_unpacklo_epi8(c, d), _mm512_unpackhi_epi8(c, d));
            // columns 0-3, 4-7, 8-11 and 12-15 of each quarter
            let (e, f) = (_mm512_unpacklo_epi16(ab, cd), _mm512_unpackhi_epi16(ab, cd));
            let (g, h) = (_mm512_unpacklo_epi16(ab_high, cd_high), _mm512_unpackhi_epi16(ab_high, cd_high));
            let even = (_mm512_shuffle_i32x4::<0x88>(e, f), _mm512_shuffle_i32x4::<0x88>(g, h));
            let odd = (_mm512_shuffle_i32x4::<0xdd>(e, f), _mm512_shuffle_i32x4::<0xdd>(g, h));
            [
                _mm512_shuffle_i32x4::<0x88>(even.0, even.1),
                _mm512_shuffle_i32x4::<0x88>(odd.0, odd.1),
                _mm512_shuffle_i32x4::<0xdd>(even.0, even.1),
                _mm512_shuffle_i32x4::<0xdd>(odd.0, odd.1),
            ]
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn entry<const MR: usize, const NV: usize>(t: &Tile) {
    // SAFETY: the processor has the instructions, and the caller answers for the pointers.
    unsafe { dot::tile::<_, MR, NV>(Vnni::assume(), t) }
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

/// [`dot::pack`] with AVX-512 VNNI.
///
/// # Safety
/// As there, and the processor has AVX-512 and VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn pack(from: &Piece, panel: usize, to: *mut u32) {
    // SAFETY: the processor has the instructions, and the caller answers for the pointers.
    unsafe { dot::pack(Vnni::assume(), from, panel, to) }
}
