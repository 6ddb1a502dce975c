//! Learning to learn: an adapter out of several tasks, or of episodes, and how good a start it is.
use super::options::{self, Head, Settings, Variant};
use super::print::note;
use super::runs::{Going, report_file, take};
use super::setup::{files, graft, learn, needed, task, was_cut};
use super::several::{Ground, Named};
use super::task_runs::{self, held_out, named};
use engraft::{
    Error, Result,
    learner::{Backbone, Learner},
    meta::{
        episodes::{Classes, Episodes, Sets, Shape},
        inner::Inner,
        outer::{Meta, Outer, Tasks, Weights},
        protocol::{Scores, episode, few_shot},
    },
    reports::progress::{Mode, Progress},
    run::{directory::Directory, evaluate::Encoded},
    tasks::{Classification, Purpose, TASKS, Task},
    text::batch::BatchSize,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::{
    path::{Path, PathBuf},
    sync::atomic::Ordering::Relaxed,
};

/// Where the run stands, within its directory, beside the adapter.
const FILE: &str = "meta.json";
/// The name of the adapter if no other is given.
const NAME: &str = "meta";
/// Outer steps between two states that are saved, unless something is said.
const EVERY: u64 = 10;

/// How the adapter is learned and tried.
pub struct Plan {
    pub outer: Outer,
    pub inner: Inner,
    /// How a new task is learned.
    pub new: Inner,
    /// Tasks of an outer step.
    pub tasks: usize,
    pub few: Few,
    /// An adapter to compare with.
    pub baseline: Option<PathBuf>,
}
/// New tasks.
pub enum Few {
    /// These, each from several sets of so many examples of each class.
    Targets { targets: Vec<Variant>, shots: Vec<usize>, sets: usize },
    /// Episodes, of classes that are held out.
    Episodes { shape: Shape, held_out: Option<usize>, count: usize },
}

/// What it came to.
pub struct Done {
    pub report: Value,
    pub lines: Vec<String>,
}

/// Where a run stands.
#[derive(Serialize, Deserialize)]
struct Standing {
    /// What it was told: a run goes on as it began.
    told: Value,
    taken: u64,
    /// The mean loss of the tasks of each outer step.
    losses: Vec<f64>,
}

/// Learns an adapter as the settings and the plan say, and tries it on new tasks.
pub fn learn_to_learn(s: &Settings, plan: &Plan, mode: Mode, going: Going<'_>) -> Result<Done> {
    let s = &Settings { head: Some(Head::Linear), ..s.clone() };
    let (mut home, _) = take(s, going.resume)?;
    let (tasks, targets) = match &plan.few {
        Few::Targets { targets, .. } => (named(s)?, new_tasks(s, targets)?),
        Few::Episodes { .. } => (vec![], vec![]),
    };
    let ground = Ground::open(s, &tasks)?;
    home.set_settings(file(s, ground.commit.clone()));
    let mut run = Run { s, plan, ground: &ground, home, mode, going };
    match &plan.few {
        Few::Targets { shots, sets, .. } => run.of_tasks(&tasks, &targets, shots, *sets),
        Few::Episodes { shape, held_out, count } => run.of_episodes(*shape, *held_out, *count),
    }
}

/// The new tasks; each is evaluated.
fn new_tasks(s: &Settings, targets: &[Variant]) -> Result<Vec<Named>> {
    if targets.is_empty() {
        return Ok(vec![]);
    }
    let all = named(&Settings { tasks: Some(targets.to_vec()), ..s.clone() })?;
    match all.iter().find(|one| one.settings.eval.is_none()) {
        Some(one) => Err(Error::Needs { option: "targets", needs: "eval" }.within("task", &one.name)),
        None => Ok(all),
    }
}

/// The file of settings: what it has of a run of training, which reads data as this one did.
fn file(s: &Settings, model_commit: Option<String>) -> (String, Vec<u8>) {
    let settings = Settings { model_commit, head: None, ..s.clone() };
    let text = settings.to_toml();
    let keys = text.split_once('\n').map_or("", |(_, keys)| keys);
    let about = format!("# The options of a run of `engraft meta`; {FILE} has what else it was told.");
    (options::FILE.into(), format!("{about}\n{keys}").into_bytes())
}

/// A learner with its task, whose head starts at zero.
fn learner(s: &Settings, backbone: &Backbone, task: Box<dyn Task>) -> Result<Learner> {
    let mut graft = graft(s, backbone, &*task)?;
    graft.name = s.name.clone().filter(|_| s.tasks.is_none()).unwrap_or_else(|| NAME.into());
    let mut learner = backbone.clone().learner(graft, task)?;
    learner.set_compat(s.compat.into());
    if learner.adapter_weights()?.is_empty() || learner.head().is_none() {
        let why = "an adapter is learned, and every task has a head of its own".into();
        return Err(Error::Option { option: "adapter", value: "without weights".into(), why });
    }
    Ok(learner)
}

struct Run<'a> {
    s: &'a Settings,
    plan: &'a Plan,
    ground: &'a Ground,
    home: Directory,
    mode: Mode,
    going: Going<'a>,
}

