//! `engraft train`.
use crate::program::{
    args::Train,
    common::Common,
    continual::train_continually,
    demo,
    mixed_runs::train_mixed,
    options::{AdapterChoice, Options, Settings},
    print::{note_unused, say, tell},
    runs::{Ended, Going, is_complete, train},
    series::{Series, train_series},
    setup::open,
    signals::Signals,
    task_runs::train_tasks,
};
use anyhow::Result;
use engraft::{
    Error,
    demo::{unpack, unpack_backbone},
    learner::{Learner, Part},
    reports::{
        left::REPORT,
        metrics::Metric,
        progress::Mode,
        report::{Report, json_line},
    },
    run::{aim::key, evaluate::SETS, train::Outcome},
};
use engraft_engine::Storage;
use std::path::PathBuf;

pub fn run(t: &Train) -> Result<()> {
    run_with(t, |_| Ok(()))
}
/// Trains as arguments say once they are settled.
fn run_with(t: &Train, settle: impl FnOnce(&mut Settings) -> engraft::Result<()>) -> Result<()> {
    let signals = Signals::install()?;
    let resumed = t.resumed()?;
    let going = Going { resume: resumed.is_some(), stop: signals.stop(), until: None };
    let mut s = match resumed {
        Some(s) => s,
        None => t.settings(Options::default())?,
    };
    settle(&mut s)?;
    if going.resume && is_complete(&s.out) {
        return say(&format!("the run in {} is complete: there is nothing to go on with", s.out.display()));
    }
    let is_demo = s.train.is_none() && s.tasks.is_none();
    if is_demo {
        let out = t.out()?.unwrap_or_else(|| demo::OUT.into());
        s = t.settings(demo::options(&out))?;
        open(s.device, s.threads)?; // refused before anything is written
        for file in unpack(&out)? {
            tell(&format!("note: {} is not as it ships with engraft, and is taken as it is", file.display()));
        }
    } else if s.model.is_none() {
        s.model = Some(unpack_backbone(&s.out)?);
    }
    let (mode, mut common) = (Mode::detect(s.quiet), Common::default());
    s.expand(mode)?;
    let head_only = match is_demo
        && s.variant.is_none()
        && s.series().is_none()
        && matches!(s.adapter, Some(AdapterChoice::Of(_)))
        && s.init.is_none()
    {
        true => Some(head_only(&s, mode, going, &mut common)?),
        false => None,
    };
    if mode != Mode::Quiet {
        tell(&heading(&s));
    }
    if s.adapter_column.is_some() {
        return several(&s, "adapter", train_mixed(&s, mode, going)?);
    }
    if let Some(runs) = s.series() {
        return series(&s, train_series(&s, runs, mode, going)?);
    }
    if let Some(order) = &s.order {
        let done = train_continually(&s, order, mode, going)?;
        if !s.quiet {
            done.transfer.lines().iter().try_for_each(|line| say(line))?;
            say(&format!("saved in {}", s.out.display()))?;
        }
        return if s.json { say(&json_line(&done.report)) } else { Ok(()) };
    }
    let mut ended = match s.tasks.is_some() {
        true => train_tasks(&s, mode, going)?,
        false => train(&s, mode, going, &mut common)?,
    };
    if s.variant.is_some() {
        return several(&s, "variant", ended);
    }
    if s.tasks.is_some() && !s.shared {
        return several(&s, "task", ended);
    }
    let Outcome { report, learner, .. } = the_one(&mut ended)?;
    if !s.quiet {
        note_unused(learner.backbone());
        summarise(&s, &report, &learner, head_only.as_ref())?;
    }
    if s.json {
        say(&json_line(&report))?;
    }
    Ok(())
}

/// What a single run left.
fn the_one(ended: &mut Vec<Ended>) -> engraft::Result<Outcome> {
    let one = ended.pop().map(|(_, outcome)| outcome);
    one.unwrap_or_else(|| Err(Error::Model("the run is complete".into())))
}

