//! One task after the other: what is forgotten, and what is not.
mod support;
use serde_json::Value;
use support::*;

fn work() -> Work {
    let work = Work::new();
    let other = |(i, (text, _)): (usize, &(&str, &str))| format!("{text}\t{}\n", ["good", "bad"][i % 2]);
    let turned: String = TRAIN.iter().enumerate().map(other).collect();
    let size =
        |(i, (text, _)): (usize, &(&str, &str))| format!("{text}\t{}\n", ["big", "small", "none"][i % 3]);
    let sizes: String = TRAIN.iter().chain(&EVAL).enumerate().map(size).collect();
    work.write("turned.tsv", format!("text\tlabel\n{turned}"))
        .write("sizes.tsv", format!("text\tlabel\n{sizes}"));
    let table =
        |name: &str, train: &str, eval: &str| format!("[tasks.{name}]\ntrain = '{train}'\neval = '{eval}'\n");
    let all = [
        table("mood", "train.tsv", "eval.tsv"),
        table("turned", "turned.tsv", "turned.tsv"),
        table("size", "sizes.tsv", "sizes.tsv"),
    ];
    work.write("tasks.toml", all.concat());
    work
}
fn continual(flags: &str) -> String {
    format!(
        "continual --config tasks.toml --model MODEL --json --quiet --batch-size 4 --epochs 4 --lr 5e-3 --max-length 24 {flags}"
    )
}
fn matrix(report: &Value) -> Vec<Vec<Option<f64>>> {
    serde_json::from_value(report["matrix"].clone()).unwrap()
}

#[test]
fn tasks_with_adapters_of_their_own_forget_nothing() {
    let work = work();
    let report = work.run(&continual("--out out --order size,mood,turned")).json();
    assert_eq!(report["order"], serde_json::json!(["size", "mood", "turned"]));
    assert_eq!(work.names("out"), ["mood", "report.json", "run.toml", "size", "transfer.svg", "turned"]);
    assert_eq!(serde_json::from_str::<Value>(&work.text("out/report.json")).unwrap(), report);
    let r = matrix(&report);
    for j in 0..3 {
        for i in 0..3 {
            // bit for bit what it was
            assert_eq!(r[i][j], r[j][j].filter(|_| i >= j), "{i} {j}: {r:?}");
        }
        assert!(r[j][j].is_some());
    }
    assert_eq!((number(&report["forgetting"]), number(&report["bwt"])), (0.0, 0.0));
    assert!(report["fwt"].is_null());
    let mean = r[2].iter().map(|x| x.unwrap()).sum::<f64>() / 3.0;
    assert!((number(&report["average_accuracy"]) - mean).abs() < 1e-12);
    // each is the run by itself
    let alone = "train --model MODEL --train train.tsv --eval eval.tsv --json --quiet --batch-size 4 --epochs 4 --lr 5e-3 \
                 --max-length 24 --name mood --out alone";
    let one = work.run(alone).json();
    assert_eq!(r[1][1].unwrap(), number(&one["metrics"]["accuracy"]));
    for file in ["adapter.safetensors", "model_head.safetensors"] {
        assert!(work.read(&format!("alone/{file}")) == work.read(&format!("out/mood/{file}")), "{file}");
    }
    let picture = work.text("out/transfer.svg");
    assert!(picture.contains("after turned") && picture.contains("before all") && !picture.contains("NaN"));
    let plain = work.run(&continual("--out out").replace("--json --quiet", "")).good().stdout;
    for words in ["after mood", "forgetting 0.0000", "forward transfer is not defined", "saved in out"] {
        assert!(plain.contains(words), "{words}: {plain}");
    }
}

