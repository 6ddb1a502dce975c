//! The search for the options of a run: trials that follow each other on one backbone, each a run like
//! any other in a directory of its own.
use super::common::Common;
use super::options::{Mark, Options, Settings};
use super::print::tell;
use super::runs::{Going, is_same_run, report_file, report_in, take, train};
use super::setup::saved;
use engraft::{
    Error, Result,
    reports::{
        metrics::{Better, Metric, Metrics},
        parallel::{self, Along, Axis, Parallel},
        progress::Mode,
        report::Report,
    },
    run::{
        directory::{Directory, File},
        state::Saved,
    },
    search::{self, FILE, Halving, Sampler, Space, State, Trial},
};
use engraft_engine::output;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::atomic::Ordering::Relaxed,
};

/// The picture of the trials.
const PICTURE: &str = "parallel.svg";
/// What a search is, within its directory: the space, and how it is gone through.
const SEARCH: &str = "search.json";
/// Options that are no variant's own and are searched all the same: trials follow each other, each
/// with batches of its own.
const MORE: [&str; 3] = ["batch-size", "batch-tokens", "gradient-accumulation"];

/// How a space is gone through.
pub struct Plan {
    /// The file of the space.
    pub space: PathBuf,
    /// How many trials there are.
    pub trials: usize,
    /// Which values come next.
    pub sampler: Sampler,
    /// Successive halving, if only some of the trials go on to the end: how many for one.
    pub halving: Option<usize>,
}

/// What a search came to.
pub struct Found {
    /// All trials, in their order.
    pub trials: Vec<Trial>,
    /// The score that the best is best at.
    pub metric: Metric,
    /// The number of the best.
    pub best: usize,
    /// The report of all.
    pub report: Value,
}

struct Search<'a> {
    base: &'a Settings,
    plan: &'a Plan,
    space: Space,
    common: Common,
    trials: Vec<Trial>,
    metric: Option<Metric>,
    mode: Mode,
    going: Going<'a>,
}

/// Tries options on one backbone. The best run is saved in the output directory, as if it had been
/// trained there.
pub fn search(base: &Settings, plan: &Plan, mode: Mode, going: Going<'_>) -> Result<Found> {
    let space = Space::read(&plan.space)?;
    check(&space, base)?;
    let (mut home, _) = take(base, going.resume)?;
    let trials = begin(&base.out, base, plan, going.resume)?;
    let common = Common::within(&base.out);
    let mut s = Search { base, plan, space, common, trials, metric: None, mode, going };
    match plan.halving {
        None => s.all()?,
        Some(eta) => s.halve(Halving::new(eta, plan.trials))?,
    }
    let Search { common, trials, metric, space, .. } = s;
    common.close()?;
    let finished = |t: &&Trial| t.state == State::Complete && t.value.is_some();
    let metric = metric.ok_or_else(|| Error::Model("no trial came to its end".into()))?;
    let best = trials.iter().filter(finished).reduce(|best, t| {
        let value = |t: &Trial| t.value.unwrap_or(f64::NAN);
        if metric.is_better(value(t), value(best)) { t } else { best }
    });
    let best = best.ok_or_else(|| Error::Model("every trial failed".into()))?.number;
    let report = json!({
        "metric": metric.name,
        "best": best,
        "trials": trials,
        "run": report_in::<Value>(&directory(&base.out, best))?,
    });
    let picture = (PICTURE.to_string(), picture(&space, &trials, &metric, best).svg().into_bytes());
    finish(&mut home, base, best, [report_file(&report, &base.out)?, picture])?;
    Ok(Found { trials, metric, best, report })
}

