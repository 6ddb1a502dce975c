//! A router: Gaussians with the names of tasks, thresholds, and what they were made on.
//!
//! `router.safetensors` holds
//!
//! ```text
//! mean               F32  [tasks, channels]
//! precision_cholesky F32  [channels, channels]   P with S^-1 = P P'
//! threshold          F32  [tasks]                squared distances beyond which a text is of no task
//! ```
//! and in its header the names, the fingerprint of the backbone, and how texts are read.
use super::{
    features::{Pooling, features},
    gaussians::Gaussians,
};
use crate::{
    Error, Result,
    data::Dataset,
    learner::Backbone,
    reports::confusion::Confusion,
    text::{batch::BatchSize, tokenizer::Tokenizer},
};
use engraft_engine::{
    Checkpoint,
    checkpoint::{TensorData, serialize_with},
};
use ndarray::{Array2, ArrayView2};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::Path;

/// The name of its file.
pub const FILE: &str = "router.safetensors";
/// What it is written as.
const VERSION: u32 = 1;
/// The share of a task's own texts that are within its threshold.
const WITHIN: f64 = 0.99;

/// What says of a text which task it is of.
#[derive(Clone, Debug, PartialEq)]
pub struct Router {
    about: About,
    gaussians: Gaussians,
    thresholds: Vec<f32>,
}

/// What the header says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct About {
    version: u32,
    names: Vec<String>,
    backbone: String,
    fingerprint: String,
    pooling: Pooling,
    max_length: usize,
}

/// What is said of a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Routed {
    /// The number of the task that is nearest.
    pub nearest: usize,
    /// The squared distance from it.
    pub distance: f64,
    /// Whether it is farther away than nearly all texts of that task, and so perhaps of none.
    pub is_unknown: bool,
}

/// How texts whose tasks are known were routed.
#[derive(Clone, Debug)]
pub struct Tested {
    /// By the nearest task.
    pub confusion: Confusion,
    /// Texts of each task, and those of them that are taken for none.
    pub unknown: Vec<(usize, usize)>,
    /// Of the baseline, the mean at the least angle, how many texts are right.
    pub right_by_cosine: usize,
}

impl Router {
    /// Of Gaussians with the names of their tasks, on a backbone. `held_out` are vectors of each
    /// task from which the Gaussians were not made: they say how far texts of a task are.
    pub fn new(
        names: Vec<String>,
        gaussians: Gaussians,
        held_out: &[Array2<f32>],
        (backbone, pooling, max_length): (&Backbone, Pooling, usize),
    ) -> Result<Router> {
        let fingerprint = fingerprint(backbone)?;
        let threshold = |(task, h): (usize, &Array2<f32>)| {
            let mut d: Vec<f64> = gaussians.distances(h.view()).column(task).to_vec();
            d.sort_by(f64::total_cmp);
            quantile(&d, WITHIN).map(|d| d as f32).ok_or_else(|| {
                Error::Model(format!("of `{}` there is no text to find its threshold with", names[task]))
            })
        };
        let thresholds = held_out.iter().enumerate().map(threshold).collect::<Result<Vec<_>>>()?;
        if thresholds.len() != names.len() || gaussians.mean.nrows() != names.len() {
            return Err(Error::Model("a router has a name, a mean and a threshold for each task".into()));
        }
        let backbone = backbone.host().model_name.clone();
        let about = About { version: VERSION, names, backbone, fingerprint, pooling, max_length };
        Ok(Router { about, gaussians, thresholds })
    }
    /// The names of its tasks.
    pub fn names(&self) -> &[String] {
        &self.about.names
    }
    /// The squared distance of each task beyond which a text is of none.
    pub fn thresholds(&self) -> &[f32] {
        &self.thresholds
    }
    /// To how many tokens it cuts texts.
    pub fn max_length(&self) -> usize {
        self.about.max_length
    }
    /// Which task each record of a data set is of.
    pub fn route(
        &self,
        backbone: &Backbone,
        tokenizer: &Tokenizer,
        data: &Dataset,
        size: BatchSize,
    ) -> Result<Vec<Routed>> {
        Ok(self.judge(features(backbone, tokenizer, self.about.pooling, data, size)?.view()))
    }
    /// Which task vectors are of, (vectors, channels).
    pub fn judge(&self, h: ArrayView2<'_, f32>) -> Vec<Routed> {
        let one = |d: ndarray::ArrayView1<'_, f64>| {
            let nearest = best(d.iter().map(|d| -d));
            let is_unknown = d[nearest].is_nan() || d[nearest] > f64::from(self.thresholds[nearest]);
            Routed { nearest, distance: d[nearest], is_unknown }
        };
        self.gaussians.distances(h).rows().into_iter().map(one).collect()
    }
    /// How vectors of each task are routed.
    pub fn test(&self, of_each: &[Array2<f32>]) -> Tested {
        let confusion = Confusion::new(self.about.names.len());
        let mut tested = Tested { confusion, unknown: vec![], right_by_cosine: 0 };
        for (task, h) in of_each.iter().enumerate() {
            let routed = self.judge(h.view());
            routed.iter().for_each(|r| tested.confusion.add(task as u32, r.nearest as u32));
            tested.unknown.push((h.nrows(), routed.iter().filter(|r| r.is_unknown).count()));
            let cosines = self.gaussians.cosines(h.view());
            let right = cosines.rows().into_iter().filter(|c| best(c.iter().copied()) == task);
            tested.right_by_cosine += right.count();
        }
        tested
    }
    /// Its file.
    pub fn file(&self) -> Result<(String, Vec<u8>)> {
        let note = serde_json::to_string(&self.about).map_err(|e| Error::Model(e.to_string()))?;
        let Gaussians { mean, precision } = &self.gaussians;
        let of = |a: &Array2<f32>| (a.iter().copied().collect::<Vec<f32>>(), [a.nrows(), a.ncols()]);
        let ((mean, of_mean), (precision, of_precision)) = (of(mean), of(precision));
        let tensors = [
            ("mean".to_string(), TensorData::f32(&mean, &of_mean)),
            ("precision_cholesky".to_string(), TensorData::f32(&precision, &of_precision)),
            ("threshold".to_string(), TensorData::f32(&self.thresholds, &[self.thresholds.len()])),
        ];
        Ok((FILE.into(), serialize_with(&tensors, Some(&note))?))
    }
    /// The router of a directory. An error if it was made for another backbone.
    pub fn load(directory: &Path, backbone: &Backbone) -> Result<Router> {
        let path = directory.join(FILE);
        let c = Checkpoint::open(&path)?;
        let wrong = |why: String| Error::file(&path, why);
        let note = c.note().ok_or_else(|| wrong("this is no router".into()))?;
        let about: About =
            serde_json::from_str(note).map_err(|e| wrong(format!("this is no router: {e}")))?;
        if about.version != VERSION {
            return Err(wrong(format!("it has version {}, and this program reads {VERSION}", about.version)));
        }
        if about.fingerprint != fingerprint(backbone)? {
            let (theirs, own) = (&about.backbone, backbone.directory().display());
            return Err(wrong(format!("it was made on the backbone `{theirs}`, and {own} is another one")));
        }
        let (tasks, channels) = (about.names.len(), backbone.model().info().channels);
        let matrix = |name: &str, rows: usize| {
            let values = c.values(name, &[rows, channels])?;
            Array2::from_shape_vec((rows, channels), values).map_err(|e| wrong(format!("`{name}`: {e}")))
        };
        let gaussians =
            Gaussians { mean: matrix("mean", tasks)?, precision: matrix("precision_cholesky", channels)? };
        let thresholds = c.values("threshold", &[tasks])?;
        if tasks == 0 {
            return Err(wrong("it knows no task".into()));
        }
        Ok(Router { about, gaussians, thresholds })
    }
}

