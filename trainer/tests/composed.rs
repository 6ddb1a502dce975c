//! Compositions that were refused or failed under way: fusions of fusions, a Parallel, a BatchSplit.
mod support;
use serde_json::{Value, json};
use support::*;

/// Saved adapters of these names.
fn saved(names: &[&str]) -> Work {
    let work = Work::new();
    for (seed, name) in names.iter().enumerate() {
        work.train(&format!("--adapter pfeiffer --seed {seed} --max-steps 2 --lr 1e-2 --out {name}"));
    }
    work
}
/// A line of `engraft train` on `train.tsv`.
fn line(command: &str) -> String {
    format!("{command} --model MODEL --train train.tsv {SHORT} --quiet --json")
}

#[test]
fn fusions_of_fusions_are_trained_saved_and_shown() {
    let work = saved(&["one", "two", "three"]);
    let fuse = line("fuse");
    let deep = "--adapters one two three --setup Fuse(Fuse(one,two),three)";
    let report = work.run(&format!("{fuse} {deep} --eval eval.tsv --out deep")).json();
    for file in [
        "adapter_setup.json",
        "one,two/adapter_fusion_config.json",
        "(one,two),three/model_adapter_fusion.safetensors",
        "three/adapter.safetensors",
    ] {
        assert!(work.path("deep").join(file).exists(), "{file}");
    }
    // the inner and the outer one train, the adapters do not
    let start = work.run(&format!("{fuse} {deep} --lr 1e-30 --out start").replace("--lr 1e-3 ", "")).json();
    assert_eq!(start["trainable_parameters"], report["trainable_parameters"]);
    let differs = |dir: &str, file: &str| {
        let [a, b] = ["start", dir].map(|dir| work.tensors(&format!("{dir}/{file}")));
        a.iter().any(|(name, values)| b[name].iter().zip(values).any(|(x, y)| (x - y).abs() > 1e-5))
    };
    let fusions = ["one,two", "(one,two),three"].map(|f| format!("{f}/model_adapter_fusion.safetensors"));
    assert!(fusions.iter().all(|file| differs("deep", file)));
    assert!(!differs("deep", "one/adapter.safetensors"));
    work.run(&format!("{fuse} {deep} --joint --out joint")).json();
    assert!(differs("joint", "one/adapter.safetensors") && differs("joint", &fusions[0]));

    let eval = |flags: &str| {
        let ran =
            work.run(&format!("eval --model MODEL --adapter deep --data eval.tsv --json --quiet {flags}"));
        ran.evaluation()["loss"].clone()
    };
    assert_eq!(eval(""), report["metrics"]["loss"], "what was saved is what was trained");
    assert_eq!(eval("--adapters one,two,three"), eval(""));
    assert_eq!(eval("--setup Fuse(Fuse(one,two),three)"), eval(""));
    assert!(eval("--adapters one,three") != eval(""));
    let again =
        work.run(&format!("{} --init deep --out more --lr 1e-30", line("train")).replace("--lr 1e-3 ", ""));
    again.json();
    let loss = work.run("eval --model MODEL --adapter more --data eval.tsv --json --quiet").evaluation();
    assert_eq!(loss["loss"], eval(""), "learned further from what was saved");

    let shares = |flags: &str| {
        work.run(&format!("shares --model MODEL --adapter deep --data eval.tsv --quiet {flags}"))
    };
    let found = shares("--json --picture shares.png").json()["fusions"].clone();
    let members = |i: usize| (found[i]["fusion"].clone(), found[i]["adapters"].clone());
    assert_eq!(members(0), (json!("(one,two),three"), json!(["(one,two)", "three"])));
    assert_eq!(members(1), (json!("one,two"), json!(["one", "two"])));
    for place in found.as_array().unwrap().iter().flat_map(|f| f["places"].as_array().unwrap()) {
        let sum: f64 = place["shares"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-5, "{place}");
    }
    assert!(work.read("shares.png").starts_with(b"\x89PNG\r\n\x1a\n"));
    assert!(shares("").good().stdout.contains("one,two: mean share of each adapter"));
    shares("--picture shares.gif").fails(&["shares.gif", ".svg or .png"]);
    work.run("inspect --model MODEL --adapter deep").good();
    work.run("predict --model MODEL --adapter deep --text good --compat adapters-1.3.0")
        .fails(&["adapters 1.3.0 cannot compute a fusion of fusions"]);
    work.train("--adapter houlsby --out both");
    work.run(&format!("{fuse} --adapters one two both --setup Fuse(Fuse(one,two),both) --out fails"))
        .fails(&["`(one,two)` and `both`", "mh_adapter"]);
}

