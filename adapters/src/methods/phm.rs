//! Compacter's projections (Karimi Mahabadi et al. 2021): y = x H + b, H = Σ_i A_i ⊗ W_i, where the
//! n matrices A_i (n, n) are the rule of a hypercomplex product and W_i = L_i R_i has a low rank.
//! The rule is one for the whole adapter, or of each projection (`shared_phm_rule`), and so are the
//! W_i (`shared_W_phm`). Names and starts are those of AdapterHub's `PHMLayer`.
use super::BnConfig;
use crate::{Common, Error, Here, Place, Result, SharedWeight};
use engraft_engine::{
    self as engine, Cx, Frozen, Init, LinearRef, Param, Parameters, Role, Source, Tensor, W, Weight,
    ops::{KroneckerSum, Matrices},
};

/// What AdapterHub's checkpoints call the weights of a whole adapter.
const SHARED: &str = "shared_parameters";
/// Larger rules come from a damaged file: they have n³ numbers.
const MOST: usize = 128;
/// AdapterHub's names for the distributions of W. Whatever the name, new ones are N(0, 2 / (rows +
/// columns)), as in the library.
const STARTS: [&str; 4] = ["phm", "glorot-normal", "glorot-uniform", "normal"];

/// Which of a bottleneck's projections one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// From the channels down.
    Down,
    /// Up again.
    Up,
}
impl Side {
    fn name(self) -> &'static str {
        match self {
            Side::Down => "W_down",
            Side::Up => "W_up",
        }
    }
}

/// n matrices, whole or as products.
#[derive(Debug)]
enum Held<P> {
    Whole(P),
    Products(P, P),
}
impl<P> Held<P> {
    fn map<Q>(self, f: impl Fn(P) -> Q) -> Held<Q> {
        match self {
            Held::Whole(w) => Held::Whole(f(w)),
            Held::Products(l, r) => Held::Products(f(l), f(r)),
        }
    }
    fn each<'a>(&'a self, name: &str, f: &mut dyn FnMut(String, &'a P)) {
        match self {
            Held::Whole(w) => f(name.into(), w),
            Held::Products(l, r) => {
                f(format!("{name}_left"), l);
                f(format!("{name}_right"), r);
            }
        }
    }
    fn all_mut(&mut self) -> impl Iterator<Item = &mut P> {
        let (first, second) = match self {
            Held::Whole(w) => (w, None),
            Held::Products(l, r) => (l, Some(r)),
        };
        std::iter::once(first).chain(second)
    }
    fn get<'m>(&'m self, get: impl Fn(&'m P) -> W<'m>) -> Matrices<'m> {
        match self {
            Held::Whole(w) => Matrices::Whole(get(w)),
            Held::Products(l, r) => Matrices::Products(get(l), get(r)),
        }
    }
}
/// n matrices that are to be made or loaded.
struct Wanted {
    name: String,
    n: usize,
    dims: (usize, usize),
    /// k, if they are products.
    rank: Option<usize>,
    /// How a matrix of so many rows and columns starts.
    start: fn(&BnConfig, usize, usize) -> Init,
}
impl Wanted {
    fn rule(c: &BnConfig, name: String) -> Wanted {
        let start = |c: &BnConfig, _: usize, _: usize| {
            let is_uniform = c.phm_c_init.as_deref() == Some("uniform");
            match (c.shares_rule(), is_uniform) {
                (true, false) => Init::Normal(c.phm_init_range.unwrap_or_default() as f32),
                (true, true) => Init::Uniform(1.0),
                (false, false) => Init::Normal(0.01),
                (false, true) => Init::Uniform(0.01),
            }
        };
        let n = c.phm_dim;
        Wanted { name, n, dims: (n, n), rank: (c.factorized_phm_rule == Some(true)).then_some(1), start }
    }
    fn weight(c: &BnConfig, name: String, (input, output): (usize, usize)) -> Wanted {
        let start =
            |_: &BnConfig, rows: usize, cols: usize| Init::Normal((2.0 / (rows + cols) as f64).sqrt() as f32);
        let (n, is_product) = (c.phm_dim, c.factorized_phm_w == Some(true));
        let rank = is_product.then_some(c.phm_rank.unwrap_or(1));
        Wanted { name, n, dims: (input / n, output / n), rank, start }
    }
    /// `one` makes or loads a tensor of this name, shape and start.
    fn get<P>(
        &self,
        c: &BnConfig,
        mut one: impl FnMut(&str, [usize; 3], Init) -> Result<P>,
    ) -> Result<Held<P>> {
        let (n, (rows, cols), start) = (self.n, self.dims, self.start);
        Ok(match self.rank {
            None => Held::Whole(one(&self.name, [n, rows, cols], start(c, rows, cols))?),
            Some(k) => Held::Products(
                one(&format!("{}_left", self.name), [n, rows, k], start(c, rows, k))?,
                one(&format!("{}_right", self.name), [n, k, cols], start(c, k, cols))?,
            ),
        })
    }
}

