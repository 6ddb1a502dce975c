//! AVX2 and FMA: vectors of 8, tiles of up to 6 x 16 (12 accumulators of the 16 registers).
use super::{
    flip::Block,
    pack::Piece,
    tile::{Kernel, Tile, tile},
    vector::{MOST_LANES, Vector},
};
use crate::storage::{nf4::LEVELS, view::Stored};
use half::{bf16, f16};
use std::arch::x86_64::*;

/// Eight f32.
#[derive(Clone, Copy)]
pub(crate) struct F32x8(pub __m256);

/// A window of eight into it, from `8 - n`, has its first `n` words set.
static FIRST: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

#[inline(always)]
unsafe fn first(n: usize) -> __m256i {
    debug_assert!((1..=8).contains(&n));
    // SAFETY: AVX2 (precondition), and 8 - n <= 8 words are skipped of 16.
    unsafe { _mm256_loadu_si256(FIRST.as_ptr().add(8 - n).cast()) }
}

impl Vector for F32x8 {
    const LANES: usize = 8;
    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the processor has AVX2 and FMA (precondition of the trait).
        F32x8(unsafe { _mm256_setzero_ps() })
    }
    #[inline(always)]
    unsafe fn splat(p: *const f32) -> Self {
        // SAFETY: AVX2, and one value may be read from `p`.
        F32x8(unsafe { _mm256_set1_ps(*p) })
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: AVX2, and 8 values may be read from `p`.
        F32x8(unsafe { _mm256_loadu_ps(p) })
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const bf16) -> Self {
        // SAFETY: AVX2, and 8 values of 2 bytes may be read from `p`. A bf16 is the upper half of an f32.
        F32x8(unsafe {
            let h = _mm_loadu_si128(p.cast());
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(h)))
        })
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const f16) -> Self {
        // SAFETY: F16C comes with `Isa::Avx2`, and 8 values of 2 bytes may be read from `p`.
        F32x8(unsafe { _mm256_cvtph_ps(_mm_loadu_si128(p.cast())) })
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const i8, scale: f32) -> Self {
        // SAFETY: AVX2, and 8 bytes may be read from `p`.
        F32x8(unsafe {
            let q = _mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast()));
            _mm256_mul_ps(_mm256_cvtepi32_ps(q), _mm256_set1_ps(scale))
        })
    }
    /// Each lane shifts its code to the bottom. A permutation reaches 8 levels: the code's highest bit, moved to the
    /// sign, chooses between the lower and the upper ones.
    #[inline(always)]
    unsafe fn load_nf4(p: *const u8, scale: f32) -> Self {
        // SAFETY: AVX2, and 4 bytes may be read from `p`; there are 16 levels.
        F32x8(unsafe {
            let pairs = _mm256_set1_epi32(p.cast::<i32>().read_unaligned());
            let codes = _mm256_srlv_epi32(pairs, _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
            let low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(LEVELS.as_ptr()), codes);
            let high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(LEVELS.as_ptr().add(8)), codes);
            let upper = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(codes));
            _mm256_mul_ps(_mm256_blendv_ps(low, high, upper), _mm256_set1_ps(scale))
        })
    }
    #[inline(always)]
    unsafe fn prefetch<T>(p: *const T) {
        // SAFETY: a prefetch of an address that cannot be read does nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: AVX2, and 8 values may be written to `p`.
        unsafe { _mm256_storeu_ps(p, self.0) }
    }
    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> Self {
        // SAFETY: AVX2, and `n` values may be read from `p`; masked lanes are not touched.
        F32x8(unsafe { if n == 8 { _mm256_loadu_ps(p) } else { _mm256_maskload_ps(p, first(n)) } })
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize) {
        // SAFETY: AVX2, and `n` values may be written to `p`; masked lanes are not touched. Whole vectors are told
        // apart because masked stores are slow on some processors.
        unsafe { if n == 8 { _mm256_storeu_ps(p, self.0) } else { _mm256_maskstore_ps(p, first(n), self.0) } }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: AVX2.
        F32x8(unsafe { _mm256_add_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: FMA comes with `Isa::Avx2`.
        F32x8(unsafe { _mm256_fmadd_ps(self.0, b.0, c.0) })
    }
    /// 24 shuffles: pairs, quadruples, then halves.
    #[inline(always)]
    unsafe fn transpose(block: &mut [Self; MOST_LANES]) {
        // SAFETY: AVX2; registers only.
        unsafe {
            // loops, not `map`: a closure would not have the target features
            let mut t = [_mm256_setzero_ps(); 8];
            for i in 0..4 {
                t[2 * i] = _mm256_unpacklo_ps(block[2 * i].0, block[2 * i + 1].0);
                t[2 * i + 1] = _mm256_unpackhi_ps(block[2 * i].0, block[2 * i + 1].0);
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
                block[i] = F32x8(_mm256_permute2f128_ps::<0x20>(u[i], u[4 + i]));
                block[4 + i] = F32x8(_mm256_permute2f128_ps::<0x31>(u[i], u[4 + i]));
            }
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn entry<const MR: usize, const NV: usize, const ALONG: bool, const PACKED: bool>(t: &Tile) {
    // SAFETY: the features are enabled here, and the caller answers for the pointers.
    unsafe { tile::<F32x8, MR, NV, ALONG, PACKED>(t) }
}

/// The kernel for tiles of `rows` x 8 `vectors`. `along`: A's columns are neighbours; else its rows are. `packed`:
/// B's rows follow one another.
pub(super) fn kernel(rows: usize, vectors: usize, along: bool, packed: bool) -> Kernel {
    macro_rules! pick {
        ($nv:literal: $($mr:literal)*) => {
            match (rows, along, packed) {
                $(($mr, true, true) => entry::<$mr, $nv, true, true>,)*
                $(($mr, true, false) => entry::<$mr, $nv, true, false>,)*
                $(($mr, false, true) => entry::<$mr, $nv, false, true>,)*
                $(($mr, false, false) => entry::<$mr, $nv, false, false>,)*
                _ => unreachable!("{rows} rows of {vectors} vectors"),
            }
        };
    }
    match vectors {
        1 => pick!(1: 1 2 3 4 5 6),
        _ => pick!(2: 1 2 3 4 5 6),
    }
}

/// [`super::pack::pack`] with AVX2.
///
/// # Safety
/// As there, and the processor has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn pack<S: Stored>(from: &Piece<S>, panel: usize, to: *mut f32) {
    // SAFETY: the features are enabled here, and the caller answers for the pointers.
    unsafe { super::pack::pack::<F32x8, S>(from, panel, to) }
}

/// [`super::flip::unflip`] with AVX2.
///
/// # Safety
/// As there, and the processor has AVX2.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn unflip(block: &Block) {
    // SAFETY: the features are enabled here, and the caller answers for the pointers.
    unsafe { super::flip::unflip::<F32x8>(block) }
}
