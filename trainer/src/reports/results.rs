//! The results of a run in the files that transformers' `Trainer` leaves, for whatever reads them.
//!
//! | file | what it has |
//! |---|---|
//! | `train_results.json` | how long training took, and its mean loss |
//! | `eval_results.json` | the evaluation of what was saved, its scores as `eval_NAME` |
//! | `all_results.json` | both |
//! | `trainer_state.json` | where the run stands, and as `log_history` what it noted on its way |
//!
//! Beside transformers' keys an entry of the log has `memory_CLASS`, the bytes that were held. What
//! is not known is null, and so is what is no number.
use super::history::{Entry, Evaluation, History, speed};
use serde::Serialize;
use serde_json::{Value, json, ser::PrettyFormatter};

/// The file of [`Standing::state`].
pub const STATE: &str = "trainer_state.json";
/// The others.
pub const RESULTS: [&str; 3] = ["train_results.json", "eval_results.json", "all_results.json"];

/// Where a run stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    /// Optimiser steps that were taken.
    pub step: u64,
    /// Optimiser steps in all.
    pub total: u64,
    /// Epochs that are over, and the share of the one under way.
    pub epoch: f64,
    /// Epochs in all, if they are limited.
    pub epochs: Option<u64>,
    /// Examples that were learned from, each as often as it was.
    pub examples: u64,
    /// Examples of an epoch, if that is known.
    pub samples: Option<u64>,
    /// The same of tokens.
    pub tokens: u64,
    /// Numbers of the model that are no embeddings.
    pub computing: u64,
    /// The mean of the losses of all steps.
    pub loss: f64,
    /// Seconds of training, evaluations included.
    pub seconds: f64,
    /// The step after which the best evaluation was, its score, and the evaluation.
    pub best: Option<(u64, f64, Evaluation)>,
    /// Every so many steps something is noted.
    pub log_every: u64,
    /// Every so many steps is evaluated; at the end of an epoch if it is none.
    pub eval_every: Option<u64>,
    /// Every so many steps the state is saved, besides the end of an epoch.
    pub save_every: Option<u64>,
    /// Examples in a batch, if that is what a batch is measured in.
    pub batch: Option<usize>,
    /// The directory of the run.
    pub directory: String,
}

impl Standing {
    /// Operations so far, as transformers estimates them: six for each token and each number that
    /// is no embedding, as if all of them were trained.
    fn operations(&self) -> f64 {
        6.0 * self.tokens as f64 * self.computing as f64
    }
    /// `train_results.json`, and the last entry of the log.
    fn trained(&self) -> Entry {
        let mut all = speed("train_", self.seconds, [("samples", self.examples), ("steps", self.step)]);
        all.insert("train_loss".into(), json!(self.loss));
        all.insert("total_flos".into(), json!(self.operations()));
        all.insert("epoch".into(), json!(self.epoch));
        all
    }
    /// The results by the names of their files; of an evaluation where there was one.
    pub fn results(&self) -> Vec<(String, Vec<u8>)> {
        let mut trained = self.trained();
        trained.insert("train_samples".into(), json!(self.samples));
        let evaluated = self.best.as_ref().map(|(_, _, evaluation)| {
            let mut all = evaluation.named();
            all.insert("eval_samples".into(), evaluation.examples.into());
            all.insert("epoch".into(), json!(self.epoch));
            all
        });
        let mut all = trained.clone();
        all.extend(evaluated.clone().unwrap_or_default());
        let files = RESULTS.into_iter().zip([Some(trained), evaluated, Some(all)]);
        let file = |(name, entry): (&str, Option<Entry>)| Some((name.to_string(), pretty(&entry?, b"    ")));
        files.filter_map(file).collect()
    }
    /// `trainer_state.json`; `is_over` says whether the run is.
    pub fn state(&self, history: &History, is_over: bool) -> (String, Vec<u8>) {
        let mut log: Vec<Entry> = history.0.iter().map(|note| note.entry()).collect();
        if is_over {
            let mut last = self.trained();
            last.insert("step".into(), self.step.into());
            log.push(last);
        }
        let best = self.best.as_ref();
        let state: [(&str, Value); 20] = [
            ("best_global_step", json!(best.map(|b| b.0))),
            ("best_metric", json!(best.map(|b| b.1))),
            ("best_model_checkpoint", json!(best.map(|_| &self.directory))),
            ("epoch", json!(self.epoch)),
            ("eval_steps", json!(self.eval_every)),
            ("global_step", json!(self.step)),
            ("is_hyper_param_search", json!(false)),
            ("is_local_process_zero", json!(true)),
            ("is_world_process_zero", json!(true)),
            ("log_history", json!(log)),
            ("logging_steps", json!(self.log_every)),
            ("max_steps", json!(self.total)),
            ("num_input_tokens_seen", json!(self.tokens)),
            ("num_train_epochs", json!(self.epochs.unwrap_or(self.epoch.ceil() as u64))),
            ("save_steps", json!(self.save_every)),
            ("stateful_callbacks", json!({})),
            ("total_flos", json!(self.operations())),
            ("train_batch_size", json!(self.batch)),
            ("trial_name", Value::Null),
            ("trial_params", Value::Null),
        ];
        let state: Entry = state.into_iter().map(|(name, value)| (name.into(), value)).collect();
        (STATE.into(), pretty(&state, b"  "))
    }
}

/// The log of `trainer_state.json`; what is no note is left out.
pub fn history(state: &[u8]) -> serde_json::Result<History> {
    #[derive(serde::Deserialize)]
    struct State {
        log_history: Vec<Entry>,
    }
    let State { log_history } = serde_json::from_slice(state)?;
    Ok(History(log_history.iter().filter_map(super::history::Note::of_entry).collect()))
}

/// JSON on lines that are moved in, with its keys in order.
fn pretty(entry: &Entry, indent: &[u8]) -> Vec<u8> {
    let mut text = vec![];
    let mut to = serde_json::Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(indent));
    entry.serialize(&mut to).expect("an entry has string keys only");
    text.push(b'\n');
    text
}
