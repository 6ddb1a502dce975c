//! The same weights in every form in which files have them: for all families.
mod support;
use engraft_engine::{Cx, Pass, Plain, Rows};
use engraft_models::{FAMILIES, Family, Holding, Tokens, load_frozen};
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::Path};
use support::{
    cpu,
    families::{all, json},
    files::{ModelFiles, StoredTensor, safetensors},
    fixture, of_kind, relative, torch,
};

fn files(family: &str) -> ModelFiles {
    ModelFiles::at(&fixture(&format!("{family}/model")))
}
fn family_of(model: &ModelFiles) -> &'static Family {
    FAMILIES.iter().find(|f| model.config["model_type"] == f.name).unwrap()
}
/// Last hidden states, the pooler's output, logits.
#[derive(Debug, PartialEq)]
struct Computed(Vec<f32>, Vec<f32>, Option<Vec<f32>>);
impl Computed {
    fn off(&self, other: &Computed) -> f64 {
        let logits = |c: &Computed| c.2.clone().unwrap_or_default();
        let pairs = [(&self.0, &other.0), (&self.1, &other.1), (&logits(self), &logits(other))];
        pairs.iter().map(|(a, b)| relative(a, b)).fold(0.0, f64::max)
    }
}
/// And the tensors of the files that nobody asked for.
fn compute(dir: &Path) -> Result<(Computed, Vec<String>), String> {
    let device = cpu();
    let loaded = load_frozen(dir, &device, Holding::default()).map_err(|e| e.to_string())?;
    let model = &*loaded.model;
    let ids = [vec![3, 7, 1, 9, 4, 8, 2, 6, 5, 3], vec![5, 2, 8], vec![6]];
    let tokens = of_kind(model, Tokens::new(&ids));
    let mut cx = Cx::new(&device, &Plain, Pass::infer());
    let x = model.forward(&mut cx, &tokens, &Rows::All).unwrap();
    let pooled = model.pool(&mut cx, &x).unwrap().read().unwrap();
    let logits = model.to_vocabulary(&mut cx, &x).unwrap();
    let logits = logits.map(|(x, w)| cx.matmul(&x, w).unwrap().read().unwrap());
    let computed = Computed(x.read().unwrap(), pooled, logits);
    Ok((computed, loaded.unused.clone()))
}
/// What a model computes; nothing in its files may be left over.
#[track_caller]
fn whole(what: &str, dir: &Path) -> Computed {
    let (computed, unused) = compute(dir).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(unused, [""; 0], "{what}");
    computed
}
/// The sets of names that stand for one tensor, and for some of them in a file which one counts in
/// transformers, if one does.
fn tied() -> BTreeMap<String, Value> {
    serde_json::from_value(json(&fixture("./").join("tied.json"))).unwrap()
}
fn names(v: &Value) -> Vec<String> {
    serde_json::from_value(v.clone()).unwrap()
}

#[test]
fn names_may_lack_the_models_prefix_and_norms_have_their_old_names() {
    let mut older = 0;
    for family in &all() {
        let model = files(family);
        let prefix = family_of(&model).prefix;
        let want = whole(family, model.write().path());
        let with = |n: &str| Some(n.strip_prefix(prefix).unwrap_or(n).to_string());
        let short = model.named(with);
        assert_eq!(short.tensors.len(), model.tensors.len(), "{family}");
        assert!(prefix.is_empty() || short.tensors.keys().ne(model.tensors.keys()), "{family}");
        assert!(whole(family, short.write().path()) == want, "{family} without {prefix}");
        // and back again
        let long = short.named(|n| {
            let long = format!("{prefix}{n}");
            Some(if model.tensors.contains_key(&long) { long } else { n.into() })
        });
        assert_eq!(long.tensors.len(), model.tensors.len(), "{family}");
        assert!(whole(family, long.write().path()) == want, "{family} with {prefix}");
        let old = |n: &str| {
            let n = n.replace("LayerNorm.weight", "LayerNorm.gamma");
            Some(n.replace("LayerNorm.bias", "LayerNorm.beta"))
        };
        let old = model.named(old);
        older += usize::from(old.tensors.keys().ne(model.tensors.keys()));
        assert!(whole(family, old.write().path()) == want, "{family} with gamma and beta");
    }
    assert!(older >= 5, "{older} families have norms of these names");
}

#[test]
fn of_tied_tensors_files_have_one_or_several_and_the_one_counts_that_counts_in_transformers() {
    let known = tied();
    assert!(known.len() >= 9, "{:?}", known.keys());
    for (family, sets) in &known {
        let model = files(family);
        let want = whole(family, model.write().path());
        for set in sets.as_array().unwrap() {
            let of = names(&set["names"]);
            let own = of.iter().find_map(|n| model.tensors.get(n)).unwrap().clone();
            let without = model.named(|n| (!of.contains(&n.to_string())).then(|| n.into()));
            let holding = |values: &dyn Fn(&str) -> StoredTensor, names: &[String]| {
                let mut model = without.clone();
                model.tensors.extend(names.iter().map(|n| (n.clone(), values(n))));
                model
            };
            let other = |n: &str| {
                let more = 0.5 * (1 + of.iter().position(|o| o == n).unwrap()) as f32;
                let values: Vec<f32> = own.values().iter().map(|x| x * more).collect();
                StoredTensor::f32(&values, &own.shape)
            };
            for case in set["counts"].as_array().unwrap() {
                let (held, counts) = (names(&case[0]), case[1].as_str());
                let what = format!("{family}: {held:?}");
                let same = holding(&|_| own.clone(), &held);
                assert!(whole(&what, same.write().path()) == want, "{what}");
                // as it is shared in a file of torch.save
                let dir = same.write_config();
                std::fs::write(dir.path().join("pytorch_model.bin"), torch::save(&same.tensors)).unwrap();
                assert!(whole(&what, dir.path()) == want, "{what}, of torch.save");
                // transformers is left without weights where only a name is there that it ties to
                // others; here it is taken for theirs
                let counts = counts.or(if held.len() == 1 { Some(&*held[0]) } else { None });
                let differing = whole(&what, holding(&other, &held).write().path());
                let one = |n: &str| whole(&what, holding(&|_| other(n), &held).write().path());
                assert!(differing == one(counts.unwrap()), "{what}: {counts:?} counts");
                for loser in held.iter().filter(|n| Some(n.as_str()) != counts) {
                    assert!(differing != one(loser), "{what}: {loser} does not");
                }
            }
        }
    }
}

