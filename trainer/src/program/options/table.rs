//! The one list of training options.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ByteSize;
use super::adapter::AdapterChoice;
use super::choices::{
    ActivationsChoice, AdapterInit, BackboneCompute, BackboneDtype, Backend, CompatChoice, Head,
    PlacementChoice,
};
use super::grafted::{Composed, Mixing, SavedAdapter};
use super::listing::Mark;
use super::texts::{Layers, ReductionFactor, ScalingChoice};
use super::variant::Variant;
use crate::program::choose::one_of;
use engraft::data::{Column, Documents, Header, Quotes};
use engraft::learner::prefix::Precision;
use engraft::reports::scores::schemes::Scheme;
use engraft::run::{
    adapter_drop::AdapterDrop, portion::Fold, sampling::Sampling, schedule::Decay, teaching::Pairs,
};
use engraft::tasks::Blocks;

/// How a model is named, as help shows it.
pub const MODEL: &str = "DIR|hf:OWNER/NAME[@REVISION]";

options! {
    "Model and data" {
        /// What is learned; that of the saved head with --init
        [value_name = "TASK"] task: String, Use, Each, Meta;
        /// The backbone: a directory with config.json, a tokenizer and model.safetensors, or a model of
        /// the Hugging Face hub, which is downloaded into the usual cache unless it is there (HF_HOME,
        /// HF_TOKEN and HF_HUB_OFFLINE count); the small one that is built in if there is none
        [value_name = MODEL] model: PathBuf, Meta;
        /// The commit that the model of the hub was at: a run.toml has it, so that the run is
        /// repeated on the same
        [value_name = "COMMIT", hide = true] model_commit: String, Meta;
        /// What the frozen backbone's matrices are stored as; as its files have them if not given
        [value_name = "TYPE", value_parser = one_of::<BackboneDtype>()] backbone_dtype: BackboneDtype, Use, Meta;
        /// How the products with the frozen backbone are computed; 8-bit integers are an
        /// approximation, and two to three times faster where the processor has VNNI
        [value_parser = one_of::<BackboneCompute>()] backbone_compute: BackboneCompute = BackboneCompute::F32, Use, Meta;
        /// Training data: .parquet, .arrow or .jsonl files for every task, for texts and choices .tsv or
        /// .csv too, for words .conll or .conllu, for documents .txt, for questions SQuAD's .json, each
        /// perhaps packed as .gz; names, patterns, - for the standard input, a directory of `datasets`
        /// (DIR[:SPLIT]) or hf:datasets/OWNER/NAME[@REVISION][:CONFIG][:SPLIT] (or /FILE behind it), of
        /// which `train` is read if no split is named; the built-in demonstration if there is none
        [value_name = "FILE", num_args = 1..] train: Vec<PathBuf>, [with "super::paths"], Each, Meta;
        /// Data to evaluate on while training; of a data set `validation` if no split is named, and
        /// never `test`. Several sets, each by a name as in `matched=a.tsv mismatched=b.tsv`, have
        /// scores of their own: the first says what is best, and the others' scores have their names
        /// behind them
        [value_name = "FILE", num_args = 1..] eval: Vec<PathBuf>, [with "super::paths"], Run, Each, Meta;
        /// Where the adapter, the head and run.toml are saved
        [value_name = "DIR"] out: PathBuf = "engraft-out".into(), Run, Meta;
        /// The column of the text, the words, the sources or the questions, by name or counted from 0; found
        /// by its usual name if not given
        [value_name = "COLUMN", visible_alias = "source-column"] text_column: Column, Use, Each, Meta;
        /// The second text's column, for pairs; for questions that of their texts, for choices that of
        /// what is asked
        [value_name = "COLUMN"] text_pair_column: Column, Use, Each, Meta;
        /// The column of the label, the words' labels, the targets or the answers; in .conllu upos, xpos,
        /// deprel, feats or misc:KEY
        [value_name = "COLUMN", visible_alias = "target-column"] label_column: Column, Use, Each, Meta;
        /// Whether the first row of a .tsv or .csv file names the columns
        [value_parser = one_of::<Header>()] header: Header = Header::Auto, Use, Each, Meta;
        /// What quotes mean in a .tsv file; in a .csv file they always stand around cells
        [value_parser = one_of::<Quotes>()] quotes: Quotes = Quotes::Literal, Use, Each, Meta;
        /// What is put between the texts of a pair, which are one text then; needed where the
        /// tokenizer puts nothing there itself, as GPT-2's
        [value_name = "TEXT"] pair_separator: String, Use, Meta;
        /// What stands between the labels in a cell of a .tsv or .csv file, where a text has any
        /// number of them (multi-label); `|` if not given
        [value_name = "TEXT"] label_separator: String, Use, Each;
        /// Leave out texts whose label is empty, null or -1, and say how many there are
        [value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
         hide_possible_values = true]
        skip_unlabelled: bool = false, Use, Each, Meta;
        /// The scheme in which words are tagged, where --scheme-to asks for another one: iob2, iob1,
        /// ioe2, iobes or bilou. What breaks it is read leniently: no word leaves its entity
        [value_name = "SCHEME"] scheme_from: Scheme, Use, Each;
        /// The scheme in which the tags of words are learned
        [value_name = "SCHEME"] scheme_to: Scheme, Use, Each;
        /// Count entities strictly, as seqeval does in a scheme (tagging): what breaks the scheme is
        /// no entity. As conlleval does if not given: an entity begins wherever its type does
        [value_name = "SCHEME"] strict: Scheme, Use, Task;
        /// How files are written, by an extension that stands for it as in `jsonl`; as their names
        /// say if not given
        [value_name = "EXTENSION"] format: String, Each, Meta;
        /// Do not hold the training data in memory: read it again in every epoch, and shuffle it in
        /// a buffer. Files may be larger than memory; the standard input cannot be read again
        [value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
         hide_possible_values = true]
        stream: bool = false, Run;
        /// The most examples in that buffer, and 256 times as many tokens; 4096 if not given
        [value_name = "N"] stream_buffer: usize, Run;
        /// Where a document of a .txt file ends
        [value_parser = one_of::<Documents>()] documents: Documents = Documents::Lines, Use, Each;
        /// What stands in front of every source of seq2seq, such as `summarize: `
        [value_name = "TEXT"] source_prefix: String, Use, Task;
        /// What a language model (causal-lm) goes on from: a text with {source} in it, as in
        /// '{source} ||| '. Then data has sources and targets, and only targets are learned
        [value_name = "TEXT"] prompt_template: String, Use, Task;
        /// How documents become the sequences of causal-lm; one stream if not given
        [value_parser = one_of::<Blocks>()] blocks: Blocks, Use, Task;
        /// The share of tokens that masked-lm hides, or of words with --whole-words; 0.15 if not given
        [value_name = "SHARE"] mlm_probability: f64, Use, Task;
        /// Hide all tokens of a word together (masked-lm)
        [value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
         hide_possible_values = true]
        whole_words: bool, Use, Task;
        /// Rows that follow each other with the same source have one answer in an evaluation, which
        /// is compared with the targets of all of them
        [value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
         hide_possible_values = true]
        group_targets: bool, Use, Task;
        /// The most tokens of a target, special tokens included; 128 if not given, and of a prompted
        /// causal-lm at most half of --max-length
        [value_name = "N"] max_target_length: usize, Use, Task;
        /// The share of what is expected of each token of a target that is spread over the
        /// vocabulary in training; 0 if not given
        [value_name = "SHARE"] label_smoothing: f64, Use, Task;
        /// How probable a label must be to be predicted, where each is there or not by itself
        /// (multi-label); 0.5 if not given
        [value_name = "P"] threshold: f64, Use, Task;
        /// How many tokens windows of a text share that follow each other (question-answering); a
        /// third of --max-length if not given, which is 128 of 384
        [value_name = "N"] doc_stride: usize, Use, Task;
        /// How many answers are kept of a question, and how many starts and ends of a window are
        /// looked at (question-answering); 20 if not given
        [value_name = "N"] n_best: usize, Use, Task;
        /// The most tokens of an answer (question-answering); 30 if not given
        [value_name = "N"] max_answer_length: usize, Use, Task;
        /// By how much "no answer" must be better than the best answer to be given
        /// (question-answering); 0 if not given
        [value_name = "X"] null_score_diff_threshold: f64, Use, Task;
        /// Questions may have no answer, as in SQuAD 2.0 (question-answering); an evaluation finds it
        /// in its data if not given
        [value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
         hide_possible_values = true]
        version_2: bool, Use, Task;
        /// The most tokens of a sequence, special tokens included: longer texts are cut, longer
        /// sentences read in windows, documents in blocks. 128, or as many as the model takes, if
        /// not given
        [value_name = "N"] max_length: usize, Use, Meta;
    }
    "Adapter" {
        /// What is trained below the head: a method or one of its presets, perhaps with fields of
        /// AdapterHub's configuration as in `NAME[reduction_factor=6]`; none for the head alone, full for
        /// the whole backbone; the saved adapter with --init
        [value_name = "ADAPTER"] adapter: AdapterChoice, Own, Meta;
        /// Start from a saved adapter and head, as they are; with --head from the adapter alone,
        /// with a new head
        [value_name = "DIR"] init: PathBuf;
        /// The adapter's name, under which it is saved; `default` if not given
        name: String, Own, Meta;
        /// Saved adapters to build on, which do not train: directories, perhaps as NAME=DIR
        [value_name = "DIR", num_args = 1..] adapters: Vec<SavedAdapter>, Own;
        /// How adapters are put together, as in `Stack(a, Fuse(b, c), d)` or, for fusions of
        /// fusions, `Fuse(Fuse(a, b), Fuse(c, d))`; saved ones are fused, and a new one stands on
        /// them, if not given. Each member of `Parallel(a, b, None)` is a run, as a --variant is; those of
        /// `BatchSplit(a, b, batch_sizes=[3, 1])` have three examples and one: --batch-size is 4
        [value_name = "SETUP"] setup: Composed, Own;
        /// How a new fusion mixes adapters: one of these, perhaps with fields as in
        /// `gating[top_k=2]`
        [value_name = "FUSION", visible_alias = "method"] fusion: Mixing, Own;
        /// Train the saved adapters too
        [value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
         hide_possible_values = true]
        joint: bool = false, Own;
        /// Width of the bottleneck
        [value_name = "N"] bottleneck: usize, Own, Meta;
        /// Hidden size divided by the bottleneck's width; per layer as in `8,0=4,2=16`
        [value_name = "F"] reduction_factor: ReductionFactor, Own, Meta;
        /// After which sub-layer the adapter stands; the preset's if not given
        [value_parser = one_of::<PlacementChoice>()] placement: PlacementChoice, Own, Meta;
        /// The adapter's activation, as relu, gelu, gelu_new, tanh, swish or leakyrelu; the
        /// preset's if not given
        [value_name = "NAME"] non_linearity: String, Own, Meta;
        /// Dropout of the adapter's output while training
        [value_name = "P"] adapter_dropout: f64, Own, Meta;
        /// A factor for the adapter's output: a number, `learned` or, per channel, `channel`; the
        /// preset's if not given
        [value_name = "S"] scaling: ScalingChoice, Own, Meta;
        /// A new layer norm before the bottleneck
        [value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
         hide_possible_values = true]
        ln_before: bool, Own, Meta;
        /// A new layer norm after the bottleneck
        [value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
         hide_possible_values = true]
        ln_after: bool, Own, Meta;
        /// How the adapter is initialised; the preset's if not given
        [value_parser = one_of::<AdapterInit>()] adapter_init: AdapterInit, Own, Meta;
        /// The layers that get adapters, counted from 0, as in `3-5,7`; all if not given
        layers: Layers, Own, Meta;
        /// The layers that get none; with --init those of the saved adapter that are left out
        [value_name = "LAYERS"] leave_out: Layers, Own, Meta;
        /// Leave out the adapters of the first k layers in each step, k drawn from 0 to N, or from
        /// a range as 1-5 (AdapterDrop): what is learned goes without lower adapters later
        [value_name = "N"] adapter_drop: AdapterDrop;
        /// Compute compositions as a library does where it is not what it documents
        [value_parser = one_of::<CompatChoice>()] compat: CompatChoice = CompatChoice::Documented, Use, Meta;
        /// The head over the backbone; AdapterHub's for the task if not given
        [value_parser = one_of::<Head>()] head: Head, Own, Each;
    }
    "Training" {
        /// Passes over the training data; no limit if only --max-steps is given
        [value_name = "N"] epochs: u64, Run, Own;
        /// Optimiser steps, if they end before the epochs do
        [value_name = "N"] max_steps: u64, Run, Own;
        /// Texts in a batch
        [value_name = "N"] batch_size: usize, Meta;
        /// Instead: tokens in a batch at most. Texts are taken in their order until the next one
        /// does not fit; a longer text is a batch of its own
        [value_name = "N"] batch_tokens: usize;
        /// Batches in an optimiser step
        [value_name = "N"] gradient_accumulation: usize = 1;
        /// The highest learning rate; lower, at 5e-5, with --adapter full
        [value_name = "LR"] lr: f64 = 5e-4, Own, Meta;
        /// What becomes of the learning rate after the warm-up
        [value_parser = one_of::<Decay>()] schedule: Decay = Decay::Linear, Run, Own;
        /// The warm-up's share of all steps
        [value_name = "SHARE"] warmup_ratio: f64, Run, Own;
        /// Steps of warm-up
        [value_name = "N"] warmup_steps: u64, Run, Own;
        /// AdamW's weight decay
        [value_name = "W"] weight_decay: f64 = 0.01, Own;
        /// AdamW's decay of the mean gradient
        [value_name = "B"] adam_beta1: f64 = 0.9, Own;
        /// AdamW's decay of the mean squared gradient
        [value_name = "B"] adam_beta2: f64 = 0.999, Own, Meta;
        /// AdamW's epsilon
        [value_name = "E"] adam_eps: f64 = 1e-8, Own, Meta;
        /// Save the whole state of the run every so many optimiser steps, besides the end of each
        /// epoch: --resume goes on from there
        [value_name = "STEPS"] checkpoint_every: u64, Run, Own, Meta;
        /// The norm to which gradients are clipped; 0 for no clipping
        [value_name = "NORM"] clip: f64 = 1.0, Own, Meta;
        /// Dropout of the backbone and the head while training; what the model's config says if not
        /// given
        [value_name = "P"] dropout: f64, Meta;
        /// The seed of initialisation, shuffling and dropout
        [value_name = "N"] seed: u64 = 42, Own, Meta;
        /// Take the training data in the order of the file
        [value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
         hide_possible_values = true]
        no_shuffle: bool = false;
        /// Keep the activations below the first trained layer in this directory: later epochs and
        /// runs start there. Needs --dropout 0, and adapters in upper layers only
        [value_name = "DIR"] cache_prefix: PathBuf, Run;
        /// How --cache-prefix keeps them
        [value_parser = one_of::<Precision>()] cache_dtype: Precision = Precision::F32, Run;
    }
    "Distillation" {
        /// Saved adapters with heads, or models that trained as a whole, to learn from beside the labels:
        /// what they say of the training data is computed once and kept (a part of --memory-budget; that
        /// one pass comes on top). Of several the probabilities are averaged
        [value_name = "DIR", num_args = 1..] teacher: Vec<PathBuf>, [with "super::paths"], Run;
        /// The backbone of the teachers, or one for each; --model, or of a model that trained as a
        /// whole itself, if not given
        [value_name = MODEL, num_args = 1..] teacher_model: Vec<PathBuf>, [with "super::paths"], Run;
        /// The share of the loss that is the distance from the teacher, 0 to 1; 0.5 if not given
        [value_name = "SHARE"] distill_alpha: f64, Run;
        /// The temperature that the logits of both are divided by; 2 if not given
        [value_name = "T"] distill_temperature: f64, Run;
        /// Layers whose hidden states become like those of the teacher, counted from 0, as in `3,5` or,
        /// with the teacher's layers, `3:7,5:11`; of the same height if not given. Projections
        /// between models of other widths are learned, and not saved
        [value_name = "LAYERS"] distill_hidden: Pairs, Run;
        /// What the mean squared difference of these, of length 1, counts; 100 if not given
        [value_name = "W"] distill_hidden_weight: f64, Run;
    }
    "Evaluation" {
        /// Evaluate every so many optimiser steps; after each epoch if not given
        [value_name = "STEPS"] eval_every: u64, Run, Own;
        /// Texts in a batch of evaluation
        [value_name = "N"] eval_batch_size: usize = 64, Run, Meta;
        /// The score that the best checkpoint is best at, such as accuracy, macro_f1, f1,
        /// perplexity or loss; the task's own if not given
        [value_name = "SCORE"] metric: String, Run, Own, Each, Meta;
        /// Stop after so many evaluations without a better one; never if not given
        [value_name = "N"] patience: u64, Run, Own;
        /// Generate an answer to every source in every evaluation and compare it with the targets:
        /// ROUGE, BLEU and chrF. It takes long
        [value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
         hide_possible_values = true]
        predict_with_generate: bool, Run, Task;
        /// Sequences that are followed at once when answers are generated (beam search); as the
        /// model's generation_config.json says if not given
        [value_name = "N"] num_beams: usize, Run;
        /// The most new tokens of an answer; as many as a target has if not given
        [value_name = "N"] max_new_tokens: usize, Run;
    }
    "Memory" {
        /// What every layer keeps for the backward pass: f32 if not given. With recompute a step
        /// computes the layers twice and gives the same bits; bf16 is an approximation
        [value_parser = one_of::<ActivationsChoice>()] activations: ActivationsChoice;
        /// Bytes that training and evaluation may hold, as 700MB or 1.5GiB: weights, gradients,
        /// optimiser state and activations, and the data, but not the program. As few layers as
        /// possible recompute
        [value_name = "BYTES"] memory_budget: ByteSize, Run;
    }
    "Machine and output" {
        /// Threads to use; 0 for one per core
        [value_name = "N"] threads: usize = 0, Meta;
        /// Where to compute
        [value_parser = one_of::<Backend>()] device: Backend = Backend::Cpu, Meta;
        /// Write a trace of the run for Perfetto (or chrome://tracing), and say at the end where
        /// the time went
        [value_name = "FILE"] profile: PathBuf, Run;
        /// Write report.html, a page with curves, scores by class, memory, the hardest examples and
        /// the settings; the texts of --eval stay in memory for it
        [value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
         hide_possible_values = true]
        report: bool = true, Run;
        /// Write files of events for TensorBoard into the folder `runs` of --out, one with every
        /// state that is saved
        [value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
         hide_possible_values = true]
        tensorboard: bool = false, Run;
        /// Note loss, learning rate, norm of the gradients and bytes for reports every so many
        /// optimiser steps; about a thousand times in all if not given
        [value_name = "STEPS"] log_every: u64, Run;
        /// End with one JSON object on the last line of stdout
        [value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
         hide_possible_values = true]
        json: bool = false, Meta;
        /// Show no progress
        [value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
         hide_possible_values = true]
        quiet: bool = false, Meta;
    }
    "Several at once" {
        /// Several runs over the same batches in one, each saved in a directory of its name in
        /// --out as if it had run by itself: a name and what is its own in the adapter, the rates
        /// and the seed, as in `fast: lr=1e-3, adapter=lora[r=8]`
        [value_name = "NAME: KEY=VALUE, ..", num_args = 1..] variant: Vec<Variant>, [with "super::variant"], Run;
        /// The column that names the adapter which learns from each row: a new one for each name, with
        /// a head of its own, in mixed batches. Each is saved in a directory of its name in --out; of
        /// --eval it is evaluated on the rows that name it
        [value_name = "COLUMN"] adapter_column: Column, Run;
        /// Cross-validation: so many runs one after the other, each of which learns from all but one
        /// part of --train and is evaluated on that part. Classes are spread evenly over the parts,
        /// which are those of scikit-learn's StratifiedKFold
        [value_name = "K"] folds: usize, Run;
        /// With --folds: the column that names the group of each record, as its document or, in SQuAD's
        /// files, the `title`: no group is divided. The parts are those of StratifiedGroupKFold, where
        /// records have no class those of GroupKFold
        [value_name = "COLUMN"] group_column: Column, Run;
        /// One of these runs, as in 2/5: learn from all but the second of five parts
        [value_name = "I/K"] fold: Fold, Run;
        /// Runs one after the other, one with each of these seeds
        [value_name = "SEED", value_delimiter = ','] seeds: Vec<u64>, Run;
        /// A learning curve: runs one after the other, on so many examples each
        [value_name = "N", value_delimiter = ','] curve: Vec<usize>, Run;
        /// Learn from so many of the examples only: drawn at random with --seed, as large a share of
        /// each class as in the whole
        [value_name = "N"] train_examples: usize, Run;
        /// Several tasks in one, in mixed batches: a name and what is its own in task, data, head,
        /// metric and task-weight, as in `mood: train=a.tsv, eval=b.tsv, label-column=mood`; the rest is
        /// the same for all. Each has an adapter of its own, and is saved in a directory of its name
        /// in --out
        [value_name = "NAME: KEY=VALUE, ..", num_args = 1..] tasks: Vec<Variant>, [with "super::variant"], Run, Meta;
        /// With --tasks: one adapter for all of them, each with a head of its own. The best is best
        /// at the mean of the tasks' scores, or at `TASK.SCORE` with --metric
        [value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
         hide_possible_values = true]
        shared: bool = false, Run;
        /// With --tasks: how often each is drawn, by its number of examples: `proportional`,
        /// `uniform`, `temperature=T` (their T-th roots), `capped=K` (at most K count), or
        /// `capped=K,temperature=T`; proportional if not given
        [value_name = "HOW"] sampling: Sampling, Run;
        /// With --tasks: one after the other in this order, instead of all at once, and how good each is
        /// behind each of them (`engraft continual`); with --shared one adapter goes on from task to
        /// task
        [value_name = "NAME", value_delimiter = ','] order: Vec<String>, Run;
        /// With --order and --shared: hold the adapter near what it was behind each earlier task, each
        /// weight as strongly as it mattered there and all of them so strongly (elastic weight
        /// consolidation): L of L/2 times the sum of F (w - w')^2
        [value_name = "L"] ewc: f64, Run;
        /// Examples of a task from which F, the Fisher information of its weights, is estimated; 256
        /// if not given
        [value_name = "N"] fisher_examples: usize, Run;
        /// Where a run by itself, which begins where others ended (--init), finds what --ewc holds:
        /// the directories of earlier tasks, each with fisher.safetensors
        [value_name = "DIR", num_args = 1..] ewc_from: Vec<PathBuf>, [with "super::paths"], Run;
        /// With --order and --shared: learn so many examples of each earlier task again, some of them
        /// in every step, with the heads that these tasks have (replay)
        [value_name = "N"] replay: usize, Run;
        /// Their share of every step; 0.25 if not given
        [value_name = "SHARE"] replay_share: f64, Run;
        /// Where a run by itself finds what --replay learns again: the directories of earlier tasks
        [value_name = "DIR", num_args = 1..] replay_from: Vec<PathBuf>, [with "super::paths"], Run;
        /// Of a task in --tasks with --shared: what its mean loss counts in a step; 1 if not given
        [value_name = "W"] task_weight: f64, Run, Each;
    }
}
