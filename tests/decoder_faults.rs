//! Configurations of decoders that cannot be honoured: what is not computed is refused by its name.
mod support;
use engraft_models::Holding;
use serde_json::{Value, json};
use support::{cpu, families::json, fixture};

/// The error of a family's tiny model with other fields.
fn refused(family: &str, fields: &Value) -> String {
    let (dir, from) = (tempfile::tempdir().unwrap(), fixture(&format!("{family}/model")));
    let mut config = json(&from.join("config.json"));
    for (name, value) in fields.as_object().unwrap() {
        config[name] = value.clone();
    }
    std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    std::fs::copy(from.join("model.safetensors"), dir.path().join("model.safetensors")).unwrap();
    let loaded = engraft_models::load_frozen(dir.path(), &cpu(), Holding::default());
    loaded.err().unwrap_or_else(|| panic!("{family}: {fields} is not refused")).to_string()
}

#[test]
fn what_is_not_computed_is_refused_by_name() {
    let rope = |fields: Value| json!({"rope_scaling": fields});
    let all = [
        ("llama", json!({"num_key_value_heads": 3}), "`num_attention_heads` 4 is not a multiple"),
        ("llama", json!({"head_dim": 5}), "5 channels"),
        ("llama", json!({"head_dim": 1 << 30}), "1073741824 channels"),
        ("llama", json!({"hidden_size": 1 << 30, "head_dim": null}), "268435456 channels"),
        ("llama", json!({"num_hidden_layers": 5000}), "models have at most 4096"),
        ("llama", json!({"vocab_size": 1 << 30}), "embed_tokens"),
        ("llama", json!({"hidden_act": "xielu"}), "`hidden_act` is `xielu`"),
        ("llama", json!({"partial_rotary_factor": 0.5}), "`partial_rotary_factor`"),
        ("llama", json!({"rope_theta": 1.0}), "`rope_theta` is 1"),
        ("llama", json!({"rope_theta": "high"}), "`rope_theta` is \"high\""),
        ("llama", json!({"attention_bias": true}), "q_proj.bias"),
        ("llama", json!({"mlp_bias": true}), "gate_proj.bias"),
        ("llama", json!({"pruned_heads": {"0": [1]}}), "`pruned_heads`"),
        ("llama", json!({"quantization_config": {"bits": 4}}), "`quantization_config`"),
        ("llama", json!({"rope_scaling": 2}), "`rope_scaling` is 2, expected fields"),
        ("llama", rope(json!({})), "`rope_type` is ``"),
        ("llama", rope(json!({"rope_type": "mrope"})), "`rope_type` is `mrope`"),
        ("llama", rope(json!({"rope_type": "linear", "type": "yarn", "factor": 2})), "`type` is `yarn`"),
        ("llama", rope(json!({"rope_type": "linear"})), "in `rope_scaling`: `factor`"),
        ("llama", rope(json!({"type": "dynamic", "factor": -1.0})), "`factor` is -1"),
        ("llama", rope(json!({"rope_type": "yarn", "factor": 0})), "`factor` is 0"),
        ("llama", rope(json!({"rope_type": "llama3", "factor": 2})), "no field `low_freq_factor`"),
        (
            "llama",
            rope(json!({"rope_type": "llama3", "factor": 2, "low_freq_factor": 4, "high_freq_factor": 4})),
            "`high_freq_factor` is 4",
        ),
        ("llama", rope(json!({"rope_type": "longrope", "factor": 2})), "no field `short_factor`"),
        (
            "llama",
            rope(json!({"rope_type": "longrope", "factor": 2, "short_factor": [1], "long_factor": [1]})),
            "`short_factor` is not a list of 3 numbers",
        ),
        (
            "llama",
            rope(json!({"rope_type": "longrope", "short_factor": [1, 1, 1], "long_factor": [1, 1, 1]})),
            "no field `factor`",
        ),
        ("mistral", json!({"layer_types": ["full_attention", "sliding_attention"]}), "`layer_types`"),
        ("mistral", json!({"sliding_window": 0}), "`sliding_window` is 0"),
        ("qwen2", json!({"head_dim": null}), "`head_dim` is null"),
        ("qwen2", json!({"layer_types": ["full_attention"]}), "`layer_types` has 1 layers"),
        (
            "qwen2",
            json!({"layer_types": ["full_attention", "chunked_attention"]}),
            "`layer_types` has `chunked_attention`",
        ),
        (
            "qwen3",
            json!({"layer_types": ["full_attention", "sliding_attention"]}),
            "there is no `sliding_window`",
        ),
        ("qwen3", json!({"max_window_layers": -1}), "`max_window_layers` is -1"),
        ("gpt_neo", json!({"num_heads": 5}), "`hidden_size` 24 is not a multiple"),
        ("gpt_neo", json!({"attention_types": [[["global"], 3]]}), "more than `num_layers`"),
        ("gpt_neo", json!({"attention_types": [[["global"], 1]]}), "they are 1 layers"),
        ("gpt_neo", json!({"attention_types": "global"}), "expected pairs"),
        ("gpt_neo", json!({"attention_layers": ["local", "global"]}), "`attention_layers` are others"),
        (
            "gpt_neo",
            json!({"attention_types": [[["global", "near"], 1]], "attention_layers": ["global", "near"]}),
            "`near` is neither",
        ),
        ("gpt_neo", json!({"window_size": 0}), "`window_size` is 0"),
        ("gptj", json!({"rotary_dim": null}), "`rotary_dim` is null"),
        ("gptj", json!({"rotary_dim": 3}), "`rotary_dim` is 3"),
        ("gptj", json!({"rotary_dim": 8}), "`rotary_dim` is 8"),
        ("gptj", json!({"n_embd": 1 << 30, "rotary_dim": 1 << 20}), "`rotary_dim` is 1048576"),
        ("gptj", json!({"n_embd": 25}), "`n_embd`"),
    ];
    for (family, fields, says) in all {
        let e = refused(family, &fields);
        assert!(e.contains(says), "{family}, {fields}: {e}");
    }
}