#[test]
fn one_adapter_goes_on_from_task_to_task() {
    let work = work();
    let report = work.run(&continual("--shared --out out --order mood,turned,size")).json();
    assert_eq!(report["adapters"], "shared");
    let r = matrix(&report);
    // the same labels: the head of the first answers for the second before that was learned
    assert!(r[0][1].is_some() && r[0][2].is_none() && r[1][2].is_none(), "{r:?}");
    assert!((0..3).all(|j| (j..3).all(|i| r[i][j].is_some())), "{r:?}");
    assert!(report["fwt"].is_null(), "the last one has labels of its own");
    let before: Vec<Option<f64>> = serde_json::from_value(report["before"].clone()).unwrap();
    assert!(before.iter().all(Option::is_some));
    let of = |i: usize, j: usize| r[i][j].unwrap();
    let bwt = ((of(2, 0) - of(0, 0)) + (of(2, 1) - of(1, 1))) / 2.0;
    assert!((number(&report["bwt"]) - bwt).abs() < 1e-12);
    // it is one adapter, which has changed
    let adapter = |name: &str| work.read(&format!("out/{name}/adapter.safetensors"));
    assert!(adapter("mood") != adapter("turned") && adapter("turned") != adapter("size"));
    // the second run began with what the first had left
    let by_hand = "train --model MODEL --init out/mood --head hub --task classification --train turned.tsv --eval turned.tsv --json \
                   --quiet --batch-size 4 --epochs 4 --lr 5e-3 --max-length 24 --out by-hand";
    let one = work.run(by_hand).json();
    assert_eq!(of(1, 1), number(&one["metrics"]["accuracy"]));
    assert!(adapter("turned") == work.read("by-hand/adapter.safetensors"));
    // two tasks with the same labels have a forward transfer
    let text = work.text("tasks.toml");
    work.write("tasks.toml", text.split("[tasks.size]").next().unwrap());
    let report = work.run(&continual("--shared --out two --order mood,turned")).json();
    let r = matrix(&report);
    let before: Vec<f64> = serde_json::from_value(report["before"].clone()).unwrap();
    assert!((number(&report["fwt"]) - (r[0][1].unwrap() - before[1])).abs() < 1e-12);
}

#[test]
fn what_was_stopped_goes_on() {
    let work = work();
    let whole = work.run(&continual("--shared --out whole")).json();
    work.run(&continual("--shared --out out")).json();
    // as if it had been killed behind the second task
    std::fs::remove_dir_all(work.path("out/turned")).unwrap();
    std::fs::remove_file(work.path("out/report.json")).unwrap();
    let time = |name: &str| {
        std::fs::metadata(work.path(&format!("out/{name}/report.json"))).unwrap().modified().unwrap()
    };
    let before = (time("mood"), time("size"));
    let again = work.run("train --resume out --quiet --json").json();
    assert_eq!(
        (again["matrix"].clone(), again["bwt"].clone()),
        (whole["matrix"].clone(), whole["bwt"].clone())
    );
    assert_eq!(before, (time("mood"), time("size")), "those that were over were not trained again");
    assert!(work.run("continual --resume out").good().stdout.contains("is complete"));
}

#[test]
fn what_does_not_go_together_is_refused() {
    let work = work();
    let refused = |flags: &str, words: &[&str]| {
        work.run(&continual(&format!("{flags} --out out"))).fails(words);
        assert!(work.names("out").is_empty(), "{flags}");
    };
    refused("--order mood,size", &["`order`", "mood, size, turned"]);
    refused("--order mood,size,size", &["`order`"]);
    refused("--order mood,size,turned,more", &["`order`"]);
    refused("--sampling uniform --order mood,size,turned", &["`order`", "`sampling`"]);
    refused("--shared --task-weight 2 --order mood,size,turned", &["`order`", "`task-weight`"]);
    refused("--metric f1", &["task `mood`", "`metric`", "classification computes"]);
    work.run("continual --model MODEL --train train.tsv").fails(&["`continual`", "`tasks`"]);
    work.run(&train("--order a,b --out out")).fails(&["`order`", "`tasks`"]);
    work.write(
        "tasks.toml",
        "[tasks.a]\ntrain = 'train.tsv'\n[tasks.b]\ntrain = 'train.tsv'\neval = 'eval.tsv'\n",
    );
    refused("--order a,b", &["task `a`", "`eval`"]);
}

/// Whether two directories hold the same adapter and head.
fn is_same(work: &Work, a: &str, b: &str) -> bool {
    let files = ["adapter.safetensors", "model_head.safetensors"];
    files.iter().all(|file| work.read(&format!("{a}/{file}")) == work.read(&format!("{b}/{file}")))
}

