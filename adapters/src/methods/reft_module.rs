//! The module of a ReFT behind a layer (see [`super::reft`]).
//!
//! An R with orthonormal rows is stored as PyTorch's `orthogonal` parametrisation does, by
//! Householder reflections that leave a fixed orthogonal base (Lezcano-Casado 2019, "dynamic
//! trivialisation"):
//!
//! ```text
//! Rᵀ = B H₁ H₂ .. H_r D        H_i = I - 2 v_i v_iᵀ / |v_i|²        v_i = (0 .. 0, 1, what row i of `original` has behind its diagonal)
//! ```
//! D is what `original` has on its diagonal, rounded towards zero: -1, which no gradient reaches.
use crate::{AtStream, Here, Module, Place, Result, View};
use engraft_engine::{
    self as engine, Act, Activation, Class, Cx, Frozen, Init, Linear, LinearRef, NormKind, NormRef, Param,
    Parameters, Role, Rows, Source, Tensor, W, Weight, pack,
};

/// What AdapterHub's checkpoints call the modules.
const COLLECTION: &str = "refts";

/// What an intervention does where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reft {
    /// First tokens.
    pub prefix: usize,
    /// Last tokens.
    pub suffix: usize,
    /// Both have the same weights.
    pub is_tied: bool,
    /// R h is subtracted.
    pub subtracts: bool,
    /// f.
    pub act: Option<Activation>,
    /// Dropout of what it gives.
    pub dropout: f32,
}

#[derive(Debug)]
struct ReftModule<P: Weight> {
    how: Reft,
    /// For the first tokens and for the last ones; one if they are tied.
    units: Vec<Unit<P>>,
}
#[derive(Debug)]
struct Unit<P: Weight> {
    source: Linear<P>,
    projection: Projection<P>,
}
/// R (r, C).
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there are two for each layer")]
enum Projection<P: Weight> {
    Free(P),
    Orthogonal {
        /// The vectors of the reflections, (r, C).
        original: P,
        /// B (C, C).
        base: Frozen,
        /// D.
        signs: Vec<f32>,
    },
}

