//! What a run holds: `engraft memory`, `--activations` and `--memory-budget`.
mod support;
use engraft::{
    Device,
    adapters::BnConfig,
    engine::{Activations, AdamW, Keep},
    learner::{Backbone, Graft, Opening},
    run::{
        account::account,
        plan::{Work, plan},
        step::Trainer,
    },
    tasks::{Classification, Task},
    text::batch::Batch,
};
use serde_json::Value;
use std::collections::BTreeMap;
use support::{Ran, Work as Work_, backbone, fixture, train};

const SUMMED: [&str; 5] = ["backbone", "adapter", "gradient", "optimiser", "saved"];
const MEMORY: &str = "memory --model MODEL --batch 5 --length 24 --threads 2";

fn number(v: &Value) -> u64 {
    v.as_u64().unwrap_or_else(|| panic!("{v} is no number"))
}
fn trained(work: &Work_, out: &str) -> BTreeMap<String, Vec<u8>> {
    let keep = |name: &String| name.ends_with(".safetensors");
    work.files(out).into_iter().filter(|(name, _)| keep(name)).collect()
}

#[test]
fn every_byte_is_predicted_and_the_process_grows_by_as_much() {
    let work = Work_::empty();
    let line =
        "--methods full,houlsby,pfeiffer,parallel,scaled-parallel,head --activations f32,bf16,recompute";
    let table = work.run(&format!("{MEMORY} {line} --reduction-factor 4 --measure --json")).json();
    let rows = table["rows"].as_array().unwrap();
    assert_eq!((rows.len(), number(&table["threads"])), (18, 2));
    let mut saved = BTreeMap::new();
    for row in rows {
        let what = format!("{} {}", row["method"], row["activations"]);
        let p = &row["predicted"];
        assert_eq!((&row["ledger_equals_predicted"], p), (&Value::Bool(true), &row["ledger"]), "{what}");
        // what is held at once is its classes' sum, and the layers and the rest are all there is of
        // a class
        let once: u64 = p["at_once"].as_object().unwrap().values().map(number).sum();
        assert_eq!(number(&p["total"]), once, "{what}");
        let layers = p["layers"].as_array().unwrap();
        assert_eq!(layers.len(), 4, "{what}");
        for class in SUMMED {
            let parts: u64 = layers.iter().chain([&p["rest"]]).map(|l| number(&l[class])).sum();
            assert_eq!(number(&p["highest"][class]), parts, "{what}: {class}");
        }
        saved.insert(
            (row["method"].as_str().unwrap(), row["activations"].as_str().unwrap()),
            layers[2]["saved"].clone(),
        );
        if cfg!(target_os = "linux") {
            // 15 MB of weights: the program's own memory and the last huge page show beside them
            let (growth, ledger) = (number(&row["rss_growth_bytes"]) as f64, number(&p["total"]) as f64);
            assert!(growth > 0.9 * ledger && growth < 1.1 * ledger + 12e6, "{what}: {growth} {ledger}");
        }
    }
    let input = 5 * 24 * 192 * 4;
    for ((method, activations), saved) in &saved {
        match (*method, *activations) {
            ("head", _) => assert_eq!(number(saved), 0),
            (_, "recompute") => assert_eq!(number(saved), input, "{method}"),
            (_, "bf16") => assert!(number(saved) > input, "{method}"),
            _ => assert!(number(saved) > 6 * input, "{method}"),
        }
    }
}

#[test]
fn the_layers_of_a_quantised_backbone_add_up() {
    let work = Work_::empty();
    for dtype in ["int8", "nf4"] {
        let line = format!("{MEMORY} --methods houlsby --activations f32 --backbone-dtype {dtype} --json");
        let p = &work.run(&line).json()["rows"][0]["predicted"];
        let layers = p["layers"].as_array().unwrap();
        let parts: u64 = layers.iter().chain([&p["rest"]]).map(|l| number(&l["backbone"])).sum();
        assert_eq!(number(&p["highest"]["backbone"]), parts, "{dtype}");
    }
}

