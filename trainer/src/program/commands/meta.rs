//! `engraft meta`.
use crate::program::{
    args::Meta,
    meta::learn_to_learn,
    print::{say, tell},
    runs::Going,
    signals::Signals,
};
use anyhow::Result;
use engraft::{
    Error,
    reports::{progress::Mode, report::json_line},
};

pub fn run(args: &Meta) -> Result<()> {
    let signals = Signals::install()?;
    let mut s = args.settings()?;
    let plan = args.plan(&s)?;
    if s.model.is_none() {
        return Err(Error::Needs { option: "meta", needs: "model" }.into());
    }
    let mode = Mode::detect(s.quiet);
    s.expand(mode)?;
    let going = Going { resume: args.resume, stop: signals.stop(), until: None };
    let done = match learn_to_learn(&s, &plan, mode, going) {
        Err(Error::Stopped { step, of, directory }) => {
            let place = directory.display();
            tell(&format!(
                "stopped after step {step} of {of}, saved in {place}; --resume goes on from there"
            ));
            return Err(Error::Stopped { step, of, directory }.into());
        }
        done => done?,
    };
    if !s.quiet {
        done.lines.iter().try_for_each(|line| say(line))?;
        say(&format!(
            "saved in {}; `engraft train --init {0} --head linear` starts from it",
            s.out.display()
        ))?;
    }
    if s.json {
        say(&json_line(&done.report))?;
    }
    Ok(())
}
