//! Every command of the pages in `docs/`: it must succeed, and say what the page shows.
//!
//! In a block marked `console` a line after `$ ` is run in a shell, in a directory that all commands
//! of a page share; the lines below are what it prints. `[..]` stands for any text within a line, a
//! line of three dots for any number of lines.
mod support;
use std::path::{Path, PathBuf};
use support::*;

struct Step {
    line: usize,
    command: String,
    said: Vec<String>,
}

fn pages() -> Vec<PathBuf> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let entries = std::fs::read_dir(docs).unwrap();
    let mut pages: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    pages.retain(|path| path.extension().is_some_and(|e| e == "md"));
    pages.sort();
    pages
}
fn steps(text: &str) -> Vec<Step> {
    let (mut steps, mut inside) = (Vec::<Step>::new(), false);
    for (number, line) in (1..).zip(text.lines()) {
        match (inside, line.strip_prefix("$ ")) {
            (false, _) => inside = line == "```console",
            (true, _) if line == "```" => inside = false,
            (true, Some(command)) => {
                steps.push(Step { line: number, command: command.into(), said: vec![] });
            }
            (true, None) => steps.last_mut().unwrap_or_else(|| panic!("{line}")).said.push(line.into()),
        }
    }
    steps
}
/// Whether a line is what a pattern says.
fn fits(line: &str, pattern: &str) -> bool {
    let mut parts = pattern.split("[..]");
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}
/// Whether lines are what patterns say.
fn all_fit(lines: &[&str], patterns: &[String]) -> bool {
    match patterns.split_first() {
        None => lines.is_empty(),
        Some((any, rest)) if any == "..." => (0..=lines.len()).any(|n| all_fit(&lines[n..], rest)),
        Some((first, rest)) => {
            lines.split_first().is_some_and(|(line, lines)| fits(line, first) && all_fit(lines, rest))
        }
    }
}

#[test]
fn every_command_does_what_its_page_says() {
    let (mut commands, only) = (0, std::env::var("ENGRAFT_PAGE").ok());
    for page in pages().into_iter().filter(|p| only.as_ref().is_none_or(|only| p.ends_with(only))) {
        let (name, text) =
            (page.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(&page));
        let work = Work::empty();
        for Step { line, command, said } in steps(&text.unwrap()) {
            let ran = work.shell(&command).good();
            let all = format!("{}{}", ran.stdout, ran.stderr);
            let fit = [&ran.stdout, &all, &format!("{}{}", ran.stderr, ran.stdout)]
                .into_iter()
                .any(|said_now| all_fit(&said_now.lines().collect::<Vec<_>>(), &said));
            assert!(fit, "docs/{name}:{line}: {command}\nsays\n{all}\nand not\n{}", said.join("\n"));
            commands += 1;
        }
    }
    assert!(commands > 10 || only.is_some(), "{commands} commands");
}

#[test]
fn patterns_are_read() {
    let fit = |text: &str, said: &[&str]| {
        all_fit(&text.lines().collect::<Vec<_>>(), &said.iter().map(|s| s.to_string()).collect::<Vec<_>>())
    };
    assert!(
        fit("a 1 b\nc", &["a [..] b", "c"])
            && fit("a\nb\nc", &["a", "...", "c"])
            && fit("a", &["...", "a", "..."])
    );
    assert!(fit("", &[]) && fit("a", &["[..]"]) && fit("x 12 y 3", &["x [..] y [..]"]));
    assert!(
        !fit("a 1 b\nc", &["a [..] c", "c"])
            && !fit("a\nb", &["a"])
            && !fit("a", &["a", "b"])
            && !fit("ab", &["a"])
    );
}