fn fingerprint(backbone: &Backbone) -> Result<String> {
    backbone.fingerprint()?.ok_or_else(|| Error::Model("a router is for a model that has weights".into()))
}

/// The place of the largest; the first of equals, and of what are no numbers.
fn best(values: impl Iterator<Item = f64>) -> usize {
    let better = |best: (usize, f64), (i, x): (usize, f64)| if x > best.1 { (i, x) } else { best };
    values.enumerate().fold((0, f64::NEG_INFINITY), better).0
}

/// The least of sorted values that so large a share of them does not exceed.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

impl Tested {
    /// What it came to, for tasks of these names.
    pub fn json(&self, router: &Router) -> Value {
        let confusion = &self.confusion;
        let (texts, unknown) =
            self.unknown.iter().fold((0, 0), |(n, u), (texts, unknown)| (n + texts, u + unknown));
        let share = |part: usize, of: usize| part as f64 / of.max(1) as f64;
        let one = |(task, (name, (texts, unknown))): (usize, (&String, &(usize, usize)))| {
            let of_task = json!({
                "texts": texts, "unknown": share(*unknown, *texts), "threshold": router.thresholds[task],
            });
            (name.clone(), of_task)
        };
        let tasks: serde_json::Map<_, _> =
            router.names().iter().zip(&self.unknown).enumerate().map(one).collect();
        let mut report = json!({
            "accuracy": confusion.accuracy(),
            "macro_f1": confusion.macro_f1(),
            "cosine_accuracy": share(self.right_by_cosine, texts),
            "unknown": share(unknown, texts),
            "texts": texts,
            "tasks": tasks,
        });
        if let Some(all) = report.as_object_mut() {
            all.extend(confusion.details(router.names()));
        }
        report
    }
    /// The same for people.
    pub fn lines(&self, router: &Router) -> Vec<String> {
        let report = self.json(router);
        let percent = |key: &str| 100.0 * report[key].as_f64().unwrap_or(f64::NAN);
        let mut lines = vec![format!(
            "accuracy {:.2} % of {} texts, by cosine {:.2} %; taken for no task {:.2} %",
            percent("accuracy"),
            report["texts"],
            percent("cosine_accuracy"),
            percent("unknown")
        )];
        lines.extend(self.confusion.table(router.names()));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_are_there() {
        let all: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!((quantile(&all, 0.99), quantile(&all[..1], 0.99)), (Some(99.0), Some(1.0)));
        assert_eq!((quantile(&all[..50], 0.99), quantile(&[], 0.99)), (Some(50.0), None));
        assert_eq!((best([1.0, 3.0, 3.0].into_iter()), best([f64::NAN, 1.0].into_iter())), (1, 1));
    }
}