#[test]
fn tables_have_the_same_numbers_and_a_prediction_needs_no_weights() {
    let work = Work_::empty();
    work.copy(backbone(), "bare");
    std::fs::remove_file(work.path("bare/model.safetensors")).unwrap();
    let line = "--methods pfeiffer,head --activations recompute,f32 --bottleneck 7";
    let json = work.run(&format!("{MEMORY} {line} --json")).json();
    assert_eq!(json["rows"][0]["rss_growth_bytes"], Value::Null);
    let bare = work.run(&format!("{} {line} --json", MEMORY.replace("MODEL", "bare"))).json();
    for (a, b) in std::iter::zip(json["rows"].as_array().unwrap(), bare["rows"].as_array().unwrap()) {
        // stored as bf16 or not, activations are the same
        assert_eq!(a["predicted"]["layers"][1]["saved"], b["predicted"]["layers"][1]["saved"]);
        assert_eq!(a["predicted"]["trainable_parameters"], b["predicted"]["trainable_parameters"]);
    }
    let csv = work.run(&format!("{MEMORY} {line} --csv")).good().stdout;
    let mut lines = csv.lines();
    let head: Vec<&str> = lines.next().unwrap().split(',').collect();
    let records: Vec<BTreeMap<&str, &str>> =
        lines.map(|l| head.iter().copied().zip(l.split(',')).collect()).collect();
    assert_eq!(records.len(), 4 * (4 + 2));
    for row in json["rows"].as_array().unwrap() {
        let of = |part: &str| {
            let same = |r: &&BTreeMap<&str, &str>| {
                r["method"] == row["method"] && r["activations"] == row["activations"] && r["part"] == part
            };
            records.iter().find(same).unwrap()
        };
        let p = &row["predicted"];
        for class in SUMMED {
            assert_eq!(of("all")[class], p["highest"][class].to_string());
            assert_eq!(of("2")[class], p["layers"][2][class].to_string());
            assert_eq!(of("rest")[class], p["rest"][class].to_string());
        }
        assert_eq!((of("all")["at_once"], of("all")["ledger"]), (&*p["total"].to_string(), ""));
    }
    let text = work.run(&format!("{MEMORY} {line}")).good().stdout;
    let total = number(&json["rows"][0]["predicted"]["total"]) as f64 / 1_048_576.0;
    let row = text.lines().find(|l| l.starts_with("pfeiffer        recompute")).unwrap();
    assert!(row.ends_with(&format!(" {total:.2}")), "{row}");
    assert!(text.contains("\n  layers 1-2, each") && text.contains("\n  rest "), "{text}");
    work.run(&format!("{} --measure", MEMORY.replace("MODEL", "bare"))).fails(&["full", "model.safetensors"]);
}

#[test]
fn methods_that_a_model_cannot_have_are_left_out_unless_they_are_asked_for() {
    let work = Work_::empty();
    work.copy(&fixture("../gpt2/model"), "gpt2");
    let line = "memory --model gpt2 --batch 2 --length 7 --threads 2 --activations f32";
    let table = work.run(&format!("{line} --json")).json();
    let named = |rows: &Value| -> Vec<String> {
        rows.as_array().unwrap().iter().map(|r| r["method"].as_str().unwrap().into()).collect()
    };
    let (rows, left_out) = (named(&table["rows"]), named(&table["left_out"]));
    assert!(["full", "lora", "dora", "ia3", "mam", "head"].iter().all(|m| rows.contains(&m.to_string())));
    assert_eq!(left_out, ["vera", "prompt_tuning"]);
    let text = work.run(line).good().stdout;
    assert!(
        text.contains("vera is left out: VeRA does not take `transformer.h.0.attn.c_attn` apart"),
        "{text}"
    );
    work.run(&format!("{line} --methods vera")).fails(&["c_attn", "`as_peft=True,attn_matrices=[qkv]`"]);
    let methods = "ia3,dora,vera,unipelt,lora[init_weights=pissa],lora[init_weights=loftq]";
    let flags = format!("--methods {methods} --activations f32,recompute,bf16 --backbone-dtype int8");
    let table = work.run(&format!("{MEMORY} {flags} --measure --json")).json();
    assert_eq!(table["left_out"].as_array().unwrap().len(), 0);
    for row in table["rows"].as_array().unwrap() {
        assert_eq!(row["ledger_equals_predicted"], true, "{} {}", row["method"], row["activations"]);
    }
}

#[test]
fn of_steps_that_leave_out_adapters_those_that_leave_out_the_fewest_are_shown() {
    let work = Work_::empty();
    let of = |flags: &str| {
        let line = "--methods houlsby,head --activations f32 --reduction-factor 4 --measure --json";
        let table = work.run(&format!("{MEMORY} {line} {flags}")).json();
        let rows = table["rows"].as_array().unwrap().clone();
        assert!(rows.iter().all(|r| r["ledger_equals_predicted"] == true), "{rows:?}");
        rows
    };
    let (all, none, two) = (of(""), of("--adapter-drop 3"), of("--adapter-drop 2-3"));
    assert_eq!(all[0]["predicted"], none[0]["predicted"], "no adapter may be left out of a step");
    assert_eq!(all[1]["predicted"], two[1]["predicted"], "a head alone has none to leave out");
    for l in 0..4 {
        let [a, b] = [&all, &two].map(|rows| number(&rows[0]["predicted"]["layers"][l]["saved"]));
        assert!(if l < 2 { b == 0 } else { a > 0 && b > 0 }, "layer {l}: {a}, {b}");
    }
    let memory = |flags: &str| work.run(&format!("memory --model MODEL --adapter-drop {flags}"));
    memory("2-4 --methods houlsby").fails(&["adapter-drop", "2-4", "at most 3 can go"]);
    memory("3-1").misused(&["no range of them"]);
    let table = memory("1-2 --activations recompute --json").json();
    let left_out = table["left_out"].as_array().unwrap();
    let prompts = left_out.iter().find(|l| l["method"] == "prompt_tuning").unwrap();
    assert!(prompts["why"].as_str().unwrap().contains("no layer has an adapter"), "{prompts}");
}

