//! Running the program as a user does: in a directory of its own, on small files.
#![allow(dead_code)] // each test file uses its part

use engraft::engine::Checkpoint;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

/// Flags of a run that is short and the same every time it is run.
pub const SHORT: &str = "--max-steps 2 --batch-size 4 --warmup-ratio 0 --max-length 24 --lr 1e-3";
/// What `engraft train` leaves.
pub const LEFT: [&str; 6] = [
    "adapter.safetensors",
    "adapter_config.json",
    "head_config.json",
    "model_head.safetensors",
    "report.json",
    "run.toml",
];
/// Reports that say besides what a run came to, and when or where: [`Work::names`] and
/// [`Work::files`] leave them out.
pub const REPORTS: [&str; 6] = [
    "README.md",
    "all_results.json",
    "eval_results.json",
    "report.html",
    "train_results.json",
    "trainer_state.json",
];

/// The built-in backbone, unpacked once for all tests.
pub fn backbone() -> &'static Path {
    static AT: OnceLock<PathBuf> = OnceLock::new();
    AT.get_or_init(|| engraft::demo::unpack_backbone(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap())
}
/// `tests/fixtures/bert/<name>` of the workspace.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/bert").join(name)
}

/// A directory that the program works in.
pub struct Work(tempfile::TempDir);

impl Work {
    pub fn empty() -> Work {
        Work(tempfile::tempdir().unwrap())
    }
    /// With `train.tsv` and `eval.tsv`.
    pub fn new() -> Work {
        let work = Work::empty();
        work.write("train.tsv", table("\t", &TRAIN)).write("eval.tsv", table("\t", &EVAL));
        work
    }
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> &Work {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }
    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }
    pub fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).unwrap()
    }
    /// A copy of a directory, under `name`.
    pub fn copy(&self, from: &Path, name: &str) -> &Work {
        for (file, bytes) in files(from) {
            self.write(&format!("{name}/{file}"), bytes);
        }
        self
    }
    /// Changes one file.
    pub fn edit(&self, name: &str, edit: impl FnOnce(&mut Vec<u8>)) -> &Work {
        let mut bytes = self.read(name);
        edit(&mut bytes);
        self.write(name, bytes)
    }
    /// The files of a directory, by name, without [`REPORTS`].
    pub fn files(&self, name: &str) -> BTreeMap<String, Vec<u8>> {
        files(&self.path(name))
    }
    /// The names in a directory, without hidden ones and [`REPORTS`]; none if it is not there.
    pub fn names(&self, name: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path(name)) else { return vec![] };
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| !name.starts_with('.') && !REPORTS.contains(&name.as_str()));
        names.sort();
        names
    }
    /// A command line, in which `MODEL` is the built-in backbone and `FIXTURES` the directory of
    /// fixtures.
    pub fn run(&self, line: &str) -> Ran {
        self.run_with(line, &[])
    }
    /// The same with more arguments, which may have spaces in them.
    pub fn run_with(&self, line: &str, more: &[&str]) -> Ran {
        Ran::of(self.arguments(line).args(more))
    }
    /// The program with the arguments of a command line, not yet run.
    pub fn arguments(&self, line: &str) -> Command {
        let mut command = self.command();
        command.args(words(line));
        command
    }
    /// The program, in this directory.
    pub fn command(&self) -> Command {
        self.inside(Command::new(env!("CARGO_BIN_EXE_engraft")))
    }
    /// A shell script in this directory, in which `engraft` is the program.
    pub fn shell(&self, script: &str) -> Ran {
        let mut command = self.inside(Command::new("sh"));
        let script =
            words(script).join(" ").replace("engraft ", &format!("{} ", env!("CARGO_BIN_EXE_engraft")));
        Ran::of(command.args(["-c", &script]))
    }
    fn inside(&self, mut command: Command) -> Command {
        command.current_dir(self.0.path()).env("RUST_BACKTRACE", "1");
        command
    }
    /// [`train`]; it must succeed. Returns the report.
    #[track_caller]
    pub fn train(&self, flags: &str) -> Value {
        self.run(&train(flags)).json()
    }
    /// `engraft eval` on `eval.tsv`; it must succeed. Returns the metrics.
    #[track_caller]
    pub fn eval(&self, adapter: &str) -> Value {
        self.run(&format!("eval --model MODEL --adapter {adapter} --data eval.tsv --json")).evaluation()
    }
    /// A safetensors file.
    pub fn tensors(&self, name: &str) -> Tensors {
        tensors(&self.path(name))
    }
}
/// The command line of a short run; of flags that are given here the default goes.
pub fn train(flags: &str) -> String {
    let mut line = format!("train --json --quiet {flags}");
    let default = format!("--model MODEL --train train.tsv {SHORT}");
    for pair in default.split(' ').collect::<Vec<_>>().chunks(2) {
        if !flags.split_whitespace().any(|f| f == pair[0]) {
            line += &format!(" {} {}", pair[0], pair[1]);
        }
    }
    line
}
fn words(line: &str) -> Vec<String> {
    let word = |w: &str| match w {
        "MODEL" => backbone().display().to_string(),
        w => w.replace("FIXTURES", &fixture("").display().to_string()),
    };
    line.split_whitespace().map(word).collect()
}
/// The files of a directory, by name, without [`REPORTS`].
pub fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let one = |e: std::fs::DirEntry| (e.file_name().into_string().unwrap(), std::fs::read(e.path()).unwrap());
    let mut files: BTreeMap<_, _> =
        entries.map(Result::unwrap).filter(|e| e.path().is_file()).map(one).collect();
    files.retain(|name, _| !REPORTS.contains(&name.as_str()));
    files
}