#[test]
fn each_member_of_a_parallel_learns_what_it_learns_alone() {
    let work = saved(&["one", "two"]);
    let train = format!("{} --eval eval.tsv", line("train"));
    let report = work
        .run(&format!("{train} --adapters one two --setup Parallel(one,Stack(one,two),None) --out all"))
        .json();
    let without = |dir: &str| {
        let mut files = work.files(dir);
        files.retain(|name, _| !["report.json", "run.toml"].contains(&name.as_str()));
        files
    };
    for (name, flags) in [
        ("one", "--adapters one --adapter none"),
        ("one+two", "--adapters one two --adapter none --setup Stack(one,two)"),
        ("None", "--adapter none"),
    ] {
        let alone = work.run(&format!("{train} {flags} --out alone")).json();
        assert_eq!(report["variants"][name]["metrics"], alone["metrics"], "{name}");
        assert!(without(&format!("all/{name}")) == without("alone"), "{name}");
    }
    // a new one beside a saved one, and below all of them one that was saved
    let new = "--adapters one --adapter houlsby --bottleneck 4 --setup Stack(one,Parallel(new,None))";
    let report = work.run(&format!("{train} {new} --out new")).json();
    assert_eq!(report["variants"].as_object().unwrap().len(), 2);
    assert!(work.path("new/one+new/new/adapter.safetensors").exists());
    // what the run recorded repeats it
    work.run("train --config all/run.toml --out again --quiet --json").json();
    assert!(without("again/one") == without("all/one"));

    let refused = |flags: &str, words: &[&str]| work.run(&format!("{train} --out x {flags}")).fails(words);
    refused("--setup Parallel(a,b)", &["`a` and `b`", "--variant 'a: adapter=houlsby'"]);
    refused("--adapters one two --setup Parallel(one,None)", &["does not name the adapter `two`"]);
    refused("--adapters one --name new --setup Parallel(one,nwe)", &["`nwe`", "--name"]);
    refused("--adapters one two --joint --setup Parallel(one,Stack(one,two))", &["--joint", "`one`"]);
    refused("--adapters one --setup Parallel(one,one)", &["`one` twice"]);
    refused(
        "--adapters one two --setup Parallel(one,BatchSplit(one,two,batch_sizes=2))",
        &["parts of a batch"],
    );
    assert!(!work.path("x").exists(), "refused before anything is written");

    // each answers, with the head that was saved
    let predict = |flags: &str| {
        let ran = work
            .run(&format!("predict --model MODEL --adapter all/one+two --input eval.tsv --quiet {flags}"));
        ran.good().stdout
    };
    let both = predict("--setup Parallel(one,two)");
    let (one, two) = (predict("--setup one"), predict("--setup two"));
    let want: Vec<String> =
        one.lines().zip(two.lines()).flat_map(|(a, b)| [format!("one\t{a}"), format!("two\t{b}")]).collect();
    assert_eq!(both.lines().collect::<Vec<_>>(), want);
    let json: Value = serde_json::from_str(predict("--json --setup Parallel(one,two)").trim()).unwrap();
    let alone: Value = serde_json::from_str(predict("--json --setup two").trim()).unwrap();
    assert_eq!(json["predictions"][3]["two"], alone["predictions"][3]);
    let eval = |flags: &str| {
        work.run(&format!("eval --model MODEL --adapter all/one+two --data eval.tsv --json --quiet {flags}"))
    };
    let found = eval("--setup Parallel(one,None)").json()["answers"].clone();
    assert_eq!(found["one"]["loss"], eval("--setup one").evaluation()["loss"]);
    assert_eq!(found["None"]["loss"], eval("--setup None").evaluation()["loss"]);
    eval("--setup Parallel(one,two) --predictions p.jsonl").fails(&["predictions", "several answers"]);
    work.run("shares --model MODEL --adapter all/one+two --data eval.tsv --setup Parallel(one,two)")
        .fails(&["several answers"]);
}

#[test]
fn a_batch_is_split_between_adapters_in_training_and_the_data_afterwards() {
    let work = saved(&["one", "two"]);
    let split = "--adapters one two --joint --setup BatchSplit(one,two,batch_sizes=[2,1])";
    let own = line("train").replace("--batch-size 4 ", "");
    // 8 examples: the last batch has 2, and both go to the first adapter
    let report = work
        .run(
            &format!("{own} {split} --max-steps 3 --eval eval.tsv --out split").replace("--max-steps 2 ", ""),
        )
        .json();
    assert!(work.text("split/run.toml").contains("batch-size = 3"), "{}", work.text("split/run.toml"));
    let predict = |flags: &str| {
        let ran =
            work.run(&format!("predict --model MODEL --adapter split --input eval.tsv --quiet {flags}"));
        ran.good().stdout.lines().map(String::from).collect::<Vec<_>>()
    };
    let (both, one, two) = (predict(""), predict("--setup one"), predict("--setup two"));
    assert_eq!(both.len(), 5);
    for (i, line) in both.iter().enumerate() {
        assert_eq!(line, if i % 3 < 2 { &one[i] } else { &two[i] }, "row {i}");
    }
    assert_ne!(one[2], two[2]);
    assert_eq!(predict("--batch-size 2"), both, "whatever rows are computed together");
    let eval = |flags: &str| {
        work.run(&format!("eval --model MODEL --adapter split --data eval.tsv --json --quiet {flags}"))
            .evaluation()
    };
    assert_eq!(eval("")["loss"], report["metrics"]["loss"]);
    assert_eq!(eval("--batch-size 1")["accuracy"], eval("")["accuracy"]);

    let refused =
        |flags: &str, words: &[&str]| work.run(&format!("{own} {split} --out x {flags}")).fails(words);
    refused("--batch-size 4", &["batch-size", "4", "batches of 3 examples"]);
    refused("--batch-tokens 100", &["batch-tokens", "batches of 3 examples"]);
    assert!(!work.path("x").exists(), "refused before anything is written");
    work.run(&format!("{} --init split --out x", line("train")))
        .fails(&["batch-size", "set `batch-size` to 3"]);
    work.run(&format!("{own} --init split --batch-size 3 --out more")).json();
}