#[test]
fn values_of_every_type_in_one_file_or_several_of_safetensors_or_of_torch_save() {
    for family in &all() {
        let model = files(family);
        let want = whole(family, model.write().path());
        let in_doubles = model.map(|t| {
            let bytes = t.values().iter().flat_map(|x| f64::from(*x).to_le_bytes()).collect();
            StoredTensor { dtype: "F64", shape: t.shape.clone(), bytes }
        });
        let rounded = ["F16", "BF16"].map(|dtype| {
            let exact = whole(family, model.map(|t| t.through(dtype)).write().path());
            (dtype, model.map(|t| t.to(dtype)), exact)
        });
        let mut forms = vec![("F32", &model, &want), ("F64", &in_doubles, &want)];
        forms.extend(rounded.iter().map(|(dtype, model, want)| (*dtype, model, want)));
        for (dtype, stored, want) in forms {
            let (one, shards) = (stored.write(), stored.write_sharded());
            let (bin, bins) = (stored.write_config(), stored.write_config());
            std::fs::write(bin.path().join("pytorch_model.bin"), torch::save(&stored.tensors)).unwrap();
            let mut map = json!({});
            for (i, (name, t)) in stored.tensors.iter().enumerate() {
                let shard = format!("pytorch_model-{i}.bin");
                let of_one = [(name.clone(), t.clone())].into();
                std::fs::write(bins.path().join(&shard), torch::save(&of_one)).unwrap();
                map[name] = shard.into();
            }
            let index = json!({"metadata": {"total_size": 0}, "weight_map": map});
            std::fs::write(bins.path().join("pytorch_model.bin.index.json"), index.to_string()).unwrap();
            for (form, dir) in [("one", one), ("shards", shards), ("bin", bin), ("bins", bins)] {
                let what = format!("{family}, {dtype}, {form}");
                let e = whole(&what, dir.path()).off(want);
                // decoded where they are used, halves are multiplied in another order
                let most = if dtype.ends_with("16") { 2e-6 } else { 0.0 };
                assert!(e <= most, "{what}: {e:.1e}");
            }
        }
    }
    // a double that is no f32
    let mut model = files("gpt2");
    let name = "transformer.ln_f.weight";
    let t = model.tensors.get_mut(name).unwrap();
    t.bytes = [1e300f64; 32].iter().flat_map(|x| x.to_le_bytes()).collect();
    t.dtype = "F64";
    let error = compute(model.write().path()).unwrap_err();
    assert!(error.contains(name) && error.contains("not finite"), "{error}");
    // what is no float is refused
    let t = model.tensors.get_mut(name).unwrap();
    t.dtype = "I64";
    let error = compute(model.write().path()).unwrap_err();
    assert!(error.contains(name) && error.contains("I64"), "{error}");
}

#[test]
fn a_configuration_without_model_type_is_told_by_class_or_tensors() {
    let mut told = vec![];
    for family in &all() {
        let model = files(family);
        let own = family_of(&model).name;
        let silent = |architectures: Option<&Value>| {
            let mut config = model.config.clone();
            config.as_object_mut().unwrap().retain(|k, _| k != "model_type" && k != "architectures");
            if let Some(architectures) = architectures {
                config["architectures"] = architectures.clone();
            }
            ModelFiles { config, ..model.clone() }
        };
        let known = |dir: &Path| {
            let loaded = load_frozen(dir, &cpu(), Holding::default()).map_err(|e| e.to_string());
            loaded.map(|l| l.model.info().family)
        };
        let of_class = known(silent(Some(&model.config["architectures"])).write().path());
        assert_eq!(of_class.as_deref(), Ok(own), "{family} by its class");
        // by its tensors it is this one, or one of several that are named; the directory's name decides
        match known(silent(None).write().path()) {
            Ok(found) => {
                assert_eq!(found, own, "{family}");
                told.push(own);
            }
            Err(e) => {
                let words = [&format!("`{own}`"), "no `model_type`", " or ", "add `model_type`"];
                words.iter().for_each(|w| assert!(e.contains(w), "{family}: `{e}` does not say `{w}`"));
            }
        }
        if !own.contains(['-', '_']) {
            // transformers' rule
            let parent = tempfile::tempdir().unwrap();
            let dir = parent.path().join(format!("{own}-small"));
            std::fs::create_dir(&dir).unwrap();
            std::fs::write(dir.join("config.json"), silent(None).config.to_string()).unwrap();
            std::fs::write(dir.join("model.safetensors"), safetensors(&model.tensors)).unwrap();
            assert_eq!(known(&dir).as_deref(), Ok(own), "{family} in a directory of its name");
        }
        // nothing at all is told without weights
        let error = known(silent(None).write_config().path()).unwrap_err();
        assert!(error.contains("`model_type` is ``"), "{family}: {error}");
    }
    for own in ["albert", "bert", "distilbert", "electra", "gpt2", "gpt_neo", "gptj", "qwen2", "qwen3"] {
        assert!(told.contains(&own), "{own} is told by its tensors: {told:?}");
    }
}
