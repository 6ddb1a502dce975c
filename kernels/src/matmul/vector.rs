//! What the tile and the packing need of a vector of f32, so that one body serves AVX-512 and AVX2.
//!
//! The methods are `inline(always)` and carry no target feature themselves (a trait's method cannot): they fold into the
//! entry points of `avx512.rs` and `avx2.rs`, which do. Hence the precondition common to all of them: **the processor
//! has the instructions of the type**.
use crate::Element;
use half::{bf16, f16};

/// The most lanes that any vector has.
pub(crate) const MOST_LANES: usize = 16;

pub(crate) trait Vector: Copy {
    /// f32 values in one vector.
    const LANES: usize;
    unsafe fn zero() -> Self;
    /// The value at `p` in every lane.
    unsafe fn splat(p: *const f32) -> Self;
    /// `LANES` values from `p`, of any alignment.
    unsafe fn load(p: *const f32) -> Self;
    unsafe fn load_bf16(p: *const bf16) -> Self;
    unsafe fn load_f16(p: *const f16) -> Self;
    /// `LANES` integers from `p`, each times `scale`.
    unsafe fn load_i8(p: *const i8, scale: f32) -> Self;
    /// The levels of `LANES` nf4 codes in `LANES` / 2 bytes from `p`, each times `scale`.
    unsafe fn load_nf4(p: *const u8, scale: f32) -> Self;
    /// Asks for the cache line of `p`, which may be any address.
    unsafe fn prefetch<T>(p: *const T);
    unsafe fn store(self, p: *mut f32);
    /// The first `n` values from `p`, 1 <= n <= LANES, and zeros; nothing behind them is read.
    unsafe fn load_first(p: *const f32, n: usize) -> Self;
    /// Writes the first `n` lanes only.
    unsafe fn store_first(self, p: *mut f32, n: usize);
    unsafe fn add(self, other: Self) -> Self;
    /// self * b + c, rounded once.
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;
    /// Transposes the square block of the first `LANES` vectors.
    unsafe fn transpose(block: &mut [Self; MOST_LANES]);
}

/// `p`, of which the compiler knows nothing.
#[inline(always)]
#[cfg_attr(not(target_arch = "x86_64"), allow(unused_mut))]
pub(crate) fn opaque(mut p: *const f32) -> *const f32 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: no instruction at all.
    unsafe {
        std::arch::asm!("/* {} */", inout(reg) p, options(pure, readonly, nostack, preserves_flags));
    }
    p
}

/// A float in storage: how it becomes f32.
pub(crate) trait Float: Element {
    /// `LANES` elements from `p`, decoded.
    ///
    /// # Safety
    /// The processor has `V`'s instructions, and `LANES` elements may be read from `p`.
    unsafe fn load<V: Vector>(p: *const Self) -> V;
    /// `n` elements, decoded; for processors without vectors.
    fn decode(from: &[Self], to: &mut [f32]);

    /// The first `n` elements from `p`, 1 <= n <= LANES, decoded, and zeros; nothing behind them is read.
    ///
    /// # Safety
    /// The processor has `V`'s instructions, and `n` elements may be read from `p`.
    #[inline(always)]
    unsafe fn load_first<V: Vector>(p: *const Self, n: usize) -> V {
        let mut padded = [Self::default(); MOST_LANES];
        // SAFETY: `n` elements may be read (precondition) and fit in `padded`, which holds at least `LANES`.
        unsafe {
            std::ptr::copy_nonoverlapping(p, padded.as_mut_ptr(), n);
            Self::load(padded.as_ptr())
        }
    }
}
impl Float for f32 {
    #[inline(always)]
    unsafe fn load<V: Vector>(p: *const f32) -> V {
        // SAFETY: the precondition is the same.
        unsafe { V::load(p) }
    }
    fn decode(from: &[f32], to: &mut [f32]) {
        to.copy_from_slice(from);
    }
}
impl Float for bf16 {
    #[inline(always)]
    unsafe fn load<V: Vector>(p: *const bf16) -> V {
        // SAFETY: the precondition is the same.
        unsafe { V::load_bf16(p) }
    }
    fn decode(from: &[bf16], to: &mut [f32]) {
        to.iter_mut().zip(from).for_each(|(t, f)| *t = f.to_f32());
    }
}
impl Float for f16 {
    #[inline(always)]
    unsafe fn load<V: Vector>(p: *const f16) -> V {
        // SAFETY: the precondition is the same.
        unsafe { V::load_f16(p) }
    }
    fn decode(from: &[f16], to: &mut [f32]) {
        to.iter_mut().zip(from).for_each(|(t, f)| *t = f.to_f32());
    }
}
