//! Vectors of f32, and the functions that the kernels compute on them.
//!
//! A kernel is written once, over the traits [`Simd`] and [`F32s`]; the macro [`simd!`] compiles it
//! three times: for AVX-512, for AVX2 with fused multiply-add, and in plain Rust. A [`Level`]
//! chooses among the three. Its variants carry tokens that are made only after the processor was
//! asked, so holding a level, a token or a vector proves that the instructions exist, and
//! everything built on them is safe to call.
pub(crate) mod math;
mod vector;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(test)]
pub(crate) mod check;
#[cfg(test)]
mod tests;

use crate::{
    Cpu, Result,
    isa::{Isa, isa},
};
use std::sync::{Mutex, PoisonError};
pub(crate) use vector::{F32s, Portable, Simd};
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

/// f32 values of a cache line.
pub(crate) const LINE: usize = 16;
/// The most floats that a vector has.
pub(crate) const MOST_LANES: usize = 16;

/// Where a line is asked to, and what for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum PrefetchHint {
    /// Into the first-level cache, to be read.
    Read,
    /// Into the first-level cache, to be written.
    Written,
    /// Into the second-level cache, to be read.
    ReadLater,
}
/// Asks for the cache line of `p`. Any address will do: nothing is read that the program could see.
#[inline(always)]
pub(crate) fn prefetch<T>(p: *const T, hint: PrefetchHint) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction is part of every x86-64, and does nothing where `p` is
    // no memory of ours.
    unsafe {
        use std::arch::x86_64::*;
        match hint {
            PrefetchHint::Read => _mm_prefetch::<_MM_HINT_T0>(p.cast()),
            PrefetchHint::Written => _mm_prefetch::<_MM_HINT_ET0>(p.cast()),
            PrefetchHint::ReadLater => _mm_prefetch::<_MM_HINT_T1>(p.cast()),
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (p, hint);
}

/// `p`, of which the compiler knows nothing any more: it would see how addresses are related, and
/// make one from the other in a chain of instructions.
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

/// A set of vector instructions that this processor is known to have.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Level {
    /// 16 lanes.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    /// 8 lanes.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// 4 lanes, any processor.
    Portable(Portable),
}

impl Level {
    /// The level of `isa`, if the processor has it.
    pub(crate) fn of(isa: Isa) -> Option<Level> {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Avx512::detect().map(Level::Avx512),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Avx2::detect().map(Level::Avx2),
            Isa::Portable => Some(Level::Portable(Portable)),
            #[cfg(not(target_arch = "x86_64"))]
            _ => None,
        }
    }
    /// The level in use: see [`isa`].
    pub(crate) fn current() -> Result<Level> {
        #[cfg(test)]
        if let Some(l) = check::forced() {
            return Ok(l);
        }
        Ok(Level::of(isa()?).unwrap_or(Level::Portable(Portable)))
    }
    /// Floats in a vector.
    pub(crate) fn lanes(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(_) => 16,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(_) => 8,
            Level::Portable(_) => 4,
        }
    }
}

/// Compiles a function for each level. `fn name<S>(s, ...)` becomes `fn name(level, ...)`; in its
/// body `S` is the [`Simd`] token's type and `s` the token. Whatever generic function the body
/// calls must be `#[inline(always)]`, or its instructions would not be the level's.
macro_rules! simd {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$S:ident>($s:ident $(, $arg:ident: $t:ty)* $(,)?) $(-> $r:ty)?
        $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name(level: $crate::simd::Level $(, $arg: $t)*) $(-> $r)? {
            #[inline(always)]
            fn body<$S: $crate::simd::Simd>($s: $S $(, $arg: $t)*) $(-> $r)? $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
            fn avx512(s: $crate::simd::Avx512 $(, $arg: $t)*) $(-> $r)? {
                body(s $(, $arg)*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            fn avx2(s: $crate::simd::Avx2 $(, $arg: $t)*) $(-> $r)? {
                body(s $(, $arg)*)
            }
            match level {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the token exists only where the processor has these instructions.
                $crate::simd::Level::Avx512(s) => unsafe { avx512(s $(, $arg)*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the token exists only where the processor has these instructions.
                $crate::simd::Level::Avx2(s) => unsafe { avx2(s $(, $arg)*) },
                $crate::simd::Level::Portable(s) => body(s $(, $arg)*),
            }
        }
    };
}
pub(crate) use simd;

/// Runs `f(i, part)` once for each part, in parallel: for kernels with several outputs, each cut in
/// pieces. What it computes must depend on `i` and the part alone.
pub(crate) fn parts<T: Send>(d: &Cpu, parts: impl Iterator<Item = T>, f: impl Fn(usize, T) + Sync) {
    let parts: Vec<Mutex<Option<T>>> = parts.map(|p| Mutex::new(Some(p))).collect();
    d.each(parts.len(), |i, _| {
        if let Some(p) = parts[i].lock().unwrap_or_else(PoisonError::into_inner).take() {
            f(i, p);
        }
    });
}
