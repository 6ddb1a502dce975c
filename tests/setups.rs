//! The language of compositions.
mod support;
use engraft_adapters::{Adapter, AdapterSet, Compat, Setup};
use support::{cpu, families, faults, fixture};

#[test]
fn setups_are_read_as_they_are_written() {
    for text in [
        "a",
        "None",
        "Stack(lang, Fuse(nli, qa), task)",
        "Fuse(a, b, name='both of them')",
        "Average(a, b, weights=[0.75, 0.25], normalize_weights=False)",
        "Split(a, Stack(b, c), splits=[64, 64])",
        "BatchSplit(a, None, batch_sizes=[1, 2])",
        "Parallel(Fuse(a, b), BatchSplit(c, 'with blank', batch_sizes=[3, 0]))",
    ] {
        let setup: Setup = text.parse().unwrap();
        assert_eq!(setup.to_string(), text);
        assert_eq!(Setup::from_json(&setup.to_json()).unwrap(), setup, "{text}");
    }
    let same = |a: &str, b: &str| assert_eq!(a.parse::<Setup>().unwrap(), b.parse::<Setup>().unwrap(), "{a}");
    same(" Split( a,b , splits = 3 ) ", "Split(a, b, splits=[3, 3])");
    same("Average(a, b, weights=[3, 1])", "Average(a, b, weights=[0.75, 0.25], normalize_weights=False)");
    // as AdapterHub's `adapter_setup.json` has it
    let json = serde_json::json!({"type": "Stack", "children": [
        {"type": "single", "children": ["a"]},
        {"type": "BatchSplit", "children": [
            {"type": "single", "children": ["b"]}, {"type": "single", "children": ["c"]}
        ], "kwargs": {"batch_sizes": [1, 2]}},
    ]});
    assert_eq!(
        Setup::from_json(&json).unwrap(),
        "Stack(a, BatchSplit(b, c, batch_sizes=[1, 2]))".parse().unwrap()
    );
}

#[test]
fn setups_are_refused_where_they_go_wrong() {
    for (text, words) in [
        ("", &["character 1", "the name of an adapter or a block"][..]),
        ("Stack(a, b", &["character 11", "`,` or `)`"]),
        ("Stack()", &["character 1", "Stack of nothing"]),
        ("Stack(a) b", &["character 10", "follows"]),
        ("Stak(a)", &["character 1", "`Stak` is no block"]),
        ("Stack(a, Split(b, c))", &["character 10", "Split needs `splits`"]),
        ("Split(a, b, splits=[1])", &["Split of 2 has 1 numbers"]),
        ("Split(a, b, splits=[1, -1])", &["`splits` holds -1"]),
        ("Average(a, b, weights=[1, -1])", &["add up to 0"]),
        ("Average(a, weight=[1])", &["Average has no `weight`"]),
        ("Stack(a, name=x, name=y)", &["character 18", "`name` is given twice"]),
        ("Fuse(a, name=3)", &["`name` is 3"]),
    ] {
        faults::says(text.parse::<Setup>().map(drop).map_err(|e| e.to_string()), words);
    }
    let deep = "Stack(".repeat(100) + "a" + &")".repeat(100);
    assert!(deep.parse::<Setup>().unwrap_err().to_string().contains("too deeply"));
}

#[test]
fn what_the_library_cannot_compute_is_not_made_up() {
    let device = cpu();
    let ((model, host), folder) = (families::backbone("bert", &device), fixture("compose/bert/adapters"));
    let mut set = AdapterSet::new();
    for name in ["a", "b", "late", "l"] {
        let adapter = Adapter::load_frozen(&folder.join(name), &host, model.sites(), &device);
        set.add(adapter.unwrap()).unwrap();
    }
    let with = |compat: Compat, setup: &str| {
        let active = set.activate_like(compat, &setup.parse().unwrap(), 2);
        active.map(drop).map_err(|e| e.to_string())
    };
    for (setup, words) in [
        ("BatchSplit(late, a, batch_sizes=1)", "the first or the last has nothing"),
        ("BatchSplit(a, None, batch_sizes=1)", "`None`"),
        ("Parallel(a, BatchSplit(a, b, batch_sizes=1))", "is not reproduced"),
    ] {
        with(Compat::Documented, setup).unwrap();
        let e = with(Compat::Adapters130, setup).unwrap_err();
        assert!(e.contains(words), "{setup}: {e}");
    }
    with(Compat::Adapters130, "Stack(l, Parallel(a, b))").unwrap();
}
