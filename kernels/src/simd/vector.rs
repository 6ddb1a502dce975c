//! What a kernel may do with vectors, and the vectors of plain Rust.
use super::{MOST_LANES, PrefetchHint, prefetch};
use half::{bf16, f16};
use std::ops::{Add, Div, Mul, Neg, Sub};

/// A token for a set of instructions: makes vectors from numbers and memory.
pub(crate) trait Simd: Copy + Send + Sync {
    /// Its vectors.
    type V: F32s;
    /// Rows of the micro-kernel's tile: as many as the registers hold, two vectors wide.
    const ROWS: usize;
    /// x in all lanes.
    fn splat(self, x: f32) -> Self::V;
    /// The first numbers of a slice, which must fill the vector.
    fn load(self, from: &[f32]) -> Self::V;
    /// The first numbers of a slice, zeros where it is too short.
    fn load_part(self, from: &[f32]) -> Self::V;
    /// The first numbers of a slice, `fill` where it is too short.
    fn load_or(self, from: &[f32], fill: f32) -> Self::V;
    /// The numbers at `p`.
    ///
    /// # Safety
    /// A vector's worth of floats must be readable there.
    unsafe fn load_at(self, p: *const f32) -> Self::V;
    /// The first `n` numbers from `p`, 1 <= n <= LANES, and zeros; nothing behind them is read.
    ///
    /// # Safety
    /// `n` floats must be readable there.
    unsafe fn load_first(self, p: *const f32, n: usize) -> Self::V;
    /// The numbers at `p`, as floats.
    ///
    /// # Safety
    /// A vector's worth of numbers must be readable there.
    unsafe fn load_bf16(self, p: *const bf16) -> Self::V;
    /// The numbers at `p`, as floats.
    ///
    /// # Safety
    /// A vector's worth of numbers must be readable there.
    unsafe fn load_f16(self, p: *const f16) -> Self::V;
    /// The integers at `p`, as floats, times `scale`.
    ///
    /// # Safety
    /// A vector's worth of integers must be readable there.
    unsafe fn load_i8(self, p: *const i8, scale: f32) -> Self::V;
    /// The levels that the codes in the bytes at `p` name, two in each, the low four bits
    /// first; times `scale`.
    ///
    /// # Safety
    /// Half as many bytes as a vector has lanes must be readable there.
    unsafe fn load_codes(self, p: *const u8, levels: &[f32; 16], scale: f32) -> Self::V;
    /// Transposes the square of the first LANES vectors.
    fn transpose_square(self, square: &mut [Self::V; MOST_LANES]);
    /// Says that the numbers around `x[at]`, which may lie beyond the end, are read soon. Passes
    /// over more memory than the caches hold are a fifth faster for it: what the processor fetches
    /// ahead by itself ends with a page.
    #[inline(always)]
    fn prefetch_read(self, x: &[f32], at: usize) {
        prefetch(x.as_ptr().wrapping_add(at), PrefetchHint::Read);
    }
    /// The same of numbers that are written soon.
    #[inline(always)]
    fn prefetch_write(self, y: &mut [f32], at: usize) {
        prefetch(y.as_ptr().wrapping_add(at), PrefetchHint::Written);
    }
    /// The dropout factors ([`crate::dropout::hash`] of a row's key: 0 below the threshold, else
    /// `scale`) of the columns from `col` on.
    fn factors(self, key: [u32; 2], col: u32, threshold: u32, scale: f32) -> Self::V;
    /// Writes a block of at most a vector's length in rows and columns, transposed: `to[c *
    /// width + r]` becomes `from[r * stride + c]`. Whole vectors are written: zeros where there
    /// are no more rows.
    #[inline(always)]
    fn transpose(self, from: &[f32], stride: usize, rows: usize, cols: usize, to: &mut [f32], width: usize) {
        let mut square = [self.splat(0.0); MOST_LANES];
        for (r, v) in square[..rows].iter_mut().enumerate() {
            *v = self.load_part(&from[r * stride..][..cols]);
        }
        self.transpose_square(&mut square);
        for (c, v) in square[..cols].iter().enumerate() {
            v.store(&mut to[c * width..]);
        }
    }
}

