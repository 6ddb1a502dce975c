//! Many learners on one model, asked from several threads: every answer is the one of its learner
//! by itself.
mod support;
use engraft::{
    AdamW, Device, Storage,
    adapters::{Fields, methods::METHODS, parse},
    engine::checkpoint::{TensorData, save},
    learner::{Backbone, Graft, Learner, Opening, answers_of_each},
    run::step::Trainer,
    serving::{Bank, Gathering, Service},
    tasks::{Answer, Classification, Task},
    text::{
        batch::Batch,
        example::{Example, Reads},
        tokenizer::{Fit, Tokenizer},
    },
};
use std::{path::Path, sync::Arc, time::Duration};
use support::*;

fn opened() -> Backbone {
    Backbone::open(backbone(), &Device::cpu(2).unwrap(), Opening::default()).unwrap()
}
fn example(seed: usize) -> Example {
    let ids = (0..3 + seed % 17).map(|i| (5 + 31 * seed + 7 * i) as u32 % 900).collect();
    Example::new(ids, Reads::Summary, vec![])
}
/// Saves a learner that has taken some steps, so that nothing in it is as it began.
fn learned(backbone: &Backbone, method: &str, classes: usize, seed: u64, out: &Path) {
    let task = Classification::new((0..classes).map(|n| format!("class {n}"))).unwrap();
    let head = task.head(backbone.model().info(), seed.is_multiple_of(2));
    let mut more = Fields::new();
    if method.contains("compacter") {
        more.insert("reduction_factor".into(), 8.into()); // a width of 24, in 4 parts
    }
    let adapter = Some(parse(method, &more).unwrap());
    let graft = Graft { name: "default".into(), adapter, head, seed, ..Graft::default() };
    let mut learner = backbone.clone().learner(graft, Box::new(task)).unwrap();
    let mut trainer = Trainer::new(AdamW::new(0.0), seed);
    for step in 0..2 {
        let batch: Batch =
            (0..3).map(|i| Example { labels: vec![(i % classes) as u32], ..example(step + i) }).collect();
        trainer.step(&mut learner, &[batch], 1e-2).unwrap();
    }
    learner.save(out).unwrap();
}
fn alone(learner: &Learner, e: &Example) -> Answer {
    learner.answers(&[e.clone()].into_iter().collect()).unwrap().remove(0)
}
/// Some methods, each with classes of its own: `a0`, `a1`, ..
fn bank(n: usize) -> (tempfile::TempDir, Arc<Bank>) {
    let (dir, backbone) = (tempfile::tempdir().unwrap(), opened());
    let methods = ["houlsby", "pfeiffer", "lora[r=4]", "prompt_tuning", "loreft", "compacter"];
    let named: Vec<_> = (0..n).map(|i| (format!("a{i}"), dir.path().join(format!("a{i}")))).collect();
    for (i, (_, out)) in named.iter().enumerate() {
        learned(&backbone, methods[i % methods.len()], 2 + i % 3, i as u64, out);
    }
    let bank = Arc::new(Bank::new(backbone));
    bank.load_all(named).unwrap();
    assert_eq!((bank.len(), bank.names()[0].as_str()), (n, "a0"));
    (dir, bank)
}

#[test]
fn threads_are_answered_as_if_each_were_alone() {
    let (_dir, bank) = bank(12);
    let gathering = Gathering { tokens: 120, wait: Duration::from_millis(30) };
    let service = Service::start(bank.clone(), gathering).unwrap();
    std::thread::scope(|threads| {
        for t in 0..8 {
            let (service, bank) = (&service, &bank);
            threads.spawn(move || {
                for round in 0..12 {
                    let name = format!("a{}", (5 * t + 7 * round) % 12);
                    let examples: Vec<Example> =
                        (0..1 + (t + round) % 4).map(|i| example(t + 3 * round + i)).collect();
                    let learner = bank.get(&name).unwrap();
                    let expected: Vec<Answer> = examples.iter().map(|e| alone(&learner, e)).collect();
                    assert_eq!(service.answers(&name, examples).unwrap(), expected, "{name}");
                }
            });
        }
    });
    let served = service.served();
    let asked: usize = (0..8).flat_map(|t| (0..12).map(move |r| 1 + (t + r) % 4)).sum();
    assert!(served.examples == asked && 2 * served.batches < asked, "{served:?} of {asked}");
    // a request that is larger than a batch, and one of nothing
    let many: Vec<Example> = (0..60).map(example).collect();
    let learner = bank.get("a3").unwrap();
    let expected: Vec<Answer> = many.iter().map(|e| alone(&learner, e)).collect();
    assert_eq!(service.answers("a3", many).unwrap(), expected);
    assert_eq!(service.answers("a3", vec![]).unwrap(), []);
}

