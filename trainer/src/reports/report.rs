//! What a run reports: the JSON object that `--json` prints as the last line of stdout.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, Serializer};

use super::metrics::{Metrics, Scores};
use super::profile::Summary;

/// One run of training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The task, such as `classification`.
    pub task: String,
    /// The evaluation of what was saved; null where there was nothing to evaluate on.
    pub metrics: Option<Metrics>,
    /// Epoch by epoch.
    pub epochs: Vec<Epoch>,
    /// Seconds of training, evaluations included, loading not.
    pub train_seconds: f64,
    /// Tokens of training per second of training, evaluations not included.
    pub tokens_per_second: f64,
    /// The most memory the process has had; null where the operating system does not say.
    pub peak_rss_bytes: Option<u64>,
    /// The most bytes that the device's ledger counted at once: weights, gradients, optimiser
    /// state, activations.
    pub ledger_peak_bytes: u64,
    /// Numbers that were trained.
    pub trainable_parameters: u64,
    /// Numbers in the model with its adapter and head.
    pub total_parameters: u64,
    /// Where the adapter and the head were saved.
    #[serde(serialize_with = "as_text")]
    pub out: PathBuf,
    /// Where the time went; only if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Summary>,
}

/// A path as JSON has it, which knows Unicode only.
pub fn as_text<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&path.to_string_lossy())
}

/// One epoch of training.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Mean training loss of its examples.
    pub loss: f64,
    /// The last evaluation within it or at its end; null where there was none.
    pub metrics: Option<Scores>,
    /// Seconds of training, evaluations not included.
    pub seconds: f64,
    /// Tokens of training.
    pub tokens: u64,
}

/// One evaluation by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// What came out.
    #[serde(flatten)]
    pub metrics: Metrics,
    /// Seconds of computing; loading and tokenising not included.
    pub seconds: f64,
    /// Tokens of all texts.
    pub tokens: u64,
    /// Tokens in a second of computing.
    pub tokens_per_second: f64,
    /// The most memory the process has had; null where the operating system does not say.
    pub peak_rss_bytes: Option<u64>,
}

/// One object on one line, without a line break.
pub fn json_line(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("a report has string keys only")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_one_line_with_the_promised_keys() {
        let scores: Scores = [("loss", 0.5), ("accuracy", 0.5)].into();
        let details = serde_json::Map::from_iter([("classes".to_string(), serde_json::json!([]))]);
        let metrics = Metrics { scores: scores.clone(), examples: 2, details };
        let epoch = Epoch { loss: 0.7, metrics: Some(scores), seconds: 1.5, tokens: 300 };
        let report = Report {
            task: "classification".into(),
            metrics: Some(metrics),
            epochs: vec![epoch],
            train_seconds: 2.0,
            tokens_per_second: 200.0,
            peak_rss_bytes: None,
            ledger_peak_bytes: 1,
            trainable_parameters: 10,
            total_parameters: 100,
            out: "out".into(),
            profile: None,
        };
        let line = json_line(&report);
        assert!(!line.contains('\n'));
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
        let expected = [
            "task",
            "metrics",
            "epochs",
            "train_seconds",
            "tokens_per_second",
            "peak_rss_bytes",
            "ledger_peak_bytes",
            "trainable_parameters",
            "total_parameters",
            "out",
        ];
        assert_eq!(keys, expected);
        let keys: Vec<&String> = json["epochs"][0].as_object().unwrap().keys().collect();
        assert_eq!(keys, ["loss", "metrics", "seconds", "tokens"]);
        assert_eq!(json["metrics"]["accuracy"], 0.5);
        assert_eq!(serde_json::from_str::<Report>(&line).unwrap(), report);
    }

    #[test]
    fn a_loss_that_is_not_a_number_is_null() {
        let epoch = Epoch { loss: f64::NAN, metrics: None, seconds: 0.0, tokens: 0 };
        assert!(json_line(&epoch).starts_with(r#"{"loss":null,"#));
    }
}
