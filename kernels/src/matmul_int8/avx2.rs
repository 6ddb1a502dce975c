//! 256-bit vectors, 8 words: AVX-VNNI with tiles of up to 6 x 16, and AVX2 alone with 4 x 16.
//!
//! AVX2 multiplies bytes without sign by bytes with one, and adds pairs up in 16 bits, which saturate. So A's sign is moved to
//! B, whose numbers are then within ±127 like A's magnitudes: a pair is at most 2 · 127², which fits.
use super::{
    cpu::{Piece, Tile, TileFn},
    words::{self, Words},
};
use crate::matmul::{F32x8, Vector};
use std::arch::x86_64::*;

/// Eight words, multiplied by AVX-VNNI.
#[derive(Clone, Copy)]
struct Vnni(__m256i);
/// Eight words, multiplied by AVX2.
#[derive(Clone, Copy)]
struct Plain(__m256i);

/// What both have in common.
macro_rules! words {
    ($t:ident) => {
        #[inline(always)]
        unsafe fn of(floats: F32x8) -> Self {
            // SAFETY: the processor has AVX2 (precondition of the trait).
            $t(unsafe { _mm256_castps_si256(floats.0) })
        }
        #[inline(always)]
        unsafe fn bits(self) -> F32x8 {
            // SAFETY: AVX2.
            F32x8(unsafe { _mm256_castsi256_ps(self.0) })
        }
        #[inline(always)]
        unsafe fn negated(self) -> Self {
            // SAFETY: AVX2.
            $t(unsafe { _mm256_sub_epi32(_mm256_setzero_si256(), self.0) })
        }
        #[inline(always)]
        unsafe fn scaled(self, by: F32x8) -> F32x8 {
            // SAFETY: AVX2.
            F32x8(unsafe { _mm256_mul_ps(_mm256_cvtepi32_ps(self.0), by.0) })
        }
        #[inline(always)]
        unsafe fn product(a: F32x8, b: F32x8) -> F32x8 {
            // SAFETY: AVX2.
            F32x8(unsafe { _mm256_mul_ps(a.0, b.0) })
        }
        #[inline(always)]
        unsafe fn interleave(lines: [Self; 4]) -> [Self; 4] {
            // SAFETY: AVX2; registers only.
            unsafe {
                let [a, b, c, d] = [lines[0].0, lines[1].0, lines[2].0, lines[3].0];
                let ab = (_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b));
                let cd = (_mm256_unpacklo_epi8(c, d), _mm256_unpackhi_epi8(c, d));
                // columns 0-3, 4-7, 8-11 and 12-15 of each half
                let (e, f) = (_mm256_unpacklo_epi16(ab.0, cd.0), _mm256_unpackhi_epi16(ab.0, cd.0));
                let (g, h) = (_mm256_unpacklo_epi16(ab.1, cd.1), _mm256_unpackhi_epi16(ab.1, cd.1));
                [
                    $t(_mm256_permute2x128_si256::<0x20>(e, f)),
                    $t(_mm256_permute2x128_si256::<0x20>(g, h)),
                    $t(_mm256_permute2x128_si256::<0x31>(e, f)),
                    $t(_mm256_permute2x128_si256::<0x31>(g, h)),
                ]
            }
        }
    };
}

impl Words for Vnni {
    type Floats = F32x8;
    type Left = __m256i;
    const RAW: bool = true;
    words!(Vnni);
    #[inline(always)]
    unsafe fn left(p: *const u8) -> __m256i {
        // SAFETY: AVX2, and a word may be read from `p`.
        unsafe { Self::of(F32x8::splat(p.cast())).0 }
    }
    #[inline(always)]
    unsafe fn dot(self, a: __m256i, b: Self) -> Self {
        // SAFETY: AVX-VNNI.
        Vnni(unsafe { _mm256_dpbusd_avx_epi32(self.0, a, b.0) })
    }
}

impl Words for Plain {
    type Floats = F32x8;
    /// The numbers and their magnitudes.
    type Left = (__m256i, __m256i);
    const RAW: bool = false;
    words!(Plain);
    #[inline(always)]
    unsafe fn left(p: *const u8) -> Self::Left {
        // SAFETY: AVX2, and a word may be read from `p`.
        unsafe {
            let a = _mm256_xor_si256(Self::of(F32x8::splat(p.cast())).0, _mm256_set1_epi8(-128));
            (a, _mm256_abs_epi8(a))
        }
    }
    #[inline(always)]
    unsafe fn dot(self, (a, magnitude): Self::Left, b: Self) -> Self {
        // SAFETY: AVX2; registers only.
        Plain(unsafe {
            let pairs = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(b.0, a));
            _mm256_add_epi32(self.0, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        })
    }
}

#[target_feature(enable = "avx2,avxvnni,fma,f16c")]
unsafe fn entry_vnni<const MR: usize, const NV: usize>(t: &Tile) {
    // SAFETY: the features are enabled here, and the caller answers for the pointers.
    unsafe { words::tile::<Vnni, MR, NV>(t) }
}
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn entry<const MR: usize, const NV: usize>(t: &Tile) {
    // SAFETY: the features are enabled here, and the caller answers for the pointers.
    unsafe { words::tile::<Plain, MR, NV>(t) }
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

/// [`words::pack`] with AVX-VNNI.
///
/// # Safety
/// As there, and the processor has AVX2, FMA, F16C and AVX-VNNI.
#[target_feature(enable = "avx2,avxvnni,fma,f16c")]
pub(super) unsafe fn pack_vnni(from: &Piece, panel: usize, to: *mut u32) {
    // SAFETY: the features are enabled here, and the caller answers for the pointers.
    unsafe { words::pack::<Vnni>(from, panel, to) }
}
/// [`words::pack`] with AVX2.
///
/// # Safety
/// As there, and the processor has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn pack(from: &Piece, panel: usize, to: *mut u32) {
    // SAFETY: the features are enabled here, and the caller answers for the pointers.
    unsafe { words::pack::<Plain>(from, panel, to) }
}
