//! Bytes by what they are held for.
use engraft_engine::{Class, kernels::Usage};
use serde::{Deserialize, Serialize};

/// Bytes by what they are held for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bytes {
    /// Frozen weights.
    pub backbone: usize,
    /// Trained weights.
    pub adapter: usize,
    /// Gradients of trained weights.
    pub gradient: usize,
    /// Optimiser state.
    pub optimiser: usize,
    /// Activations kept for the backward pass.
    pub saved: usize,
    /// What lives for a moment.
    pub scratch: usize,
}
impl Bytes {
    pub(crate) fn of(f: impl Fn(Class) -> usize) -> Bytes {
        Bytes {
            backbone: f(Class::Backbone),
            adapter: f(Class::Adapter),
            gradient: f(Class::Grad),
            optimiser: f(Class::Optim),
            saved: f(Class::Saved),
            scratch: f(Class::Scratch),
        }
    }
    /// The most that was held for each purpose, at different moments.
    pub fn highest(u: &Usage) -> Bytes {
        Bytes::of(|c| u.peak(c))
    }
    /// What was held for each purpose when most was held in all.
    pub fn at_once(u: &Usage) -> Bytes {
        Bytes::of(|c| u.at_peak(c))
    }
    /// All of them, with their names.
    pub fn by_class(&self) -> [(&'static str, usize); 6] {
        let v = [self.backbone, self.adapter, self.gradient, self.optimiser, self.saved, self.scratch];
        std::array::from_fn(|i| (Class::ALL[i].name(), v[i]))
    }
    /// Their sum.
    pub fn total(&self) -> usize {
        self.by_class().iter().map(|(_, b)| b).sum()
    }
}

/// Bytes to read: `12.3 MiB`.
pub fn show(bytes: usize) -> String {
    let b = bytes as f64;
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", b / 1024.0),
        _ => format!("{:.1} MiB", b / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_well() {
        assert_eq!([show(5), show(2048), show(3 << 19)], ["5 B", "2.0 KiB", "1.5 MiB"]);
    }
}
