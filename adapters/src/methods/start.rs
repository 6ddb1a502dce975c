//! How the two matrices of a LoRA start.
use crate::{Error, Place, Result, svd};
use engraft_engine::{Init, LowRank, SiteKind};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How new weights start (`init_weights`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum LoraStart {
    /// A uniform as PyTorch's linear layers, B zero.
    Lora,
    /// Both N(0, 0.02²).
    Bert,
    /// Both ones: an IA3 that changes nothing.
    Ia3,
    /// Both uniform, of deviation √(2 / inputs) (He et al. 2015): VeRA's matrices.
    Vera,
    /// PiSSA (Meng et al. 2024): s B A is the part of the layer's weight with the largest singular
    /// values, and what trains is how it differs from that: y = x Wᵀ + s x (B A - B₀ A₀)ᵀ. The
    /// weight stays as it is, for others to use, and an ordinary LoRA of twice the rank is saved.
    /// With a number, so many iterations on a random subspace find that part.
    Pissa(Option<usize>),
    /// After LoftQ (Li et al. 2023) on a quantised backbone: s B A is the part with the largest
    /// singular values of what rounding took from the layer's weight. The paper rounds W - s B A in
    /// its turn; here the rounded weight is one that others use too, so that this first step is the
    /// best there is.
    Loftq,
}
/// The starts with names of their own.
const NAMED: [(&str, LoraStart); 6] = [
    ("lora", LoraStart::Lora),
    ("bert", LoraStart::Bert),
    ("ia3", LoraStart::Ia3),
    ("vera", LoraStart::Vera),
    ("pissa", LoraStart::Pissa(None)),
    ("loftq", LoraStart::Loftq),
];
/// What stands in front of the number of iterations.
const ITERATED: &str = "pissa_niter_";

impl TryFrom<String> for LoraStart {
    type Error = String;
    fn try_from(name: String) -> Result<LoraStart, String> {
        let iterations = name.strip_prefix(ITERATED).and_then(|n| n.parse().ok()).filter(|n| *n <= 1000);
        match NAMED.iter().find(|(n, _)| *n == name) {
            Some((_, start)) => Ok(*start),
            None if iterations.is_some() => Ok(LoraStart::Pissa(iterations)),
            None => {
                let known = NAMED.map(|(n, _)| format!("`{n}`")).join(", ");
                Err(format!("unknown variant `{name}`, expected one of {known}, `{ITERATED}N`"))
            }
        }
    }
}
impl From<LoraStart> for String {
    fn from(start: LoraStart) -> String {
        start.to_string()
    }
}
impl fmt::Display for LoraStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, NAMED.iter().find(|(_, start)| start == self)) {
            (_, Some((name, _))) => f.write_str(name),
            (LoraStart::Pissa(Some(n)), None) => write!(f, "{ITERATED}{n}"),
            (_, None) => Ok(()),
        }
    }
}
impl LoraStart {
    /// (A, B) of so many inputs and rank r, where no weight of the model decides.
    pub(super) fn of(self, input: usize, r: usize) -> (Init, Init) {
        let uniform = |n: usize| Init::Uniform((6.0 / n as f64).sqrt() as f32);
        match self {
            LoraStart::Vera => (uniform(input), uniform(r)),
            LoraStart::Bert => (Init::Normal(0.02), Init::Normal(0.02)),
            LoraStart::Ia3 => (Init::Constant(1.0), Init::Constant(1.0)),
            LoraStart::Lora | LoraStart::Pissa(_) | LoraStart::Loftq => {
                (Init::KaimingUniform, Init::Constant(0.0))
            }
        }
    }
    /// True if a part of the layer's weight is taken out of it.
    pub(super) fn is_pissa(self) -> bool {
        matches!(self, LoraStart::Pissa(_))
    }
    /// A and B at a place, if the model's weights decide: √Σ Vᵀ and U √Σ of each projection,
    /// divided by s.
    pub(super) fn values(self, place: &Place<'_>, how: &LowRank, r: usize) -> Result<Option<[Vec<f32>; 2]>> {
        let SiteKind::Linear { input, output, in_out, .. } = place.info.kind else { return Ok(None) };
        let from = match self {
            LoraStart::Pissa(_) => place.weight("weight")?.to_f32()?,
            LoraStart::Loftq => place.rounded_away("weight")?,
            _ => return Ok(None),
        };
        let at = |o: usize, i: usize| from[if in_out { i * output + o } else { o * input + i }];
        let width = output / how.of;
        if r > input.min(width) {
            let what = format!(
                "`init_weights` is `{self}`, and `r` is {r}: `{}` has a rank of {}",
                place.path,
                input.min(width)
            );
            return Err(Error::Config(what));
        }
        if how.scale.is_nan() || how.scale <= 0.0 {
            return Err(Error::Config(format!("`init_weights` is `{self}`: it needs an `alpha` above 0")));
        }
        let n = how.parts.len();
        let (mut a, mut b) = (vec![0f32; n * r * input], vec![0f32; n * width * r]);
        for (i, part) in how.parts.iter().enumerate() {
            let one = |k: usize| f64::from(at(part * width + k / input, k % input));
            let w: Vec<f64> = (0..width * input).map(one).collect();
            let found = match self {
                LoraStart::Pissa(Some(iterations)) => svd::iterated(&w, (width, input), r, iterations),
                _ => svd::svd(&w, (width, input), r),
            };
            let found = found.map_err(|e| Error::Config(format!("`{}`: {e}", place.path)))?;
            let root: Vec<f64> = found.s.iter().map(|s| (s / f64::from(how.scale)).sqrt()).collect();
            let a = a[i * r * input..][..r * input].iter_mut().zip(&found.vt).enumerate();
            a.for_each(|(at, (a, v))| *a = (root[at / input] * v) as f32);
            let b = b[i * width * r..][..width * r].iter_mut().zip(&found.u).enumerate();
            b.for_each(|(at, (b, u))| *b = (root[at % r] * u) as f32);
        }
        Ok(Some([a, b]))
    }
}
