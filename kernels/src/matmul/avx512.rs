//! AVX-512: vectors of 16, tiles of up to 9 x 48 (27 accumulators, 3 loads and 9 broadcasts for 27 multiply-adds), 14 x 32
//! or 6 x 64.
use super::{
    flip::Block,
    pack::Piece,
    tile::{Kernel, Tile, tile},
    vector::{MOST_LANES, Vector},
};
use crate::storage::{nf4::LEVELS, view::Stored};
use half::{bf16, f16};
use std::arch::x86_64::*;

/// Sixteen f32.
#[derive(Clone, Copy)]
pub(crate) struct F32x16(pub __m512);

#[inline(always)]
fn first(n: usize) -> __mmask16 {
    debug_assert!((1..=16).contains(&n));
    (0xffff_u32 >> (16 - n)) as __mmask16
}

impl Vector for F32x16 {
    const LANES: usize = 16;
    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the processor has AVX-512 (precondition of the trait).
        F32x16(unsafe { _mm512_setzero_ps() })
    }
    #[inline(always)]
    unsafe fn splat(p: *const f32) -> Self {
        // SAFETY: AVX-512, and one value may be read from `p`.
        F32x16(unsafe { _mm512_set1_ps(*p) })
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: AVX-512, and 16 values may be read from `p`.
        F32x16(unsafe { _mm512_loadu_ps(p) })
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const bf16) -> Self {
        // SAFETY: AVX-512, and 16 values of 2 bytes may be read from `p`. A bf16 is the upper half of an f32.
        F32x16(unsafe {
            let h = _mm256_loadu_si256(p.cast());
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(h)))
        })
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const f16) -> Self {
        // SAFETY: AVX-512, and 16 values of 2 bytes may be read from `p`.
        F32x16(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) })
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const i8, scale: f32) -> Self {
        // SAFETY: AVX-512, and 16 bytes may be read from `p`.
        F32x16(unsafe {
            let q = _mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast()));
            _mm512_mul_ps(_mm512_cvtepi32_ps(q), _mm512_set1_ps(scale))
        })
    }
    /// A byte goes into the low half of a 64-bit word, which then names the first code, and its high four bits into the
    /// high half; of each half the permutation looks at the low four bits only.
    #[inline(always)]
    unsafe fn load_nf4(p: *const u8, scale: f32) -> Self {
        // SAFETY: AVX-512, and 8 bytes may be read from `p`.
        F32x16(unsafe {
            let pairs = _mm512_cvtepu8_epi64(_mm_loadl_epi64(p.cast()));
            let codes = _mm512_or_si512(pairs, _mm512_slli_epi64::<28>(pairs));
            let levels = _mm512_permutexvar_ps(codes, _mm512_loadu_ps(LEVELS.as_ptr()));
            _mm512_mul_ps(levels, _mm512_set1_ps(scale))
        })
    }
    #[inline(always)]
    unsafe fn prefetch<T>(p: *const T) {
        // SAFETY: a prefetch of an address that cannot be read does nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: AVX-512, and 16 values may be written to `p`.
        unsafe { _mm512_storeu_ps(p, self.0) }
    }
    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> Self {
        // SAFETY: AVX-512, and `n` values may be read from `p`; masked lanes are not touched.
        F32x16(unsafe { _mm512_maskz_loadu_ps(first(n), p) })
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize) {
        // SAFETY: AVX-512, and `n` values may be written to `p`; masked lanes are not touched.
        unsafe { _mm512_mask_storeu_ps(p, first(n), self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: AVX-512.
        F32x16(unsafe { _mm512_add_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: AVX-512.
        F32x16(unsafe { _mm512_fmadd_ps(self.0, b.0, c.0) })
    }
    /// 64 shuffles: pairs, quadruples, then 128-bit quarters.
    #[inline(always)]
    unsafe fn transpose(block: &mut [Self; MOST_LANES]) {
        // SAFETY: AVX-512; registers only.
        unsafe {
            // loops, not `map`: a closure would not have the target features
            let mut t = [_mm512_setzero_ps(); 16];
            for i in 0..8 {
                t[2 * i] = _mm512_unpacklo_ps(block[2 * i].0, block[2 * i + 1].0);
                t[2 * i + 1] = _mm512_unpackhi_ps(block[2 * i].0, block[2 * i + 1].0);
            }
            let mut u = t;
            for q in 0..4 {
                let mut v = [_mm512_setzero_pd(); 4];
                for i in 0..4 {
                    v[i] = _mm512_castps_pd(t[4 * q + i]);
                }
                u[4 * q] = _mm512_castpd_ps(_mm512_unpacklo_pd(v[0], v[2]));
                u[4 * q + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(v[0], v[2]));
                u[4 * q + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(v[1], v[3]));
                u[4 * q + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(v[1], v[3]));
            }
            for i in 0..4 {
                let a = _mm512_shuffle_f32x4::<0x88>(u[i], u[4 + i]);
                let b = _mm512_shuffle_f32x4::<0xdd>(u[i], u[4 + i]);
                let c = _mm512_shuffle_f32x4::<0x88>(u[8 + i], u[12 + i]);
                let d = _mm512_shuffle_f32x4::<0xdd>(u[8 + i], u[12 + i]);
                block[i] = F32x16(_mm512_shuffle_f32x4::<0x88>(a, c));
                block[8 + i] = F32x16(_mm512_shuffle_f32x4::<0xdd>(a, c));
                block[4 + i] = F32x16(_mm512_shuffle_f32x4::<0x88>(b, d));
                block[12 + i] = F32x16(_mm512_shuffle_f32x4::<0xdd>(b, d));
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
unsafe fn entry<const MR: usize, const NV: usize, const ALONG: bool, const PACKED: bool>(t: &Tile) {
    // SAFETY: the features are enabled here, and the caller answers for the pointers.
    unsafe { tile::<F32x16, MR, NV, ALONG, PACKED>(t) }
}

/// The kernel for tiles of `rows` x 16 `vectors`. `along`: A's columns are neighbours; else its rows are. `packed`:
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
        1 => pick!(1: 1 2 3 4 5 6 7 8 9),
        2 => pick!(2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        3 => pick!(3: 1 2 3 4 5 6 7 8 9),
        _ => pick!(4: 1 2 3 4 5 6),
    }
}

/// [`super::pack::pack`] with AVX-512.
///
/// # Safety
/// As there, and the processor has AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
pub(super) unsafe fn pack<S: Stored>(from: &Piece<S>, panel: usize, to: *mut f32) {
    // SAFETY: the features are enabled here, and the caller answers for the pointers.
    unsafe { super::pack::pack::<F32x16, S>(from, panel, to) }
}

/// [`super::flip::unflip`] with AVX-512.
///
/// # Safety
/// As there, and the processor has AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
pub(super) unsafe fn unflip(block: &Block) {
    // SAFETY: the features are enabled here, and the caller answers for the pointers.
    unsafe { super::flip::unflip::<F32x16>(block) }
}
