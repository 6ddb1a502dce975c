//! Adapters that replace small weights of the model: biases (BitFit) and norms (PEFT's LN_TUNING),
//! beside transformers and PEFT on BERT and GPT-2: hidden states, logits, loss, every gradient, a
//! training curve, the files, the merge.
mod support;
use engraft_adapters::{Adapter, Base, Fields, Format, Merged, parse};
use engraft_engine::{Class, Cx, Device, ParamSet, Pass, Plain, Rows, pack};
use engraft_models::Tokens;
use support::{
    cpu,
    differences::*,
    families::{Family, backbone},
    fixture, merged_model, relative,
};

const CASES: [&str; 10] = [
    "weights/bert-norms",
    "weights/bert-norms-some",
    "weights/gpt2-norms",
    "weights/gpt2-norms-expression",
    "weights/gpt2-norms-class",
    "weights/bert-biases",
    "weights/bert-biases-some",
    "weights/bert-biases-norms",
    "weights/gpt2-biases",
    "weights/gpt2-biases-some",
];

#[test]
fn hidden_states_logits_loss_and_gradients() {
    CASES.iter().for_each(|name| Family::load(name).agrees(name));
}
#[test]
fn ten_steps_of_adamw() {
    CASES.iter().for_each(|name| Family::load(name).learns_alike(name));
}
#[test]
fn what_is_saved_is_what_was_saved() {
    CASES.iter().for_each(|name| Family::load(name).saves_alike(name));
}
#[test]
fn layers_computed_again_and_bytes_foretold() {
    CASES.iter().for_each(|name| Family::recomputes_and_predicts(name));
}

#[test]
fn merged_into_a_copy_and_taken_out_again() {
    for name in CASES {
        let case = Family::load(name);
        let mut merged = Merged::copy(&case.model.named()).unwrap();
        let before = merged.file().unwrap();
        merged.merge(&case.adapter).unwrap();
        let plain = merged_model(&merged, &case.host.model_type, &case.device);
        let mut cx = Cx::new(&case.device, &Plain, Pass::infer());
        let got = plain.forward(&mut cx, &case.tokens, &Rows::All).unwrap().read().unwrap();
        let e = relative(&got, &case.hidden(&case.adapter));
        assert!(e < 1e-6, "{name}: {e:.1e}");
        merged.unmerge();
        assert!(merged.file().unwrap() == before, "{name}");
    }
}