/// A vector of f32.
pub(crate) trait F32s:
    Copy
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + Mul<f32, Output = Self>
    + Add<f32, Output = Self>
{
    /// Its length.
    const LANES: usize;
    /// x in all lanes (that there is a `self` proves that there are the instructions).
    fn all(self, x: f32) -> Self;
    /// self · b + c, in one rounding where the processor can.
    fn fma(self, b: Self, c: Self) -> Self;
    /// self² + c in one rounding, on every processor.
    fn square_plus(self, c: Self) -> Self;
    /// 1 / self to an ulp, of numbers that are normal and whose reciprocal is.
    fn recip(self) -> Self;
    /// Without the sign.
    fn abs(self) -> Self;
    /// With the sign of `of`.
    fn copysign(self, of: Self) -> Self;
    /// self · 2ⁿ for integers n in -126..=130, overflowing to infinity.
    fn scale2(self, n: Self) -> Self;
    /// The larger of two; `other` where one is NaN.
    fn max(self, other: Self) -> Self;
    /// The smaller of two; `other` where one is NaN.
    fn min(self, other: Self) -> Self;
    /// Within [lo, hi]; NaN stays NaN.
    fn clamp(self, lo: f32, hi: f32) -> Self;
    /// `yes` where self < bound, else (and for NaN) `no`.
    fn if_less(self, bound: f32, yes: Self, no: Self) -> Self;
    /// 0 where `of` < bound, else (and for NaN) self.
    fn unless_less(self, of: Self, bound: f32) -> Self;
    /// The first `n` lanes, zeros behind them.
    fn first(self, n: usize) -> Self;
    /// The sum of all lanes, as a tree.
    fn sum(self) -> f32;
    /// The largest lane; a NaN may be passed over.
    fn largest(self) -> f32;
    /// |self| or `top`, whichever has the higher bits: infinity is above all numbers, NaN above
    /// infinity. `top` has no sign.
    fn magnitude(self, top: Self) -> Self;
    /// The lane with the highest bits, of lanes without signs.
    #[inline(always)]
    fn highest(self) -> f32 {
        let mut lanes = [0f32; 16];
        self.store(&mut lanes);
        f32::from_bits(lanes.into_iter().fold(0, |top, x| top.max(x.to_bits())))
    }
    /// Writes the lowest byte of each lane's bits to the front of a slice.
    fn store_bytes(self, to: &mut [u8]);
    /// Writes all lanes to the front of a slice.
    fn store(self, to: &mut [f32]);
    /// Writes as many lanes as the slice takes.
    fn store_part(self, to: &mut [f32]);
    /// Writes the first `n` lanes (all, if `n` is more).
    ///
    /// # Safety
    /// That many floats must be writable at `to`.
    unsafe fn store_at(self, to: *mut f32, n: usize);

    /// The polynomial with these coefficients, the highest power first.
    #[inline(always)]
    fn polynomial<const N: usize>(self, c: [f32; N]) -> Self {
        let mut p = self.all(c[0]);
        for c in &c[1..] {
            p = p.fma(self, self.all(*c));
        }
        p
    }
}

/// The token of plain Rust.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable;

/// Four floats: what the narrowest vector units hold, and what compilers vectorise.
#[derive(Clone, Copy, Debug)]
#[repr(align(16))]
pub(crate) struct F32x4([f32; 4]);

impl F32x4 {
    #[inline(always)]
    fn map(self, f: impl Fn(f32) -> f32) -> Self {
        F32x4(self.0.map(f))
    }
    #[inline(always)]
    fn zip(self, o: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        F32x4(std::array::from_fn(|i| f(self.0[i], o.0[i])))
    }
}

impl Simd for Portable {
    type V = F32x4;
    const ROWS: usize = 4;
    #[inline(always)]
    fn splat(self, x: f32) -> F32x4 {
        F32x4([x; 4])
    }
    #[inline(always)]
    fn load(self, from: &[f32]) -> F32x4 {
        F32x4([from[0], from[1], from[2], from[3]])
    }
    #[inline(always)]
    fn load_part(self, from: &[f32]) -> F32x4 {
        self.load_or(from, 0.0)
    }
    #[inline(always)]
    fn load_or(self, from: &[f32], fill: f32) -> F32x4 {
        F32x4(std::array::from_fn(|i| from.get(i).copied().unwrap_or(fill)))
    }
    #[inline(always)]
    unsafe fn load_at(self, p: *const f32) -> F32x4 {
        // SAFETY: the caller's; an array of floats needs no more alignment than a float.
        F32x4(unsafe { *p.cast::<[f32; 4]>() })
    }
    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, n: usize) -> F32x4 {
        // SAFETY: the caller's; lanes from `n` on are not read.
        F32x4(std::array::from_fn(|i| if i < n { unsafe { *p.add(i) } } else { 0.0 }))
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const bf16) -> F32x4 {
        // SAFETY: the caller's.
        F32x4(unsafe { *p.cast::<[bf16; 4]>() }.map(bf16::to_f32))
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const f16) -> F32x4 {
        // SAFETY: the caller's.
        F32x4(unsafe { *p.cast::<[f16; 4]>() }.map(f16::to_f32))
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const i8, scale: f32) -> F32x4 {
        // SAFETY: the caller's.
        F32x4(unsafe { *p.cast::<[i8; 4]>() }.map(|q| f32::from(q) * scale))
    }
    #[inline(always)]
    unsafe fn load_codes(self, p: *const u8, levels: &[f32; 16], scale: f32) -> F32x4 {
        // SAFETY: the caller's: four codes are two bytes.
        let [a, b] = unsafe { *p.cast::<[u8; 2]>() };
        F32x4([a & 15, a >> 4, b & 15, b >> 4].map(|code| levels[usize::from(code)] * scale))
    }
    #[inline(always)]
    fn transpose_square(self, square: &mut [F32x4; MOST_LANES]) {
        let r = [square[0].0, square[1].0, square[2].0, square[3].0];
        for (c, v) in square[..4].iter_mut().enumerate() {
            *v = F32x4(r.map(|row| row[c]));
        }
    }
    #[inline(always)]
    fn factors(self, key: [u32; 2], col: u32, threshold: u32, scale: f32) -> F32x4 {
        F32x4(std::array::from_fn(|i| {
            if crate::dropout::hash(key, col.wrapping_add(i as u32)) < threshold { 0.0 } else { scale }
        }))
    }
}

