use super::*;
use engraft::data::{Column, Documents, Header};
use engraft::run::schedule::Decay;

fn parse(text: &str) -> Options {
    Options::parse("run.toml", text).unwrap()
}

fn refused(text: &str) -> String {
    match Options::parse("run.toml", text) {
        Ok(options) => options.resolve().unwrap_err().to_string(),
        Err(error) => error.to_string(),
    }
}

/// Every option, with a value that is not the default; those that exclude each other are left to
/// others.
const ALL: &str = r#"
task = "tagging"
model = "m"
model-commit = "0123456789abcdef0123456789abcdef01234567"
backbone-dtype = "int8"
train = "t.tsv"
eval = "e.tsv"
out = "o"
text-column = "a"
text-pair-column = 3
label-column = "b"
header = "yes"
documents = "paragraphs"
quotes = "csv"
format = "jsonl"
stream = true
max-length = 64
backbone-compute = "int8-forward"
adapter = "scaled_par_bn"
name = "n"
reduction-factor = "8,0=4"
placement = "both"
non-linearity = "gelu"
adapter-dropout = 0.25
scaling = 2
ln-before = true
ln-after = false
adapter-init = "near-identity"
leave-out = "0-2"
adapter-drop = "1-3"
compat = "adapters-1.3.0"
head = "linear"
epochs = 5
max-steps = 100
batch-size = 8
gradient-accumulation = 2
lr = 1e-3
schedule = "cosine"
warmup-steps = 10
weight-decay = 0
adam-beta1 = 0.8
adam-beta2 = 0.99
adam-eps = 1e-6
clip = 0.0
dropout = 0
seed = 7
stream-buffer = 99
checkpoint-every = 20
eval-every = 50
eval-batch-size = 16
metric = "macro_f1"
patience = 2
activations = "bf16"
cache-dtype = "bf16"
threads = 2
device = "cuda"
profile = "p.json"
report = false
tensorboard = true
log-every = 5
json = true
quiet = true
"#;

#[test]
fn variants_have_what_is_their_own_and_the_rest_in_common() {
    let variants = "lr = 2e-3\nepochs = 9\nbottleneck = 8\nbatch-size = 4\n[variant.b]\nlr = 1e-3\nmax-steps = 7\n\
                    [variant.a]\nadapter = 'none'\nseed = 3";
    let settings = parse(variants).resolve().unwrap();
    let runs = settings.runs().unwrap();
    let [(Some(a), of_a), (Some(b), of_b)] = &runs[..] else { panic!("{runs:?}") };
    assert_eq!((a.as_str(), of_a.lr, of_a.epochs, of_a.bottleneck, of_a.seed), ("a", 2e-3, Some(9), None, 3));
    assert_eq!((b.as_str(), of_b.lr, of_b.epochs, of_b.max_steps), ("b", 1e-3, Some(9), Some(7)));
    assert_eq!(
        (of_b.bottleneck, of_b.batch_size, of_b.out.as_path()),
        (Some(8), Some(4), Path::new("engraft-out/b"))
    );
    // the file of all of them gives the same runs, those of each the same run
    let again = parse(&settings.to_toml()).resolve().unwrap();
    assert_eq!((&again, again.runs().unwrap()), (&settings, runs.clone()));
    for (_, run) in runs {
        assert_eq!(parse(&run.to_toml()).resolve().unwrap(), run);
    }
    assert!(Options::parse("x.toml", "[variant.'a/b']\nlr = 1").unwrap_err().to_string().contains("a/b"));
    assert!(parse("variant = {}").resolve().unwrap_err().to_string().contains("`variant`"));
}