#[test]
fn what_was_learned_before_is_held() {
    let work = work();
    let flags = "--shared --order mood,turned,size";
    let plain = work.run(&continual(&format!("{flags} --out plain"))).json();
    // nothing is held so strongly as not at all, to the bit
    let none = work.run(&continual(&format!("{flags} --ewc 0 --replay 0 --out none"))).json();
    assert_eq!(none["matrix"], plain["matrix"]);
    for name in ["mood", "turned", "size"] {
        assert!(is_same(&work, &format!("none/{name}"), &format!("plain/{name}")), "{name}");
    }
    assert!(!work.path("none/mood/fisher.safetensors").exists());

    let report = work.run(&continual(&format!("{flags} --ewc 1e6 --fisher-examples 8 --out out"))).json();
    assert_eq!((number(&report["ewc"]), report["adapters"].as_str()), (1e6, Some("shared")));
    assert!(work.text("out/transfer.svg").contains("EWC 1000000"));
    assert!(is_same(&work, "out/mood", "plain/mood"), "there is nothing before the first task");
    // what is held moves less where it matters: the sum of F (w - w')^2
    let before = work.tensors("out/mood/fisher.safetensors");
    let moved = |out: &str| {
        let now = work.tensors(&format!("{out}/size/adapter.safetensors"));
        let of = |(name, now): (&String, &Vec<f32>)| {
            let [was, fisher] = ["weight", "fisher"].map(|kind| &before[&format!("{kind}.{name}")]);
            let all = now.iter().zip(was).zip(fisher);
            all.map(|((now, was), fisher)| f64::from(*fisher) * f64::from(now - was).powi(2)).sum::<f64>()
        };
        now.iter().map(of).sum::<f64>()
    };
    let (held, free) = (moved("out"), moved("plain"));
    assert!(free > 0.0 && held < 0.3 * free, "{held} {free}");
    // a task is a run that is repeated
    work.run("train --config out/size/run.toml --out again --quiet").good();
    assert!(is_same(&work, "again", "out/size"));
    let text = work.text("out/size/run.toml");
    assert!(text.contains("ewc-from = [\"out/mood\", \"out/turned\"]"), "{text}");
}

#[test]
fn what_was_learned_before_is_learned_again() {
    let work = work();
    let flags = "--shared --order mood,turned,size";
    work.run(&continual(&format!("{flags} --out plain"))).json();
    let none = continual(&format!("{flags} --replay 4 --replay-share 0 --out none"));
    work.run(&none).json();
    assert!(is_same(&work, "none/size", "plain/size"));

    let again = format!("{flags} --replay 4 --replay-share 0.5");
    let report = work.run(&continual(&format!("{again} --out out"))).json();
    assert_eq!(report["replay"], serde_json::json!({"examples": 4, "share": 0.5}));
    assert!(is_same(&work, "out/mood", "plain/mood") && !is_same(&work, "out/turned", "plain/turned"));
    assert_eq!(
        work.names("out/size"),
        work.names("plain/size"),
        "heads of earlier tasks stay where they are"
    );
    work.run("train --config out/size/run.toml --out again --quiet").good();
    assert!(is_same(&work, "again", "out/size"));
    // as many steps as without, and one that was stopped between two of them goes on to the same end
    let steps = |out: &str| -> Value {
        serde_json::from_str(&work.text(&format!("{out}/size/train_results.json"))).unwrap()
    };
    assert_eq!(steps("out")["train_steps"], steps("plain")["train_steps"]);
    // other examples are other steps
    work.run(&continual(&format!("{again} --replay 3 --out other").replace("--replay 4 ", ""))).json();
    assert!(!is_same(&work, "other/size", "out/size"));
    // both at once
    let both = work.run(&continual(&format!("{again} --ewc 10 --out both"))).json();
    assert!(number(&both["ewc"]) == 10.0 && !is_same(&work, "both/size", "out/size"));
}

#[test]
fn what_cannot_be_held_is_refused() {
    let work = work();
    let refused = |flags: &str, words: &[&str]| {
        work.run(&continual(&format!("{flags} --out out"))).fails(words);
    };
    refused("--ewc 1", &["`ewc`", "`shared`"]);
    refused("--shared --ewc -1", &["`ewc`", "from 0"]);
    refused("--shared --replay 3 --replay-share 1", &["`replay-share`", "below 1"]);
    refused("--shared --replay-share 0.5", &["`replay-share`", "`replay`"]);
    refused("--shared --fisher-examples 5", &["`fisher-examples`", "`ewc`"]);
    refused("--shared --ewc 1 --fisher-examples 0", &["`fisher-examples`", "at least 1"]);
    refused("--shared --replay 3 --memory-budget 1GB", &["`memory-budget`", "`replay`"]);
    work.run("train --config tasks.toml --model MODEL --shared --ewc 1 --out out")
        .fails(&["`ewc`", "`order`"]);
    work.run(&train("--ewc 1 --out out")).fails(&["`ewc`", "`tasks`"]);
    work.run(&train("--ewc-from plain --out out")).fails(&["`ewc-from`", "`ewc`"]);
    work.run(&train("--ewc 1 --ewc-from nowhere --out out")).fails(&["nowhere/fisher.safetensors"]);
    work.run(&train("--replay 1 --replay-from nowhere --out out")).fails(&["nowhere/run.toml"]);
}