macro_rules! operator { ($trait:ident $f:ident $op:tt) => {
    impl $trait for F32x4 {
        type Output = F32x4;
        #[inline(always)]
        fn $f(self, o: F32x4) -> F32x4 {
            self.zip(o, |a, b| a $op b)
        }
    }
} }
operator!(Add add +);
operator!(Sub sub -);
operator!(Mul mul *);
operator!(Div div /);
impl Neg for F32x4 {
    type Output = F32x4;
    #[inline(always)]
    fn neg(self) -> F32x4 {
        self.map(|a| -a)
    }
}

/// The two operators with a number, from those with a vector.
macro_rules! with_numbers {
    ($v:ty) => {
        impl std::ops::Mul<f32> for $v {
            type Output = $v;
            #[inline(always)]
            fn mul(self, x: f32) -> $v {
                self * self.all(x)
            }
        }
        impl std::ops::Add<f32> for $v {
            type Output = $v;
            #[inline(always)]
            fn add(self, x: f32) -> $v {
                self + self.all(x)
            }
        }
    };
}
#[cfg(target_arch = "x86_64")]
pub(super) use with_numbers;
with_numbers!(F32x4);

/// True where a fused multiply-add is an instruction and not a library call.
const FUSED: bool = cfg!(any(target_feature = "fma", target_arch = "aarch64"));

impl F32s for F32x4 {
    const LANES: usize = 4;
    #[inline(always)]
    fn all(self, x: f32) -> Self {
        F32x4([x; 4])
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        F32x4(std::array::from_fn(|i| {
            if FUSED { self.0[i].mul_add(b.0[i], c.0[i]) } else { self.0[i] * b.0[i] + c.0[i] }
        }))
    }
    #[inline(always)]
    fn square_plus(self, c: Self) -> Self {
        self.zip(c, |x, c| (f64::from(x) * f64::from(x) + f64::from(c)) as f32)
    }
    #[inline(always)]
    fn recip(self) -> Self {
        self.map(|x| 1.0 / x)
    }
    #[inline(always)]
    fn abs(self) -> Self {
        self.map(f32::abs)
    }
    #[inline(always)]
    fn copysign(self, of: Self) -> Self {
        self.zip(of, f32::copysign)
    }
    #[inline(always)]
    fn scale2(self, n: Self) -> Self {
        self.zip(n, |x, n| {
            let n = n as i32;
            let power = |n: i32| f32::from_bits(((n + 127) << 23) as u32);
            x * power(n >> 1) * power(n - (n >> 1))
        })
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn clamp(self, lo: f32, hi: f32) -> Self {
        self.map(|x| {
            let x = if x < lo { lo } else { x };
            if x > hi { hi } else { x }
        })
    }
    #[inline(always)]
    fn if_less(self, bound: f32, yes: Self, no: Self) -> Self {
        F32x4(std::array::from_fn(|i| if self.0[i] < bound { yes.0[i] } else { no.0[i] }))
    }
    #[inline(always)]
    fn unless_less(self, of: Self, bound: f32) -> Self {
        self.zip(of, |x, of| if of < bound { 0.0 } else { x })
    }
    #[inline(always)]
    fn first(self, n: usize) -> Self {
        F32x4(std::array::from_fn(|i| if i < n { self.0[i] } else { 0.0 }))
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        (self.0[0] + self.0[2]) + (self.0[1] + self.0[3])
    }
    #[inline(always)]
    fn largest(self) -> f32 {
        self.0.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }
    #[inline(always)]
    fn magnitude(self, top: Self) -> Self {
        self.zip(top, |x, t| f32::from_bits(x.abs().to_bits().max(t.to_bits())))
    }
    #[inline(always)]
    fn store_bytes(self, to: &mut [u8]) {
        to[..4].copy_from_slice(&self.0.map(|x| x.to_bits() as u8));
    }
    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        to[..4].copy_from_slice(&self.0);
    }
    #[inline(always)]
    fn store_part(self, to: &mut [f32]) {
        to.iter_mut().zip(self.0).for_each(|(t, x)| *t = x);
    }
    #[inline(always)]
    unsafe fn store_at(self, to: *mut f32, n: usize) {
        for (i, x) in self.0.into_iter().enumerate().take(n) {
            // SAFETY: the caller's: `n` floats from `to` on are writable.
            unsafe { *to.add(i) = x };
        }
    }
}
