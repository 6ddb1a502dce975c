//! Arguments that several commands share.
use std::path::PathBuf;

use clap::Args;

use crate::program::choose::one_of;
use crate::program::options::{
    AdapterDtype, BackboneCompute, BackboneDtype, Backend, CompatChoice, Composed, Layers, MODEL, Options,
};
use engraft::adapters::Setup;
use engraft::data::{Column, Documents, Header, Quotes};
use engraft::learner::Learner;
use engraft::reports::scores::schemes::Scheme;
use engraft::tasks::Blocks;
use engraft::text::batch::BatchSize;

/// How the backbone is stored in memory, and how it computes.
#[derive(Debug, Clone, Default, Args)]
pub struct StorageArgs {
    /// What the frozen backbone's matrices are stored as; as in the run.toml beside the adapter if
    /// there is one and nothing is given, else as its files have them
    #[arg(long, value_name = "TYPE", value_parser = one_of::<BackboneDtype>())]
    pub backbone_dtype: Option<BackboneDtype>,
    /// How the products with the frozen backbone are computed; as in the run.toml beside the
    /// adapter if there is one and nothing is given, else f32
    #[arg(long, value_name = "HOW", value_parser = one_of::<BackboneCompute>())]
    pub backbone_compute: Option<BackboneCompute>,
}

impl StorageArgs {
    /// As options of training.
    pub fn options(&self) -> Options {
        let StorageArgs { backbone_dtype, backbone_compute } = *self;
        Options { backbone_dtype, backbone_compute, ..Options::default() }
    }
}

/// The model and what is grafted on it.
#[derive(Debug, Clone, Args)]
#[command(group = clap::ArgGroup::new("answering").args(["adapter", "adapter_column", "route"]))]
pub struct Grafted {
    /// The backbone: a directory with config.json, a tokenizer and model.safetensors, or a model of
    /// the Hugging Face hub
    #[arg(long, value_name = MODEL)]
    pub model: PathBuf,
    /// How it is stored.
    #[command(flatten)]
    pub stored: StorageArgs,
    /// The adapter and the head: a directory that `engraft train`, AdapterHub's `adapters` or PEFT
    /// wrote; none for the backbone alone, where a --task goes without them
    #[arg(long, value_name = "DIR", required_unless_present_any = ["task", "adapter_column", "route"])]
    pub adapter: Option<PathBuf>,
    /// What is learned; as its head or the run.toml beside the adapter says if not given
    #[arg(long, value_name = "TASK")]
    pub task: Option<String>,
    /// Of several adapters only these, by their names. With --adapter-column and --route saved adapters:
    /// directories, each perhaps with another name as in NAME=DIR, and directories that hold many,
    /// each by the name of its folder
    #[arg(long, value_name = "NAMES", num_args = 1.., requires = "answering")]
    pub adapters: Vec<String>,
    /// The column that names the adapter of each row: one of --adapters. They answer in mixed
    /// batches, each as by itself
    #[arg(long, value_name = "COLUMN", requires = "adapters")]
    pub adapter_column: Option<Column>,
    /// A router that `engraft route` made: it says of each text which of --adapters answers, by the
    /// names of its tasks. They answer in mixed batches, each as by itself; of a text that is like
    /// none of the tasks nothing is said (predict)
    #[arg(long, value_name = "DIR", requires = "adapters", conflicts_with = "task")]
    pub route: Option<PathBuf>,
    /// With --adapter-column: what the matrices of the adapters are held in; bf16 takes half the
    /// bytes, and rounds them
    #[arg(long, value_name = "TYPE", value_parser = one_of::<AdapterDtype>(), default_value = "f32", requires = "adapter_column")]
    pub adapter_dtype: AdapterDtype,
    /// The adapters put together in another way, as --setup of `engraft train` takes it. Of a
    /// `Parallel(a, b, None)` each member answers, with the head that was saved (eval, predict)
    #[arg(long, value_name = "SETUP", requires = "adapter", conflicts_with = "adapters")]
    pub setup: Option<Composed>,
    /// Layers whose adapters do not answer, counted from 0, as in `0-2,5` (AdapterDrop)
    #[arg(long, value_name = "LAYERS", requires = "adapter")]
    pub skip_layers: Option<Layers>,
    /// Compute compositions as a library does where it is not what it documents; as in the run.toml
    /// beside the adapter if not given
    #[arg(long, value_parser = one_of::<CompatChoice>(), requires = "adapter")]
    pub compat: Option<CompatChoice>,
}
impl Grafted {
    /// The answers that the setup gives for each text if it gives several, and with the first of
    /// them these arguments.
    pub fn in_turn(&self) -> engraft::Result<(Self, Vec<Setup>)> {
        let given = self.setup.as_ref().map(|Composed(setup)| setup.answers()).transpose()?;
        let answers = given.filter(|answers| answers.len() > 1).unwrap_or_default();
        let first = answers.first().cloned().map(Composed);
        Ok((Self { setup: first.or_else(|| self.setup.clone()), ..self.clone() }, answers))
    }
    /// Puts together what was saved as the arguments say.
    pub fn compose(&self, learner: &mut Learner) -> engraft::Result<()> {
        if let Some(Composed(setup)) = &self.setup {
            learner.set_setup(setup.clone())?;
        }
        if !self.adapters.is_empty() {
            let names: Vec<&str> = self.adapters.iter().flat_map(|names| names.split(',')).collect();
            learner.set_setup(learner.setup().only(&names)?)?;
        }
        let layers = learner.backbone().model().info().layers;
        learner.skip_layers(skipped(self.skip_layers.as_ref(), layers)?)?;
        Ok(())
    }
}

