//! Routers: what is made of texts, what is said of others, and who answers.
mod support;
use serde_json::{Value, json};
use support::*;

/// Sentences of three kinds, with labels: so many of each, no two alike.
fn kinds(from: usize, n: usize) -> [Vec<(String, &'static str)>; 3] {
    let pick = |words: &[&'static str], i: usize| words[i % words.len()];
    let (things, places) = (["train", "bus", "coach", "lift", "seat", "ticket"], ["river", "bridge", "road"]);
    let (people, towns) = (["Anna", "Brown", "Junior", "Mister"], ["Paris", "Lyon", "Berlin"]);
    let ride = |i: usize| {
        let good = i.is_multiple_of(2);
        let how = if good { "lovely and clean" } else { "dirty, loud and late" };
        let text =
            format!("The {} near the {} was {how}, number {i}.", pick(&things, i), pick(&places, i / 2));
        (text, if good { "good" } else { "bad" })
    };
    let sum = |i: usize| {
        let (a, b) = (3 + i % 17, 2 + i % 5);
        (
            format!("{a} + {b} = {} ; {i} * {b} = {} ?", a + b, i * b),
            if i.is_multiple_of(3) { "three" } else { "other" },
        )
    };
    let who =
        |i: usize| (format!("{} lives in {} {}", pick(&people, i), pick(&towns, i / 3), pick(&towns, i)), "");
    let of = |f: &dyn Fn(usize) -> (String, &'static str)| (from..from + n).map(f).collect();
    [of(&ride), of(&sum), of(&who)]
}
const NAMES: [&str; 3] = ["ride", "sum", "who"];

fn work() -> Work {
    let work = Work::empty();
    for (file, from, n) in [("train", 0, 60), ("eval", 100, 30)] {
        let [rides, sums, people] = kinds(from, n);
        for (name, rows) in [("ride", rides), ("sum", sums)] {
            let rows: String = rows.iter().map(|(text, label)| format!("{text}\t{label}\n")).collect();
            work.write(&format!("{name}-{file}.tsv"), format!("text\tlabel\n{rows}"));
        }
        let tag = |word: &str| if word.starts_with(|c: char| c.is_uppercase()) { "B-NAME" } else { "O" };
        let tagged = |(text, _): &(String, &str)| {
            text.split(' ').map(|word| format!("{word} {}\n", tag(word))).collect::<String>() + "\n"
        };
        work.write(&format!("who-{file}.conll"), people.iter().map(tagged).collect::<String>());
    }
    let table = |name: &str, more: &str, ending: &str| {
        format!("[tasks.{name}]\n{more}train = '{name}-train.{ending}'\neval = '{name}-eval.{ending}'\n")
    };
    let all =
        [table("ride", "", "tsv"), table("sum", "", "tsv"), table("who", "task = 'tagging'\n", "conll")];
    work.write("tasks.toml", all.concat());
    work
}
const ROUTE: &str = "route --config tasks.toml --model MODEL --quiet --json --out router";

#[test]
fn texts_find_their_task() {
    let work = work();
    let report = work.run(ROUTE).json();
    assert_eq!(work.names("router"), ["report.json", "router.safetensors"]);
    assert_eq!(serde_json::from_str::<Value>(&work.text("router/report.json")).unwrap(), report);
    assert!(number(&report["accuracy"]) > 0.97, "{report}");
    assert_eq!((&report["texts"], &report["tested_on"]), (&json!(90), &json!(["eval", "eval", "eval"])));
    assert_eq!(report["tasks"].as_object().unwrap().keys().collect::<Vec<_>>(), NAMES);
    let rows = report["confusion"].as_array().unwrap();
    let of = |v: &Value| v.as_array().unwrap().iter().map(number).sum::<f64>();
    assert_eq!(rows.iter().map(of).collect::<Vec<_>>(), [30.0; 3]);
    assert!((0.0..=1.0).contains(&number(&report["cosine_accuracy"])));
    // to the bit, on any number of threads and in any batches
    let file = work.read("router/router.safetensors");
    work.run(&format!("{ROUTE} --threads 1")).json();
    assert!(work.read("router/router.safetensors") == file);
    let tensors = work.tensors("router/router.safetensors");
    let channels = tensors["mean"].len() / 3;
    assert_eq!((tensors["precision_cholesky"].len(), tensors["threshold"].len()), (channels * channels, 3));
    // without texts to test on a tenth of the others is
    work.edit("tasks.toml", |text| {
        *text = String::from_utf8(text.clone())
            .unwrap()
            .lines()
            .filter(|line| !line.starts_with("eval"))
            .map(|line| line.to_string() + "\n")
            .collect::<String>()
            .into_bytes();
    });
    let report = work.run(&format!("{ROUTE} --features summary --max-texts 40")).json();
    assert_eq!(
        (&report["texts"], &report["tested_on"]),
        (&json!(12), &json!(["held out", "held out", "held out"]))
    );
    let plain = work.run(&ROUTE.replace("--json", "")).good().stdout;
    for words in ["accuracy ", "by cosine", "taken for no task", "precision", "saved in router"] {
        assert!(plain.contains(words), "{words}: {plain}");
    }
}

#[test]
fn each_text_is_answered_by_the_adapter_of_its_task() {
    let work = work();
    work.run(ROUTE).json();
    let train = "train --config tasks.toml --model MODEL --quiet --json --max-steps 30 --lr 5e-3 --max-length 24 --out out";
    work.run(train).json();
    let [rides, sums, people] = kinds(200, 6);
    let all: Vec<String> = (0..6).flat_map(|i| [&rides[i].0, &people[i].0, &sums[i].0]).cloned().collect();
    let foreign = "zyx qqq vvv kkk jjj www xxx".to_string();
    let texts: Vec<&str> =
        std::iter::once("--text").chain(all.iter().chain([&foreign]).map(String::as_str)).collect();
    let line = "predict --model MODEL --route router --adapters out --quiet --json";
    let said = work.run_with(line, &texts).json();
    let said = said["predictions"].as_array().unwrap();
    assert_eq!(said.len(), 19);
    let (mut answered, mut near) = (0, vec![]);
    for (i, (found, text)) in said.iter().zip(&all).enumerate() {
        assert_eq!(found["nearest"], ["ride", "who", "sum"][i % 3], "{text}: {found}");
        assert!(number(&found["distance"]) >= 0.0);
        let Some(adapter) = found["adapter"].as_str() else { continue };
        answered += 1;
        near.push((adapter, text));
        assert_eq!(found["nearest"], adapter);
        // as by itself
        let line = format!("predict --model MODEL --adapter out/{adapter} --quiet --json");
        let alone = work.run_with(&line, &["--text", text]).json();
        for (key, value) in alone["predictions"][0].as_object().unwrap() {
            assert_eq!(&found[key], value, "{text}: {key}");
        }
    }
    assert!(answered >= 12, "{answered} of 18 are near enough");
    let last = &said[18];
    assert!(last["adapter"].is_null() && last["nearest"].is_string(), "{last}");
    // from a file, and for people
    let near = |name: &str| near.iter().find(|(adapter, _)| *adapter == name).unwrap().1;
    work.write("texts.tsv", format!("text\n{}\n{}\n{foreign}\n", near("ride"), near("sum")));
    let plain =
        work.run("predict --model MODEL --route router --adapters out --quiet --input texts.tsv").good();
    let lines: Vec<&str> = plain.stdout.lines().collect();
    assert!(lines[0].starts_with("ride\t") && lines[1].starts_with("sum\t"), "{lines:?}");
    assert_eq!(lines[2], format!("unknown\t{foreign}"));
}

#[test]
fn what_is_no_router_is_refused() {
    let work = work();
    work.run(ROUTE).json();
    work.run(
        "train --config tasks.toml --model MODEL --quiet --json --max-steps 2 --max-length 24 --out out",
    )
    .json();
    let predict = "predict --model MODEL --route router --quiet --text x --adapters";
    work.run(&format!("{predict} out/ride out/sum")).fails(&["`route`", "`who`", "ride, sum"]);
    work.run("predict --model MODEL --route nowhere --adapters out --text x").fails(&["nowhere"]);
    work.run("predict --model MODEL --route router --text x").misused(&["--adapters"]);
    work.run("eval --model MODEL --route router --adapters out --data ride-eval.tsv")
        .fails(&["`route`", "predict"]);
    // another backbone
    work.copy(backbone(), "other").edit("other/model.safetensors", |bytes| {
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
    });
    work.run("predict --model other --route router --adapters out --text x --quiet")
        .fails(&["router.safetensors", "another one"]);
    // files that are none
    let file = work.read("router/router.safetensors");
    work.write("bad/router.safetensors", &file[..file.len() / 2]);
    work.run("predict --model MODEL --route bad --adapters out --text x").fails(&["bad/router.safetensors"]);
    work.copy(&work.path("out/ride"), "ride");
    std::fs::copy(work.path("ride/adapter.safetensors"), work.path("bad/router.safetensors")).unwrap();
    work.run("predict --model MODEL --route bad --adapters out --text x").fails(&["this is no router"]);

    let with = |text: &str, words: &[&str]| {
        work.write("bad.toml", text);
        work.run("route --config bad.toml --model MODEL --quiet --out refused").fails(words);
        assert!(work.names("refused").is_empty());
    };
    with("[tasks.a]\ntrain = 'ride-train.tsv'\n", &["`tasks`", "two tasks or more"]);
    with(
        "[tasks.a]\ntrain = 'ride-train.tsv'\n[tasks.b]\ntrain = 'nowhere.tsv'\n",
        &["task `b`", "nowhere.tsv"],
    );
    work.write("one.tsv", "text\nOnly this.\n");
    with("[tasks.a]\ntrain = 'ride-train.tsv'\n[tasks.b]\ntrain = 'one.tsv'\n", &["task `b`", "two texts"]);
    work.write("same.tsv", "text\nThe same.\nThe same.\nThe same.\n");
    with("[tasks.a]\ntrain = 'same.tsv'\n[tasks.b]\ntrain = 'same.tsv'\n", &["do not differ"]);
    work.run("route --model MODEL --out refused").misused(&["--config"]);
}
