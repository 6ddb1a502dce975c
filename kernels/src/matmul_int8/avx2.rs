//! 256-bit vectors, 8 words: AVX-VNNI with tiles of up to 6 x 16, and AVX2 alone with 4 x 16.
//!
//! AVX2 multiplies bytes without sign by bytes with one, and adds pairs up in 16 bits, which
//! saturate. So A's sign is moved to B, whose numbers are then within ±127 like A's magnitudes: a
//! pair is at most 2 · 127², which fits.
use super::{
    dot::{self, ByteDot},
    tile::{Piece, Tile, TileFn},
};
use crate::{
    matmul::tile::Arithmetic,
    simd::{Avx2, Simd},
};
use std::arch::x86_64::*;

/// The token of AVX2 with AVX-VNNI, which multiplies.
#[derive(Clone, Copy)]
struct Vnni(Avx2);
/// The token of AVX2, which multiplies.
#[derive(Clone, Copy)]
struct Plain(Avx2);

/// The tokens, and what they have in common. The second argument says whether A's bytes are
/// taken as they are.
macro_rules! token {
    ($t:ident, $raw:literal) => {
        impl $t {
            /// The token, without asking.
            ///
            /// # Safety
            /// The processor has its instructions.
            #[inline(always)]
            unsafe fn assume() -> $t {
                // SAFETY: the precondition.
                $t(unsafe { Avx2::assume() })
            }
        }
        impl ByteDot for $t {
            const RAW: bool = $raw;
            #[inline(always)]
            fn simd(self) -> Avx2 {
                self.0
            }
            #[inline(always)]
            fn of(self, floats: dot::Floats<Self>) -> __m256i {
                floats.bits()
            }
            #[inline(always)]
            fn bits(self, words: __m256i) -> dot::Floats<Self> {
                self.0.of_bits(words)
            }
            #[inline(always)]
            fn negated(self, words: __m256i) -> __m256i {
                // SAFETY: the token proves the instructions; registers only.
                unsafe { _mm256_sub_epi32(_mm256_setzero_si256(), words) }
            }
            #[inline(always)]
            fn numbers(self, words: __m256i) -> dot::Floats<Self> {
                // SAFETY: the token proves the instructions; registers only.
                self.0.of_bits(unsafe { _mm256_castps_si256(_mm256_cvtepi32_ps(words)) })
            }
            #[inline(always)]
            fn interleave(self, [a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
                // SAFETY: the token proves the instructions; registers only.
                unsafe {
                    let ab = (_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b));
                    let cd = (_mm256_unpacklo_epi8(c, d), _mm256_unpackhi_epi8(c, d));
                    // columns 0-3, 4-7, 8-11 and 12-15 of each half
                    let (e, f) = (_mm256_unpacklo_epi16(ab.0, cd.0), _mm256_unpackhi_epi16(ab.0, cd.0));
                    let (g, h) = (_mm256_unpacklo_epi16(ab.1, cd.1), _mm256_unpackhi_epi16(ab.1, cd.1));
                    [
                        _mm256_permute2x128_si256::<0x20>(e, f),
                        _mm256_permute2x128_si256::<0x20>(g, h),
                        _mm256_permute2x128_si256::<0x31>(e, f),
                        _mm256_permute2x128_si256::<0x31>(g, h),
                    ]
                }
            }
        }
    };
}
token!(Vnni, true);
token!(Plain, false);
/// The part of [`Arithmetic`] that both have in common.
macro_rules! memory {
    () => {
        type S = Avx2;
        type V = __m256i;
        const NEAR: bool = false;
        #[inline(always)]
        fn zero(self) -> __m256i {
            self.0.splat(0.0).bits()
        }
        #[inline(always)]
        unsafe fn load(self, p: *const f32) -> __m256i {
            // SAFETY: the token proves the instructions, and 8 words may be read from `p`.
            unsafe { _mm256_loadu_si256(p.cast()) }
        }
        #[inline(always)]
        unsafe fn store(self, v: __m256i, p: *mut f32) {
            // SAFETY: the token proves the instructions, and 8 words may be written to `p`.
            unsafe { _mm256_storeu_si256(p.cast(), v) }
        }
    };
}

impl Arithmetic for Vnni {
    type Left = __m256i;
    memory!();
    #[inline(always)]
    unsafe fn left(self, p: *const f32) -> __m256i {
        // SAFETY: the precondition: a word may be read from `p`.
        self.0.splat(unsafe { *p }).bits()
    }
    #[inline(always)]
    fn step(self, sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the token proves the instructions; registers only.
        unsafe { _mm256_dpbusd_avx_epi32(sum, a, b) }
    }
}

impl Arithmetic for Plain {
    /// The numbers and their magnitudes.
    type Left = (__m256i, __m256i);
    memory!();
    #[inline(always)]
    unsafe fn left(self, p: *const f32) -> Self::Left {
        // SAFETY: the token proves the instructions, and a word may be read from `p`.
        unsafe {
            let a = _mm256_xor_si256(self.0.splat(*p).bits(), _mm256_set1_epi8(-128));
            (a, _mm256_abs_epi8(a))
        }
    }
    #[inline(always)]
    fn step(self, sum: __m256i, (a, magnitude): Self::Left, b: __m256i) -> __m256i {
        // SAFETY: the token proves the instructions; registers only.
        unsafe {
            let pairs = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(b, a));
            _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }
}

#[target_feature(enable = "avx2,avxvnni,fma,f16c")]
unsafe fn entry_vnni<const MR: usize, const NV: usize>(t: &Tile) {
    // SAFETY: the processor has the instructions, and the caller answers for the pointers.
    unsafe { dot::tile::<_, MR, NV>(Vnni::assume(), t) }
}
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn entry<const MR: usize, const NV: usize>(t: &Tile) {
    // SAFETY: the processor has the instructions, and the caller answers for the pointers.
    unsafe { dot::tile::<_, MR, NV>(Plain::assume(), t) }
}
macro_rules! pick {
    ($entry:ident $nv:literal, $rows:expr; $($mr:literal)*) => {
        match $rows { $($mr => $entry::<$mr, $nv>,)* rows => unreachable!("{rows} rows") }
    };
}

/// The kernel for tiles of `rows` x 8 `vectors`, with AVX-VNNI.
pub(super) fn tile_vnni(rows: usize, vectors: usize) -> TileFn {
    match vectors {
        1 => pick!(entry_vnni 1, rows; 1 2 3 4 5 6),
        _ => pick!(entry_vnni 2, rows; 1 2 3 4 5 6),
    }
}
/// The kernel for tiles of `rows` x 8 `vectors`, with AVX2.
pub(super) fn tile(rows: usize, vectors: usize) -> TileFn {
    match vectors {
        1 => pick!(entry 1, rows; 1 2 3 4),
        _ => pick!(entry 2, rows; 1 2 3 4),
    }
}

/// [`dot::pack`] with AVX-VNNI.
///
/// # Safety
/// As there, and the processor has AVX2, FMA, F16C and AVX-VNNI.
#[target_feature(enable = "avx2,avxvnni,fma,f16c")]
pub(super) unsafe fn pack_vnni(from: &Piece, panel: usize, to: *mut u32) {
    // SAFETY: the processor has the instructions, and the caller answers for the pointers.
    unsafe { dot::pack(Vnni::assume(), from, panel, to) }
}
/// [`dot::pack`] with AVX2.
///
/// # Safety
/// As there, and the processor has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn pack(from: &Piece, panel: usize, to: *mut u32) {
    // SAFETY: the processor has the instructions, and the caller answers for the pointers.
    unsafe { dot::pack(Plain::assume(), from, panel, to) }
}
