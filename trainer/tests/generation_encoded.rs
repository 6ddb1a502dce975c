//! Generation with encoder-decoders: adapters in both of their parts, and the program.
//! `generation.rs` holds their tokens against those of transformers.
mod generated;
mod support;
use engraft::{
    Device,
    generation::Settings,
    learner::{Backbone, Graft, Opening},
    tasks::Seq2Seq,
};
use generated::{all, cases, families, learner, lists, prompts, same_in_any_way};
use serde_json::Value;
use std::path::PathBuf;
use support::Work;

/// The fixtures of T5.
fn t5() -> PathBuf {
    families().into_iter().find(|f| f.ends_with("generation/t5")).unwrap()
}

#[test]
fn adapters_in_an_encoder_and_beside_it() {
    let family = t5();
    let s =
        Settings { max_new_tokens: Some(10), num_beams: 3, num_return_sequences: 3, ..Settings::default() };
    let prompts = [vec![3, 1, 4], vec![1], vec![5, 9, 2, 6, 5, 3, 5], vec![8, 8]];
    let plain = all(&learner(&family, None, Opening::default()), &prompts, &s);
    let device = Device::cpu(2).unwrap();
    let backbone = Backbone::open(family.join("model"), &device, Opening::default()).unwrap();
    // layers 0 and 1 are the encoder's; a gate is a mean over a text, and an intervention stands at
    // its end
    for adapter in [
        "double_seq_bn[leave_out=[2,3]]",
        "double_seq_bn[cross_adapter=true,leave_out=[0]]",
        "seq_bn[use_gating=true,leave_out=[2,3]]",
        "seq_bn[use_gating=true,leave_out=[0,1]]",
        "seq_bn_inv",
        "lora[r=2,init_weights=bert,attn_matrices=[q,k,v],intermediate_lora=true,use_gating=true]",
        "lora[r=2,init_weights=bert,attn_matrices=[k,v],output_lora=true]",
        "prefix_tuning[prefix_length=3,flat=true,use_gating=true]",
        "prefix_tuning[prefix_length=2,bottleneck_size=4,encoder_prefix=false]",
        "loreft[r=2]",
        "prompt_tuning[prompt_length=3,has_positions=true]",
        "prefix_tuning[prefix_length=2,bottleneck_size=4]|lora[r=2,init_weights=bert]|seq_bn",
    ] {
        let config = engraft::adapters::parse(adapter, &Default::default()).unwrap();
        let graft = Graft { name: "a".into(), adapter: Some(config), seed: 3, ..Graft::default() };
        let learner = backbone.clone().learner(graft, Box::new(Seq2Seq::default())).unwrap();
        assert_ne!(all(&learner, &prompts, &s), plain, "{adapter} changes something");
        same_in_any_way(&learner, &prompts, &s, adapter);
    }
}

/// `generation/t5` under `m`, with a tokenizer whose words are w0, w1, .. and </s>, which ends what
/// an encoder reads.
fn translator(work: &Work) {
    let family = t5();
    let word = |i: usize| if i == 2 { "</s>".into() } else { format!("w{i}") };
    let vocab: serde_json::Map<_, _> = (0..61).map(|i| (word(i), serde_json::json!(i))).collect();
    let special = |id: usize| {
        let of = [("single_word", false), ("lstrip", false), ("rstrip", false), ("normalized", false)];
        let mut all = serde_json::json!({"id": id, "content": word(id), "special": true});
        of.iter().for_each(|(name, value)| all[*name] = (*value).into());
        all
    };
    let end = serde_json::json!({"SpecialToken": {"id": "</s>", "type_id": 0}});
    let text = serde_json::json!({"Sequence": {"id": "A", "type_id": 0}});
    let tokenizer = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "decoder": null,
        "added_tokens": [special(2), special(37)],
        "pre_tokenizer": { "type": "WhitespaceSplit" },
        "post_processor": {
            "type": "TemplateProcessing", "single": [text, end], "pair": [text, end],
            "special_tokens": { "</s>": { "id": "</s>", "ids": [2], "tokens": ["</s>"] } },
        },
        "model": { "type": "WordLevel", "vocab": vocab, "unk_token": "w0" },
    });
    work.copy(&family.join("model"), "m").write("m/tokenizer.json", tokenizer.to_string());
}

