//! Which vector instructions the kernels use: the best this processor has, or what
//! `ENGRAFT_KERNELS` asks for.
use crate::{Error, Result};
use std::sync::OnceLock;

/// A set of vector instructions for which there are kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// 512-bit vectors: AVX-512 F, BW, VL and DQ.
    Avx512,
    /// 256-bit vectors with fused multiply-add: AVX2, FMA and F16C.
    Avx2,
    /// Plain Rust: any processor.
    Portable,
}

impl Isa {
    /// All of them, the fastest first.
    pub const ALL: [Isa; 3] = [Isa::Avx512, Isa::Avx2, Isa::Portable];

    /// The name that `ENGRAFT_KERNELS` takes.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Avx512 => "avx512",
            Isa::Avx2 => "avx2",
            Isa::Portable => "portable",
        }
    }
    /// True if this processor has the instructions.
    #[cfg(target_arch = "x86_64")]
    pub fn available(self) -> bool {
        // every processor with AVX-512 has the two narrower sets; checked all the same, because
        // helpers may mix them
        let avx2 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        match self {
            Isa::Avx512 => {
                avx2 && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
            }
            Isa::Avx2 => avx2,
            Isa::Portable => true,
        }
    }
    /// True if this processor has the instructions.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn available(self) -> bool {
        self == Isa::Portable
    }
    /// The set called `wanted`, or the fastest available; an error says why `wanted` cannot be had.
    fn choose(wanted: Option<&str>) -> Result<Isa, String> {
        let Some(wanted) = wanted else {
            return Ok(Isa::ALL.into_iter().find(|i| i.available()).unwrap_or(Isa::Portable));
        };
        match Isa::ALL.into_iter().find(|i| i.name() == wanted) {
            Some(i) if i.available() => Ok(i),
            Some(_) => Err(format!("ENGRAFT_KERNELS={wanted}: this processor has no such instructions")),
            None => Err(format!("ENGRAFT_KERNELS={wanted}: expected avx512, avx2 or portable")),
        }
    }
}

/// The instructions in use. The environment variable `ENGRAFT_KERNELS` (`avx512`, `avx2` or
/// `portable`) is read once; an unknown value, or one this processor does not have, is an error
/// of every launch.
pub fn isa() -> Result<Isa> {
    #[cfg(test)]
    if let Some(forced) = FORCED.get() {
        return Ok(forced);
    }
    static CHOSEN: OnceLock<Result<Isa, String>> = OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| {
        let wanted = std::env::var_os("ENGRAFT_KERNELS").filter(|v| !v.is_empty());
        Isa::choose(wanted.as_ref().map(|v| v.to_string_lossy()).as_deref())
    });
    chosen.clone().map_err(|why| Error::Open { device: "cpu", why })
}

#[cfg(test)]
thread_local! {
    static FORCED: std::cell::Cell<Option<Isa>> = const { std::cell::Cell::new(None) };
}
/// Runs `f` with every launch from this thread using `isa`, which must be available.
#[cfg(test)]
pub(crate) fn with<R>(isa: Isa, f: impl FnOnce() -> R) -> R {
    assert!(isa.available());
    let before = FORCED.replace(Some(isa));
    let r = f();
    FORCED.set(before);
    r
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_chosen_by_name_or_the_fastest_available() {
        assert_eq!(Isa::choose(Some("portable")), Ok(Isa::Portable));
        assert!(Isa::choose(None).unwrap().available());
        assert!(Isa::choose(Some("sse9")).unwrap_err().contains("expected avx512"));
        for isa in Isa::ALL {
            assert_eq!(Isa::choose(Some(isa.name())).is_ok(), isa.available());
        }
    }
}
