//! `engraft search`.
use crate::program::{
    args::Search,
    print::{say, tell},
    runs::Going,
    search::search,
    signals::Signals,
};
use anyhow::Result;
use engraft::{
    Error,
    reports::{progress::Mode, report::json_line},
};

pub fn run(args: &Search) -> Result<()> {
    let signals = Signals::install()?;
    let (plan, mut s) = (args.plan()?, args.settings()?);
    if s.train.is_none() {
        return Err(Error::Needs { option: "search", needs: "train" }.into());
    }
    if s.model.is_none() {
        return Err(Error::Needs { option: "search", needs: "model" }.into());
    }
    let mode = Mode::detect(s.quiet);
    s.expand(mode)?;
    if mode != Mode::Quiet {
        tell(&format!("searching with {} trials; {}", plan.trials, plan.space.display()));
    }
    let going = Going { resume: args.resume, stop: signals.stop(), until: None };
    let found = search(&s, &plan, mode, going)?;
    if !s.quiet {
        found.lines().iter().try_for_each(|line| say(line))?;
        say(&format!("the best is trial {}, saved in {}", found.best, s.out.display()))?;
    }
    if s.json {
        say(&json_line(&found.report))?;
    }
    Ok(())
}
