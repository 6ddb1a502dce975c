//! A gate (UniPELT, Mao et al. 2022): what a module adds, times σ(x w + b), averaged over the rows
//! of a sequence. Each sequence has a gate of its own, whatever else is in the batch.
//!
//! AdapterHub averages over padding too where sequences are padded; a packed batch has none, and
//! gives each sequence what the library gives it alone.
use engraft_engine::{
    self as engine, Act, Activation, Cx, Frozen, Init, Linear, Param, Parameters, Source, Weight,
};

/// w (n, C) and b (n): n gates, each for a part of what a module adds.
#[derive(Debug)]
pub(super) struct Gate<P: Weight>(Linear<P>);

impl<P: Weight> Gate<P> {
    /// The gates on (channels, n) named `gate` under `path`; weight and bias start so.
    pub fn build(
        dims: (usize, usize),
        path: &str,
        (weight, bias): (Init, Init),
        from: &mut Source<'_, '_>,
    ) -> engine::Result<Gate<P>> {
        Ok(Gate(from.linear(&format!("{path}.gate"), dims, weight, Some(bias))?))
    }
    /// The gates of each row's sequence for modules that read x: (T, C) to (T, n).
    pub fn of<'m>(&'m self, cx: &mut Cx<'m>, x: &Act) -> engine::Result<Act> {
        let g = cx.matmul(x, self.0.get())?;
        let g = cx.activate(&g, Activation::Sigmoid)?;
        let g = cx.sequence_means(&g)?; // (sequences, n)
        cx.to_rows(&g, x)
    }
    /// Calls `f` on its weights.
    pub fn each<'a>(&'a self, f: &mut dyn FnMut(String, &'a P)) {
        self.0.each("gate", f);
    }
    /// Trains no more.
    pub fn freeze(self) -> Gate<Frozen> {
        Gate(self.0.freeze())
    }
}
impl<P: Weight> Parameters for Gate<P> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.0.visit(f);
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.0.visit_mut(f);
    }
}
