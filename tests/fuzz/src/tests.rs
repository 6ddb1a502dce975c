//! The committed inputs, given to every target without a fuzzer.
use super::*;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
fn names(directory: &str) -> BTreeSet<String> {
    let all = fs::read_dir(here().join(directory)).unwrap_or_else(|e| panic!("{directory}: {e}"));
    all.map(|e| e.unwrap().path().file_stem().unwrap().to_str().unwrap().to_string()).collect()
}
fn inputs(target: &str) -> Vec<PathBuf> {
    let of = |kind: &str| fs::read_dir(here().join(kind).join(target)).into_iter().flatten();
    let mut all: Vec<_> = of("corpus").chain(of("regressions")).map(|e| e.unwrap().path()).collect();
    all.sort();
    all
}

#[test]
fn every_target_is_known_to_libfuzzer_and_has_seeds() {
    let all: BTreeSet<String> = TARGETS.iter().map(|t| t.name.to_string()).collect();
    assert_eq!(all.len(), TARGETS.len());
    assert_eq!(names("fuzz_targets"), all);
    assert_eq!(names("corpus"), all);
    assert!(names("regressions").is_subset(&all) && names("dictionaries").is_subset(&all));
    let manifest: toml::Table = fs::read_to_string(here().join("Cargo.toml")).unwrap().parse().unwrap();
    let bins = manifest["bin"].as_array().unwrap().iter();
    let bins: BTreeSet<_> = bins.map(|b| b["name"].as_str().unwrap().to_string()).collect();
    assert_eq!(bins, all, "what `cargo fuzz list` lists");
}

#[test]
fn committed_inputs_are_read_without_a_fault() {
    for target in TARGETS {
        let all = inputs(target.name);
        assert!(!all.is_empty(), "{} has no input", target.name);
        let mut taken = 0;
        for path in &all {
            println!("{}", path.display()); // shown if it is the one that fails
            taken += usize::from(run(target.name, &fs::read(path).unwrap()));
        }
        println!("{}: {} inputs, of which {taken} are taken", target.name, all.len());
        assert!(taken > 0, "{}: what is refused at once is a poor beginning", target.name);
    }
}

#[test]
#[should_panic(expected = "bytes were held for an input of 3")]
fn a_reader_that_holds_too_much_is_found() {
    let read = |_: &[u8]| !vec![1u8; 2 * FREE].is_empty();
    Target { name: "greedy", read, times: 64 }.run(b"abc");
}