impl BnConfig {
    pub(super) fn shares_rule(&self) -> bool {
        self.shared_phm_rule == Some(true)
    }
    fn shares_weights(&self) -> bool {
        self.shared_w_phm == Some(true)
    }
    /// True if the rule trains where the adapter does.
    fn learns_rule(&self) -> bool {
        self.learn_phm == Some(true)
    }
    /// Refuses what makes no hypercomplex projection.
    pub(super) fn check_phm(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::Config(what));
        let (c_init, start) = (self.phm_c_init.as_deref(), self.hypercomplex_nonlinearity.as_deref());
        match () {
            () if !(1..=MOST).contains(&self.phm_dim) => {
                wrong(format!("`phm_dim` is {}, expected 1 to {MOST}", self.phm_dim))
            }
            () if self.factorized_phm_w == Some(true)
                && self.phm_rank.is_none_or(|r| r == 0 || r > 1 << 16) =>
            {
                wrong(format!("`phm_rank` is {:?}, expected a rank from 1 on", self.phm_rank))
            }
            () if !matches!(c_init, Some("normal" | "uniform")) => {
                wrong(format!("`phm_c_init` is {c_init:?}, expected `normal` or `uniform`"))
            }
            () if !self.phm_init_range.is_some_and(|x| (x as f32).is_finite() && x >= 0.0) => {
                wrong(format!("`phm_init_range` is {:?}, expected a number from 0 on", self.phm_init_range))
            }
            () if !start.is_some_and(|s| STARTS.contains(&s)) => wrong(format!(
                "`hypercomplex_nonlinearity` is {start:?}, expected one of {}",
                STARTS.join(", ")
            )),
            () if self.init_weights != super::Start::Bert => wrong(
                "`init_weights` of hypercomplex projections is `bert`: their fields say how they start"
                    .into(),
            ),
            () if self.shares_weights() && matches!(self.reduction_factor, super::Reduction::PerLayer(_)) => {
                wrong("`shared_W_phm` needs one `reduction_factor` for all layers".into())
            }
            () => Ok(()),
        }
    }
    /// Refuses channels and a width that the rule does not divide.
    pub(super) fn check_divides(&self, channels: usize, width: usize) -> Result<()> {
        let n = self.phm_dim;
        match [("channels", channels), ("width of the bottleneck", width)].iter().find(|(_, c)| c % n != 0) {
            Some((what, c)) => {
                Err(Error::Config(format!("`phm_dim` is {n}, which does not divide the {what}, {c}")))
            }
            None => Ok(()),
        }
    }
    /// What all projections share.
    pub(super) fn phm_common(
        &self,
        channels: usize,
        place: &Place<'_>,
        to: &mut Common,
        from: &mut Source<'_, '_>,
    ) -> Result<()> {
        let mut put = |wanted: Wanted, trains: bool| {
            let place = Place { trains, ..*place };
            let one = |name: &str, shape: [usize; 3], init: Init| {
                to.get(&place, (SHARED, name), (&shape, Role::WEIGHT, init), from)
            };
            wanted.get(self, one).map(|_| ())
        };
        if self.shares_weights() {
            let width = self.width(channels, place.info.site.layer)?;
            for (side, dims) in [(Side::Down, (channels, width)), (Side::Up, (width, channels))] {
                put(Wanted::weight(self, side.name().into(), dims), place.trains)?;
            }
        }
        if self.shares_rule() {
            put(Wanted::rule(self, "phm_rule".into()), place.trains && self.learns_rule())?;
        }
        Ok(())
    }
}