#[test]
fn texts_are_predicted_as_by_the_program() {
    let (dir, bank) = bank(2);
    let vocabulary = bank.backbone().model().info().vocabulary;
    let fit = Fit { model: "demo", vocabulary, positions: None, max_length: 24 };
    let tokenizer = Tokenizer::load(backbone(), fit).unwrap();
    let service = Service::start(bank, Gathering::default()).unwrap();
    let texts = ["A lovely ride.".to_string(), "It was late, loud and dirty.".to_string()];
    let said = service.predict("a1", &texts, &tokenizer).unwrap();
    let work = Work::empty();
    let at = dir.path().join("a1").display().to_string();
    let line = format!("predict --model MODEL --adapter {at} --max-length 24 --quiet --text");
    let ran = work.run_with(&line, &texts.each_ref().map(String::as_str)).good();
    assert_eq!(
        said.iter().map(|p| p.text.as_str()).collect::<Vec<_>>(),
        ran.stdout.lines().collect::<Vec<_>>()
    );
    assert!(service.predict("a1", &[" ".into()], &tokenizer).unwrap_err().to_string().contains("text:1"));
}

#[test]
fn an_error_goes_to_the_request_that_caused_it() {
    let (_dir, bank) = bank(3);
    let gathering = Gathering { tokens: 10_000, wait: Duration::from_millis(200) };
    let service = Service::start(bank.clone(), gathering).unwrap();
    let bad = Example::new(vec![3, 1 << 30], Reads::Summary, vec![]);
    let long = Example::new(vec![7; 100_000], Reads::Summary, vec![]);
    std::thread::scope(|threads| {
        for t in 0..6 {
            let (service, bank, bad, long) = (&service, &bank, &bad, &long);
            threads.spawn(move || {
                let name = format!("a{}", t % 3);
                let answers = |e: &Example| service.answers(&name, vec![example(t), e.clone()]);
                match t {
                    0 => assert!(answers(bad).unwrap_err().to_string().contains("1073741824")),
                    1 => assert!(answers(long).unwrap_err().to_string().contains("100000 tokens")),
                    _ => {
                        let e = example(t + 9);
                        let learner = bank.get(&name).unwrap();
                        assert_eq!(answers(&e).unwrap(), [alone(&learner, &example(t)), alone(&learner, &e)]);
                    }
                }
            });
        }
    });
    let error = service.answers("b", vec![example(1)]).unwrap_err().to_string();
    assert!(error.contains("`b`") && error.contains("`a0`, `a1` and `a2`"), "{error}");
    // what reads other rows is no batch with these, and not with them in one
    let all = Example::new(vec![3, 4, 5], Reads::All, vec![]);
    std::thread::scope(|threads| {
        let asked = [all, example(1)].map(|e| threads.spawn(|| service.answers("a0", vec![e])));
        asked.into_iter().for_each(|answers| assert_eq!(answers.join().unwrap().unwrap().len(), 1));
    });
}

#[test]
fn learners_come_and_go_while_others_are_asked() {
    let (dir, bank) = bank(4);
    let service = Service::start(bank.clone(), Gathering::default()).unwrap();
    let e = example(4);
    let either = ["a0", "a1"].map(|name| alone(&bank.get(name).unwrap(), &e));
    std::thread::scope(|threads| {
        for _ in 0..3 {
            threads.spawn(|| {
                for _ in 0..30 {
                    let answers = service.answers("a0", vec![e.clone()]).unwrap();
                    assert!(either.contains(&answers[0]));
                    let one = bank.get("a2").unwrap();
                    assert_eq!(service.answers("a2", vec![e.clone()]).unwrap(), [alone(&one, &e)]);
                }
            });
        }
        for i in 0..20 {
            let before = bank.load("a0", &dir.path().join(["a1", "a0"][i % 2])).unwrap();
            assert!(before);
            bank.load("new", &dir.path().join("a3")).unwrap();
            assert!(bank.remove("new").is_some() && bank.remove("new").is_none());
        }
    });
    // several are loaded together, or none of them
    let at = |name: &str| (name.to_string(), dir.path().join(name));
    std::fs::write(dir.path().join("a2/adapter.safetensors"), "no tensors").unwrap();
    bank.remove("a1");
    let error = bank.load_all(vec![at("a1"), at("a2"), at("missing"), at("a3")]).unwrap_err().to_string();
    assert!(error.contains("a2") || error.contains("missing"), "{error}");
    assert_eq!(bank.names(), ["a0", "a2", "a3"]);
    bank.load_all(vec![]).unwrap();
    // of another model nobody is taken in
    let error = Bank::new(opened()).insert("x", other(&dir)).unwrap_err().to_string();
    assert!(error.contains("`x`") && error.contains("another model"), "{error}");
    let bare = dir.path().join("bare");
    std::fs::create_dir(&bare).unwrap();
    for file in ["adapter.safetensors", "adapter_config.json"] {
        std::fs::copy(dir.path().join("a1").join(file), bare.join(file)).unwrap();
    }
    assert!(bank.load("bare", &bare).unwrap_err().to_string().contains("no head"));
}
fn other(dir: &tempfile::TempDir) -> Learner {
    let task = |_: Option<&_>| Ok(Box::new(Classification::new(["a", "b"]).unwrap()) as Box<dyn Task>);
    opened().load_frozen_learner(dir.path().join("a0"), None, task).unwrap()
}

