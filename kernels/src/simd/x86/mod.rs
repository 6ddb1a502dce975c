//! The vectors of x86-64. Their values exist only where their token does, and a token only where
//! the processor has the instructions: that is why every intrinsic below may be called.

/// Calls intrinsics.
macro_rules! ask {
    ($e:expr) => {{
        // SAFETY: the instructions exist (see the module), and no pointer is involved.
        unsafe { $e }
    }};
}
macro_rules! operators { ($v:ident: $($trait:ident $f:ident $intrinsic:ident),*) => {
    $(impl $trait for $v {
        type Output = $v;
        #[inline(always)]
        fn $f(self, o: $v) -> $v {
            $v(ask!($intrinsic(self.0, o.0)))
        }
    })*
    impl Neg for $v {
        type Output = $v;
        #[inline(always)]
        fn neg(self) -> $v {
            self.all(-0.0) - self // exact, for zeros too
        }
    }
    with_numbers!($v);
} }

mod avx2;
mod avx512;

pub(crate) use avx2::Avx2;
pub(crate) use avx512::Avx512;
