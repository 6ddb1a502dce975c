//! `engraft train`.
use crate::program::{
    args::Train,
    demo,
    options::{AdapterChoice, Options, Settings},
    print::{note_unused, say, tell},
    setup::{Going, open, train},
    signals::Signals,
};
use anyhow::Result;
use engraft::{
    Error,
    data::expand,
    demo::{unpack, unpack_backbone},
    reports::{
        progress::Mode,
        report::{Report, json_line},
    },
    run::{directory::BEGUN, state, train::Outcome},
    tasks::Task,
};
use engraft_engine::Storage;
use std::path::{Path, PathBuf};

pub fn run(t: &Train) -> Result<()> {
    let signals = Signals::install()?;
    let resumed = t.resumed()?;
    let going = Going { resume: resumed.is_some(), stop: signals.stop() };
    let mut s = match resumed {
        Some(s) => s,
        None => t.settings(Options::default())?,
    };
    if going.resume && is_complete(&s.out) {
        return say(&format!("the run in {} is complete: there is nothing to go on with", s.out.display()));
    }
    let is_demo = s.train.is_none();
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
    for paths in [&mut s.train, &mut s.eval].into_iter().flatten() {
        *paths = expand(paths)?;
    }
    let mode = Mode::detect(s.quiet);
    let head_only = match is_demo && matches!(s.adapter, Some(AdapterChoice::Of(_))) && s.init.is_none() {
        true => Some(head_only(&s, mode, going)?),
        false => None,
    };
    if mode != Mode::Quiet {
        tell(&heading(&s));
    }
    let Outcome { report, learner, .. } = train(&s, mode, going)?;
    if !s.quiet {
        note_unused(learner.backbone());
        summarise(&s, &report, learner.task(), head_only.as_ref())?;
    }
    if s.json {
        say(&json_line(&report))?;
    }
    Ok(())
}

/// `engraft fuse`.
pub fn fuse(t: &Train) -> Result<()> {
    let is_given = t.resume.is_some() || t.config.is_some() || t.options.adapters.is_some();
    match is_given {
        true => run(t),
        false => Err(Error::Needs { option: "fuse", needs: "adapters" }.into()),
    }
}

/// Whether the run in a directory came to its end.
fn is_complete(out: &Path) -> bool {
    let there = |name: &str| out.join(name).exists();
    there("report.json") && !there(state::FILE) && !there(BEGUN)
}

/// What the demonstration compares.
const ACCURACY: &str = "accuracy";

fn heading(s: &Settings) -> String {
    let show = |p: Option<&PathBuf>| p.map(|p| p.display().to_string()).unwrap_or_default();
    let files = match s.train.as_deref().unwrap_or_default() {
        [first, rest @ ..] if !rest.is_empty() => format!("{} and {} more", first.display(), rest.len()),
        one => show(one.first()),
    };
    let what = match s.adapter {
        Some(AdapterChoice::None) if s.adapters.is_some() => "what stands on saved adapters",
        Some(AdapterChoice::None) => "the head alone",
        Some(AdapterChoice::Full) => "the whole backbone",
        Some(AdapterChoice::Of(_)) => "an adapter",
        None => "what was saved",
    };
    format!("training {what} on {} with {files}", show(s.model.as_ref()))
}

/// The comparison that makes the demonstration: the same head on the same backbone, without an adapter.
fn head_only(s: &Settings, mode: Mode, going: Going<'_>) -> Result<Report> {
    let folder = s.out.join("head-only");
    let bare = Options { adapter: Some(AdapterChoice::None), out: Some(folder), ..Options::default() };
    let plain = Settings { profile: None, ..bare.over(s.to_options()).resolve()? };
    if mode != Mode::Quiet {
        tell(&heading(&plain));
    }
    Ok(train(&plain, mode, going)?.report)
}

fn summarise(s: &Settings, r: &Report, task: &dyn Task, head_only: Option<&Report>) -> Result<()> {
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
            let shown =
                task.metrics().iter().filter_map(|metric| Some(metric.show(m.scores.get(metric.name)?)));
            say(&format!("held-out: {}", shown.collect::<Vec<_>>().join(", ")))?;
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
            r.out.display()
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