#[test]
fn run_toml_reads_every_option_and_reproduces_the_run() {
    let settings = parse(ALL).resolve().unwrap();
    assert_eq!(settings.adapter, Some(AdapterChoice::Of("scaled_par_bn".into())));
    assert_eq!(settings.reduction_factor.as_ref().unwrap().layers[&0], 4.0);
    assert_eq!(settings.scaling, Some(ScalingChoice::Fixed(2.0)));
    assert_eq!(
        (settings.header, settings.metric.as_deref(), settings.schedule),
        (Header::Yes, Some("macro_f1"), Decay::Cosine)
    );
    assert_eq!((settings.task.as_deref(), settings.documents), (Some("tagging"), Documents::Paragraphs));
    assert_eq!(settings.columns().pair, Some(Column::Index(3)));
    assert_eq!((settings.weight_decay, settings.dropout, settings.clip), (0.0, Some(0.0), 0.0));
    assert_eq!(settings.warmup(), Warmup::Steps(10));
    let given = toml::from_str::<toml::Table>(ALL).unwrap();
    let missing: Vec<String> =
        Options::keys().into_iter().filter(|key| !given.contains_key(key.as_str())).collect();
    assert_eq!(
        missing,
        [
            "pair-separator",
            "label-separator",
            "skip-unlabelled",
            "scheme-from",
            "scheme-to",
            "strict",
            "source-prefix",
            "prompt-template",
            "blocks",
            "mlm-probability",
            "whole-words",
            "group-targets",
            "max-target-length",
            "label-smoothing",
            "threshold",
            "doc-stride",
            "n-best",
            "max-answer-length",
            "null-score-diff-threshold",
            "version-2",
            "init",
            "adapters",
            "setup",
            "fusion",
            "joint",
            "bottleneck",
            "layers",
            "batch-tokens",
            "warmup-ratio",
            "no-shuffle",
            "cache-prefix",
            "teacher",
            "teacher-model",
            "distill-alpha",
            "distill-temperature",
            "distill-hidden",
            "distill-hidden-weight",
            "predict-with-generate",
            "num-beams",
            "max-new-tokens",
            "memory-budget",
            "variant",
            "adapter-column",
            "folds",
            "group-column",
            "fold",
            "seeds",
            "curve",
            "train-examples",
            "tasks",
            "shared",
            "sampling",
            "order",
            "ewc",
            "fisher-examples",
            "ewc-from",
            "replay",
            "replay-share",
            "replay-from",
            "task-weight",
        ],
        "the others are in ALL"
    );
    for settings in [settings, Settings::default()] {
        assert_eq!(parse(&settings.to_toml()).resolve().unwrap(), settings);
    }
    let layers = parse("layers = \"1,3\"\nbottleneck = 8\nscaling = 0.5\nreduction-factor = 2.5\n");
    assert_eq!(parse(&toml::to_string(&layers).unwrap()), layers);
}

#[test]
fn data_are_one_file_or_several() {
    let paths = |line: &str| parse(line).resolve().unwrap();
    let (one, two) = (paths("train = \"a.tsv\""), paths("train = [\"a.tsv\", \"b.csv\"]"));
    assert_eq!((one.train.clone().unwrap().len(), two.train.clone().unwrap().len()), (1, 2));
    assert!(one.to_toml().contains("train = \"a.tsv\"\n"));
    for settings in [one, two] {
        assert_eq!(paths(&settings.to_toml()), settings);
    }
    assert!(refused("epochs = 1\ntrain = 3\n").starts_with("run.toml:2: it is a path or a list of paths"));
    assert_eq!(refused("format = \"csv\""), "`format` needs `train`");
}

#[test]
fn what_is_saved_is_not_described_anew() {
    for (line, option) in [("adapter = \"houlsby\"", "adapter"), ("bottleneck = 8", "bottleneck")] {
        let error = refused(&format!("init = \"i\"\n{line}"));
        assert!(error.contains("`init`") && error.contains(&format!("`{option}`")), "{error}");
    }
    let presets = parse("adapter = \"houlsby\"\nbottleneck = 8\nname = \"n\"");
    let over = parse("init = \"i\"").over(presets.clone()).resolve().unwrap();
    assert_eq!((over.adapter, over.bottleneck, over.name), (None, None, None));
    assert_eq!(presets.over(parse("init = \"i\"")).resolve().unwrap().init, None);
    assert!(parse("init = \"i\"\nadapter = \"full\"").resolve().is_ok());
    let anew = parse("head = \"linear\"").over(parse("init = \"i\"")).resolve().unwrap();
    assert!(anew.init.is_some() && anew.head.is_some(), "a new head on a saved adapter");
}

#[test]
fn defaults() {
    let settings = Settings::default();
    assert_eq!((settings.epochs, settings.max_steps), (Some(3), None));
    assert_eq!(
        (settings.adapter.clone().unwrap().to_string(), settings.lr, settings.seed),
        ("houlsby".into(), 5e-4, 42)
    );
    assert_eq!((settings.warmup(), settings.batch()), (Warmup::Ratio(0.06), BatchSize::Examples(32)));
    assert_eq!(parse("adapter = \"full\"").resolve().unwrap().lr, 5e-5);
    assert_eq!(parse("init = \"x\"").resolve().unwrap().adapter, None);
    let steps = parse("max-steps = 100").resolve().unwrap();
    assert_eq!(steps.epochs, None, "steps alone are not cut by the default");
}