/// A projection whose weight is a Kronecker sum.
#[derive(Debug)]
pub(super) struct Phm<P: Weight> {
    side: Side,
    how: KroneckerSum,
    /// Its own, unless they are shared.
    rule: Option<Held<SharedWeight>>,
    weight: Option<Held<P>>,
    /// True if what is shared is held as products: (rule, weight).
    products: (bool, bool),
    bias: Option<P>,
}
impl<P: Weight> Phm<P> {
    /// That of (inputs, outputs) whose tensors are named under `path`.
    pub fn build(
        c: &BnConfig,
        side: Side,
        (input, output): (usize, usize),
        path: &str,
        from: &mut Source<'_, '_>,
    ) -> Result<Phm<P>> {
        let n = c.phm_dim;
        let wanted = Wanted::weight(c, format!("{path}.W"), (input, output));
        let how = KroneckerSum { terms: n, a: (n, n), w: wanted.dims };
        let weight = match c.shares_weights() {
            true => None,
            false => {
                Some(wanted.get(c, |name, shape, init| Ok(from.get(name, &shape, Role::WEIGHT, init)?))?)
            }
        };
        let bias = match c.phm_bias {
            // the library's optimiser looks for `bias` in names, so that this one decays
            Some(true) => {
                Some(from.get(&format!("{path}.b"), &[output], Role::WEIGHT, Init::Constant(0.0))?)
            }
            _ => None,
        };
        let wanted = Wanted::rule(c, format!("{path}.phm_rule"));
        let trains = P::TRAINABLE && c.learns_rule();
        let rule = match c.shares_rule() {
            true => None,
            false => Some(wanted.get(c, |name, shape, init| {
                SharedWeight::get(trains, name, (&shape, Role::WEIGHT, init), from)
            })?),
        };
        let products = (c.factorized_phm_rule == Some(true), c.factorized_phm_w == Some(true));
        Ok(Phm { side, how, rule, weight, products, bias })
    }
    /// At its point of use: the weight is made here, (out, in).
    pub fn get<'m>(&'m self, cx: &mut Cx<'m>, here: Here<'m>) -> engine::Result<LinearRef<'m>> {
        let shared = |name: &str, is_product: bool| match is_product {
            false => Matrices::Whole(here.common.weight((SHARED, name))),
            true => {
                let [l, r] =
                    ["left", "right"].map(|side| here.common.weight((SHARED, &format!("{name}_{side}"))));
                Matrices::Products(l, r)
            }
        };
        let rule = match &self.rule {
            Some(own) => own.get(SharedWeight::at_use),
            None => shared("phm_rule", self.products.0),
        };
        let weight = match &self.weight {
            Some(own) => own.get(P::get),
            None => shared(self.side.name(), self.products.1),
        };
        let w = W::Computed(cx.kronecker_sum(rule, weight, self.how)?);
        Ok(LinearRef { w, b: self.bias.as_ref().map(P::get), in_out: false })
    }
    /// Calls `f` on its tensors.
    pub fn each<'a>(&'a self, path: &str, f: &mut dyn FnMut(String, &'a Tensor)) {
        self.weight.iter().for_each(|w| w.each(&format!("{path}.W"), &mut |n, w| f(n, w.tensor())));
        self.bias.iter().for_each(|b| f(format!("{path}.b"), b.tensor()));
        self.rule.iter().for_each(|r| r.each(&format!("{path}.phm_rule"), &mut |n, w| f(n, w.tensor())));
    }
    /// Trains no more.
    pub fn freeze(self) -> Phm<Frozen> {
        let Phm { side, how, rule, weight, products, bias } = self;
        let rule = rule.map(|r| r.map(SharedWeight::freeze));
        let weight = weight.map(|w| w.map(P::freeze));
        Phm { side, how, rule, weight, products, bias: bias.map(P::freeze) }
    }
}
impl<P: Weight> Parameters for Phm<P> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.weight.iter().for_each(|w| w.each("", &mut |_, w| w.visit(f)));
        self.bias.iter().for_each(|b| b.visit(f));
        self.rule.iter().for_each(|r| r.each("", &mut |_, w| w.visit(f)));
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.weight.iter_mut().flat_map(Held::all_mut).for_each(|w| w.visit_mut(f));
        self.bias.iter_mut().for_each(|b| b.visit_mut(f));
        self.rule.iter_mut().flat_map(Held::all_mut).for_each(|w| w.visit_mut(f));
    }
}
