//! Generation beside `transformers`' `generate` (fixtures by `tests/reference/generation.py`, one
//! folder a family): the same tokens, alone and in company, with a cache and without.
mod generated;
mod support;
use engraft::{
    Device,
    generation::{Place, Settings, scores::process},
    learner::{Backbone, Opening},
    tasks::CausalLm,
};
use engraft_engine::{Compute, Storage};
use generated::{all, cases, families, json, learner, lists, prompts, same_in_any_way, settings};
use std::path::Path;
use support::{Work, language_model};

#[test]
fn the_tokens_of_transformers() {
    for family in families() {
        let prompts = prompts(&family);
        let cases = cases(&family);
        assert!(cases.len() > 20, "{}", family.display());
        for c in cases {
            let learner = learner(&family, c.adapter.as_deref(), Opening::default());
            let got = all(&learner, &prompts, &c.settings);
            let ids: Vec<Vec<Vec<u32>>> =
                got.iter().map(|of| of.iter().map(|g| g.ids.clone()).collect()).collect();
            for (i, (got, want)) in ids.iter().zip(&c.sequences).enumerate() {
                assert_eq!(got, want, "{} {}, prompt {i}", family.display(), c.name);
            }
            assert_eq!(ids.len(), c.sequences.len());
            let scores: Vec<Vec<f32>> =
                got.iter().map(|of| of.iter().filter_map(|g| g.score).collect()).collect();
            for (got, want) in scores.concat().iter().zip(c.scores.iter().flatten().flatten()) {
                assert!((got - want).abs() < 1e-4 * want.abs().max(1.0), "{}: {got} {want}", c.name);
            }
        }
    }
}

