use super::{super::distillation::labelled, *};
use crate::{
    learner::{Backbone, Opening},
    tasks::{Given, Outputs, Task, TaskType, Told},
    text::{example::Example, taught::Taught},
};
use engraft_engine::{Activations, Checkpoint, Device, Gradients};
use serde_json::Value;
use std::path::PathBuf;

fn fixture(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "tests", "fixtures", name].iter().collect()
}
fn json(path: PathBuf) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}
fn learner(student: &str) -> Learner {
    let backbone =
        Backbone::open(fixture("bert/model"), &Device::cpu(1).unwrap(), Opening::default()).unwrap();
    let info = backbone.model().info().clone();
    let task = |head: Option<&engraft_adapters::Head>| {
        let head = head.unwrap();
        let kind = TaskType::of_head(Some(head.config()), &info)?;
        (kind.known)(head.labels().to_vec(), &Told::default())
    };
    backbone.load_learner(fixture(student), task).unwrap()
}
fn examples(student: &str, task: &dyn Task) -> Vec<Example> {
    let v = json(fixture(student).join("input.json"));
    let lists = |key: &str| serde_json::from_value::<Vec<Vec<u32>>>(v[key].clone()).unwrap();
    let labels: Vec<Given> = serde_json::from_value(v["labels"].clone()).unwrap();
    let of_one = |((ids, types), label): ((Vec<u32>, Vec<u32>), Given)| Example {
        types,
        ..task.example(ids, Some(&label)).unwrap()
    };
    lists("input_ids").into_iter().zip(lists("token_type_ids")).zip(labels).map(of_one).collect()
}
/// The mean loss of a batch, and the gradients of it.
fn learned(learner: &Learner, batch: &Batch) -> (f64, Gradients) {
    let (mut gradients, policy) = (Gradients::new(), Activations::default());
    let (weight, below) = (1.0 / batch.labelled() as f32, (&mut Below::default(), false));
    let (sum, _) = learner
        .learn((learner.part(), batch, 0), Pass::gradients(), &policy, weight, &mut gradients, below)
        .unwrap();
    (sum / batch.labelled() as f64, gradients)
}
fn unit(row: &[f32]) -> Vec<f32> {
    let length = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    row.iter().map(|x| (f64::from(*x) / length) as f32).collect()
}
fn far(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len());
    let top = want.iter().fold(0f64, |m, x| m.max(f64::from(x.abs())));
    got.iter().zip(want).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max) / top
}
/// What a teacher with these logits and states for the labelled rows says of the examples of a batch.
fn taught(batch: &mut Batch, logits: &[f32], hidden: &[Vec<f32>], how: (Outputs, f64)) {
    let (rows, channels) = (batch.labelled(), hidden.first().map_or(0, |h| h.len() / batch.labelled()));
    let width = logits.len() / rows;
    let mut at = 0;
    for (own, count) in labelled(batch).into_iter().zip(batch.counts().collect::<Vec<_>>()) {
        let mut said = Taught { targets: vec![0.0; count * width], hidden: vec![] };
        for (k, row) in own.iter().enumerate() {
            let soft = how.0.softened(&logits[(at + k) * width..][..width], how.1);
            let to = &mut said.targets[row * width..][..width];
            to.iter_mut().zip(soft).for_each(|(to, x)| *to = x as f32);
        }
        for h in hidden {
            let states = h[at * channels..(at + own.len()) * channels].chunks(channels.max(1));
            said.hidden.extend(states.flat_map(unit));
        }
        at += own.len();
        batch.taught.push(said);
    }
}

