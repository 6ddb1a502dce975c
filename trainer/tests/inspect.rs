//! `engraft inspect`: the architecture of a model, and what an adapter would add to it.
mod support;
use serde_json::{Value, json};
use std::path::Path;
use support::*;

/// A directory of `tests/fixtures`.
fn model(name: &str) -> String {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    fixtures.join(name).join("model").display().to_string()
}
fn whole(v: &Value) -> u64 {
    v.as_u64().unwrap_or_else(|| panic!("{v} is no whole number"))
}
fn list(v: &Value) -> &Vec<Value> {
    v.as_array().unwrap_or_else(|| panic!("{v} is no list"))
}
/// A section of the architecture by its name.
fn section<'v>(table: &'v Value, name: &str) -> &'v Value {
    let sections = list(&table["architecture"]["sections"]);
    sections.iter().find(|s| s["name"] == name).unwrap_or_else(|| panic!("no {name}: {sections:?}"))
}
/// A row by the name of its site, or its own, in the first group of layers of a section.
fn row<'v>(section: &'v Value, name: &str) -> &'v Value {
    let of_layers = list(&section["layers"]).iter().flat_map(|a| list(&a["parts"]));
    let rows = of_layers.flat_map(|p| list(&p["rows"])).chain(list(&section["rows"]));
    let found = |r: &&Value| r["site"] == name || r["name"] == name;
    rows.clone().find(found).unwrap_or_else(|| panic!("no {name}: {:?}", rows.collect::<Vec<_>>()))
}
/// Everything that rows say, once for each set of weights.
fn sum(table: &Value, of: impl Fn(&Value) -> u64) -> u64 {
    let mut all = 0;
    for s in list(&table["architecture"]["sections"]) {
        all += list(&s["rows"]).iter().map(&of).sum::<u64>();
        for a in list(&s["layers"]) {
            let rows = list(&a["parts"]).iter().flat_map(|p| list(&p["rows"]));
            all += whole(&a["sets"]) * rows.map(&of).sum::<u64>();
        }
    }
    all
}

#[test]
fn a_configuration_alone_gives_the_sizes_that_transformers_gives() {
    // `sum(p.numel() for p in model.parameters())` in transformers 4.57.6
    for (class, fields, parameters, layers) in [
        ("BertModel", json!({"model_type": "bert"}), 109_482_240, 12),
        ("GPT2LMHeadModel", json!({"model_type": "gpt2"}), 124_439_808, 12),
        ("T5ForConditionalGeneration", json!({"model_type": "t5"}), 60_506_624, 12),
        ("MT5ForConditionalGeneration", json!({"model_type": "mt5"}), 300_176_768, 16),
        ("LlamaForCausalLM", json!({"model_type": "llama"}), 6_738_415_616, 32),
        (
            "AlbertModel",
            json!({
                "model_type": "albert", "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072
            }),
            11_683_584,
            12,
        ),
    ] {
        let (work, mut fields) = (Work::empty(), fields);
        fields["architectures"] = json!([class]);
        work.write("m/config.json", fields.to_string());
        let table = work.run("inspect --model m --json").json();
        assert_eq!(whole(&table["total_parameters"]), parameters, "{class}");
        assert_eq!(whole(&table["layers"]), layers, "{class}");
        let found = |of: &str| sum(&table, |r| whole(&r[of]));
        assert_eq!((found("parameters"), found("bytes")), (parameters, 4 * parameters), "{class}");
        let sizes = list(&table["architecture"]["sections"]).iter().map(|s| whole(&s["parameters"]));
        assert_eq!(sizes.sum::<u64>(), parameters, "{class}");
        let plain = work.run("inspect --model m").good().stdout;
        assert!(plain.contains(&format!("in all: {parameters} parameters")), "{plain}");
    }
}