fn made(family: &str, text: &str, device: &Device) -> Result<(Adapter, usize), String> {
    let (model, _) = backbone(family, device);
    let (named, mut set) = (model.named(), ParamSet::new());
    let config = parse(text, &Fields::new()).map_err(|e| e.to_string())?;
    let base = Base::new(model.sites(), &named);
    let a = Adapter::new("task", config, base, device, &mut set, 1).map_err(|e| e.to_string())?;
    Ok((a, set.elements()))
}
#[test]
fn new_ones_start_as_the_weights_that_they_replace() {
    for family in ["bert", "gpt2"] {
        for text in ["bitfit", "bitfit[biases=[q,v,norm]]", "ln_tuning", "ln_tuning[leave_out=[0]]"] {
            let device = cpu();
            let (model, _) = backbone(family, &device);
            let (adapter, _) = made(family, text, &device).unwrap();
            let tokens = Tokens::new(&[vec![3, 7, 1, 9, 4], vec![5, 2, 8]]);
            let mut plain = Cx::new(&device, &Plain, Pass::infer());
            let plain = model.forward(&mut plain, &tokens, &Rows::All).unwrap().read().unwrap();
            let mut cx = Cx::new(&device, &adapter, Pass::infer());
            let y = model.forward(&mut cx, &tokens, &Rows::All).unwrap().read().unwrap();
            assert_eq!(y, plain, "{family} {text}");
        }
    }
}
#[test]
fn numbers_that_train() {
    // 32 channels, 3 layers, 40 inner ones
    for (family, text, want) in [
        ("bert", "bitfit", 3 * (7 * 32 + 40) + 32),
        ("bert", "bitfit[biases=[k]]", 3 * 32),
        ("bert", "bitfit[biases=[q,intermediate],leave_out=[2]]", 2 * (32 + 40)),
        ("bert", "ln_tuning", 7 * 64),
        ("bert", "ln_tuning[leave_out=[0,1]]", 3 * 64),
        ("bert", "ln_tuning[target_modules=['output.LayerNorm']]", 6 * 64),
        ("bert", "ln_tuning[target_modules=['attention.output.LayerNorm'],leave_out=[1]]", 2 * 64),
        ("gpt2", "bitfit", 3 * (3 * 32 + 2 * 32 + 40 + 2 * 32) + 32),
        ("gpt2", "bitfit[biases=[k,v],leave_out=[0]]", 2 * 64),
        ("gpt2", "ln_tuning", 7 * 64),
    ] {
        assert_eq!(made(family, text, &cpu()).unwrap().1, want, "{family}: {text}");
    }
}
#[test]
fn new_ones_are_saved_and_read_back() {
    for family in ["bert", "gpt2"] {
        for (text, format) in [
            ("bitfit[biases=[q,output,norm],leave_out=[1]]", Format::AdapterHub),
            ("bitfit|houlsby[reduction_factor=4]", Format::AdapterHub),
            ("ln_tuning", Format::Peft),
            ("ln_tuning[leave_out=[1]]", Format::Peft),
            ("ln_tuning[leave_out=[0,1,2]]", Format::Peft),
        ] {
            let (device, dir) = (cpu(), tempfile::tempdir().unwrap());
            let (model, host) = backbone(family, &device);
            let (adapter, count) = made(family, text, &device).unwrap();
            assert_eq!(adapter.format(), format, "{text}");
            adapter.save(dir.path(), &host).unwrap();
            let mut set = ParamSet::new();
            Adapter::load(dir.path(), &host, Base::from(model.sites()), &device, &mut set).unwrap();
            assert_eq!(set.elements(), count, "{family}: {text}");
        }
    }
}
#[test]
fn what_cannot_be_is_refused() {
    for (text, parts) in [
        ("bitfit[biases=[]]", "`biases` is empty"),
        ("bitfit[biases=[w]]", "unknown variant `w`"),
        ("bitfit[leave_out=[3]]", "`leave_out` names layer 3"),
        ("bitfit[bias=[q]]", "unknown field `bias`"),
        ("ln_tuning[target_modules=['ln_9']]", "nothing to train"),
        ("ln_tuning[leave_out=[7]]", "`leave_out` names layer 7"),
        ("ln_tuning|houlsby", "AdapterHub's format has no tuned norms"),
        ("bitfit|bitfit[biases=[q]]", "two members of a union have `bitfit`"),
    ] {
        let e = made("gpt2", text, &cpu()).unwrap_err();
        assert!(e.contains(parts), "{text}: {e}");
    }
    let (model, _) = backbone("bert", &cpu());
    for text in ["bitfit", "ln_tuning"] {
        let config = parse(text, &Fields::new()).unwrap();
        let base = Base::from(model.sites());
        let e = Adapter::new("task", config, base, &cpu(), &mut ParamSet::new(), 1).unwrap_err();
        assert!(e.to_string().contains("starts from the weights of the model"), "{e}");
    }
}
#[test]
fn files_of_tuned_norms_that_are_something_else_are_refused() {
    let from = fixture("weights/gpt2-norms");
    for (field, value, part) in [
        ("target_modules", serde_json::json!(null), "no `target_modules`"),
        ("target_modules", serde_json::json!(["ln_1", "ln_f"]), "has no place in this adapter"),
        ("exclude_modules", serde_json::json!(["ln_f"]), "has no place in this adapter"),
        ("layers_to_transform", serde_json::json!([1]), "`layers_to_transform` is [1]"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (device, path) = (cpu(), dir.path().join("adapter_config.json"));
        std::fs::copy(from.join("adapter_model.safetensors"), dir.path().join("adapter_model.safetensors"))
            .unwrap();
        let mut card = support::families::json(&from.join("adapter_config.json"));
        card[field] = value;
        std::fs::write(&path, card.to_string()).unwrap();
        let (model, host) = backbone("gpt2", &device);
        let read = Adapter::load(dir.path(), &host, Base::from(model.sites()), &device, &mut ParamSet::new());
        let e = read.unwrap_err().to_string();
        assert!(e.contains(part), "{field}: {e}");
    }
}

#[test]
fn a_row_added_to_some_columns() {
    let (rows, cols) = (5, 7);
    for columns in [0..7, 2..5, 6..7, 3..3] {
        for trains in [[true, true], [true, false], [false, true]] {
            let make = |i: usize, shape: &[usize]| {
                if trains[i] { leaf(40 + i as u64, shape) } else { frozen(40 + i as u64, shape) }
            };
            if columns.is_empty() && trains[1] {
                continue; // nothing to differentiate
            }
            check(
                &format!("add_row {columns:?} {trains:?}"),
                Pass::gradients(),
                &[make(0, &[rows, cols]), make(1, &[1, columns.len()])],
                |cx, w| {
                    let y = input(cx, w[0].clone(), &pack([2, 3]));
                    let v = cx.values(w[1].clone()).unwrap();
                    cx.add_row(y, &v, columns.clone()).unwrap()
                },
                |x| {
                    let more = |j: usize| if columns.contains(&j) { x[1][j - columns.start] } else { 0.0 };
                    (0..rows * cols).map(|i| x[0][i] + more(i % cols)).collect()
                },
            );
        }
    }
    let device = cpu();
    let mut cx = Cx::new(&device, &Plain, Pass::infer());
    let act = |n: usize, cols: usize| {
        let buf = device.upload(Class::Scratch, &vec![0f32; n * cols]).unwrap();
        engraft_engine::Act::new(buf, cols, pack([n])).unwrap()
    };
    assert!(cx.add_row(act(2, 4), &act(1, 3), 2..5).unwrap_err().to_string().contains("add_row"));
    assert!(cx.add_row(act(2, 4), &act(1, 3), 0..2).unwrap_err().to_string().contains("add_row"));
}
