//! Runs that are stopped or killed, and go on to the very bits of a run that was not.
#![cfg(unix)]
#[path = "support/events.rs"]
mod events;
mod support;
use events::events;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    process::{Child, Command, Stdio},
    time::Duration,
};
use support::*;

/// A run of 48 steps in 24 epochs.
const LONG: &str = "--max-steps 48 --checkpoint-every 3";

/// Starts a run.
fn start(work: &Work, line: &str) -> Child {
    work.arguments(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}
fn send(signal: &str, to: &Child) {
    assert!(Command::new("kill").args([signal, &to.id().to_string()]).status().unwrap().success());
}
/// What a run leaves, without the report, which has times in it.
fn left(work: &Work, out: &str) -> BTreeMap<String, Vec<u8>> {
    let mut files = work.files(out);
    assert!(files.remove("report.json").is_some(), "{out} is complete");
    files.remove(".lock");
    files.remove("run.toml"); // names another directory
    files
}
/// Kills a run again and again until it is complete; how often.
fn killed(work: &Work, flags: &str, out: &str, mut wait: u64) -> usize {
    let mut line = train(&format!("{flags} --out {out}"));
    let mut kills = 0;
    loop {
        let mut run = start(work, &line);
        std::thread::sleep(Duration::from_millis(wait));
        send("-KILL", &run);
        let over = run.wait().unwrap().success();
        // whatever is there belongs together
        let there = |name: &str| work.path(out).join(name).exists();
        if there("model.safetensors") {
            work.run(&format!("inspect --model {out}")).good();
        } else if there("adapter_config.json") {
            work.run(&format!("inspect --model MODEL --adapter {out}")).good();
        }
        if over {
            return kills;
        }
        kills += 1;
        // killed before it had the directory: it has to begin
        let begun = work.path(out).join(".run.toml").exists();
        if begun || work.path(out).join("state.safetensors").exists() {
            line = format!("train --resume {out} --quiet --json --threads {}", 1 + kills % 2);
        }
        wait += wait / 2;
    }
}

/// `ENGRAFT_ROUNDS=20` kills for some minutes, at other moments each time, into directories that
/// hold the run before.
#[test]
fn a_run_that_is_killed_goes_on_to_the_same_bits() {
    let rounds = std::env::var("ENGRAFT_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let work = Work::new();
    let runs = [
        LONG.to_string(),
        format!("{LONG} --eval eval.tsv"),
        format!("{LONG} --eval eval.tsv --eval-every 5 --patience 4 --gradient-accumulation 2"),
        format!("{LONG} --adapter lora --eval eval.tsv --metric loss --dropout 0.3 --adapter-drop 3"),
        "--adapter full --max-steps 6 --checkpoint-every 2".into(),
        format!("{LONG} --layers 2-3 --dropout 0 --cache-prefix cache"),
        format!("{LONG} --eval eval.tsv --batch-size 1 --gradient-accumulation 2 --stream --stream-buffer 3"),
    ];
    for (n, flags) in runs.iter().enumerate() {
        work.run(&train(&format!("{flags} --out whole{n}").replace("--cache-prefix cache", ""))).good();
    }
    let mut kills = 0;
    for round in 0..rounds {
        for (n, flags) in runs.iter().enumerate() {
            let out = format!("out{}", (n + round) % runs.len());
            let of_this = killed(&work, flags, &out, 150 + 7 * round as u64);
            assert!(left(&work, &format!("whole{n}")) == left(&work, &out), "{flags}");
            assert!(of_this > 0 || round > 0, "{flags}");
            kills += of_this;
            let again = work.run(&format!("train --resume {out}")).good();
            assert!(again.stdout.contains("is complete"), "{}", again.stdout);
        }
    }
    println!("{kills} kills");
}

#[test]
fn the_curves_of_a_run_that_is_killed_go_on() {
    let work = Work::new();
    let flags = format!("{LONG} --eval eval.tsv --tensorboard --log-every 1");
    assert!(killed(&work, &flags, "out", 150) > 0);
    let state: Value = serde_json::from_str(&work.text("out/trainer_state.json")).unwrap();
    let log = state["log_history"].as_array().unwrap();
    let steps = |key: &str| -> Vec<u64> {
        log.iter().filter(|e| e.get(key).is_some()).map(|e| e["step"].as_u64().unwrap()).collect()
    };
    let all: Vec<u64> = (1..=48).collect();
    assert_eq!(steps("loss"), all, "each step once");
    assert_eq!(steps("eval_loss"), (1..=24).map(|epoch| 2 * epoch).collect::<Vec<_>>());
    let found = events(&work.path("out/runs"));
    let of =
        |tag: &str| found.iter().filter(|(_, t, _)| t == tag).map(|(step, ..)| *step).collect::<Vec<_>>();
    assert_eq!((of("train/loss"), of("eval/loss")), (all, steps("eval_loss")));
    // the losses are those of a run that was not killed
    work.run(&train(&format!("{flags} --out whole"))).good();
    let whole = events(&work.path("whole/runs"));
    let losses = |of: &[(u64, String, f32)]| -> Vec<f32> {
        of.iter().filter(|(_, tag, _)| tag.ends_with("/loss")).map(|(.., x)| *x).collect()
    };
    assert_eq!(losses(&found), losses(&whole));
}

#[test]
fn a_signal_ends_a_run_behind_its_step() {
    let work = Work::new();
    work.run(&train(&format!("{LONG} --eval eval.tsv --out whole"))).good();
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let line = train(&format!("{LONG} --eval eval.tsv --out out{code}"));
        let run = start(&work, &line);
        let state = work.path(&format!("out{code}/state.safetensors"));
        while !state.exists() {
            std::thread::sleep(Duration::from_millis(2));
        }
        send(signal, &run);
        let ran = Ran::from(run.wait_with_output().unwrap());
        assert_eq!(ran.code, Some(code), "{}", ran.stderr);
        let to_go_on = format!("engraft train --resume out{code}");
        assert!(
            ran.stderr.contains("stopped after step ") && ran.stderr.contains(&to_go_on),
            "{}",
            ran.stderr
        );
        work.run(&format!("predict --model MODEL --adapter out{code} --text x")).good();
        work.run(&format!("train --resume out{code}")).good();
        assert!(left(&work, "whole") == left(&work, &format!("out{code}")), "{signal}");
    }
}

#[test]
fn a_run_takes_the_place_of_the_one_before() {
    let work = Work::new();
    work.train("--adapter full --out out");
    work.write("out/notes.txt", "mine");
    assert!(work.names("out").contains(&"tokenizer.json".to_string()));
    work.train("--out out");
    let mut names: Vec<&str> = LEFT.into_iter().chain(["notes.txt"]).collect();
    names.sort();
    assert_eq!(work.names("out"), names);
    // one that fails leaves what was there
    let before = work.files("out");
    work.run(&train("--out out --train missing.tsv")).fails(&["missing.tsv"]);
    work.run(&train("--out out --lr 1e30 --max-steps 20")).fails(&["diverged"]);
    assert!(work.files("out") == before);
}

#[test]
fn what_cannot_go_on_is_refused() {
    let work = Work::new();
    work.run("train --resume nowhere").fails(&["nowhere", "no run"]);
    work.train("--out out");
    work.run("train --resume out --lr 1").fails(&["`resume`", "`lr`"]);
    work.run("train --resume out --config out/run.toml").misused(&["--config"]);

    // while it runs nobody else writes there
    stopped(&work, "", || work.run(&train("--out stopped")).fails(&["another run", "stopped"]));
    let good = work.read("stopped/state.safetensors");
    for (at, words) in [(good.len() - 1, "checksum"), (40, "state.safetensors")] {
        work.edit("stopped/state.safetensors", |bytes| bytes[at] ^= 0x15);
        work.run("train --resume stopped").fails(&[words]);
        work.write("stopped/state.safetensors", &good);
    }
    work.run("train --resume stopped").good();
    stopped(&work, "--stream", || ());
    work.run("train --resume stopped").good();
}

/// Stops a run as soon as it has a state, behind what is to be done in the meantime, and shows that
/// it does not go on with other data.
fn stopped(work: &Work, flags: &str, meanwhile: impl FnOnce()) {
    let run = start(work, &train(&format!("{LONG} --out stopped {flags}")));
    while !work.path("stopped/state.safetensors").exists() {
        std::thread::sleep(Duration::from_millis(2));
    }
    meanwhile();
    send("-INT", &run);
    assert_eq!(Ran::from(run.wait_with_output().unwrap()).code, Some(130));
    work.write("train.tsv", "text\tlabel\nother\tgood\nwords\tbad\n");
    work.run("train --resume stopped").fails(&["state.safetensors", "data"]);
    work.write("train.tsv", table("\t", &TRAIN));
}

#[test]
fn a_model_is_not_overwritten() {
    let work = Work::new();
    work.copy(backbone(), "model");
    let before = work.files("model");
    for (adapter, out) in [("full", "model"), ("houlsby", "model/../model"), ("none", "./model/")] {
        work.run(&train(&format!("--model model --adapter {adapter} --out {out}"))).fails(&["`out`", "lost"]);
    }
    assert!(work.files("model") == before);
}

#[test]
fn edits_of_the_demonstration_are_kept() {
    let work = Work::empty();
    work.run("train --max-steps 1 --quiet").good();
    work.edit("engraft-demo/data/train.tsv", |bytes| bytes.extend_from_slice(b"My own line.\tpraise\n"));
    let edited = work.read("engraft-demo/data/train.tsv");
    let ran = work.run("train --max-steps 1 --quiet").good();
    assert!(ran.stderr.contains("engraft-demo/data/train.tsv"), "{}", ran.stderr);
    assert!(work.read("engraft-demo/data/train.tsv") == edited);
}
