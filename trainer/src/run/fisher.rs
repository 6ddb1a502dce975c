//! How much each weight of an adapter matters to what was learned: the diagonal of the empirical
//! Fisher information.
//!
//! ```text
//! F = 1/N Σₙ (d/dθ log p(yₙ | xₙ))²
//! ```
//! with the labels of the data, element by element; of an example with several labels log p is the
//! sum over them.
use crate::{
    Error, Result,
    learner::{Below, Learner, anchor},
    text::{
        batch::Batch,
        examples::Examples,
        shuffle::{numbers, shuffle},
    },
};
use engraft_engine::{Activations, Gradients, Pass};

/// Draws the examples.
const STREAM: u64 = 0x6669_7368_6572;

/// The file ([`anchor`]) of a learner's adapters on so many of some examples at most, drawn by the
/// seed. An error if none of them has a label, or if a gradient is no number.
pub fn fisher(learner: &Learner, examples: &Examples, most: usize, seed: u64) -> Result<(String, Vec<u8>)> {
    let labelled = |i: &usize| examples.get(*i).is_labelled();
    let mut order: Vec<usize> = (0..examples.len()).filter(labelled).collect();
    shuffle(&mut order, &mut numbers(seed ^ STREAM, 0));
    order.truncate(most);
    if order.is_empty() {
        return Err(Error::Labels("no example has a label, so nothing says what matters".into()));
    }
    let all = learner.adapter_parameters();
    let mut sums: Vec<Vec<f64>> = all.iter().map(|p| vec![0.0; p.tensor().elements()]).collect();
    for item in &order {
        let (mut gradients, batch) = (Gradients::new(), Batch::pack(examples, &[*item]));
        let (of, below) = ((&learner.parts()[0], &batch, 0), (&mut Below::default(), false));
        learner.learn(of, Pass::gradients(), &Activations::default(), 1.0, &mut gradients, below)?;
        for (sum, p) in sums.iter_mut().zip(&all) {
            let Some(gradient) = gradients.get(p) else { continue };
            let gradient: Vec<f32> = gradient.read().map_err(engraft_engine::Error::from)?;
            sum.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += f64::from(g).powi(2));
        }
    }
    let mut means = vec![];
    for (p, sum) in all.into_iter().zip(sums) {
        let mean: Vec<f32> = sum.into_iter().map(|sum| (sum / order.len() as f64) as f32).collect();
        if mean.iter().any(|x| !x.is_finite()) {
            return Err(Error::Model(format!("the gradient of `{}` is no number", p.name())));
        }
        means.push((p, mean));
    }
    anchor::file(&means)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        demo::unpack_backbone,
        learner::{Backbone, Graft, Opening},
        tasks::{Classification, Task},
        text::example::{Example, Reads},
    };
    use engraft_adapters::{Fields, parse};
    use engraft_engine::Device;

    fn learner(directory: &std::path::Path) -> Learner {
        let model = unpack_backbone(directory).unwrap();
        let how = Opening { dropout: Some(0.0), ..Opening::default() };
        let backbone = Backbone::open(model, &Device::cpu(1).unwrap(), how).unwrap();
        let task = Classification::new(["a", "b", "c"].map(String::from)).unwrap();
        let head = task.head(backbone.model().info(), true);
        let adapter = Some(parse("pfeiffer[reduction_factor=16]", &Fields::new()).unwrap());
        let graft = Graft { name: "x".into(), adapter, head, seed: 3, ..Graft::default() };
        backbone.learner(graft, Box::new(task)).unwrap()
    }
    fn examples() -> Examples {
        let one = |i: u32| Example::new(vec![2, 7 + i, 40 + 3 * i, 3], Reads::Summary, vec![i % 3]);
        (0..5).map(one).collect()
    }
    /// The number at a place of a tensor is changed.
    fn change(learner: &mut Learner, name: &str, at: usize, by: f32) {
        for all in learner.parameters().unwrap() {
            all.visit_mut(&mut |p| {
                if p.name() == name {
                    let mut values: Vec<f32> = p.tensor().to_f32().unwrap();
                    values[at] += by;
                    p.buffer_mut().write(&values).unwrap();
                }
            });
        }
    }
    fn loss(learner: &Learner, batch: &Batch) -> f64 {
        let (of, below) = ((&learner.parts()[0], batch, 0), (&mut Below::default(), false));
        let mut gradients = Gradients::new();
        learner.learn(of, Pass::gradients(), &Activations::default(), 1.0, &mut gradients, below).unwrap().0
    }
    /// What the file says of each tensor: its weights, and their Fisher information.
    fn read(directory: &std::path::Path, learner: &Learner) -> Vec<(String, [Vec<f32>; 2])> {
        let c = engraft_engine::Checkpoint::open(&directory.join(anchor::FILE)).unwrap();
        let of = |p: &engraft_engine::Param| {
            let value = |kind: &str| c.values(&format!("{kind}.{}", p.name()), p.tensor().shape()).unwrap();
            (p.name().to_string(), ["weight", "fisher"].map(value))
        };
        learner.adapter_parameters().into_iter().map(of).collect()
    }

    #[test]
    fn it_is_the_mean_square_of_the_slopes() {
        let dir = tempfile::tempdir().unwrap();
        let (mut learner, examples) = (learner(dir.path()), examples());
        let (name, bytes) = fisher(&learner, &examples, 99, 1).unwrap();
        assert!(bytes == fisher(&learner, &examples, 5, 2).unwrap().1, "all of them, in any order");
        assert!(bytes != fisher(&learner, &examples, 2, 1).unwrap().1);
        std::fs::write(dir.path().join(name), bytes).unwrap();
        for (name, [_, fisher]) in read(dir.path(), &learner) {
            let most = (0..fisher.len()).max_by(|a, b| fisher[*a].total_cmp(&fisher[*b])).unwrap();
            let (mut sum, h) = (0.0, 1e-2);
            for item in 0..examples.len() {
                let batch = Batch::pack(&examples, &[item]);
                change(&mut learner, &name, most, h);
                let above = loss(&learner, &batch);
                change(&mut learner, &name, most, -2.0 * h);
                let below = loss(&learner, &batch);
                change(&mut learner, &name, most, h);
                sum += ((above - below) / (2.0 * f64::from(h))).powi(2);
            }
            let (found, expected) = (f64::from(fisher[most]), sum / 5.0);
            assert!((found - expected).abs() < 0.05 * expected, "{name}: {found} {expected}");
        }
    }

    #[test]
    fn what_holds_an_adapter_pulls_it_back() {
        let dir = tempfile::tempdir().unwrap();
        let (mut learner, examples) = (learner(dir.path()), examples());
        let (name, bytes) = fisher(&learner, &examples, 99, 1).unwrap();
        std::fs::write(dir.path().join(name), bytes).unwrap();
        learner.hold(dir.path(), 3.0).unwrap();
        learner.hold(dir.path(), 1.0).unwrap();
        let gradients = |learner: &Learner| {
            let mut into = Gradients::new();
            learner.penalise(&mut into).unwrap();
            let of = |p| into.get(p).unwrap().read::<f32>().unwrap();
            learner.adapter_parameters().into_iter().map(of).collect::<Vec<_>>()
        };
        assert!(gradients(&learner).iter().flatten().all(|g| *g == 0.0), "it stands where it stood");
        let all = read(dir.path(), &learner);
        all.iter().for_each(|(name, _)| change(&mut learner, name, 1, 0.5));
        for ((name, [at, fisher]), g) in all.iter().zip(gradients(&learner)) {
            // 3 F (w - w') + 1 F (w - w')
            let expected = 4.0 * fisher[1] * ((at[1] + 0.5) - at[1]);
            assert!((g[1] - expected).abs() <= 1e-5 * expected, "{name}: {} {expected}", g[1]);
            assert!(g.iter().enumerate().all(|(i, g)| i == 1 || *g == 0.0));
        }
        assert!(all.iter().any(|(_, [_, fisher])| fisher[1] > 0.0));
        std::fs::write(dir.path().join(anchor::FILE), b"{}").unwrap();
        assert!(learner.hold(dir.path(), 1.0).unwrap_err().to_string().contains(anchor::FILE));
        assert!(learner.hold(&dir.path().join("nowhere"), 1.0).is_err());
    }

    #[test]
    fn without_labels_nothing_matters() {
        let dir = tempfile::tempdir().unwrap();
        let none: Examples = [Example::new(vec![2, 3], Reads::Summary, vec![])].into_iter().collect();
        assert!(fisher(&learner(dir.path()), &none, 9, 1).unwrap_err().to_string().contains("no example"));
    }
}