#[test]
fn the_higher_wins() {
    let file = parse("lr = 0.1\nreduction-factor = 8\nepochs = 9");
    let flags = Options { lr: Some(0.2), bottleneck: Some(4), ..Options::default() };
    let settings = flags.over(file).resolve().unwrap();
    assert_eq!((settings.lr, settings.epochs), (0.2, Some(9)));
    assert_eq!(
        (settings.bottleneck, settings.reduction_factor),
        (Some(4), None),
        "one took the other's place"
    );
    let flags = Options { layers: Some("1".parse().unwrap()), warmup_steps: Some(3), ..Options::default() };
    let settings = flags.over(parse("leave-out = 2\nwarmup-ratio = 0.1")).resolve().unwrap();
    assert_eq!((settings.leave_out, settings.warmup_ratio), (None, None));
    let flags = Options { batch_tokens: Some(500), ..Options::default() };
    let settings = flags.over(parse("batch-size = 4")).resolve().unwrap();
    assert_eq!((settings.batch(), settings.batch_size), (BatchSize::Tokens(500), None));
    assert_eq!(parse(&settings.to_toml()).resolve().unwrap(), settings);
    let file = || parse("stream = true\nstream-buffer = 8");
    let settings = parse("no-shuffle = true").over(file()).resolve().unwrap();
    assert_eq!((settings.stream, settings.stream_buffer, settings.no_shuffle), (true, None, true));
    assert!(!parse("stream = false").over(file()).resolve().unwrap().stream);
    // A run with an adapter, repeated without: nothing of the adapter's shape is left.
    let bare = Options { adapter: Some(AdapterChoice::None), ..Options::default() };
    let bare = bare.over(parse(ALL)).resolve().unwrap();
    assert_eq!((bare.adapter.clone(), bare.batch()), (Some(AdapterChoice::None), BatchSize::Examples(8)));
    assert_eq!(bare.backbone_dtype, Some(BackboneDtype::Int8));
    // And with the whole backbone, which is not frozen any more.
    let full = Options { adapter: Some(AdapterChoice::Full), ..Options::default() };
    assert_eq!(full.over(parse(ALL)).resolve().unwrap().backbone_dtype, None);
}

#[test]
fn what_trains_computes_in_f32() {
    for compute in ["int8", "int8-forward"] {
        let line = format!("backbone-compute = \"{compute}\"");
        let error = refused(&format!("adapter = \"full\"\n{line}"));
        assert!(error.starts_with(&format!("`backbone-compute` cannot be {compute}: ")), "{error}");
        assert!(error.contains("what trains is computed in f32"), "{error}");
        // the higher wins
        let full = parse("adapter = \"full\"").over(parse(&line)).resolve().unwrap();
        assert_eq!(full.backbone_compute, BackboneCompute::F32);
    }
    assert!(parse("adapter = \"full\"\nbackbone-compute = \"f32\"").resolve().is_ok());
}

#[test]
fn products_in_integers_read_weights_in_int8() {
    for (dtype, goes) in [("f32", true), ("int8", true), ("bf16", false), ("f16", false), ("nf4", false)] {
        let lines = [format!("backbone-dtype = \"{dtype}\""), "backbone-compute = \"int8\"".into()];
        let together = parse(&lines.join("\n")).resolve();
        assert_eq!(together.is_ok(), goes, "{dtype}");
        if let Err(e) = together {
            let e = e.to_string();
            assert!(
                e.contains("`backbone-compute` cannot be int8") && e.contains(&format!("is {dtype}, ")),
                "{e}"
            );
        }
        // the higher takes the other's place
        let [dtype, compute] = lines.map(|l| parse(&l));
        let kept = dtype.clone().over(compute.clone()).resolve().unwrap();
        assert_eq!(
            (kept.backbone_compute == BackboneCompute::Int8, kept.backbone_dtype),
            (goes, dtype.backbone_dtype)
        );
        let kept = compute.over(dtype).resolve().unwrap();
        assert_eq!((kept.backbone_dtype.is_some(), kept.backbone_compute), (goes, BackboneCompute::Int8));
    }
}

