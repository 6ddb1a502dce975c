//! `engraft report`.
use crate::program::{args::Report, print::say};
use anyhow::Result;
use engraft::{
    engine::output::write_atomically,
    reports::{
        place::check_file,
        report::json_line,
        side_by_side::{Left, differences, html, results},
    },
};
use serde_json::json;

pub fn run(r: &Report) -> Result<()> {
    r.html.as_ref().map_or(Ok(()), |file| check_file(file))?;
    let mut all = vec![];
    for directory in &r.runs {
        all.extend(Left::read(directory)?);
    }
    if let Some(file) = &r.html {
        write_atomically(file, html(&all).as_bytes())?;
    }
    if r.json {
        return say(&json_line(&json!({"runs": all})));
    }
    results(&all).lines().iter().try_for_each(|line| say(line))?;
    if let Some(table) = differences(&all) {
        say("")?;
        table.lines().iter().try_for_each(|line| say(line))?;
    }
    Ok(())
}
