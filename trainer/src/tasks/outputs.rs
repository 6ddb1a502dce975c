//! What a task says of a row, as far as a student can learn it from a teacher.
use engraft_engine::kernels::pointwise_loss::sigmoid;

/// What the outputs of a task are, where they can be learned from those of a teacher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outputs {
    /// Logits of classes of which each row has one.
    Classes,
    /// Logits of labels, each of which is there or not by itself.
    Labels,
    /// Numbers.
    Numbers,
}

impl Outputs {
    /// What a student is to say, of a row of a teacher's outputs z: softmax(z/τ) of classes, σ(z/τ)
    /// of labels, numbers as they are.
    pub fn softened(self, z: &[f32], temperature: f64) -> Vec<f64> {
        let z = z.iter().map(|z| f64::from(*z));
        match self {
            Outputs::Numbers => z.collect(),
            Outputs::Labels => z.map(|z| sigmoid(z / temperature)).collect(),
            Outputs::Classes => {
                let z: Vec<f64> = z.map(|z| z / temperature).collect();
                let top = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let all: f64 = z.iter().map(|z| (z - top).exp()).sum();
                z.into_iter().map(|z| (z - top).exp() / all).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_softened() {
        let z = [0.0, 4f32.ln() * 2.0];
        let close = |got: Vec<f64>, want: [f64; 2]| {
            assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6), "{got:?}");
        };
        close(Outputs::Classes.softened(&z, 2.0), [0.2, 0.8]);
        close(Outputs::Labels.softened(&z, 2.0), [0.5, 0.8]);
        close(Outputs::Numbers.softened(&z, 2.0), [0.0, 16f64.ln()]);
        close(Outputs::Classes.softened(&[1e30, -1e30], 0.5), [1.0, 0.0]);
    }
}
