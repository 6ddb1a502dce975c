//! `engraft shares`.
use super::{Loaded, load};
use crate::program::{
    args::Shares,
    print::{note, say},
    setup::{found_files, was_cut},
};
use anyhow::{Result, bail};
use engraft::{
    adapters,
    engine::output::write_atomically,
    reports::{
        drawing::Format, heat_map::drawing, place::check_file, progress::Mode, report::json_line,
        shares::ShareReport,
    },
    run::evaluate::{Encoded, look_at_shares},
    tasks::Purpose,
};

pub fn run(s: &Shares) -> Result<()> {
    if let Some(file) = &s.picture {
        Format::of(file)?; // refused before anything is computed
        check_file(file)?;
    }
    let Loaded { learner, task, told, tokenizer, columns } = load(&s.grafted, s.reading.options(), &s.run)?;
    if learner.setup().fusions().is_empty() {
        bail!("there is no fusion in `{}`, and so no shares of adapters", learner.setup());
    }
    let files = found_files((task, &told), &s.data, &columns, Purpose::Predict, s.run.quiet)?;
    let encoded = Encoded::read(&files, &learner, &tokenizer, Purpose::Predict)?;
    note(files.notes(), s.run.quiet);
    note(was_cut(&encoded, learner.task(), tokenizer.max_length()), s.run.quiet);
    let shares = adapters::Shares::new();
    look_at_shares(&learner, &encoded.examples, s.reading.batch(), Mode::detect(s.run.quiet), &shares)?;
    let report = ShareReport::new(&shares.found());
    if let Some(file) = &s.picture {
        write_atomically(file, &drawing(&report.heat_maps()).file(file)?)?;
    }
    if s.run.json {
        return say(&json_line(&report));
    }
    report.lines().iter().try_for_each(|line| say(line))
}
