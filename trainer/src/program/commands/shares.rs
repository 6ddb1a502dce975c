//! `engraft shares`.
use super::{Loaded, load};
use crate::program::{
    args::Shares,
    print::{note, say},
    setup::{files, was_cut},
};
use anyhow::{Result, bail};
use engraft::{
    adapters,
    data::expand,
    engine::output::write_atomically,
    reports::{heat_map::svg, progress::Mode, report::json_line, shares::ShareReport},
    run::evaluate::{Encoded, look_at_shares},
    tasks::Purpose,
};

pub fn run(s: &Shares) -> Result<()> {
    if let Some(file) = s.picture.as_ref().filter(|f| f.extension().is_none_or(|e| e != "svg")) {
        bail!("--picture {}: pictures are written as .svg", file.display());
    }
    let Loaded { learner, task, told, tokenizer, columns } = load(&s.grafted, s.reading.options(), &s.run)?;
    if learner.setup().fusions().is_empty() {
        bail!("there is no fusion in `{}`, and so no shares of adapters", learner.setup());
    }
    let files = files(
        (task, &told),
        &expand(&s.data, Purpose::Predict, Mode::detect(s.run.quiet))?,
        &columns,
        Purpose::Predict,
    )?;
    let encoded = Encoded::read(&files, &learner, &tokenizer, Purpose::Predict)?;
    note(files.notes(), s.run.quiet);
    note(was_cut(&encoded, learner.task(), tokenizer.max_length()), s.run.quiet);
    let shares = adapters::Shares::new();
    look_at_shares(&learner, &encoded.examples, s.reading.batch(), Mode::detect(s.run.quiet), &shares)?;
    let report = ShareReport::new(&shares.found());
    if let Some(file) = &s.picture {
        write_atomically(file, svg(&report.heat_maps()).as_bytes())?;
    }
    if s.run.json {
        return say(&json_line(&report));
    }
    report.lines().iter().try_for_each(|line| say(line))
}