#[test]
fn layers_that_are_skipped_are_not_there_to_be_dropped() {
    let backbone = Backbone::open(backbone(), &Device::null(1), Opening::default()).unwrap();
    let task = Classification::new(["no", "yes"]).unwrap();
    let graft = Graft {
        name: "a".into(),
        adapter: Some(BnConfig::houlsby().into()),
        head: task.head(backbone.model().info(), false),
        ..Graft::default()
    };
    let batch: Batch = [task.sample(vec![1, 2, 3], &mut |_| 0)].into_iter().collect();
    let mut learner = backbone.learner(graft, Box::new(task)).unwrap();
    let mut run = |drop: &str| account(&mut learner, &batch, Keep::F32, Some(drop.parse().unwrap()));
    run("0-3").unwrap();
    learner.skip_layers([2, 3]).unwrap();
    let mut run = |drop: &str| account(&mut learner, &batch, Keep::F32, Some(drop.parse().unwrap()));
    run("0-1").unwrap();
    let error = run("0-2").unwrap_err().to_string();
    assert!(error.contains("the last layer with an adapter is 1"), "{error}");
}

#[test]
fn what_memory_refuses() {
    let work = Work_::empty();
    let memory = |flags: &str| work.run(&format!("memory --model MODEL {flags}"));
    memory("--length 4096").fails(&["`length` cannot be 4096", "tokens"]);
    memory("--reduction-factor 8,9=4").fails(&["reduction-factor", "layer 9"]);
    memory("--threads 5000").fails(&["5000 threads"]);
    work.run("memory --model nowhere").fails(&["nowhere", "config.json"]);
    for usage in [
        "--batch 0",
        "--methods lor",
        "--activations f64",
        "--json --csv",
        "--bottleneck 8 --reduction-factor 2",
    ] {
        assert_eq!(memory(usage).code, Some(2), "{usage}");
    }
}

/// The least budget that a refusal names.
fn least(ran: Ran) -> u64 {
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let said = ran.stderr.lines().last().unwrap();
    let (_, rest) = said.split_once("needs at least ").unwrap_or_else(|| panic!("{said}"));
    rest.split(' ').next().unwrap().parse().unwrap()
}
#[test]
fn the_least_budget_works_and_a_byte_less_does_not() {
    let work = Work_::new();
    let flags = "--eval eval.tsv --max-steps 5 --batch-size 3 --gradient-accumulation 2 --eval-batch-size 1 --eval-every 2";
    let mut of_data = None;
    for method in ["--adapter houlsby", "--adapter full --lr 1e-4", "--adapter none"] {
        let run = |budget: &str, out: &str| {
            let line = train(&format!("{flags} {method} --out {out} {budget}")).replace(" --quiet", "");
            work.run(&line)
        };
        let free = run("", "free").json();
        let n = least(run("--memory-budget 1kB", "refused"));
        assert_eq!(work.names("refused"), [""; 0], "nothing was written");
        assert_eq!(least(run(&format!("--memory-budget {}", n - 1), "refused")), n, "{method}");
        let ran = run(&format!("--memory-budget {n}"), "least").good();
        for said in ["plan for ", "at most ", ", data "] {
            assert!(ran.stderr.contains(said), "{}", ran.stderr);
        }
        let tight = ran.json();
        // the plan knew the run's highest to the byte; what is not in the ledger is the data
        let data = n - number(&tight["ledger_peak_bytes"]);
        assert!((1..4000).contains(&data) && data == *of_data.get_or_insert(data), "{method}: {data}");
        let most = number(&free["ledger_peak_bytes"]) + data;
        assert!(if method.ends_with("none") { n == most } else { n < most }, "{method}: {n} of {most}");
        assert_eq!(free["metrics"], tight["metrics"], "{method}");
        assert!(trained(&work, "free") == trained(&work, "least"), "{method}: the same bits");
        // with as many bytes as it takes, nothing is recomputed; with one less, as little as
        // possible
        let ran = run(&format!("--memory-budget {most}"), "roomy").good();
        assert!(ran.stderr.contains("that recompute: none; that keep: 0-3"), "{}", ran.stderr);
        if n < most {
            let ran = run(&format!("--memory-budget {}", most - 1), "roomy").good();
            assert!(!ran.stderr.contains("recompute: none"), "{}", ran.stderr);
            assert!(number(&ran.json()["ledger_peak_bytes"]) + data < most);
        }
    }
}

