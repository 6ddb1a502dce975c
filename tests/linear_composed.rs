//! IA3, DoRA and gated LoRA in company: in mixed batches each sequence gets what it gets alone, in
//! a stack factors multiply and sums add up.
mod support;
use engraft_adapters::{Active, Adapter, AdapterSet, Merged, Setup};
use engraft_engine::{Device, Plain};
use engraft_models::{Model, Tokens};
use support::{cpu, families::backbone, fixture, made::*, merged_model, relative};

fn at(name: &str) -> String {
    format!("linear/{name}")
}

/// Adapters of these configurations with random weights, on one model.
fn several(family: &str, texts: &[(&str, &str)], device: &Device) -> (Box<dyn Model>, AdapterSet) {
    let (model, host) = backbone(family, device);
    let mut set = AdapterSet::new();
    for (name, text) in texts {
        let adapter = match *text {
            saved if saved.starts_with(family) => {
                Adapter::load_frozen(&fixture(&at(saved)), &host, model.sites(), device).unwrap()
            }
            text => made(family, text, device).unwrap().0.freeze(),
        };
        set.add(adapter.renamed(name).unwrap()).unwrap();
    }
    (model, set)
}
/// Hidden states with a setup, and what each sequence gets by itself.
fn agree_alone(model: &dyn Model, set: &AdapterSet, setup: &str, device: &Device) -> Vec<f32> {
    let (setup, tokens): (Setup, _) = (setup.parse().unwrap(), tokens());
    let active = set.activate(&setup, 4).unwrap();
    let together = hidden(model, &active, &tokens, device);
    let (mut alone, mut start) = (vec![], 0);
    for (item, n) in tokens.lengths.iter().enumerate() {
        let one = Active::single(active.tree(0, item).unwrap().clone());
        let own = Tokens::new(&[&tokens.ids[start..start + n]]);
        alone.extend(hidden(model, &one, &own, device));
        start += n;
    }
    assert!(together == alone, "{setup}: each sequence as alone, to the bit");
    together
}
#[test]
fn composed_with_others_each_sequence_gets_what_it_gets_alone() {
    for family in ["bert", "gpt2"] {
        let device = cpu();
        let (i, g, u) =
            (format!("{family}-ia3"), format!("{family}-lora-gated"), format!("{family}-unipelt"));
        let texts = [
            ("i", i.as_str()),
            ("g", &g),
            ("u", &u),
            ("p", &format!("{family}-peft-ia3")),
            ("d", &format!("{family}-peft-dora")),
            ("v", &format!("{family}-peft-vera")),
            ("l", "lora[r=2,init_weights=bert,attn_matrices=[q,k]]"),
            ("b", "houlsby[reduction_factor=8]"),
        ];
        let (model, set) = several(family, &texts, &device);
        for setup in [
            "Stack(i, g)",
            "Stack(p, i, l)",
            "Average(i, l, g, weights=[1, 2, 1])",
            "BatchSplit(i, None, g, l, batch_sizes=1)",
            "BatchSplit(u, Stack(l, p), None, Average(i, p), batch_sizes=1)",
            "Stack(b, BatchSplit(p, u, None, batch_sizes=[1, 2, 1]))",
            "BatchSplit(d, None, Stack(i, d), Average(d, l), batch_sizes=1)",
            "BatchSplit(Stack(v, d), Average(i, v), None, v, batch_sizes=1)",
        ] {
            agree_alone(&*model, &set, setup, &device);
        }
    }
}
/// Factors multiply and sums add up, as in one merged after the other.
#[test]
fn a_stack_is_one_after_the_other() {
    for family in ["bert", "gpt2"] {
        let device = cpu();
        let texts = [
            ("i", format!("{family}-ia3")),
            ("p", format!("{family}-peft-ia3")),
            ("l", "lora[r=2,init_weights=bert,attn_matrices=[k,v],intermediate_lora=True]".into()),
        ];
        let texts = texts.each_ref().map(|(n, t)| (*n, t.as_str()));
        let (model, set) = several(family, &texts, &device);
        for names in [["i", "p", "l"], ["l", "i", "p"], ["p", "l", "i"]] {
            let setup: Setup = format!("Stack({})", names.join(", ")).parse().unwrap();
            let got = hidden(&*model, &set.activate(&setup, 4).unwrap(), &tokens(), &device);
            let mut merged = Merged::copy(&model.named()).unwrap();
            for name in names {
                merged.merge(set.get(name).unwrap()).unwrap();
                // what comes of it is what the next one is merged into
                let after = merged_model(&merged, family, &device);
                merged = Merged::copy(&after.named()).unwrap();
            }
            let plain = merged_model(&merged, family, &device);
            let e = relative(&got, &hidden(&*plain, &Plain, &tokens(), &device));
            assert!(e < 1e-5, "{family} {names:?}: {e:.1e}");
        }
    }
}
/// A bias of one's own, in front of factors and behind them.
#[test]
fn biases_and_factors_are_merged_in_their_order() {
    for family in ["bert", "gpt2"] {
        for text in ["bitfit|ia3[init_weights=bert]", "ia3[init_weights=bert]|bitfit"] {
            let (device, tokens) = (cpu(), tokens());
            let (model, _) = backbone(family, &device);
            let (adapter, _) = made(family, text, &device).unwrap();
            let mut merged = Merged::copy(&model.named()).unwrap();
            merged.merge(&adapter).unwrap();
            let plain = merged_model(&merged, family, &device);
            let got = hidden(&*plain, &Plain, &tokens, &device);
            let e = relative(&got, &hidden(&*model, &adapter, &tokens, &device));
            assert!(e < 1e-5, "{family} {text}: {e:.1e}");
        }
    }
}