/// What several runs left: a line for each, and an error if one of them failed.
fn several(s: &Settings, what: &'static str, ended: Vec<Ended>) -> Result<()> {
    let mut failed = None;
    if let (Some((_, Ok(first))), false) = (ended.iter().find(|(_, o)| o.is_ok()), s.quiet) {
        note_unused(first.learner.backbone());
    }
    for (name, outcome) in ended {
        let name = name.unwrap_or_default();
        match outcome {
            Ok(o) if !s.quiet => {
                let loss = o.report.epochs.last().map_or(f64::NAN, |e| e.loss);
                let shown = held_out(&o.report, &o.learner).unwrap_or_default();
                let shown = if shown.is_empty() { shown } else { format!(", held-out: {shown}") };
                say(&format!("{name}: loss {loss:.4}{shown}; saved in {}", o.report.out.display()))?;
            }
            Ok(_) => {}
            Err(e) => failed = failed.or(Some(e.within(what, &name))),
        }
    }
    if s.json {
        let path = s.out.join(REPORT);
        let text = std::fs::read_to_string(&path).map_err(|source| Error::Read { path, source })?;
        say(&json_line(&serde_json::from_str::<serde_json::Value>(&text)?))?;
    }
    failed.map_or(Ok(()), |e| Err(e.into()))
}

/// What runs that followed each other came to; an error if one of them failed.
fn series(s: &Settings, done: Series) -> Result<()> {
    if !s.quiet {
        done.lines().iter().try_for_each(|line| say(line))?;
    }
    if s.json {
        say(&json_line(&done.report))?;
    }
    done.failed.map_or(Ok(()), |e| Err(e.into()))
}

/// The scores of an evaluation, as they are shown, of several tasks each with its name; none if
/// there was none.
fn held_out(r: &Report, learner: &Learner) -> Option<String> {
    let (m, parts) = (r.metrics.as_ref()?, learner.parts());
    let of = |part: &Part| -> Vec<String> {
        let one = |metric: &Metric| match parts.len() {
            1 => Some(metric.show(m.scores.get(metric.name)?)),
            _ => {
                let value = m.scores.get(&key(part.name(), metric.name))?;
                Some(format!("{} {}", part.name(), metric.show(value)))
            }
        };
        part.task().metrics().iter().filter_map(one).collect()
    };
    let others = m.details.get(SETS).and_then(|sets| sets.as_object()).into_iter().flatten().skip(1);
    let beside = |(name, found): (&String, &serde_json::Value)| {
        let metrics = parts.iter().flat_map(|part| part.task().metrics());
        let shown = metrics.filter_map(|metric| Some(metric.show(found[metric.name].as_f64()?)));
        format!("; {name}: {}", shown.collect::<Vec<_>>().join(", "))
    };
    let shown = parts.iter().flat_map(of).collect::<Vec<_>>().join(", ");
    Some(shown + &others.map(beside).collect::<String>())
}

/// `engraft fuse`.
pub fn fuse(t: &Train) -> Result<()> {
    let is_given = t.resume.is_some() || t.config.is_some() || t.options.adapters.is_some();
    match is_given {
        true => run(t),
        false => Err(Error::Needs { option: "fuse", needs: "adapters" }.into()),
    }
}

/// `engraft continual`: in the order of the tasks' names, unless another is given.
pub fn continual(t: &Train) -> Result<()> {
    run_with(t, |s| {
        let tasks = s.tasks.as_ref().ok_or(Error::Needs { option: "continual", needs: "tasks" })?;
        if s.order.is_none() {
            s.order = Some(tasks.iter().map(|task| task.name.clone()).collect());
            *s = s.to_options().resolve()?;
        }
        Ok(())
    })
}

/// What the demonstration compares.
const ACCURACY: &str = "accuracy";