#[test]
fn every_weight_of_the_files_stands_in_a_row() {
    for name in [
        "bert",
        "gpt2",
        "gpt_neo",
        "gptj",
        "llama",
        "mistral",
        "qwen2",
        "qwen3",
        "t5",
        "encoders/albert",
        "encoders/distilbert",
        "encoders/electra",
        "encoders/modernbert",
        "encoders/roberta",
    ] {
        let table = Work::empty().run(&format!("inspect --model {} --json", model(name))).json();
        assert_eq!(sum(&table, |r| whole(&r["parameters"])), whole(&table["total_parameters"]), "{name}");
        let bytes: u64 = table["storage"].as_object().unwrap().values().map(whole).sum();
        assert_eq!(sum(&table, |r| whole(&r["bytes"])), bytes, "{name}");
        for s in list(&table["architecture"]["sections"]) {
            let of_each = list(&s["layers"]).iter().map(|a| whole(&a["sets"]) * whole(&a["each"]["bytes"]));
            let rows: u64 = list(&s["rows"]).iter().map(|r| whole(&r["bytes"])).sum();
            assert_eq!(of_each.sum::<u64>() + rows, whole(&s["bytes"]), "{name}: {}", s["name"]);
        }
        let layers: usize = list(&table["architecture"]["sections"])
            .iter()
            .flat_map(|s| list(&s["layers"]))
            .map(|a| list(&a["layers"]).len())
            .sum();
        assert_eq!(layers as u64, whole(&table["layers"]), "{name}");
    }
}

#[test]
fn layers_that_are_alike_are_drawn_once_and_modules_stand_at_their_sites() {
    let work = Work::empty();
    let of = |name: &str| work.run(&format!("inspect --model {} --json", model(name))).json();
    let bert = of("bert");
    let layers = section(&bert, "layers");
    assert_eq!(list(&layers["layers"]).len(), 1);
    assert_eq!(
        (&layers["layers"][0]["layers"], &layers["layers"][0]["sets"]),
        (&json!([0, 1, 2]), &json!(3))
    );
    let names: Vec<&Value> = list(&layers["layers"][0]["parts"]).iter().map(|p| &p["name"]).collect();
    assert_eq!(names, ["layer", "attn", "ffn", "layer"]);
    let q = row(layers, "attn.q");
    assert_eq!((&q["name"], &q["shape"]), (&json!("attention.self.query"), &json!("32 -> 32, bias")));
    assert_eq!(whole(&q["parameters"]), 32 * 32 + 32);
    // the norm of a post-norm model stands at the end of its sub-layer
    let end = row(layers, "attn.close");
    assert_eq!((&end["name"], &end["shape"]), (&json!("attention.output.LayerNorm"), &json!("32, bias")));
    assert_eq!(row(section(&bert, "head"), "pooler.dense")["site"], Value::Null);
    let words = row(section(&bert, "embeddings"), "embeddings.word_embeddings");
    assert_eq!((&words["shape"], &words["site"]), (&json!("61 x 32"), &Value::Null));

    let gpt2 = of("gpt2");
    let qkv = row(section(&gpt2, "layers"), "attn.qkv");
    assert_eq!((&qkv["name"], &qkv["shape"]), (&json!("attn.c_attn"), &json!("32 -> 3 x 32, bias")));
    assert_eq!(row(section(&gpt2, "layers"), "head.norm")["name"], "ln_f");
    assert_eq!(row(section(&gpt2, "head"), "logits")["parameters"], 0);

    // two stacks, and a table of positions in the first layer of each
    let t5 = of("t5");
    for (stack, first, parts) in [
        ("encoder", 0, &["layer", "attn", "ffn", "layer"][..]),
        ("decoder", 2, &["layer", "attn", "cross", "ffn", "layer"]),
    ] {
        let s = section(&t5, stack);
        let alike: Vec<&Value> = list(&s["layers"]).iter().map(|a| &a["layers"]).collect();
        assert_eq!(alike, [&json!([first]), &json!([first + 1])], "{stack}");
        let names: Vec<&Value> = list(&s["layers"][0]["parts"]).iter().map(|p| &p["name"]).collect();
        assert_eq!(names, parts, "{stack}");
        let table = list(&s["layers"][0]["parts"][1]["rows"]).last().unwrap();
        assert_eq!(table["name"], "layer.0.SelfAttention.relative_attention_bias", "{stack}");
        assert_eq!(row(s, "attn.q")["shape"], "32 -> 24");
    }
    assert_eq!(row(section(&t5, "encoder"), "memory.norm")["name"], "encoder.final_layer_norm");
    assert_eq!(row(section(&t5, "decoder"), "head.norm")["name"], "decoder.final_layer_norm");
    assert_eq!(row(section(&t5, "decoder"), "cross.k")["name"], "layer.1.EncDecAttention.k");

    let llama = of("llama");
    assert_eq!(row(section(&llama, "layers"), "attn.k")["shape"], "24 -> 12");
    assert_eq!(row(section(&llama, "layers"), "ffn.gate")["name"], "mlp.gate_proj");
    assert_eq!(row(section(&llama, "head"), "lm_head")["shape"], "61 x 24");

    let albert = of("encoders/albert");
    let shared = &section(&albert, "layers")["layers"][0];
    assert_eq!((&shared["layers"], &shared["sets"]), (&json!([0, 1, 2]), &json!(1)));
    let plain = work.run(&format!("inspect --model {}", model("encoders/albert"))).good().stdout;
    for words in ["layers 0-2  x 3, with one set of weights", "  attention\n", "  feed-forward\n", "attn.q"] {
        assert!(plain.lines().any(|l| l.contains(words.trim_end())), "{words}: {plain}");
    }
}