#[test]
fn bad_files_are_named_by_line() {
    let first = refused("lr = 1e-3\n\nbatch_size = 4\n");
    assert_eq!(first, "run.toml:3: unknown key `batch_size`; did you mean `batch-size`?");
    assert!(refused("rank = 8\n").starts_with("run.toml:1: unknown key `rank`; the keys are task, model, "));
    let first = refused("epochs = 1\nadapter = \"lor\"\n");
    assert!(
        first.starts_with("run.toml:2: `lor` is not the name of a method; there are `houlsby`"),
        "{first}"
    );
    let first = refused("epochs = 1\nschedule = \"x\"\n");
    assert_eq!(first, "run.toml:2: `x` is none of linear, cosine, constant");
    assert!(refused("epochs = 1\nlr = \"fast\"\n").starts_with("run.toml:2: "));
    assert!(refused("epochs = -1\n").starts_with("run.toml:1: "));
    assert!(refused("epochs = 1\nlr = \n").starts_with("run.toml:2: "));
    assert!(refused("lr = 1e-3\nlr = 1e-3\n").starts_with("run.toml:2: "));
    assert!(refused("layers = \"a\"\n").contains("are no layers"));
    let error = Options::read("no/run.toml").unwrap_err().to_string();
    assert!(error.starts_with("cannot read no/run.toml: "), "{error}");
}

#[test]
fn values_out_of_range_are_named() {
    for bad in [
        "lr = 0.0",
        "lr = -1e-3",
        "lr = nan",
        "lr = inf",
        "dropout = 1.0",
        "dropout = -0.1",
        "clip = -1",
        "adapter-dropout = 1.5",
        "batch-size = 0",
        "batch-tokens = 0",
        "stream = true\nstream-buffer = 0",
        "eval-batch-size = 0",
        "gradient-accumulation = 0",
        "max-length = 0",
        "bottleneck = 0",
        "epochs = 0",
        "max-steps = 0",
        "eval-every = 0",
        "patience = 0",
        "log-every = 0",
        "weight-decay = -1",
        "adam-beta1 = 1",
        "adam-beta2 = 2",
        "adam-eps = 0",
        "warmup-ratio = 1.5",
        "name = \"a/b\"",
        "name = \"\"",
        "out = \"\"",
    ] {
        let option = bad.lines().last().and_then(|line| line.split(' ').next()).unwrap();
        let error = refused(bad);
        assert!(error.starts_with(&format!("`{option}` cannot be ")), "{bad}: {error}");
    }
    let seed = Options { seed: Some(u64::MAX), ..Options::default() };
    assert!(seed.resolve().unwrap_err().to_string().starts_with("`seed` cannot be "));
}

#[test]
fn options_that_exclude_each_other_are_named() {
    let expected = "`bottleneck` and `reduction-factor` exclude each other: give one of them";
    assert_eq!(refused("bottleneck = 8\nreduction-factor = 2"), expected);
    assert!(refused("warmup-ratio = 0.1\nwarmup-steps = 2").contains("exclude"));
    assert!(refused("layers = 1\nleave-out = 2").contains("exclude"));
    let expected = "`batch-size` and `batch-tokens` exclude each other: give one of them";
    assert_eq!(refused("batch-size = 8\nbatch-tokens = 99"), expected);
    assert_eq!(refused("eval = \"e.tsv\""), "`eval` needs `train`");
    assert_eq!(refused("train = \"t.tsv\"\npatience = 2"), "`patience` needs `eval`");
    assert_eq!(refused("stream-buffer = 8"), "`stream-buffer` needs `stream`");
    assert_eq!(refused("stream = false\nstream-buffer = 8"), "`stream-buffer` needs `stream`");
    let both = refused("stream = true\nstream-buffer = 8\nno-shuffle = true");
    assert_eq!(both, "`no-shuffle` and `stream-buffer` exclude each other: give one of them");
    assert!(refused("stream = true\ncache-prefix = \"c\"").contains("`stream` and `cache-prefix` exclude"));
    assert_eq!(refused("label-column = 1"), "`label-column` needs `train`");
    assert_eq!(refused("model-commit = \"0\""), "`model-commit` needs `model`");
    assert!(refused("adapter = \"none\"\nbottleneck = 8").contains("`adapter` is none"));
    for dtype in ["bf16", "f16", "int8", "nf4"] {
        let error = refused(&format!("adapter = \"full\"\nbackbone-dtype = \"{dtype}\""));
        assert!(error.starts_with(&format!("`backbone-dtype` cannot be {dtype}: ")), "{error}");
    }
    assert!(parse("adapter = \"full\"\nbackbone-dtype = \"f32\"").resolve().is_ok());
}