#[test]
fn activations_change_bytes_and_only_bf16_changes_bits() {
    let work = Work_::new();
    let run =
        |flags: &str, out: &str| work.train(&format!("--batch-size 8 --max-steps 3 {flags} --out {out}"));
    let kept = run("", "kept");
    let peak = |r: &Value| number(&r["ledger_peak_bytes"]);
    assert_eq!(peak(&run("--activations f32", "f32")), peak(&kept));
    let (again, rounded) = (run("--activations recompute", "again"), run("--activations bf16", "rounded"));
    assert!(peak(&again) < peak(&rounded) && peak(&rounded) < peak(&kept));
    assert!(
        trained(&work, "kept") == trained(&work, "again") && trained(&work, "kept") == trained(&work, "f32")
    );
    assert!(trained(&work, "kept") != trained(&work, "rounded"));
    assert!(work.text("again/run.toml").contains("activations = \"recompute\""));
    // the run's file repeats it, and a flag takes the place of what it excludes
    run("--memory-budget 1GB", "planned");
    assert!(work.text("planned/run.toml").contains("memory-budget = 1000000000"));
    work.run("train --config planned/run.toml --activations bf16 --out other").good();
    assert!(trained(&work, "other") == trained(&work, "rounded"));
    work.run("train --train train.tsv --activations f32 --memory-budget 1GB").fails(&[
        "activations",
        "memory-budget",
        "exclude each other",
    ]);
    assert_eq!(work.run("train --train train.tsv --memory-budget 700M").code, Some(2));
    work.write("run.toml", "memory-budget = \"lots\"\n");
    work.run("train --config run.toml").fails(&["run.toml:1", "lots", "700MB"]);
}

#[test]
fn the_library_plans_too() {
    let (threads, lengths) = (2, [vec![9, 30, 4], vec![17, 2, 2, 40], vec![25]]);
    // of tokens only the number matters
    let batch = |lengths: &[usize]| {
        let texts: Vec<Vec<u32>> = lengths.iter().map(|n| vec![0; *n]).collect();
        Batch::of(&texts.iter().map(|ids| (ids.as_slice(), 0)).collect::<Vec<_>>())
    };
    let make = |device: &Device| {
        let backbone = Backbone::open(backbone(), device, Opening::default()).unwrap();
        let task = Classification::new(["a", "b"]).unwrap();
        let head = task.head(backbone.model().info(), true);
        let graft = Graft {
            name: "x".into(),
            adapter: Some(BnConfig::houlsby().into()),
            head,
            seed: 1,
            ..Graft::default()
        };
        backbone.learner(graft, Box::new(task)).unwrap()
    };
    let mut work = Work::new();
    lengths.iter().for_each(|l| work.step(&[batch(l)]));
    let run = |policy: Activations| {
        let device = Device::cpu(threads).unwrap();
        let mut c = make(&device);
        let mut t = Trainer::new(AdamW::new(0.01).clipping(1.0), 42).with_activations(policy);
        for l in &lengths {
            t.step(&mut c, &[batch(l)], 1e-3).unwrap();
        }
        device.ledger().usage().peak_total()
    };
    let null = Device::null(threads);
    let mut priced = [make(&null)];
    let free = plan(&mut priced, &work, usize::MAX).unwrap();
    assert_eq!((&free.layers, free.at_once.total()), (&vec![Keep::F32; 4], free.total));
    assert_eq!(run(free.activations()), free.total);
    let mut seen = vec![0];
    let mut budget = free.total;
    // down to the least budget, plan by plan
    while let Ok(p) = plan(&mut priced, &work, budget) {
        let n = p.layers.iter().filter(|k| **k == Keep::Recompute).count();
        assert!(p.total <= budget && n >= *seen.last().unwrap(), "{p}");
        assert_eq!(run(p.activations()), p.total, "{p}");
        seen.push(n);
        budget = p.total - 1;
    }
    assert!(seen.len() > 3 && *seen.last().unwrap() >= 3, "{seen:?}");
    let error = plan(&mut priced, &work, budget).unwrap_err().to_string();
    assert!(error.contains(&format!("needs at least {}", budget + 1)), "{error}");
}