fn heading(s: &Settings) -> String {
    let show = |p: Option<&PathBuf>| p.map(|p| p.display().to_string()).unwrap_or_default();
    let files = match s.train.as_deref().unwrap_or_default() {
        [first, rest @ ..] if !rest.is_empty() => format!("{} and {} more", first.display(), rest.len()),
        one => show(one.first()),
    };
    let what = match (&s.variant, &s.adapter) {
        (Some(variants), _) => format!("{} variants at once", variants.len()),
        _ if s.adapter_column.is_some() => "the adapters that its rows name".into(),
        _ if s.order.is_some() => "tasks one after the other".into(),
        _ if s.shared => "an adapter for several tasks".into(),
        _ if s.tasks.is_some() => "several tasks".into(),
        (None, Some(AdapterChoice::None)) if s.adapters.is_some() => "what stands on saved adapters".into(),
        (None, Some(AdapterChoice::None)) => "the head alone".into(),
        (None, Some(AdapterChoice::Full)) => "the whole backbone".into(),
        (None, Some(AdapterChoice::Of(_))) => "an adapter".into(),
        (None, None) => "what was saved".into(),
    };
    let files = if let Some(tasks) = &s.tasks {
        tasks.iter().map(|task| task.name.as_str()).collect::<Vec<_>>().join(", ")
    } else {
        files
    };
    format!("training {what} on {} with {files}", show(s.model.as_ref()))
}

/// The comparison that makes the demonstration: the same head on the same backbone, without an
/// adapter.
fn head_only(s: &Settings, mode: Mode, going: Going<'_>, common: &mut Common) -> Result<Report> {
    let folder = s.out.join("head-only");
    let bare = Options { adapter: Some(AdapterChoice::None), out: Some(folder), ..Options::default() };
    let plain = Settings { profile: None, ..bare.over(s.to_options()).resolve()? };
    if mode != Mode::Quiet {
        tell(&heading(&plain));
    }
    Ok(the_one(&mut train(&plain, mode, going, common)?)?.report)
}

fn summarise(s: &Settings, r: &Report, learner: &Learner, head_only: Option<&Report>) -> Result<()> {
    let share = 100.0 * r.trainable_parameters as f64 / r.total_parameters.max(1) as f64;
    say(&format!(
        "trained {} of {} parameters ({share:.2} %)",
        count(r.trainable_parameters),
        count(r.total_parameters)
    ))?;
    let losses: Vec<String> = r.epochs.iter().map(|e| format!("{:.4}", e.loss)).collect();
    say(&format!("loss by epoch: {}", losses.join("  ")))?;
    if let Some(m) = &r.metrics {
        let plain = head_only.and_then(|h| h.metrics.as_ref()?.scores.get(ACCURACY));
        if let (Some(plain), Some(adapter)) = (plain, m.scores.get(ACCURACY)) {
            let (plain, adapter) = (100.0 * plain, 100.0 * adapter);
            say(&format!("held-out accuracy: head only {plain:.1} %, adapter {adapter:.1} %"))?;
        } else {
            say(&format!("held-out: {}", held_out(r, learner).unwrap_or_default()))?;
        }
    }
    say(&format!(
        "{:.1} s of training, {:.0} tokens/s; saved in {}",
        r.train_seconds,
        r.tokens_per_second,
        r.out.display()
    ))?;
    if let (Some(p), Some(file)) = (&r.profile, &s.profile) {
        say(&format!("{p}\ntrace in {}; https://ui.perfetto.dev opens it", file.display()))?;
    }
    if let Some(model) = &s.model {
        let program = std::env::args().next().unwrap_or_else(|| "engraft".into());
        let model = if s.adapter == Some(AdapterChoice::Full) { &s.out } else { model };
        let at = match learner.parts() {
            [_] => r.out.clone(),
            several => r.out.join(several[0].name()),
        };
        let text = if head_only.is_some() { demo::SAMPLE } else { "..." };
        say("next:")?;
        let stored = match s.backbone_dtype {
            Some(dtype) if s.adapter != Some(AdapterChoice::Full) => {
                format!(" --backbone-dtype {}", Storage::from(dtype))
            }
            _ => String::new(),
        };
        say(&format!(
            "  {program} predict --model {} --adapter {}{stored} --text \"{text}\"",
            model.display(),
            at.display()
        ))?;
    }
    Ok(())
}
/// 1234567 as 1,234,567.
fn count(n: u64) -> String {
    let digits = n.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(|g| String::from_utf8_lossy(g).into_owned());
    groups.collect::<Vec<_>>().join(",")
}
