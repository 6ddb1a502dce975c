//! Adapters, heads, and the strings that describe them.
use crate::{
    files::{directory, is_torch, parts, put},
    fixture::{backbone, computing},
};
use engraft::{
    Tokens,
    tasks::{TaskType, Told},
};
use engraft_adapters::{Adapter, Fields, Format, Head, Setup, grammar as strings, parse};
use engraft_engine::{Cx, Device, ParamSet, Pass, Plain};
use engraft_models::Rows;

/// An `adapter_config.json` of either library and its tensors: loaded, computed with, and written
/// again.
pub fn adapter(input: &[u8]) -> bool {
    let directory = directory();
    let [config, tensors] = parts::<2>(input);
    put(directory.path(), "adapter_config.json", config);
    for format in Format::ALL {
        let [ours, torch] = format.readable();
        put(directory.path(), if is_torch(tensors) { torch } else { ours }, tensors);
    }
    let backbone = backbone();
    computing(input, |device| {
        let (sites, mut set) = (backbone.model().sites(), ParamSet::new());
        let Ok(adapter) = Adapter::load(directory.path(), backbone.host(), sites, device, &mut set) else {
            return false;
        };
        for format in Format::ALL {
            let _ = adapter.files_as(format, backbone.host());
        }
        backbone.hidden_states_with(&adapter, &Tokens::new(&[vec![1, 2], vec![3]])).is_ok()
    })
}

/// A `head_config.json`, its tensors, and the `adapter_config.json` beside them: loaded, computed
/// with, written again, and given to the task that it does.
pub fn head(input: &[u8]) -> bool {
    let directory = directory();
    let [config, tensors, adapter] = parts::<3>(input);
    put(directory.path(), "head_config.json", config);
    put(directory.path(), "adapter_config.json", adapter);
    let (ours, torch) = match config {
        Some(_) => ("model_head.safetensors", "pytorch_model_head.bin"),
        None => ("adapter_model.safetensors", "adapter_model.bin"),
    };
    put(directory.path(), if is_torch(tensors) { torch } else { ours }, tensors);
    let backbone = backbone();
    computing(input, |device| {
        let mut set = ParamSet::new();
        let Ok(Some(head)) = Head::find(directory.path(), backbone.host(), device, &mut set) else {
            return false;
        };
        let _ = head.files(backbone.host());
        if let Ok(task) = TaskType::of_head(Some(head.config()), backbone.model().info()) {
            let _ = (task.known)(head.labels().to_vec(), &Told::default());
        }
        let (model, tokens) = (backbone.model(), Tokens::new(&[vec![1, 2], vec![3]]));
        let mut cx = Cx::new(device, &Plain, Pass::infer());
        let x = model.forward(&mut cx, &tokens, &Rows::All).expect("the fixture computes");
        let table = model.to_vocabulary(&mut cx, &x).expect("the fixture computes");
        head.forward(&mut cx, &x, 0.0, table.map(|(_, last)| last.w)).is_ok()
    })
}

/// A configuration string: what it describes is made for a model that is not computed with, and
/// written.
pub fn grammar(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let _ = strings::value(text);
    let mixes = engraft_adapters::fusion::parse(text, &Fields::new()).is_ok();
    let Ok(config) = parse(text, &Fields::new()) else { return mixes };
    let (backbone, device) = (backbone(), Device::null(1));
    let (sites, mut set) = (backbone.model().sites(), ParamSet::new());
    let Ok(adapter) = Adapter::new("a", config, sites, &device, &mut set, 1) else { return false };
    let _ = (adapter.config().adapterhub(), adapter.config().peft(sites));
    true
}

/// A composition of adapters, as a text or as `adapter_setup.json` has it; what is written is read
/// again.
pub fn setup(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let mut taken = false;
    let json = serde_json::from_str(text).ok();
    for setup in text.parse().ok().into_iter().chain(json.and_then(|v| Setup::from_json(&v).ok())) {
        taken = true;
        let _ = engraft_adapters::AdapterSet::new().activate(&setup, 2);
        let (text, json) = (setup.to_string(), setup.to_json());
        if let Ok(again) = text.parse::<Setup>() {
            assert_eq!(again.names(), setup.names(), "{text}");
        }
        let _ = Setup::from_json(&json);
    }
    taken
}