/// What cannot be searched is refused.
fn check(space: &Space, base: &Settings) -> Result<()> {
    let own: Vec<String> = Options::keys_of(Mark::Own).into_iter().chain(MORE.map(String::from)).collect();
    if let Some(key) = space.keys().find(|key| !own.iter().any(|own| own == key)) {
        let why = format!("it is the same for all trials; what can be searched is {}", own.join(", "));
        return Err(Error::Option { option: "space", value: format!("`{key}`"), why });
    }
    if base.series().is_some() || base.variant.is_some() || base.adapter_column.is_some() {
        let why = "a trial is one run, without variants, folds, seeds and columns of adapters".into();
        return Err(Error::Option { option: "space", value: "several runs".into(), why });
    }
    if base.eval.is_none() && base.fold.is_none() {
        return Err(Error::Needs { option: "search", needs: "eval" });
    }
    Ok(())
}

/// The trials that are there already: of the very same search, or none.
fn begin(home: &Path, base: &Settings, plan: &Plan, goes_on: bool) -> Result<Vec<Trial>> {
    let path = plan.space.as_path();
    let space = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
    let settings = Settings { threads: 0, json: false, quiet: false, model_commit: None, ..base.clone() };
    let what = json!({
        "space": space,
        "sampler": plan.sampler,
        "halving": plan.halving,
        // without halving there may be more trials later
        "trials": plan.halving.map(|_| plan.trials),
        "settings": settings.to_toml(),
    });
    let file = home.join(SEARCH);
    if goes_on {
        let text =
            std::fs::read_to_string(&file).map_err(|source| Error::Read { path: file.clone(), source })?;
        let there: Value = serde_json::from_str(&text).map_err(|e| Error::file(&file, e.to_string()))?;
        if let Some(key) = ["space", "sampler", "halving", "trials", "settings"]
            .into_iter()
            .find(|key| there.get(*key) != what.get(*key))
        {
            let why = format!("the search in it has other {key}: a search goes on as it began");
            let value = home.display().to_string();
            return Err(Error::Option { option: "resume", value, why });
        }
        return search::read(&home.join(FILE));
    }
    output::write_atomically(file, what.to_string().as_bytes())?;
    output::write_atomically(home.join(FILE), b"")?;
    Ok(vec![])
}

fn directory(home: &Path, number: usize) -> PathBuf {
    home.join(format!("trial-{number}"))
}

