//! Directories that runs leave, and go on in.
use crate::{
    files::{directory, parts, put},
    fixture::{backbone, computing, cpu},
};
use engraft::{
    Error,
    learner::{
        Graft, Learner,
        prefix::{Keeps, Precision, Prefix},
    },
    output,
    run::{
        directory::Directory,
        recipe::Recipe,
        state::Saved,
        train::{Around, Entry, train},
    },
    tasks::{Classification, Task},
    text::{
        example::{Example, Reads},
        examples::Examples,
    },
};
use engraft_adapters::{Fields, parse};
use engraft_engine::checkpoint::{TensorData, write};
use engraft_models::Tokens;
use std::{fs, path::Path, sync::OnceLock, sync::atomic::AtomicBool};

/// What the state says in its header: a run goes on from it, and is stopped behind its next step.
pub fn state(input: &[u8]) -> bool {
    let Ok(note) = std::str::from_utf8(input) else { return false };
    let tensors = tensors();
    let tensors: Vec<_> = tensors.iter().map(|(n, s, v)| (n.clone(), TensorData::f32(v, s))).collect();
    let steps = vec![0; tensors.len()];
    let all: Vec<_> =
        tensors.into_iter().chain([("steps".into(), TensorData::i64(&steps, &[steps.len()]))]).collect();
    let mut file = vec![];
    write(&mut file, &all, Some(note)).expect("a state is written");
    computing(input, |_| match go_on(&file) {
        Ok(()) | Err(Error::Stopped { .. }) => true,
        Err(_) => false,
    })
}

type Values = (String, Vec<usize>, Vec<f32>);
/// What trains, as the state has it.
fn tensors() -> &'static [Values] {
    static ALL: OnceLock<Vec<Values>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut all = vec![];
        learner().visit(&mut |p| {
            let values = p.tensor().to_f32().expect("values").to_vec();
            all.push((format!("weight.{}", p.name()), p.tensor().shape().to_vec(), values));
        });
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    })
}
fn learner() -> Learner {
    let task = Box::new(Classification::new(["a", "b"]).expect("two labels"));
    let head = task.head(backbone().model().info(), true);
    let adapter = parse("lora[r=1,attn_matrices=[q],leave_out=[0,1]]", &Fields::new()).expect("a string");
    let graft = Graft { name: "a".into(), adapter: Some(adapter), head, seed: 1, ..Graft::default() };
    backbone().learner(graft, task).expect("it fits the fixture")
}
fn go_on(state: &[u8]) -> engraft::Result<()> {
    let directory = directory();
    put(directory.path(), "state.safetensors", Some(state));
    let Some(from) = Saved::open(directory.path())? else { return Ok(()) };
    let example = |n: u32| Example::new(vec![n, 2], Reads::Summary, vec![n % 2]);
    let examples: Examples = (0..4).map(example).collect();
    let recipe = Recipe { batch: 2.into(), epochs: Some(3), patience: Some(2), ..Recipe::default() };
    let to = Directory::go_on(directory.path(), ("run.toml".into(), vec![]))?;
    let stop = AtomicBool::new(true);
    let mode = engraft::reports::progress::Mode::Quiet;
    let around = Around { mode, stop: Some(&stop), ..Around::default() };
    let entry = Entry { from: Some(from), ..Entry::new(recipe, to, learner()) };
    train(entry, &examples, None, around).map(drop)
}

/// The index of a cache, and its rows.
pub fn cache(input: &[u8]) -> bool {
    let [index, rows] = parts::<2>(input);
    let directory = directory();
    let open = || Prefix::open(directory.path(), &[], Precision::F32, (1, 32), Keeps::All, cpu());
    drop(open().expect("an empty cache"));
    let inside = fs::read_dir(directory.path()).expect("a directory").flatten().map(|e| e.path()).next();
    let inside = inside.expect("the directory of the setting");
    put(&inside, "index.safetensors", index);
    put(&inside, "rows", rows);
    computing(input, |_| {
        let Ok(cache) = open() else { return false };
        let (backbone, tokens) = (backbone(), Tokens::new(&[vec![1, 2], vec![3]]));
        for _ in 0..2 {
            let _ = cache.stream(backbone.model(), &tokens);
        }
        cache.seal().is_ok()
    })
}

/// What lies in a directory that somebody else left: parts, the first line of which is the path of
/// a file, of a directory (`NAME/`) or of a link to a directory or file that is not ours (`NAME@`,
/// `NAME*`). Whoever reads there, or writes, touches nothing outside of it.
pub fn commit(input: &[u8]) -> bool {
    let around = directory();
    let (ours, other) = (around.path().join("run"), around.path().join("other"));
    fs::create_dir_all(&ours).expect("a directory");
    fs::create_dir_all(&other).expect("a directory");
    fs::write(other.join("notes"), "mine").expect("a file");
    for part in parts::<16>(input).into_iter().flatten() {
        let line = part.split(|b| *b == b'\n').next().unwrap_or_default();
        let content = part.get(line.len() + 1..).unwrap_or_default();
        if let Ok(name) = std::str::from_utf8(line) {
            make(&ours, name, content, &other);
        }
    }
    let settings = || ("run.toml".to_string(), b"seed = 1\n".to_vec());
    drop(output::reading(&ours));
    drop(output::lock(&ours));
    if let Ok(mut run) = Directory::go_on(&ours, settings()) {
        let _ = run.save(None, &[("report.json".into(), vec![])], None, &["state.safetensors"]);
    }
    let begun = Directory::begin(&ours, settings());
    let taken = begun.and_then(|mut run| run.save(Some(&[("a".into(), vec![])]), &[], None, &[])).is_ok();
    let left = fs::read(other.join("notes"));
    assert!(left.is_ok_and(|bytes| bytes == b"mine"), "a file elsewhere was changed");
    assert_eq!(fs::read_dir(&other).expect("the directory").count(), 1, "a file was put elsewhere");
    assert_eq!(fs::read_dir(around.path()).expect("the directory").count(), 2, "a file was put elsewhere");
    taken
}

/// Makes one of them, as far as the file system can.
fn make(within: &Path, name: &str, content: &[u8], other: &Path) {
    let path = Path::new(name.trim_end_matches(['/', '@', '*']));
    let is_plain = path.components().all(|c| matches!(c, std::path::Component::Normal(_)));
    if !is_plain || path.as_os_str().is_empty() || name.contains('\0') || within.join(path).exists() {
        return;
    }
    let path = within.join(path);
    // not through a link that was made before
    if path.ancestors().take_while(|p| *p != within).any(|p| p.is_symlink()) {
        return;
    }
    let _ = fs::create_dir_all(path.parent().unwrap_or(within));
    let _ = match name.chars().last() {
        Some('/') => fs::create_dir_all(&path),
        Some('@') => std::os::unix::fs::symlink(other, &path),
        Some('*') => std::os::unix::fs::symlink(other.join("notes"), &path),
        _ => fs::write(&path, content),
    };
}