/// The module behind a layer of C channels.
pub(super) fn build(
    how: Reft,
    shape: (usize, usize),
    orthogonal: bool,
    place: &Place<'_>,
    from: &mut Source<'_, '_>,
) -> Result<Box<dyn Module>> {
    let path = place.module(COLLECTION);
    fn units<P: Weight>(
        n: usize,
        (c, r): (usize, usize),
        orthogonal: bool,
        path: &str,
        from: &mut Source<'_, '_>,
    ) -> Result<Vec<Unit<P>>> {
        let unit = |i: usize| {
            let (path, bias) = (format!("{path}.units.{i}"), Init::Uniform((c as f32).sqrt().recip()));
            let source =
                from.linear(&format!("{path}.learned_source"), (c, r), Init::KaimingUniform, Some(bias))?;
            Ok(Unit { source, projection: Projection::build((c, r), orthogonal, &path, from)? })
        };
        (0..n).map(unit).collect()
    }
    let n = if how.is_tied { 1 } else { 2 };
    Ok(match place.trains {
        true => Box::new(ReftModule::<Param> { how, units: units(n, shape, orthogonal, &path, from)? }),
        false => Box::new(ReftModule::<Frozen> { how, units: units(n, shape, orthogonal, &path, from)? }),
    })
}
impl<P: Weight> Projection<P> {
    fn build(
        (c, r): (usize, usize),
        orthogonal: bool,
        path: &str,
        from: &mut Source<'_, '_>,
    ) -> Result<Projection<P>> {
        let path = format!("{path}.projection");
        if !orthogonal {
            let w = from.get(&format!("{path}.weight"), &[r, c], Role::WEIGHT, Init::KaimingUniform)?;
            return Ok(Projection::Free(w));
        }
        // to decay would move its diagonal away from -1
        let (path, start) =
            (format!("{path}.parametrizations.weight"), Init::Diagonal { diagonal: -1.0, elsewhere: 0.0 });
        let original: P = from.get(&format!("{path}.original"), &[r, c], Role::BIAS, start)?;
        let reflections = Init::Reflections(r);
        let base = from.get(&format!("{path}.0.base"), &[c, c], Role::WEIGHT, reflections)?;
        let values = original.tensor().to_f32()?;
        let signs = (0..r).map(|i| values[i * c + i].trunc()).collect();
        Ok(Projection::Orthogonal { original, base, signs })
    }
    /// R.
    fn get<'m>(&'m self, cx: &mut Cx<'m>) -> engine::Result<W<'m>> {
        match self {
            Projection::Free(w) => Ok(w.get()),
            Projection::Orthogonal { original, base, signs } => {
                let (w, r) = (original.get(), signs.len());
                let c = w.shape()[1];
                let constant = |cx: &Cx<'m>, rows: usize, cols: usize, v: &[f32]| {
                    Act::new(cx.device().upload(Class::Scratch, v)?, cols, pack([rows]))
                };
                let mut q = vec![0.0; r * c];
                signs.iter().enumerate().for_each(|(i, s)| q[i * c + i] = *s);
                let mut q = constant(cx, r, c, &q)?;
                let ones = W::Computed(constant(cx, 1, c, &vec![1.0; c])?);
                for i in (0..r).rev() {
                    let mut front = vec![0.0; i + 1];
                    front[i] = 1.0;
                    let front = constant(cx, 1, i + 1, &front)?;
                    let behind = cx.part(&w, (r, c), [i..i + 1, i + 1..c])?;
                    let v = cx.join_columns(&[&front, &behind])?;
                    // of length √C
                    let norm = NormRef { w: ones.clone(), b: None, eps: 0.0, kind: NormKind::Rms };
                    let v = W::Computed(cx.normalise(&v, norm)?);
                    let t = cx.matmul(&q, LinearRef { w: v.clone(), b: None, in_out: false })?; // (r, 1)
                    let t = cx.scale(t, -2.0 / c as f32)?;
                    q = cx.matmul_plus(&t, LinearRef { w: v, b: None, in_out: true }, &q)?;
                }
                let base = LinearRef { w: base.get(), b: None, in_out: false };
                Ok(W::Computed(cx.matmul(&q, base)?)) //                                           (r, C)
            }
        }
    }
    fn each<'a>(&'a self, f: &mut dyn FnMut(&str, &'a Tensor)) {
        match self {
            Projection::Free(w) => f("weight", w.tensor()),
            Projection::Orthogonal { original, base, .. } => {
                f("parametrizations.weight.original", original.tensor());
                f("parametrizations.weight.0.base", base.tensor());
            }
        }
    }
    fn trained(&self) -> &P {
        match self {
            Projection::Free(w) | Projection::Orthogonal { original: w, .. } => w,
        }
    }
    fn trained_mut(&mut self) -> &mut P {
        match self {
            Projection::Free(w) | Projection::Orthogonal { original: w, .. } => w,
        }
    }
    fn freeze(self) -> Projection<Frozen> {
        match self {
            Projection::Free(w) => Projection::Free(w.freeze()),
            Projection::Orthogonal { original, base, signs } => {
                Projection::Orthogonal { original: original.freeze(), base, signs }
            }
        }
    }
}
impl<P: Weight> Unit<P> {
    /// x (rows, C) with what it gives in the place of these rows.
    fn run<'m>(
        &'m self,
        cx: &mut Cx<'m>,
        (how, here, salt): (&Reft, Here<'m>, u8),
        x: Act,
        rows: &Rows,
    ) -> engine::Result<Act> {
        let h = cx.take_rows(&x, rows)?;
        let r = self.projection.get(cx)?;
        let mut source = cx.matmul(&h, self.source.get())?; //                                     (rows, r)
        if let Some(act) = how.act {
            source = cx.activate(&source, act)?;
        }
        if how.subtracts {
            let own = cx.matmul(&h, LinearRef { w: r.clone(), b: None, in_out: false })?;
            let own = cx.scale(own, -1.0)?;
            source = cx.add(&source, &own)?;
        }
        let up = LinearRef { w: r, b: None, in_out: true };
        let mut delta = cx.matmul(&source, up)?; //                                                (rows, C)
        if how.dropout > 0.0 {
            let all = cx.add(&h, &delta)?;
            let all = cx.dropout(all, how.dropout, here.site, salt)?;
            let h = cx.scale(h, -1.0)?;
            delta = cx.add(&all, &h)?;
        }
        cx.add_rows(x, &delta, rows)
    }
}
impl<P: Weight> AtStream for ReftModule<P> {
    fn stream<'m>(&'m self, cx: &mut Cx<'m>, here: Here<'m>, x: Act) -> engine::Result<Act> {
        let (items, how) = (x.seqs().iter().map(|s| s.item + 1).max().unwrap_or(0), &self.how);
        let (mut first, mut last) = (vec![vec![]; items], vec![vec![]; items]);
        for s in x.seqs().iter() {
            let tokens = s.len.saturating_sub(s.extra);
            // where both meet the last ones win
            let from = tokens - how.suffix.min(tokens);
            first[s.item] = (0..how.prefix.min(from)).collect();
            last[s.item] = (from..tokens).collect();
        }
        if let [both] = self.units.as_slice() {
            let all = first.into_iter().zip(last).map(|(a, b)| [a, b].concat()).collect::<Vec<_>>();
            return both.run(cx, (how, here, 0), x, &Rows::These(all.into()));
        }
        let mut y = x;
        for (salt, (unit, rows)) in self.units.iter().zip([first, last]).enumerate() {
            y = unit.run(cx, (how, here, salt as u8), y, &Rows::These(rows.into()))?;
        }
        Ok(y)
    }
}
impl<P: Weight> Module for ReftModule<P> {
    fn view(&self) -> View<'_> {
        View::Stream(self)
    }
    fn collection(&self) -> &'static str {
        COLLECTION
    }
    fn each<'a>(&'a self, f: &mut dyn FnMut(String, &'a Tensor)) {
        for (i, unit) in self.units.iter().enumerate() {
            unit.source.each(&format!("units.{i}.learned_source"), &mut |name, w: &'a P| f(name, w.tensor()));
            unit.projection.each(&mut |name, w| f(format!("units.{i}.projection.{name}"), w));
        }
    }
    fn freeze(self: Box<Self>) -> Box<dyn Module> {
        let freeze = |u: Unit<P>| Unit { source: u.source.freeze(), projection: u.projection.freeze() };
        Box::new(ReftModule { how: self.how, units: self.units.into_iter().map(freeze).collect() })
    }
}
impl<P: Weight> Parameters for ReftModule<P> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        for unit in &self.units {
            unit.source.visit(f);
            unit.projection.trained().visit(f);
        }
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        for unit in &mut self.units {
            unit.source.visit_mut(f);
            unit.projection.trained_mut().visit_mut(f);
        }
    }
}