/// A start, by its name: weights, and who learns from them.
type Start = (&'static str, Weights, Learner);

impl Run<'_> {
    fn of_tasks(&mut self, all: &[Named], new: &[Named], shots: &[usize], sets: usize) -> Result<Done> {
        let (s, tokens) = (self.s, &self.ground.tokenizer);
        let (mut learners, mut of_each) = (vec![], vec![]);
        for one in all {
            let within = |e: Error| e.within("task", &one.name);
            let settings = Settings { head: Some(Head::Linear), ..one.settings.clone() };
            learners.push(learner(&settings, &self.ground.backbone, one.task()?).map_err(within)?);
            let examples = task_runs::learned(s, one, tokens).map_err(within)?;
            if examples.len() < 2 {
                return Err(within(Error::Labels("it has fewer than two examples".into())));
            }
            of_each.push(examples);
        }
        let size = s.batch_size.unwrap_or(32);
        let (tasks, batches, seed) = (self.plan.tasks, self.plan.inner.steps, s.seed);
        let source = Sets { of_each, tasks, batches, size, seed };
        let (fresh, learned, losses) = self.learn(&mut learners, &source)?;
        let (mut report, mut lines) = (Map::new(), vec![]);
        for one in new {
            let within = |e: Error| e.within("task", &one.name);
            let found = self.few(one, (&fresh, &learned), shots, sets, &mut lines).map_err(within)?;
            report.insert(one.name.clone(), found);
        }
        self.end(losses, ("targets", report.into()), lines)
    }
    /// The scores of a new task, from every start and number of examples.
    fn few(
        &self,
        one: &Named,
        (fresh, learned): (&Weights, &Weights),
        shots: &[usize],
        sets: usize,
        lines: &mut Vec<String>,
    ) -> Result<Value> {
        let (s, tokens) = (self.s, &self.ground.tokenizer);
        let examples = task_runs::learned(s, one, tokens)?;
        let (classes, on) = (Classes::of(&examples)?, held_out(s, one, tokens)?);
        let metric = match (&one.settings.metric, one.task()?.metrics()) {
            (None, [first, ..]) => *first,
            (asked, all) => {
                let asked = asked.clone().unwrap_or_default();
                let found = all.iter().find(|metric| metric.name == asked);
                let names = all.iter().map(|m| m.name).collect::<Vec<_>>().join(", ");
                let why = format!("{} computes {names}", one.kind.name);
                *found.ok_or(Error::Option { option: "metric", value: asked, why })?
            }
        };
        let settings = Settings { head: Some(Head::Linear), ..one.settings.clone() };
        let mut starts = self.starts(&settings, || one.task(), (fresh, learned))?;
        let mut report = Map::new();
        for n in shots {
            let mut each: Vec<Vec<f64>> = starts.iter().map(|_| vec![]).collect();
            for set in 0..sets as u64 {
                self.check_stop(self.plan.outer.steps)?;
                let support = classes.support(*n, s.seed, set).map_err(|(class, there)| {
                    let class = one.labels.get(class as usize).cloned().unwrap_or_default();
                    let why = format!("the class `{class}` has {there} examples");
                    Error::Option { option: "shots", value: n.to_string(), why }
                })?;
                for ((_, weights, learner), scores) in starts.iter_mut().zip(&mut each) {
                    let how = (&support, &self.plan.new, s.batch_size.unwrap_or(32));
                    let on = (s.seed ^ set, &on, BatchSize::Examples(s.eval_batch_size), metric.name);
                    scores.push(few_shot(learner, weights, how, on)?);
                }
            }
            let scores: Vec<Scores> = each.into_iter().map(Scores::of).collect();
            let shown = starts.iter().zip(&scores).map(|((name, ..), x)| {
                let deviation = x.deviation.map(|d| format!(" +- {d:.4}")).unwrap_or_default();
                format!("{name} {:.4}{deviation}", x.mean)
            });
            let shown = shown.collect::<Vec<_>>().join(", ");
            lines.push(format!("{}, {n} of each class: {} {shown}", one.name, metric.name));
            let names = starts.iter().map(|(name, ..)| name.to_string());
            report.insert(
                n.to_string(),
                names.zip(scores.iter().map(|x| json!(x))).collect::<Map<_, _>>().into(),
            );
        }
        Ok(json!({"metric": metric.name, "support_sets": sets, "shots": report}))
    }
    fn of_episodes(&mut self, shape: Shape, held_out: Option<usize>, count: usize) -> Result<Done> {
        let s = self.s;
        let kind = task(s.task.as_ref())?.unwrap_or(TASKS[0]);
        let read = |paths: &Option<Vec<PathBuf>>,
                    purpose,
                    known: Option<&dyn Task>|
         -> Result<(Encoded, Vec<String>)> {
            let paths = paths.as_deref().ok_or_else(|| needed("train"))?;
            let files = files((kind, &s.told()), paths, &s.columns(), purpose)?;
            let learned = if known.is_none() { Some(learn(kind, &files, &s.told())?.0) } else { None };
            let task = known.or(learned.as_deref()).ok_or_else(|| needed("task"))?;
            let read = Encoded::read_for(&files, task, &self.ground.tokenizer, purpose)?;
            note(was_cut(&read, task, self.ground.max_length), s.quiet);
            Ok((read, task.labels().to_vec()))
        };
        let (train, labels) = read(&s.train, Purpose::Train, None)?;
        let named = (kind.known)(labels.clone(), &s.told())?;
        let other = s.eval.is_some().then(|| read(&s.eval, Purpose::Evaluate, Some(&*named))).transpose()?;
        let all = shape.shots + shape.queries;
        let classes = Classes::of(&train.examples)?.with_at_least(all);
        let held_out = held_out.unwrap_or(classes.len() / 3);
        if classes.len() < held_out + shape.ways || held_out < shape.ways {
            let (n, value) = (classes.len(), shape.ways.to_string());
            let why = format!(
                "{n} classes have {all} examples, of which {held_out} are held out for new episodes: both parts \
                 need as many"
            );
            return Err(Error::Option { option: "ways", value, why });
        }
        let (seen, unseen) = classes.split(held_out, s.seed);
        let unseen = match &other {
            Some((other, _)) => unseen.like(Classes::of(&other.examples)?).with_at_least(all),
            None => unseen,
        };
        let task = || -> Result<Box<dyn Task>> {
            Ok(Box::new(Classification::new((0..shape.ways).map(|n| n.to_string()))?))
        };
        let mut learners = vec![learner(s, &self.ground.backbone, task()?)?];
        let source = Episodes { classes: seen, shape, tasks: self.plan.tasks, seed: s.seed };
        let (fresh, learned, losses) = self.learn(&mut learners, &source)?;
        let mut starts = self.starts(s, task, (&fresh, &learned))?;
        let mut each: Vec<Vec<f64>> = starts.iter().map(|_| vec![]).collect();
        let mut progress = Progress::new(self.mode, "episodes", count as u64);
        // episodes of their own, whatever the outer steps have drawn
        let seed = s.seed ^ 1 << 40;
        for number in 0..count as u64 {
            for ((_, weights, learner), scores) in starts.iter_mut().zip(&mut each) {
                scores.push(episode(learner, weights, (&unseen, shape), &self.plan.new, (seed, number))?);
            }
            progress.step(None, 0);
            self.check_stop(self.plan.outer.steps)?;
        }
        progress.finish();
        let Shape { ways, shots, queries } = shape;
        let (mut lines, mut report) =
            (vec![format!("{count} episodes of {ways} classes, {shots} examples of each:")], Map::new());
        for ((name, ..), scores) in starts.iter().zip(each.into_iter().map(Scores::of)) {
            let interval = scores.interval.map(|i| format!(" +- {:.2}", 100.0 * i)).unwrap_or_default();
            lines.push(format!("{name}: accuracy {:.2} %{interval}", 100.0 * scores.mean));
            report.insert(name.to_string(), json!(scores));
        }
        let held_out: Vec<&String> = unseen.names(&labels).collect();
        let about = json!({"ways": ways, "shots": shots, "queries": queries, "count": count,
            "held_out_classes": held_out, "starts": report});
        self.end(losses, ("episodes", about), lines)
    }
    /// What is compared: what was learned, a new adapter, and one that was saved.
    fn starts(
        &self,
        s: &Settings,
        task: impl Fn() -> Result<Box<dyn Task>>,
        (fresh, learned): (&Weights, &Weights),
    ) -> Result<Vec<Start>> {
        let backbone = &self.ground.backbone;
        let mut all = vec![];
        for (name, weights) in [("meta", learned), ("fresh", fresh)] {
            all.push((name, weights.clone(), learner(s, backbone, task()?)?));
        }
        if let Some(directory) = &self.plan.baseline {
            let task = task()?;
            let head = task.head(backbone.model().info(), true);
            let mut other = backbone.clone().learner_from(directory, &[], head, s.seed, task)?;
            other.set_compat(s.compat.into());
            all.push(("baseline", other.adapter_weights()?, other));
        }
        Ok(all)
    }
    /// The weights of a new adapter, what is learned from there, and the losses on the way.
    fn learn(&mut self, learners: &mut [Learner], tasks: &dyn Tasks) -> Result<(Weights, Weights, Vec<f64>)> {
        let (s, plan) = (self.s, self.plan);
        let fresh = match learners.first() {
            Some(first) => first.adapter_weights()?,
            None => return Err(Error::Model("there is no task".into())),
        };
        let mut standing = Standing { told: told(s, plan), taken: 0, losses: vec![] };
        let mut meta = Meta { weights: fresh.clone(), taken: 0 };
        if let Some(before) = self.before(&standing.told)? {
            // the adapter that was saved is where it stood
            let task = Box::new(Classification::new(["a", "b"])?); // it has no head, and says nothing
            let saved = self.ground.backbone.clone().learner_from(&s.out, &[], None, s.seed, task)?;
            meta = Meta { weights: saved.adapter_weights()?, taken: before.taken };
            standing = before;
        }
        let every = s.checkpoint_every.unwrap_or(EVERY);
        let mut progress = Progress::new(self.mode, "meta", plan.outer.steps).from(meta.taken);
        while meta.taken < plan.outer.steps {
            let drawn = tasks.draw(meta.taken)?;
            let loss = meta.step(learners, &drawn, (&plan.outer, &plan.inner), s.seed)?;
            standing.losses.push(loss);
            standing.taken = meta.taken;
            progress.step(Some(loss), 0);
            let is_stopped = self.going.stop.load(Relaxed);
            if is_stopped || meta.taken.is_multiple_of(every) || meta.taken == plan.outer.steps {
                learners[0].set_adapter_weights(&meta.weights)?;
                let text = serde_json::to_vec(&standing).map_err(|e| Error::file(&s.out, e.to_string()))?;
                self.home.save(Some(&learners[0].adapter_files()?), &[(FILE.into(), text)], None, &[])?;
            }
            self.check_stop(meta.taken)?;
        }
        progress.finish();
        Ok((fresh, meta.weights, standing.losses))
    }
    fn check_stop(&self, step: u64) -> Result<()> {
        match self.going.stop.load(Relaxed) {
            true => Err(Error::Stopped { step, of: self.plan.outer.steps, directory: self.s.out.clone() }),
            false => Ok(()),
        }
    }
    /// Where the run stood that goes on; an error if it was told something else.
    fn before(&self, told: &Value) -> Result<Option<Standing>> {
        let path: &Path = &self.s.out.join(FILE);
        if !self.going.resume || !path.exists() {
            return Ok(None);
        }
        let text = std::fs::read(path).map_err(|source| Error::Read { path: path.into(), source })?;
        let before: Standing = serde_json::from_slice(&text).map_err(|e| Error::file(path, e.to_string()))?;
        match before.told == *told {
            true => Ok(Some(before)),
            false => {
                let why = "the run in it was told something else: a run goes on as it began".into();
                Err(Error::Option { option: "resume", value: self.s.out.display().to_string(), why })
            }
        }
    }
    /// Saves the report.
    fn end(&mut self, losses: Vec<f64>, (kind, found): (&str, Value), lines: Vec<String>) -> Result<Done> {
        let mut report = told(self.s, self.plan);
        report["losses"] = json!(losses);
        report[kind] = found;
        self.home.save(None, &[report_file(&report, &self.s.out)?], None, &[])?;
        Ok(Done { report, lines })
    }
}

/// What a run is told that decides what it learns.
fn told(s: &Settings, plan: &Plan) -> Value {
    let Plan { outer, inner, tasks, .. } = plan;
    let free = Settings { threads: 0, json: false, quiet: false, model_commit: None, ..s.clone() };
    let shape = match &plan.few {
        Few::Episodes { shape, held_out, .. } => {
            json!([shape.ways, shape.shots, shape.queries, held_out])
        }
        Few::Targets { .. } => Value::Null,
    };
    json!({
        "algorithm": outer.algorithm, "outer_steps": outer.steps, "outer_rate": outer.rate,
        "tasks_per_step": tasks, "inner_steps": inner.steps, "inner_rule": inner.rule, "episode": shape,
        "settings": free.to_toml(),
    })
}
