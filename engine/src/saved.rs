//! Values held for the backward pass: as they are, or rounded to bf16.
use crate::{Cx, Result};
use engraft_kernels::{Buffer, Class, DType, View, ViewMut, convert};
use half::bf16;
use std::sync::Arc;

/// Values held for the backward pass.
#[derive(Clone, Debug)]
pub(crate) struct SavedValues(Arc<Buffer>);

impl SavedValues {
    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.0.bytes()
    }
    /// Values.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
    /// The values in f32, for as long as they are used.
    pub(crate) fn get(&self) -> Result<Arc<Buffer>> {
        if self.0.dtype() == DType::F32 {
            return Ok(self.0.clone());
        }
        let device = self.0.device();
        let mut x = device.alloc::<f32>(Class::Scratch, self.0.len())?;
        convert::widen(device, View::row(&self.0), ViewMut::row(&mut x))?;
        Ok(Arc::new(x))
    }
}

impl Cx<'_> {
    /// Holds f32 values for the backward pass. In a layer that keeps bf16 this is a rounded copy,
    /// the same one for everything that saves these values.
    pub(crate) fn save_for_backward(&mut self, x: &Arc<Buffer>) -> Result<SavedValues> {
        if !self.keeping.rounds {
            if x.class() != Class::Saved {
                x.set_class(Class::Saved);
            }
            return Ok(SavedValues(x.clone()));
        }
        let of_x = |(from, _): &&(std::sync::Weak<Buffer>, _)| from.as_ptr() == Arc::as_ptr(x);
        if let Some(y) = self.keeping.rounded.iter().find(of_x).and_then(|(_, to)| to.upgrade()) {
            return Ok(SavedValues(y));
        }
        let mut y = self.device().alloc::<bf16>(Class::Saved, x.len())?;
        convert::narrow(self.device(), View::row(x), ViewMut::row(&mut y))?;
        let y = Arc::new(y);
        self.keeping.rounded.push((Arc::downgrade(x), Arc::downgrade(&y)));
        Ok(SavedValues(y))
    }
    /// Uninitialised f32 values that [`Cx::save_for_backward`] will be asked to hold.
    pub(crate) fn alloc_saved(&self, len: usize) -> Result<Buffer> {
        let class = if self.keeping.rounds { Class::Scratch } else { Class::Saved };
        Ok(self.device().alloc::<f32>(class, len)?)
    }
}