#[test]
fn the_scores_that_a_token_is_drawn_from() {
    for family in families() {
        let file = json(&family.join("drawn.json"));
        let prompts: Vec<Vec<u32>> = lists(&file["prompts"]);
        let sources: Vec<Vec<u32>> = lists(file.get("sources").unwrap_or(&file["prompts"]));
        let logits: Vec<Vec<f32>> = lists(&file["logits"]);
        for (name, case) in file["cases"].as_object().unwrap() {
            let s = settings(&case["config"]);
            let want: Vec<Vec<Option<f32>>> = lists(&case["scores"]);
            for (((ids, source), logits), want) in prompts.iter().zip(&sources).zip(&logits).zip(&want) {
                let mut x = logits.clone();
                let at = Place { ids, begin: ids.len(), source, longest: ids.len() + 40 };
                process(&s, &at, &mut x);
                for (i, (got, want)) in x.iter().zip(want).enumerate() {
                    match want {
                        None => assert_eq!(*got, f32::NEG_INFINITY, "{name} {i}"),
                        Some(w) => {
                            assert!((got - w).abs() < 1e-4 * w.abs().max(1.0), "{name} {i}: {got} {w}")
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_sequence_gets_the_same_alone_and_without_a_cache() {
    for family in families() {
        let prompts = prompts(&family);
        let drawing = [serde_json::json!({"do_sample": true, "num_return_sequences": 2, "eos_token_id": 7})];
        let beams = serde_json::json!({"do_sample": true, "num_beams": 3, "num_return_sequences": 2});
        let drawing = drawing.iter().chain([&beams]).map(|c| (None, settings(c)));
        let picked =
            ["greedy", "beams-4", "beams-rules", "lora-beams", "prefix-beams", "houlsby", "cross-beams"];
        let of_cases = cases(&family).into_iter().filter(|c| picked.contains(&&*c.name));
        for (adapter, s) in of_cases.map(|c| (c.adapter, c.settings)).chain(drawing) {
            let learner = learner(&family, adapter.as_deref(), Opening::default());
            let some = &prompts[..6];
            let together = all(&learner, some, &s);
            let alone: Vec<_> =
                some.iter().flat_map(|p| all(&learner, std::slice::from_ref(p), &s)).collect();
            // scores of beams too, to the bit
            assert_eq!(together, alone, "{s:?}");
            assert_eq!(together, all(&learner, some, &Settings { use_cache: false, ..s.clone() }), "{s:?}");
        }
    }
}

#[test]
fn every_storage_and_adapters_that_read_whole_sequences() {
    let s = Settings { max_new_tokens: Some(12), num_beams: 2, ..Settings::default() };
    for family in &families() {
        let prompts = &prompts(family)[..4];
        for (storage, compute) in [
            (Some(Storage::Int8), Compute::F32),
            (Some(Storage::Nf4), Compute::F32),
            (Some(Storage::Bf16), Compute::F32),
            (None, Compute::Int8Forward),
        ] {
            let how = Opening { storage, compute, ..Opening::default() };
            same_in_any_way(&learner(family, None, how), prompts, &s, &format!("{storage:?} {compute:?}"));
        }
    }
    // a gate is a mean over the sequence, and an intervention stands at its end
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    for name in ["gpt2/gated", "inputs/gpt2-loreft", "inputs/gpt2-prefix-flat", "inputs/gpt2-peft-prompt"] {
        let device = Device::cpu(2).unwrap();
        let backbone = Backbone::open(fixtures.join("gpt2/model"), &device, Opening::default()).unwrap();
        let work = Work::empty();
        work.copy(&fixtures.join(name), "a"); // without the head that some of them have
        let _ = std::fs::remove_file(work.path("a/head_config.json"));
        let learner =
            backbone.load_frozen_learner(work.path("a"), None, |_| Ok(Box::new(CausalLm::default())));
        let learner = learner.unwrap();
        let s = Settings { max_new_tokens: Some(8), ..s.clone() };
        let prompts = [vec![3, 1, 4], vec![1], vec![5, 9, 2, 6, 5]];
        let whole = Settings { use_cache: false, ..s.clone() };
        assert_eq!(all(&learner, &prompts, &s), all(&learner, &prompts, &whole), "{name}");
    }
}

#[test]
fn the_program_takes_and_gives_token_ids() {
    let work = Work::empty();
    let family = &families()[0];
    let case = cases(family).into_iter().find(|c| c.name == "lora-beams").unwrap();
    let prompts = prompts(family);
    work.copy(&family.join("model"), "m").copy(&family.join("adapters/lora"), "lora");
    work.write("ids.json", serde_json::json!({"input_ids": prompts}).to_string());
    let flags = "--num-beams 3 --num-return-sequences 2 --max-new-tokens 40";
    let line = format!("generate --model m --adapter lora --ids ids.json {flags} --batch-size 7 --json");
    let said = work.run(&line).json();
    for ((got, want), prompt) in
        said["generated"].as_array().unwrap().iter().zip(&case.sequences).zip(&prompts)
    {
        assert_eq!(lists::<Vec<u32>>(&got["input_ids"]), *prompt);
        let ids: Vec<Vec<u32>> =
            got["sequences"].as_array().unwrap().iter().map(|s| lists(&s["ids"])).collect();
        assert_eq!(ids, *want);
    }
    let streamed = work.run("generate --model m --ids ids.json --stream --max-new-tokens 40").good().stdout;
    let greedy = cases(family).into_iter().find(|c| c.name == "greedy").unwrap();
    for (line, want) in streamed.lines().zip(&greedy.sequences) {
        let ids: Vec<u32> = line.split_whitespace().map(|id| id.parse().unwrap()).collect();
        assert_eq!(ids, want[0]);
    }
}

#[test]
fn what_cannot_be_generated_is_an_error() {
    let work = Work::empty();
    let family = &families()[0];
    work.copy(&family.join("model"), "m");
    work.write("long.json", serde_json::json!({"input_ids": [[1], vec![1; 65]]}).to_string());
    work.write("empty.json", r#"{"input_ids": [[1], []]}"#).write("none.json", r#"{"input_ids": []}"#);
    work.write("far.json", r#"{"input_ids": [[61]]}"#).write("one.json", r#"{"input_ids": [[1, 2]]}"#);
    let run = |line: &str| work.run(&format!("generate --model m {line}"));
    work.run("generate --model MODEL --prompt a").fails(&["is an encoder", "cannot generate"]);
    run("--ids long.json").fails(&["prompt 1 has 65 tokens", "takes 64"]);
    run("--ids empty.json").fails(&["prompt 1 is empty"]);
    run("--ids none.json").fails(&["none.json", "`input_ids` is empty"]);
    run("--ids far.json").fails(&["61", "vocabulary of 61"]);
    run("--ids one.json --max-new-tokens 64").fails(&["prompt 0 has 2 tokens", "64"]);
    run("--ids one.json --max-length 2").fails(&["prompt 0 has 2 tokens", "may have 2"]);
    run("--ids one.json --top-k 3").fails(&["`top-k` needs `sample`"]);
    run("--ids one.json --length-penalty -1").fails(&["`length-penalty` needs `num-beams`"]);
    run("--ids one.json --num-beams 2 --num-return-sequences 3").fails(&["num-return-sequences", "2 beams"]);
    run("--ids one.json --num-return-sequences 2").fails(&["num-return-sequences", "without drawing"]);
    run("--ids one.json --sample --temperature 0").fails(&["temperature", "greater than 0"]);
    run("--ids one.json --forced-eos-token-id 99").fails(&["forced-eos-token-id", "61 tokens"]);
    run("--ids one.json --num-beams 2 --stream").fails(&["--stream", "beam search"]);
    run("--max-new-tokens 3").misused(&["--prompt"]);
    run("--ids one.json --early-stopping maybe").misused(&["true, false or never"]);
    work.write("m/generation_config.json", r#"{"guidance_scale": 2.0}"#);
    run("--ids one.json").fails(&["generation_config.json", "`guidance_scale` is 2.0"]);
}

#[test]
fn texts_are_continued() {
    let work = Work::empty();
    language_model(&work);
    let json = |more: &[&str], flags: &str| {
        work.run_with(&format!("generate --model gpt --json --quiet {flags}"), more).json()["generated"]
            .clone()
    };
    let two = json(&["--prompt", "abc", "- d"], "--max-new-tokens 6");
    let (first, second) = (&two[0], &two[1]);
    assert_eq!((&first["prompt"], &second["prompt"]), (&"abc".into(), &"- d".into()));
    let text = first["sequences"][0]["text"].as_str().unwrap();
    // the same in a file, alone, and as it comes
    work.write("texts.txt", "abc\n- d\n");
    assert_eq!(json(&["--input", "texts.txt"], "--max-new-tokens 6"), two);
    assert_eq!(json(&["--prompt", "abc"], "--max-new-tokens 6")[0], *first);
    let streamed =
        work.run_with("generate --model gpt --quiet --stream --max-new-tokens 6", &["--prompt", "abc"]);
    assert_eq!(streamed.good().stdout, format!("abc{text}\n"));
    // with the same seed the same is drawn
    let drawn =
        |seed: usize| json(&["--prompt", "abc"], &format!("--max-new-tokens 6 --sample --seed {seed}"));
    assert_eq!(drawn(1), drawn(1));
    assert!((2..9).any(|seed| drawn(seed) != drawn(1)));
}
