//! The same seed gives the same bytes, and the backbone stays as it is.
mod support;
use support::*;

const SAVED: [&str; 2] = ["adapter.safetensors", "model_head.safetensors"];

fn saved(work: &Work, out: &str) -> Vec<Vec<u8>> {
    SAVED.iter().map(|file| work.read(&format!("{out}/{file}"))).collect()
}

#[test]
fn the_same_seed_gives_the_same_bytes_on_one_thread_and_on_two() {
    let work = Work::new();
    work.train("--seed 7 --out one --threads 1");
    for (out, flags) in
        [("two", "--threads 2"), ("again", "--threads 2"), ("three", "--threads 3"), ("all", "")]
    {
        work.train(&format!("--seed 7 --out {out} {flags}"));
        assert!(saved(&work, "one") == saved(&work, out), "{out}");
    }
}

#[test]
fn another_seed_gives_other_weights() {
    let work = Work::new();
    for seed in [1, 2] {
        work.train(&format!("--seed {seed} --out {seed}"));
    }
    for (a, b) in saved(&work, "1").iter().zip(saved(&work, "2")) {
        assert!(*a != b);
    }
}

#[test]
fn the_seed_decides_shuffling_and_dropout_and_the_beginning_each() {
    let work = Work::new();
    work.train("--out start --max-steps 1 --lr 1e-30 --seed 3");
    // from the same weights: the order and the dropout differ between the seeds
    let run = |out: &str, flags: &str| {
        work.train(&format!("--init start --out {out} {flags}"));
        saved(&work, out)
    };
    assert!(run("a", "--seed 3 --dropout 0") != run("b", "--seed 4 --dropout 0"), "the order");
    assert!(run("c", "--seed 3 --no-shuffle") != run("d", "--seed 4 --no-shuffle"), "the dropout");
    let neither = "--no-shuffle --dropout 0";
    assert!(run("e", &format!("--seed 3 {neither}")) == run("f", &format!("--seed 4 {neither}")), "nothing");
}

#[test]
fn the_backbone_on_disk_is_not_touched() {
    let work = Work::new();
    work.copy(backbone(), "model");
    let before = work.files("model");
    for preset in ["houlsby", "none", "full"] {
        work.train(&format!("--model model --eval eval.tsv --out {preset} --adapter {preset}"));
        assert!(work.files("model") == before, "{preset}");
    }
    work.run("eval --model model --adapter houlsby --data eval.tsv").good();
    work.run("predict --model model --adapter houlsby --text x").good();
    work.run("inspect --model model --adapter houlsby").good();
    assert!(work.files("model") == before);
}

#[test]
fn evaluation_does_not_change_what_is_trained() {
    let work = Work::new();
    work.train("--out without --epochs 2");
    work.train("--out with --epochs 2 --eval eval.tsv --metric loss --eval-every 2");
    assert!(saved(&work, "without") == saved(&work, "with"));
}

#[test]
fn predictions_are_the_same_on_every_run_and_every_number_of_threads() {
    let work = Work::new();
    work.train("--out out");
    let line = "predict --model MODEL --adapter out --input eval.tsv --json";
    let first = work.run(&format!("{line} --threads 1")).good().stdout;
    for threads in [1, 2, 3] {
        assert_eq!(work.run(&format!("{line} --threads {threads}")).good().stdout, first);
    }
}