#[test]
fn losses_and_gradients_are_those_of_pytorch() {
    for name in ["classes", "hidden", "tags", "labels", "numbers"] {
        let about = json(fixture("distillation").join(name).join("input.json"));
        let number = |key: &str| about[key].as_f64().unwrap();
        let student = about["student"].as_str().unwrap();
        let want =
            Checkpoint::open(&fixture("distillation").join(name).join("expected.safetensors")).unwrap();
        let get = |key: &str| want.values(key, want.shape(key).unwrap()).unwrap();
        let mut one = learner(student);
        let mut batch: Batch = examples(student, one.task()).into_iter().collect();
        let layers: Vec<usize> = serde_json::from_value(about["layers"].clone()).unwrap();
        let hidden: Vec<Vec<f32>> = layers.iter().map(|l| get(&format!("hidden.{l}"))).collect();
        let soft = Soft { alpha: number("alpha"), temperature: number("temperature") };
        let outputs = one.task().outputs().unwrap();
        taught(&mut batch, &get("teacher"), &hidden, (outputs, soft.temperature));
        let like = Likeness { layers, channels: 32, weight: number("weight"), seed: 1 };
        let like = Some(like).filter(|like| !like.layers.is_empty());
        one.set_distillation(soft, like).unwrap();
        let (loss, gradients) = learned(&one, &batch);
        assert!(far(&[loss as f32], &get("loss")) < 1e-5, "{name}: {loss}");
        let mut compared = 0;
        one.visit(&mut |p| {
            let got = gradients.get(p).unwrap().read::<f32>().unwrap();
            let e = far(&got, &get(&format!("grad.{}", p.name())));
            assert!(e < 1e-4, "{name}: {} {e:.1e}", p.name());
            compared += 1;
        });
        assert_eq!(compared, want.names().filter(|n| n.starts_with("grad.")).count(), "{name}");
        let untold = learner(student);
        let mut none = Gradients::new();
        let below = (&mut Below::default(), false);
        let pass = (Pass::gradients(), &Activations::default());
        let e = untold
            .learn((untold.part(), &batch, 0), pass.0, pass.1, 1.0, &mut none, below)
            .unwrap_err()
            .to_string();
        assert!(e.contains("taught"), "{e}");
        // what is not taught is learned from its labels
        batch.taught.clear();
        let plain = learned(&learner(student), &batch);
        assert_eq!(learned(&one, &batch).0, plain.0, "{name}");
    }
}

#[test]
fn a_wider_teacher_is_met_by_a_projection_that_is_not_saved() {
    let student = "bert/houlsby";
    let (mut one, plain) = (learner(student), learner(student));
    let mut batch: Batch = examples(student, one.task()).into_iter().collect();
    let rows = batch.len();
    let values = |n: usize| (0..n).map(|i| ((i * 37 % 23) as f32 - 11.0) / 7.0).collect::<Vec<f32>>();
    let (logits, states) = (values(2 * rows), values(40 * rows));
    taught(&mut batch, &logits, std::slice::from_ref(&states), (Outputs::Classes, 2.0));
    let like = |layers: Vec<usize>| Likeness { layers, channels: 40, weight: 3.0, seed: 7 };
    let soft = Soft { alpha: 0.0, temperature: 2.0 };
    one.set_distillation(soft, Some(like(vec![1]))).unwrap();
    assert_eq!((one.size(), one.files().unwrap()), (plain.size(), plain.files().unwrap()));
    let mut projection = None;
    one.visit(&mut |p| projection = Some(p).filter(|p| p.name().starts_with("distillation")).or(projection));
    let projection = projection.unwrap();
    assert_eq!(projection.tensor().shape(), [40, 32]);
    let w = projection.tensor().to_f32().unwrap();
    let hidden = &one.teach(&batch, &[1]).unwrap().1[0];
    let mut want = 0.0;
    for (h, t) in hidden.rows().into_iter().zip(states.chunks(40)) {
        let dot = |row: &[f32]| row.iter().zip(h.iter()).map(|(w, h)| f64::from(w * h)).sum::<f64>();
        let z: Vec<f64> = w.chunks(32).map(dot).collect();
        let length = z.iter().map(|z| z * z).sum::<f64>().sqrt();
        let errors = z.iter().zip(unit(t)).map(|(z, t)| (z / length - f64::from(t)).powi(2));
        want += 3.0 * errors.sum::<f64>() / 40.0 / rows as f64;
    }
    let (loss, gradients) = learned(&one, &batch);
    let of_labels = learned(&plain, &Batch { taught: vec![], ..batch.clone() }).0;
    assert!((loss - of_labels - want).abs() < 1e-5 * want, "{loss} {of_labels} {want}");
    let gradient = gradients.get(projection).unwrap().read::<f32>().unwrap();
    assert!(gradient.iter().any(|g| g.abs() > 1e-6));
    // the same seed draws the same, and it is there to be trained
    let before = w;
    one.set_distillation(soft, Some(like(vec![1]))).unwrap();
    let (mut again, mut slots) = (vec![], std::collections::BTreeSet::new());
    one.visit(&mut |p| {
        assert!(slots.insert(p.slot()), "`{}` has a place of its own", p.name());
        if p.name().starts_with("distillation") {
            again = p.tensor().to_f32().unwrap();
        }
    });
    assert_eq!(again, before);
    // layers that are not there, or in no order
    for (layers, words) in [(vec![9], "has 3 layers"), (vec![1, 1], "once"), (vec![1, 0], "order")] {
        let e = one.set_distillation(soft, Some(like(layers))).unwrap_err().to_string();
        assert!(e.contains("distill-hidden") && e.contains(words), "{e}");
    }
}