/// These layers of a model that has so many.
pub fn skipped(layers: Option<&Layers>, all: usize) -> engraft::Result<Vec<usize>> {
    let Some(layers) = layers else { return Ok(vec![]) };
    if layers.last() >= all {
        let value = format!("layer {}", layers.last());
        let why = format!("the model has {all} layers, counted from 0");
        return Err(engraft::Error::Option { option: "skip-layers", value, why });
    }
    Ok((0..all).filter(|l| layers.contains(*l)).collect())
}

/// How to run and what to print.
#[derive(Debug, Args)]
#[command(next_help_heading = "Machine and output")]
pub struct RunArgs {
    /// Threads to use; 0 for one per core
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
    /// Where to compute
    #[arg(long, value_parser = one_of::<Backend>(), default_value = "cpu")]
    pub device: Backend,
    /// End with one JSON object on the last line of stdout
    #[arg(long)]
    pub json: bool,
    /// Show no progress
    #[arg(long)]
    pub quiet: bool,
}

/// How labels are read, and what counts as right.
#[derive(Debug, Args)]
#[command(next_help_heading = "Data")]
pub struct Labels {
    /// The column of the label or of the words' labels
    #[arg(long, value_name = "COLUMN")]
    pub label_column: Option<Column>,
    /// Leave out texts whose label is empty, null or -1, and say how many there are
    #[arg(long)]
    pub skip_unlabelled: bool,
    /// The scheme in which words are tagged, where --scheme-to asks for another one; as in the
    /// run.toml beside the adapter if not given
    #[arg(long, value_name = "SCHEME", requires = "scheme_to")]
    pub scheme_from: Option<Scheme>,
    /// The scheme in which the tags of words were learned
    #[arg(long, value_name = "SCHEME", requires = "scheme_from")]
    pub scheme_to: Option<Scheme>,
    /// Count entities strictly in a scheme (tagging): what breaks it is no entity; as in the run.toml
    /// beside the adapter if not given
    #[arg(long, value_name = "SCHEME")]
    pub strict: Option<Scheme>,
}

impl Labels {
    /// Added to options of training.
    pub fn over(&self, options: Options) -> Options {
        Options {
            label_column: self.label_column.clone(),
            skip_unlabelled: self.skip_unlabelled.then_some(true),
            scheme_from: self.scheme_from,
            scheme_to: self.scheme_to,
            strict: self.strict,
            ..options
        }
    }
}