#[test]
fn an_encoder_decoder_says_what_it_makes_of_texts() {
    let work = Work::empty();
    translator(&work);
    let run = |more: &[&str], flags: &str| {
        let line = format!("generate --model m --quiet --max-new-tokens 12 {flags}");
        work.run_with(&line, more).good().stdout
    };
    let texts: [&[&str]; 2] = [&["--prompt", "w5 w9", "w8 w3 w8 w4"], &["--source-prefix", "w7 "]];
    let said = work.run_with("generate --model m --quiet --max-new-tokens 12 --json", &texts.concat()).json();
    let mut lines = String::new();
    for (i, ids) in [vec![7, 5, 9, 2], vec![7, 8, 3, 8, 4, 2]].into_iter().enumerate() {
        let got = &said["generated"][i];
        assert_eq!(lists::<Vec<u32>>(&got["input_ids"]), ids);
        let new: Vec<u32> = lists(&got["sequences"][0]["ids"]);
        assert!(!new.is_empty() && new.len() <= 12);
        // what ends a text is no part of it, and neither is what was read
        let words = new.iter().filter(|id| ![2, 37].contains(*id)).map(|id| format!("w{id}"));
        let text = words.collect::<Vec<_>>().join(" ");
        assert_eq!(got["sequences"][0]["text"], text);
        lines += &(text + "\n");
    }
    assert_eq!(run(&texts.concat(), ""), lines);
    assert_eq!(run(&texts.concat(), "--stream"), lines);
    work.write("texts.txt", "w5 w9\nw8 w3 w8 w4\n");
    assert_eq!(run(texts[1], "--input texts.txt --num-beams 1"), lines);
    assert_ne!(run(texts[0], ""), lines, "without the prefix");
}

#[test]
fn an_encoder_decoder_and_its_ids() {
    let work = Work::empty();
    translator(&work);
    let family = t5();
    work.write("ids.json", serde_json::json!({"input_ids": prompts(&family)}).to_string());
    work.copy(&family.join("adapters/cross"), "cross");
    for (name, flags) in [
        ("greedy", ""),
        ("start", "--decoder-start-token-id 5 --num-beams 2"),
        ("cross-beams", "--adapter cross --num-beams 2"),
    ] {
        let case = cases(&family).into_iter().find(|c| c.name == name).unwrap();
        let line =
            format!("generate --model m --ids ids.json --max-new-tokens 40 --batch-size 6 --json {flags}");
        let said = work.run(&line).json();
        let of = |v: &Value| v["sequences"].as_array().unwrap().iter().map(|s| lists(&s["ids"])).collect();
        let got: Vec<Vec<Vec<u32>>> = said["generated"].as_array().unwrap().iter().map(of).collect();
        assert_eq!(got, case.sequences, "{name}");
    }
    let run = |line: &str| work.run(&format!("generate --model m {line}"));
    work.write("one.json", r#"{"input_ids": [[1, 2]]}"#).write("empty.json", r#"{"input_ids": [[1], []]}"#);
    run("--ids empty.json").fails(&["prompt 1 is empty"]);
    run("--ids one.json --max-length 1").fails(&["prompt 0", "token 0", "may have 1"]);
    run("--ids one.json --decoder-start-token-id 61").fails(&["decoder-start-token-id", "61 tokens"]);
    run("--ids one.json --source-prefix a").misused(&["--source-prefix"]);
    // generation_config.json is asked before config.json, and there must be one
    let config = work.text("m/config.json");
    let without = config.replace("\"decoder_start_token_id\": 0", "\"decoder_start_token_id\": null");
    assert_ne!(config, without);
    work.write("m/config.json", without);
    run("--ids one.json").fails(&["names no `decoder_start_token_id`"]);
    work.write("m/generation_config.json", r#"{"decoder_start_token_id": 0}"#);
    run("--ids one.json --max-new-tokens 3").good();
    // another model has neither
    work.copy(&families()[0].join("model"), "gpt");
    let gpt = |line: &str| work.run(&format!("generate --model gpt {line}"));
    gpt("--ids one.json --decoder-start-token-id 1").fails(&["decoder-start-token-id", "no encoder-decoder"]);
    gpt("--prompt a --source-prefix b").fails(&["source-prefix", "no encoder-decoder"]);
}