/// Puts the best run, with the report of all, into the directory of the search.
fn finish(home: &mut Directory, base: &Settings, best: usize, reports: [File; 2]) -> Result<()> {
    let from = directory(&base.out, best);
    let options = Options::read(from.join(super::options::FILE))?;
    let settings = Options { out: Some(base.out.clone()), ..options }.resolve()?;
    let mut files: Vec<File> = vec![];
    for name in engraft::adapters::files::names() {
        let path = from.join(name);
        match std::fs::read(&path) {
            Ok(bytes) => files.push((name.into(), bytes)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(Error::Read { path, source }),
        }
    }
    home.set_settings(settings.file());
    home.save(Some(&files), &reports, None, &[])
}

/// The trials as lines through their values and their score.
fn picture(space: &Space, trials: &[Trial], metric: &Metric, best: usize) -> Parallel {
    let scored = |t: &Trial| t.value.filter(|value| value.is_finite());
    let mut costs: Vec<f64> =
        trials.iter().filter_map(|t| scored(t).map(|v| cost(metric, Some(v)))).collect();
    costs.sort_by(f64::total_cmp);
    let ends = trials
        .iter()
        .filter_map(scored)
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
    // scores that are all the same lie in the middle
    let room = if ends.0 < ends.1 { 0.0 } else { 0.05 * ends.0.abs().max(1e-3) };
    let along = Along::Numbers { low: ends.0 - room, high: ends.1 + room, log: false };
    let score = Axis { name: metric.name.into(), along, falls: metric.better == Better::Less };
    let line = |t: &Trial| {
        let value = scored(t);
        let worse = costs.iter().filter(|other| **other > cost(metric, value)).count();
        parallel::Trial {
            about: format!("trial {}: {}", t.number, outcome(metric, t)),
            values: space.on_axes(&t.params).into_iter().chain([value]).collect(),
            rank: worse as f64 / costs.len().saturating_sub(1).max(1) as f64,
            is_left: t.state != State::Complete,
            is_best: t.number == best,
        }
    };
    Parallel {
        title: format!("{} trials by {}; the best is trial {best}", trials.len(), metric.name),
        axes: space.axes().into_iter().chain([score]).collect(),
        trials: trials.iter().map(line).collect(),
    }
}

/// What came of a trial, for people.
fn outcome(metric: &Metric, t: &Trial) -> String {
    let score = match (t.state, t.value) {
        (State::Fail, _) | (_, None) => "failed".into(),
        (State::Pruned, Some(v)) => format!("{} when it was given up", metric.show(v)),
        (_, Some(v)) => metric.show(v),
    };
    let values = t.params.iter().map(|(k, v)| format!("{k} {}", plain(v)));
    format!("{score}; {}", values.collect::<Vec<_>>().join(", "))
}

impl Search<'_> {
    /// Every trial to its end, each with what was learned of those before.
    fn all(&mut self) -> Result<()> {
        for number in 0..self.plan.trials {
            if number == self.trials.len() {
                self.propose(self.plan.sampler)?;
            }
            if self.trials[number].state == State::Waiting {
                self.run(number, None)?;
            }
            // of trials that were over before the score is known, and which score that is not yet
            self.know_metric(number)?;
        }
        Ok(())
    }
    /// All trials on the least budget, and of each budget the best on the next one.
    fn halve(&mut self, halving: Halving) -> Result<()> {
        while self.trials.len() < halving.trials(0) {
            self.propose(Sampler::Random)?;
        }
        for rung in 0..halving.rungs() {
            let share = halving.share(rung);
            let percent = (100.0 * share).round() as u32;
            let going: Vec<usize> = (0..self.trials.len()).filter(|n| self.goes_on(*n)).collect();
            for number in &going {
                let trial = &self.trials[*number];
                let is_due = trial.state == State::Waiting && !trial.intermediate.contains_key(&percent);
                if is_due {
                    self.run(*number, Some(share).filter(|share| *share < 1.0))?;
                }
                self.know_metric(*number)?;
            }
            if rung + 1 < halving.rungs() {
                self.prune(halving.trials(rung + 1))?;
            }
        }
        Ok(())
    }
    fn goes_on(&self, number: usize) -> bool {
        matches!(self.trials[number].state, State::Waiting | State::Complete)
    }
    /// All but the best so many are given up.
    fn prune(&mut self, keep: usize) -> Result<()> {
        let Some(metric) = self.metric else { return Ok(()) };
        let mut order: Vec<usize> = (0..self.trials.len()).filter(|n| self.goes_on(*n)).collect();
        let cost = |n: usize| cost(&metric, self.trials[n].value);
        order.sort_by(|a, b| cost(*a).total_cmp(&cost(*b)));
        for number in order.split_off(keep.min(order.len())) {
            if self.trials[number].state == State::Waiting {
                self.trials[number].state = State::Pruned;
            }
        }
        self.record()
    }
    /// The values of the next trial.
    fn propose(&mut self, sampler: Sampler) -> Result<()> {
        let told = |t: &Trial| {
            let value = t.value.filter(|v| v.is_finite() && t.state == State::Complete)?;
            Some((t.params.clone(), cost(self.metric.as_ref()?, Some(value))))
        };
        let told: Vec<_> = self.trials.iter().filter_map(told).collect();
        let number = self.trials.len();
        let params = self.space.suggest(sampler, &told, number, self.base.seed)?;
        let seed = params.get("seed").and_then(Value::as_u64).unwrap_or(self.base.seed);
        let (state, intermediate) = (State::Waiting, BTreeMap::new());
        self.trials.push(Trial { number, params, state, value: None, intermediate, seed, seconds: 0.0 });
        self.record()
    }
    fn settings(&self, number: usize) -> Result<Settings> {
        let own =
            toml::Table::try_from(&self.trials[number].params).map_err(|e| Error::Model(e.to_string()))?;
        let out = Options { out: Some(directory(&self.base.out, number)), ..Options::default() };
        let with = self.base.to_options().with(&own, &MORE).map(|with| out.over(with));
        with.and_then(Options::resolve).map_err(|e| e.within("trial", &number.to_string()))
    }
    /// Trains a trial to its end, or to a share of its steps.
    fn run(&mut self, number: usize, until: Option<f64>) -> Result<()> {
        let settings = self.settings(number)?;
        if self.mode != Mode::Quiet {
            let values = self.trials[number].params.iter().map(|(k, v)| format!("{k} {}", plain(v)));
            tell(&format!("trial {number}: {}", values.collect::<Vec<_>>().join(", ")));
        }
        let going = Going { resume: is_same_run(&settings), until, ..self.going };
        let (state, metrics, seconds) = match train(&settings, self.mode, going, &mut self.common) {
            Err(Error::Stopped { .. }) if !self.going.stop.load(Relaxed) => {
                let saved = Saved::open(&settings.out)?;
                let saved = saved.ok_or_else(|| Error::file(&settings.out, "the run saved no state"))?;
                (State::Waiting, saved.best().cloned(), saved.seconds())
            }
            Err(e) => return Err(e),
            Ok(ended) => match ended.into_iter().next() {
                Some((_, Err(e))) if e.has_diverged() => (State::Fail, None, 0.0),
                Some((_, Err(e))) => return Err(e),
                // it may have come to its end in the moment before it was stopped
                _ => {
                    let report: Report = report_in(&settings.out)?;
                    (State::Complete, report.metrics, report.train_seconds)
                }
            },
        };
        self.learn_metric(&settings)?;
        let value =
            self.metric.and_then(|metric| metrics.as_ref().and_then(|m: &Metrics| m.scores.get(metric.name)));
        let trial = &mut self.trials[number];
        (trial.state, trial.value) = (state, value.filter(|v| v.is_finite()));
        trial.seconds = seconds;
        if let Some(value) = trial.value {
            let percent = (100.0 * until.unwrap_or(1.0)).round() as u32;
            trial.intermediate.insert(percent, value);
        }
        self.record()
    }
    /// The score that trials are compared by.
    fn learn_metric(&mut self, settings: &Settings) -> Result<()> {
        let all = &self.common.metrics;
        let named = |name: &String| all.iter().find(|m| m.name == *name);
        self.metric = settings.metric.as_ref().map_or(all.first(), named).copied().or(self.metric);
        Ok(())
    }
    /// The same of a trial that was over before this process began.
    fn know_metric(&mut self, number: usize) -> Result<()> {
        if self.metric.is_some() || self.trials[number].value.is_none() {
            return Ok(());
        }
        let settings = self.settings(number)?;
        let backbone = self.common.backbone(&settings)?;
        let (learner, _) = saved(backbone, Some(&settings.out), None, &settings.told())?;
        self.common.metrics = learner.task().metrics().to_vec();
        self.learn_metric(&settings)
    }
    fn record(&self) -> Result<()> {
        Ok(output::write_atomically(self.base.out.join(FILE), &search::write(&self.trials))?)
    }
}

/// A score, as what is to be small.
fn cost(metric: &Metric, value: Option<f64>) -> f64 {
    match (value, metric.better) {
        (None, _) => f64::INFINITY,
        (Some(value), Better::More) => -value,
        (Some(value), Better::Less) => value,
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(n) => match n.as_f64() {
            Some(x) if n.is_f64() => format!("{x:.3e}"),
            _ => n.to_string(),
        },
        other => other.to_string(),
    }
}

impl Found {
    /// The trials for people: the best first.
    pub fn lines(&self) -> Vec<String> {
        const MOST: usize = 10;
        let mut order: Vec<&Trial> = self.trials.iter().collect();
        order.sort_by(|a, b| cost(&self.metric, a.value).total_cmp(&cost(&self.metric, b.value)));
        order.sort_by_key(|t| t.state != State::Complete);
        let line = |t: &&Trial| format!("trial {}: {}", t.number, outcome(&self.metric, t));
        let mut lines: Vec<String> = order.iter().take(MOST).map(line).collect();
        if order.len() > MOST {
            lines.push(format!("and {} more", order.len() - MOST));
        }
        lines
    }
}