/// What is held in bf16 computes what the rounded weights compute, alone and in a mixed batch, for
/// every method.
#[test]
fn matrices_are_held_in_half_the_bytes() {
    let (dir, backbone) = (tempfile::tempdir().unwrap(), opened());
    let mut names: Vec<&str> = METHODS.iter().flat_map(|m| m.names).copied().collect();
    names.retain(|name| !["ia3", "unipelt"].contains(name));
    let [exact, rounded, half] = [None, None, Some(Storage::Bf16)].map(|storage| match storage {
        Some(storage) => Bank::new(backbone.clone()).storing(storage).unwrap(),
        None => Bank::new(backbone.clone()),
    });
    let (mut smaller, mut tried) = (0, vec![]);
    for (i, name) in names.iter().enumerate() {
        let at = dir.path().join(format!("m{i}"));
        let method = parse(name, &Fields::new());
        if method.is_err() {
            continue; // a name that is known and refused
        }
        learned(&backbone, name, 2, i as u64, &at);
        exact.load(name, &at).unwrap();
        half.load(name, &at).unwrap_or_else(|e| panic!("{name}: {e}"));
        round(&at);
        rounded.load(name, &at).unwrap();
        tried.push(*name);
        let bytes = |bank: &Bank| -> usize {
            bank.get(name).unwrap().adapters().named().iter().map(|(_, t)| t.bytes()).sum()
        };
        assert!(bytes(&half) <= bytes(&exact), "{name}");
        smaller += usize::from(10 * bytes(&half) < 6 * bytes(&exact));
        for e in [example(i), example(i + 5)] {
            let [exact, rounded, half] =
                [&exact, &rounded, &half].map(|bank| alone(&bank.get(name).unwrap(), &e));
            assert_eq!(half, rounded, "{name}");
            assert!(difference(&half.scores, &exact.scores) < 0.2, "{name}");
        }
    }
    assert!(2 * smaller > tried.len() && tried.len() > 15, "{smaller} of {}", tried.len());
    // all of them at once
    let all: Vec<Arc<Learner>> = tried.iter().map(|name| half.get(name).unwrap()).collect();
    let batch: Batch = (0..all.len()).map(example).collect();
    let expected: Vec<Answer> = all.iter().enumerate().map(|(i, l)| alone(l, &example(i))).collect();
    assert_eq!(Bank::answers(&all, &batch).unwrap(), expected);
    let both: Vec<&Learner> = all.iter().map(|l| &**l).take(2).collect();
    assert!(answers_of_each(&both, &[0], &batch).unwrap_err().to_string().contains("1 numbers"));
    assert!(answers_of_each(&both, &vec![2; all.len()], &batch).is_err());
    let error = Bank::new(backbone).storing(Storage::Nf4).err().unwrap().to_string();
    assert!(error.contains("not in nf4"), "{error}");
}
/// Rounds the matrices of an adapter to bf16.
fn round(at: &Path) {
    let names = ["adapter.safetensors", "adapter_model.safetensors"];
    let file = names.iter().map(|name| at.join(name)).find(|file| file.exists()).unwrap();
    let checkpoint = engraft::engine::Checkpoint::open(&file).unwrap();
    let all: Vec<(String, Vec<usize>, Vec<f32>)> = checkpoint
        .names()
        .map(|name| {
            let shape = checkpoint.shape(name).unwrap().to_vec();
            let mut values = checkpoint.values(name, &shape).unwrap();
            // AdapterHub's VeRA writes vectors as diagonals
            if shape.len() == 2 && !name.contains("vera_") {
                values.iter_mut().for_each(|x| *x = rounded(*x));
            }
            (name.to_string(), shape, values)
        })
        .collect();
    drop(checkpoint);
    let tensors: Vec<_> =
        all.iter().map(|(name, shape, values)| (name.clone(), TensorData::f32(values, shape))).collect();
    save(&file, &tensors).unwrap();
}
/// The nearest bf16, to even.
fn rounded(x: f32) -> f32 {
    let bits = x.to_bits();
    f32::from_bits((bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff_0000)
}