/// Texts with labels; no two of them are alike.
pub type Texts = [(&'static str, &'static str)];
pub const TRAIN: [(&str, &str); 8] = [
    ("The train was on time and the seat was comfortable.", "good"),
    ("Nobody answered and the lift was broken again.", "bad"),
    ("A lovely ride along the river.", "good"),
    ("It was dirty, loud and late.", "bad"),
    ("The staff were kind to everyone on board, even at night.", "good"),
    ("I will never buy this ticket again.", "bad"),
    ("Great coffee!", "good"),
    ("The heating failed and we froze for three hours.", "bad"),
];
pub const EVAL: [(&str, &str); 5] = [
    ("The guard was kind and the coach was clean.", "good"),
    ("We were late and nobody told us why.", "bad"),
    ("Lovely coffee.", "good"),
    ("The window was broken.", "bad"),
    ("A comfortable seat and a quiet night.", "good"),
];
/// A table with a header.
pub fn table(separator: &str, texts: &Texts) -> String {
    let quote = |text: &str| if separator == "," { format!("\"{text}\"") } else { text.to_string() };
    let rows = texts.iter().map(|(text, label)| format!("{}{separator}{label}\n", quote(text)));
    format!("text{separator}label\n{}", rows.collect::<String>())
}

/// A small GPT-2 with random weights in `gpt`, with a tokenizer of 90 words, and texts.
pub fn language_model(work: &Work) {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/gpt2/model");
    let vocab: serde_json::Map<_, _> =
        (0..90).map(|i| (if i == 0 { "<|endoftext|>".into() } else { format!("w{i}") }, json!(i))).collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": { "type": "WhitespaceSplit" }, "post_processor": null, "decoder": null,
        "model": { "type": "WordLevel", "vocab": vocab, "unk_token": "<|endoftext|>" },
    });
    work.copy(&model, "gpt").write("gpt/tokenizer.json", tokenizer.to_string());
    let line = |i: usize| (0..7).map(|j| format!("w{} ", 1 + (3 * i + j) % 9)).collect::<String>() + "\n";
    work.write("text.txt", (0..40).map(line).collect::<String>());
    work.write("held-out.txt", (40..50).map(line).collect::<String>());
}

/// What a run of the program left behind.
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn of(command: &mut Command) -> Ran {
        Ran::from(command.output().unwrap())
    }
    pub fn from(Output { status, stdout, stderr }: Output) -> Ran {
        let text = |bytes| String::from_utf8(bytes).expect("what is printed is UTF-8");
        let ran = Ran { code: status.code(), stdout: text(stdout), stderr: text(stderr) };
        for word in ["panicked", "backtrace", ".rs:"] {
            assert!(!ran.stderr.contains(word), "{}", ran.stderr);
        }
        ran
    }
    /// It must have succeeded.
    #[track_caller]
    pub fn good(self) -> Ran {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self
    }
    /// It must have succeeded, and its last line of stdout is one JSON object.
    #[track_caller]
    pub fn json(self) -> Value {
        let ran = self.good();
        let last = ran.stdout.lines().last().unwrap_or_default();
        let json: Value = serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {last}"));
        assert!(json.is_object(), "{last}");
        json
    }
    /// It must have been an evaluation: what [`Ran::json`] gives without the time and memory it
    /// took.
    #[track_caller]
    pub fn evaluation(self) -> Value {
        let mut json = self.json();
        let object = json.as_object_mut().unwrap_or_else(|| unreachable!("an object"));
        for key in ["seconds", "tokens", "tokens_per_second", "peak_rss_bytes"] {
            let value = object.remove(key).unwrap_or_else(|| panic!("no {key}"));
            assert!(value.as_f64().is_some_and(|v| v > 0.0) || !cfg!(target_os = "linux"), "{key}: {value}");
        }
        json
    }
    /// It must have failed with the code 1, and its last line of stderr is an error that says all
    /// of `words`.
    #[track_caller]
    pub fn fails(self, words: &[&str]) {
        assert_eq!(self.code, Some(1), "{words:?}: {}{}", self.stdout, self.stderr);
        let last = self.stderr.lines().last().unwrap_or_default();
        assert!(last.starts_with("error: "), "{}", self.stderr);
        assert!(last.matches("(os error").count() < 2, "{last}");
        words.iter().for_each(|w| assert!(last.contains(w), "`{last}` does not say `{w}`"));
    }
    /// The command line itself must have been refused.
    #[track_caller]
    pub fn misused(self, words: &[&str]) {
        assert_eq!(self.code, Some(2), "{}", self.stderr);
        words.iter().for_each(|w| assert!(self.stderr.contains(w), "`{}` does not say `{w}`", self.stderr));
    }
}

/// Tensors by name.
pub type Tensors = BTreeMap<String, Vec<f32>>;
/// All of a safetensors file that are floating-point numbers.
pub fn tensors(path: &Path) -> Tensors {
    let file = Checkpoint::open(path).unwrap();
    let one = |n: &str| Some((n.to_string(), file.values(n, file.shape(n)?).ok()?));
    file.names().filter_map(one).collect()
}
/// max |a - b| over the largest |b|.
#[track_caller]
pub fn difference(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let top = b.iter().fold(1e-30f64, |m, x| m.max(f64::from(x.abs())));
    a.iter().zip(b).fold(0.0, |m, (a, b)| {
        let d = f64::from((a - b).abs()) / top;
        if d.is_nan() { f64::INFINITY } else { d.max(m) }
    })
}

/// A number in a report.
pub fn number(v: &serde_json::Value) -> f64 {
    v.as_f64().unwrap_or_else(|| panic!("{v} is no number"))
}
