//! Adapters made smaller: what is written is an adapter like any other.
mod support;
use engraft::engine::Checkpoint;
use serde_json::json;
use support::*;

const PRUNE: &str = "prune --model MODEL --adapter whole --data eval.tsv --quiet";

#[test]
fn neurons_are_left_out_for_good() {
    let work = Work::new();
    work.train("--adapter houlsby --bottleneck 8 --max-steps 6 --out whole");
    let whole = work.eval("whole");
    for by in ["magnitude", "effect"] {
        let line = format!("{PRUNE} --by {by} --shares 0,0.5,0.75 --out {by} --json");
        let found = work.run(&line).json()["pruned"].clone();
        assert_eq!(found[0]["scores"]["loss"], whole["loss"], "{by}");
        assert_eq!(found[1]["scores"], found[0]["scores"], "nothing is left out of {by}");
        assert!(
            work.tensors(&format!("{by}/without-0/adapter.safetensors"))
                == work.tensors("whole/adapter.safetensors")
        );
        // a neuron is 2 x 192 weights and a bias, twice in each of 4 layers
        let of = |row: usize| number(&found[row]["parameters"]);
        assert_eq!((of(0) - of(2), of(0) - of(3)), (4.0 * 385.0 * 8.0, 6.0 * 385.0 * 8.0), "{by}");
        let saved = work.eval(&format!("{by}/without-50"));
        assert_eq!(saved["loss"], found[2]["scores"]["loss"], "{by}");
        // and it trains further
        work.run(&train(&format!("--init {by}/without-75 --out further"))).good();
    }
    // of all layers together: as many neurons, of other layers
    let line = format!("{PRUNE} --across --shares 0.5 --out across --json");
    let found = work.run(&line).json()["pruned"].clone();
    assert_eq!(number(&found[0]["parameters"]) - number(&found[1]["parameters"]), 4.0 * 385.0 * 8.0);
    let widths: Vec<u64> =
        found[1]["widths"].as_object().unwrap().values().map(|w| w.as_u64().unwrap()).collect();
    assert_eq!((widths.len(), widths.iter().sum::<u64>()), (4, 16), "{widths:?}");
}

#[test]
fn a_neuron_that_does_nothing_is_not_missed() {
    let work = Work::new();
    work.train("--adapter houlsby --bottleneck 4 --non-linearity gelu --max-steps 4 --out whole");
    // the first neuron of each bottleneck reads nothing: it adds a constant
    let path = work.path("whole/adapter.safetensors");
    let file = Checkpoint::open(&path).unwrap();
    let names: Vec<String> = file.names().map(String::from).collect();
    let mut tensors = vec![];
    for name in &names {
        let shape = file.shape(name).unwrap().to_vec();
        let mut values = file.values(name, &shape).unwrap();
        if name.ends_with("adapter_down.0.weight") {
            values[..shape[1]].fill(0.0);
        }
        if name.ends_with("adapter_down.0.bias") {
            values[0] = 0.7;
        }
        tensors.push((name.clone(), engraft::engine::checkpoint::TensorData::f32(&values, &shape)));
    }
    drop(file);
    engraft::engine::checkpoint::save(&path, &tensors).unwrap();
    let found = work.run(&format!("{PRUNE} --shares 0.25 --out out --json")).json()["pruned"].clone();
    let loss = |row: usize| number(&found[row]["scores"]["loss"]);
    assert!((loss(0) - loss(1)).abs() < 1e-5, "{found}");
    assert!(number(&found[1]["parameters"]) < number(&found[0]["parameters"]));
}

#[test]
fn layers_are_left_out_by_what_they_matter() {
    let work = Work::new();
    work.train("--adapter pfeiffer --max-steps 6 --out whole");
    let found = work.run(&format!("{PRUNE} --what layers --json")).json()["pruned"].clone();
    let all = found.as_array().unwrap();
    assert_eq!(all.len(), 1 + 4 + 3);
    assert_eq!((&all[7]["layers"], &all[7]["parameters"]), (&json!([0, 1, 2, 3]), &json!(0)));
    let skipped =
        work.run("eval --model MODEL --adapter whole --data eval.tsv --json --skip-layers 2").evaluation();
    assert_eq!(all[3]["scores"]["loss"], skipped["loss"]);
    let said = work.run(&format!("{PRUNE} --what layers")).good();
    assert!(said.stdout.contains("layer 3") && said.stdout.contains("left out"), "{}", said.stdout);
}

#[test]
fn what_has_no_neurons_is_refused() {
    let work = Work::new();
    work.train("--adapter lora --out whole");
    work.run(&format!("{PRUNE} --out out")).fails(&["bottleneck"]);
    work.run(&format!("{PRUNE} --out out --shares 1")).fails(&["shares", "below 1"]);
    work.run(PRUNE).fails(&["prune", "out"]);
    work.train("--adapter compacter --bottleneck 8 --out whole");
    work.run(&format!("{PRUNE} --out out")).fails(&["cannot be pruned", "bottlenecks"]);
}
