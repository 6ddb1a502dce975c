//! The weights of adapters as numbers, to be taken, mixed and put back.
use super::learner::Learner;
use crate::{Error, Result};
use engraft_adapters::export::composition;
use engraft_engine::{Error as EngineError, Gradients, Param, Parameters};

impl Learner {
    /// The values of everything that trains in its adapters, weight by weight.
    pub fn adapter_weights(&self) -> Result<Vec<Vec<f32>>> {
        self.of_adapters(|p| Ok(p.tensor().to_f32()?))
    }
    /// Puts such values back, of this learner or of one with the same adapters; an error if they are
    /// of others.
    pub fn set_adapter_weights(&mut self, values: &[Vec<f32>]) -> Result<()> {
        let (mut left, mut result) = (values.iter(), Ok(()));
        self.adapters.visit_mut(&mut |p| {
            let fits = left.next().filter(|values| values.len() == p.tensor().elements());
            if result.is_ok() {
                result = match fits {
                    Some(values) => p.buffer_mut().write(values).map_err(|e| EngineError::from(e).into()),
                    None => Err(Error::Model(format!("there are no such values for `{}`", p.name()))),
                };
            }
        });
        match left.next() {
            Some(_) if result.is_ok() => Err(Error::Model("there are values of more weights".into())),
            _ => result,
        }
    }
    /// Of each weight of the adapters the gradient; zeros where there is none.
    pub(crate) fn adapter_gradients(&self, g: &Gradients) -> Result<Vec<Vec<f32>>> {
        self.of_adapters(|p| match g.get(p) {
            Some(g) => Ok(g.read::<f32>().map_err(EngineError::from)?),
            None => Ok(vec![0.0; p.tensor().elements()]),
        })
    }
    fn of_adapters(&self, f: impl Fn(&Param) -> Result<Vec<f32>>) -> Result<Vec<Vec<f32>>> {
        let mut all = vec![];
        self.adapters.visit(&mut |p| all.push(f(p)));
        all.into_iter().collect()
    }
    /// Sets every weight of its heads to zero: such a head of one layer finds all classes equally
    /// probable, and learns.
    pub fn clear_heads(&mut self) -> Result<()> {
        let mut result = Ok(());
        for head in self.parts.iter_mut().filter_map(|part| part.head.as_mut()) {
            head.visit_mut(&mut |p| {
                let zeros = vec![0f32; p.tensor().elements()];
                if result.is_ok() {
                    result = p.buffer_mut().write(&zeros).map_err(EngineError::from);
                }
            });
        }
        Ok(result?)
    }
    /// The files of its adapters alone, by name: see [`Learner::files`].
    pub fn adapter_files(&self) -> Result<Vec<(String, Vec<u8>)>> {
        Ok(composition(&self.adapters, self.setup(), None, &self.backbone().recorded_host()?)?)
    }
}
