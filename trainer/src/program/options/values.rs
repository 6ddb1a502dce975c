//! Values out of range.

use super::checks::refused;
use super::table::Settings;
use engraft::Result;

impl Settings {
    /// Checks that every value is in range. Names of activations are checked where they are looked
    /// up, layers and lengths where the model is known.
    pub(super) fn check_values(&self) -> Result<()> {
        let least = |option, value: Option<u64>, least: u64| match value {
            Some(value) if value < least => Err(refused(option, value, format!("it is at least {least}"))),
            _ => Ok(()),
        };
        let size = |option, value: usize| least(option, Some(value as u64), 1);
        least("batch-size", self.batch_size.map(|n| n as u64), 1)?;
        least("batch-tokens", self.batch_tokens.map(|n| n as u64), 1)?;
        size("eval-batch-size", self.eval_batch_size)?;
        size("gradient-accumulation", self.gradient_accumulation)?;
        least("stream-buffer", self.stream_buffer.map(|n| n as u64), 1)?;
        least("max-length", self.max_length.map(|n| n as u64), 1)?;
        least("bottleneck", self.bottleneck.map(|n| n as u64), 1)?;
        least("epochs", self.epochs, 1)?;
        least("max-steps", self.max_steps, 1)?;
        least("folds", self.folds.map(|n| n as u64), 2)?;
        least("train-examples", self.train_examples.map(|n| n as u64), 1)?;
        self.curve.iter().flatten().try_for_each(|n| least("curve", Some(*n as u64), 1))?;
        least("eval-every", self.eval_every, 1)?;
        least("patience", self.patience, 1)?;
        least("log-every", self.log_every, 1)?;
        self.check_soft()?;
        least("num-beams", self.num_beams.map(|n| n as u64), 1)?;
        least("max-new-tokens", self.max_new_tokens.map(|n| n as u64), 1)?;

        let above = |option, x: f64| check(option, x, x > 0.0 && x.is_finite(), "it is a number above 0");
        let from = |option, x: f64| check(option, x, x >= 0.0 && x.is_finite(), "it is a number from 0");
        if self.label_separator.as_ref().is_some_and(String::is_empty) {
            return Err(refused("label-separator", "empty", "labels are apart by a text"));
        }
        let below_one = |option, x: f64| check(option, x, (0.0..1.0).contains(&x), "it is from 0 to below 1");
        above("task-weight", self.task_weight.unwrap_or(1.0))?;
        above("lr", self.lr)?;
        above("adam-eps", self.adam_eps)?;
        from("weight-decay", self.weight_decay)?;
        from("clip", self.clip)?;
        below_one("adam-beta1", self.adam_beta1)?;
        below_one("adam-beta2", self.adam_beta2)?;
        self.dropout.map_or(Ok(()), |x| below_one("dropout", x))?;
        self.adapter_dropout.map_or(Ok(()), |x| below_one("adapter-dropout", x))?;
        // a task would take what is no number for something that was not said
        let number = |option, x: Option<f64>| match x {
            Some(x) => check(option, x, x.is_finite(), "it is a number"),
            None => Ok(()),
        };
        number("mlm-probability", self.mlm_probability)?;
        number("label-smoothing", self.label_smoothing)?;
        number("threshold", self.threshold)?;
        number("null-score-diff-threshold", self.null_score_diff_threshold)?;
        let share = |x: f64| check("warmup-ratio", x, (0.0..=1.0).contains(&x), "it is from 0 to 1");
        self.warmup_ratio.map_or(Ok(()), share)?;

        for seed in self.seeds.iter().flatten().chain([&self.seed]) {
            if i64::try_from(*seed).is_err() {
                return Err(refused("seed", seed, format!("it is at most {}", i64::MAX)));
            }
        }
        if let Some(name) =
            self.name.as_ref().filter(|n| n.is_empty() || n.contains(['/', '\\', ',', '.', '\n']))
        {
            let why = "it names tensors and is a word without slashes, dots and commas";
            return Err(refused("name", format!("`{name}`"), why));
        }
        if self.out.as_os_str().is_empty() {
            return Err(refused("out", "empty", "it is a directory"));
        }
        Ok(())
    }
}

pub(super) fn check(option: &'static str, value: f64, good: bool, why: &str) -> Result<()> {
    if good { Ok(()) } else { Err(refused(option, value, why)) }
}