#[test]
fn bytes_are_those_of_the_type_that_is_asked_for() {
    let work = Work::empty();
    let line = format!("inspect --model {} --json --backbone-dtype", model("gpt2"));
    let [f32, int8] = ["f32", "int8"].map(|dtype| work.run(&format!("{line} {dtype}")).json());
    let [a, b] = [&f32, &int8].map(|t| row(section(t, "layers"), "ffn.up"));
    let (input, output) = (32, 40);
    assert_eq!(whole(&a["bytes"]), 4 * (input * output + output));
    // a scale of f32 for each line of the stored matrix, and the bias as it was
    assert_eq!(whole(&b["bytes"]), input * output + 4 * input + 4 * output);
    assert_eq!(b["tensors"][0]["storage"], "int8");
    assert_eq!(b["tensors"][1]["storage"], "f32");
    // the same without weights
    let config = std::fs::read(Path::new(&model("gpt2")).join("config.json")).unwrap();
    work.write("bare/config.json", config);
    let bare = work.run("inspect --model bare --json --backbone-dtype int8").json();
    assert_eq!(bare["architecture"], int8["architecture"]);
    assert_eq!(bare["storage"], int8["storage"]);
}

#[test]
fn a_configuration_string_says_what_it_would_add_and_where() {
    let work = Work::empty();
    work.write("b/config.json", r#"{"model_type": "bert", "architectures": ["BertModel"]}"#);
    let of = |model: &str, adapter: &str| {
        let table = work.run(&format!("inspect --model {model} --adapter {adapter} --json")).json();
        let adds: u64 = sum(&table, |r| list(&r["adds"]).iter().map(|a| whole(&a["parameters"])).sum())
            + list(&table["architecture"]["shared"]).iter().map(|a| whole(&a["parameters"])).sum::<u64>();
        let parts: u64 =
            table["adapter"].as_object().unwrap().values().map(|p| whole(&p["parameters"])).sum();
        assert_eq!(parts, adds, "{adapter}");
        assert_eq!(
            whole(&table["total_parameters"]),
            sum(&table, |r| whole(&r["parameters"])) + adds,
            "{adapter}"
        );
        (table, adds)
    };
    // PEFT's count of a LoRA of rank 8 at queries and values of BERT-base
    let (lora, adds) = of("b", "lora[r=8]");
    assert_eq!((adds, whole(&lora["trainable_parameters"])), (294_912, 294_912));
    let q = row(section(&lora, "layers"), "attn.q");
    assert_eq!(q["adds"][0]["kind"], "loras");
    assert_eq!(q["adds"][0]["tensors"], json!([["lora_A", [8, 768]], ["lora_B", [768, 8]]]));
    assert_eq!(row(section(&lora, "layers"), "attn.k")["adds"], json!([]));
    assert_eq!(whole(&section(&lora, "layers")["layers"][0]["each"]["added"]), 294_912 / 12);
    let plain = work.run("inspect --model b --adapter lora[r=8]").good().stdout;
    assert!(plain.contains("trainable: 294912 of 109777152 (0.27 %)"), "{plain}");
    assert!(plain.contains("+ loras") && plain.contains("8 x 768, 768 x 8"), "{plain}");

    // two bottlenecks in each layer, down to 48 and up again with biases
    let (_, houlsby) = of("b", "houlsby");
    assert_eq!(houlsby, 12 * 2 * (2 * 768 * 48 + 48 + 768));
    // in a layer alone that has it, and a union is its members
    let (left, adds) = of("b", "lora[r=8,leave_out=[0,2]]");
    assert_eq!(adds, 294_912 / 12 * 10);
    let groups: Vec<&Value> =
        list(&section(&left, "layers")["layers"]).iter().map(|a| &a["layers"]).collect();
    assert_eq!(groups, [&json!([0, 2]), &json!([1, 3, 4, 5, 6, 7, 8, 9, 10, 11])]);
    let (union, both) = of("b", "lora[r=8]|houlsby");
    assert_eq!(both, 294_912 + houlsby);
    assert_eq!(list(&row(section(&union, "layers"), "ffn.close")["adds"]).len(), 1);
    // what does not train counts as held alone
    let (vera, adds) = of("b", "vera[r=8]");
    assert_eq!(whole(&vera["trainable_parameters"]), 12 * 2 * (8 + 768));
    assert_eq!(adds, 12 * 2 * (8 + 768) + 2 * 8 * 768);
    assert_eq!(vera["architecture"]["shared"][0]["trainable"], 0);
    // layers that share their weights share the adapter
    let albert = model("encoders/albert");
    assert_eq!(of(&albert, "lora[r=2]").1, 2 * (2 * 20 + 20 * 2));
    let t5 = model("t5");
    let (lora, adds) = of(&t5, "lora[r=2]");
    // two layers of self-attention, and two with attention to the encoder beside it
    assert_eq!(adds, (2 + 2 * 2) * 2 * (2 * 32 + 24 * 2));
    assert_eq!(row(section(&lora, "decoder"), "cross.v")["adds"][0]["kind"], "loras");

    work.run("inspect --model b --adapter lor").fails(&[
        "--adapter",
        "no directory `lor`",
        "`lor` is not the name",
    ]);
    work.run("inspect --model b --adapter lora[r=0]").fails(&["r"]);
}

#[test]
fn a_saved_adapter_is_drawn_too_and_what_does_not_train_is_not_counted() {
    let work = Work::new();
    work.train("--adapter vera[r=4] --out out");
    work.copy(&work.path("out"), "bare");
    for file in ["bare/head_config.json", "bare/model_head.safetensors"] {
        std::fs::remove_file(work.path(file)).unwrap();
    }
    let [whole_, bare] =
        ["out", "bare"].map(|a| work.run(&format!("inspect --model MODEL --adapter {a} --json")).json());
    let head = whole(&whole_["head"]["parameters"]);
    assert_eq!(whole(&bare["trainable_parameters"]), whole(&whole_["trainable_parameters"]) - head);
    assert_eq!(whole(&bare["trainable_parameters"]), 4 * 2 * (4 + 192));
    assert_eq!(bare["architecture"], whole_["architecture"]);
    assert_eq!(row(section(&bare, "layers"), "attn.v")["adds"][0]["adapter"], "default");
    let plain = work.run("inspect --model MODEL --adapter out").good().stdout;
    assert!(plain.contains("+ loras") && plain.contains("layer 03"), "{plain}");
}