/// How texts are read.
#[derive(Debug, Args)]
#[command(next_help_heading = "Data")]
pub struct Reading {
    /// The column of the text, of the words or of the sources, by name or counted from 0; that of
    /// training, or found by its usual name, if not given
    #[arg(long, value_name = "COLUMN", visible_alias = "source-column")]
    pub text_column: Option<Column>,
    /// The second text's column, for pairs; that of training if not given
    #[arg(long, value_name = "COLUMN")]
    pub text_pair_column: Option<Column>,
    /// Whether the first row of a .tsv or .csv file names the columns
    #[arg(long, value_parser = one_of::<Header>())]
    pub header: Option<Header>,
    /// Where a document of a .txt file ends; as in the run.toml beside the adapter if not given,
    /// else with its line
    #[arg(long, value_parser = one_of::<Documents>())]
    pub documents: Option<Documents>,
    /// What quotes mean in a .tsv file; as in the run.toml beside the adapter if not given, else
    /// literal
    #[arg(long, value_parser = one_of::<Quotes>())]
    pub quotes: Option<Quotes>,
    /// What is put between the texts of a pair, which are one text then; as in the run.toml beside
    /// the adapter if not given
    #[arg(long, value_name = "TEXT")]
    pub pair_separator: Option<String>,
    /// What stands between the labels in a cell (multi-label); as in the run.toml beside the adapter
    /// if not given, else `|`
    #[arg(long, value_name = "TEXT")]
    pub label_separator: Option<String>,
    /// How files are written, by an extension that stands for it as in `jsonl`; as their names say
    /// if not given
    #[arg(long, value_name = "EXTENSION")]
    pub format: Option<String>,
    /// The most tokens of a sequence; as in the run.toml beside the adapter if not given, else 128
    #[arg(long, value_name = "N")]
    pub max_length: Option<usize>,
    /// What stands in front of every source (seq2seq); as in the run.toml beside the adapter if not
    /// given
    #[arg(long, value_name = "TEXT")]
    pub source_prefix: Option<String>,
    /// What a language model goes on from (causal-lm): a text with {source} in it; as in the
    /// run.toml beside the adapter if not given
    #[arg(long, value_name = "TEXT")]
    pub prompt_template: Option<String>,
    /// How documents become the sequences of causal-lm; as in the run.toml beside the adapter if not
    /// given, else one stream
    #[arg(long, value_parser = one_of::<Blocks>())]
    pub blocks: Option<Blocks>,
    /// The share of tokens that masked-lm hides, or of words with --whole-words; as in the run.toml
    /// beside the adapter if not given, else 0.15
    #[arg(long, value_name = "SHARE")]
    pub mlm_probability: Option<f64>,
    /// Hide all tokens of a word together (masked-lm); as in the run.toml beside the adapter if not
    /// given
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub whole_words: Option<bool>,
    /// Rows that follow each other with the same source have one answer, which is compared with the
    /// targets of all of them; as in the run.toml beside the adapter if not given
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub group_targets: Option<bool>,
    /// The most tokens of a target; as in the run.toml beside the adapter if not given, else 128, and
    /// of a prompted causal-lm at most half of --max-length
    #[arg(long, value_name = "N")]
    pub max_target_length: Option<usize>,
    /// How probable a label must be to be predicted (multi-label); as in the run.toml beside the
    /// adapter if not given, else 0.5
    #[arg(long, value_name = "P")]
    pub threshold: Option<f64>,
    #[command(flatten)]
    pub extracting: Extracting,
    /// Texts in a batch [default: 64]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub batch_size: Option<usize>,
    /// Instead: tokens in a batch at most; a longer text is a batch of its own
    #[arg(long, value_name = "N", value_parser = at_least_one, conflicts_with = "batch_size")]
    pub batch_tokens: Option<usize>,
}

/// How answers are found in texts (question-answering); as in the run.toml beside the adapter if not
/// given.
#[derive(Debug, Args)]
pub struct Extracting {
    /// How many tokens windows of a text share that follow each other (question-answering); a third
    /// of --max-length if nothing says so
    #[arg(long, value_name = "N")]
    pub doc_stride: Option<usize>,
    /// How many answers are kept of a question (question-answering), else 20
    #[arg(long, value_name = "N")]
    pub n_best: Option<usize>,
    /// The most tokens of an answer (question-answering), else 30
    #[arg(long, value_name = "N")]
    pub max_answer_length: Option<usize>,
    /// By how much "no answer" must be better than the best answer to be given (question-answering),
    /// else 0
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub null_score_diff_threshold: Option<f64>,
    /// Questions may have no answer, as in SQuAD 2.0 (question-answering); an evaluation finds it in
    /// its data if nothing says so
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          hide_possible_values = true)]
    pub version_2: Option<bool>,
}

impl Reading {
    /// How much a batch holds.
    pub fn batch(&self) -> BatchSize {
        match self.batch_tokens {
            Some(n) => BatchSize::Tokens(n),
            None => BatchSize::Examples(self.batch_size.unwrap_or(64)),
        }
    }
    /// As options of training.
    pub fn options(&self) -> Options {
        Options {
            text_column: self.text_column.clone(),
            text_pair_column: self.text_pair_column.clone(),
            header: self.header,
            documents: self.documents,
            quotes: self.quotes,
            pair_separator: self.pair_separator.clone(),
            label_separator: self.label_separator.clone(),
            format: self.format.clone(),
            max_length: self.max_length,
            source_prefix: self.source_prefix.clone(),
            threshold: self.threshold,
            max_target_length: self.max_target_length,
            doc_stride: self.extracting.doc_stride,
            n_best: self.extracting.n_best,
            max_answer_length: self.extracting.max_answer_length,
            null_score_diff_threshold: self.extracting.null_score_diff_threshold,
            version_2: self.extracting.version_2,
            prompt_template: self.prompt_template.clone(),
            blocks: self.blocks,
            mlm_probability: self.mlm_probability,
            whole_words: self.whole_words,
            group_targets: self.group_targets,
            ..Options::default()
        }
    }
}

pub fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it is at least 1".into()),
        Ok(n) => Ok(n),
        Err(_) => Err("it is a whole number".into()),
    }
}
