//! What can go wrong in the library: each error names the file and line, the column, or the value
//! at fault.

use std::path::{Path, PathBuf};

/// The error of the crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine, a device or a checkpoint refused.
    #[error(transparent)]
    Engine(#[from] engraft_engine::Error),
    /// A model directory or its input was refused.
    #[error(transparent)]
    Models(#[from] engraft_models::Error),
    /// An adapter or a head was refused.
    #[error(transparent)]
    Adapters(#[from] engraft_adapters::Error),
    /// A model and what is put on it do not go together.
    #[error("{0}")]
    Model(String),
    /// Training left the numbers; the last checkpoint that was saved stays.
    #[error(
        "training diverged at step {step}: loss {loss}, gradient norm {norm}; a lower learning rate may help"
    )]
    Diverged {
        /// The step, counted from one.
        step: u64,
        /// Its loss.
        loss: f64,
        /// The norm of its gradients.
        norm: f64,
    },
    /// A step left a weight, or an evaluation a loss, that is not a finite number; nothing of it is
    /// saved.
    #[error("training diverged: after step {step} {what} is not finite; a lower learning rate may help")]
    NotFinite {
        /// The step, counted from one.
        step: u64,
        /// What it is.
        what: String,
    },
    /// A run was asked to stop, and is saved.
    #[error("stopped after step {step} of {of}; the run is saved in {directory}, to go on from there")]
    Stopped {
        /// Steps taken.
        step: u64,
        /// Steps of the whole run.
        of: u64,
        /// The run's directory.
        directory: PathBuf,
    },
    /// The operating system refused to read something.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A model of the Hugging Face hub is not to be had.
    #[error("{model}: {why}")]
    Hub {
        /// The model as it was named, or a variable of the environment.
        model: String,
        /// What is wrong, and what to do.
        why: String,
    },
    /// A file as a whole is not what it should be.
    #[error("{path}: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A line of a file is not what it should be.
    #[error("{path}:{line}: {why}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from one.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// A data file lacks a column.
    #[error("{path} has no {wanted}; it has {}{}", list(.columns), hint(.option))]
    Column {
        /// The file.
        path: PathBuf,
        /// What was looked for, such as "column `text`".
        wanted: String,
        /// The columns there are.
        columns: Vec<String>,
        /// The option that names another column.
        option: &'static str,
    },
    /// A label that training did not know.
    #[error("{path}:{line}: unknown label `{label}`; the known labels are {}", list(.known))]
    Label {
        /// The file.
        path: PathBuf,
        /// The line, counted from one.
        line: usize,
        /// The label found.
        label: String,
        /// The labels of the head.
        known: Vec<String>,
    },
    /// A row that names an adapter which is not at hand.
    #[error("{path}:{line}: there is no adapter `{adapter}`; there are {}", list(.known))]
    Adapter {
        /// The file.
        path: PathBuf,
        /// The line, counted from one.
        line: usize,
        /// The name found.
        adapter: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// The labels themselves are unusable, whatever the data.
    #[error("{0}")]
    Labels(String),
    /// A tokenizer and a model that do not belong together.
    #[error("{tokenizer} makes token {id} (`{token}`), but {model} has {vocabulary} tokens")]
    Vocabulary {
        /// The tokenizer file.
        tokenizer: String,
        /// The model.
        model: String,
        /// The token beyond the vocabulary.
        id: u32,
        /// Its text.
        token: String,
        /// Tokens the model has.
        vocabulary: usize,
    },
    /// An option with a value that it cannot take.
    #[error("`{option}` cannot be {value}: {why}")]
    Option {
        /// The option, as a key of `run.toml` and, with two dashes before it, a flag.
        option: &'static str,
        /// The value given.
        value: String,
        /// What it must be.
        why: String,
    },
    /// Something is wrong with one of several runs that go together.
    #[error("{what} `{name}`: {source}")]
    Within {
        /// What has the name.
        what: &'static str,
        /// The name of the run.
        name: String,
        /// What is wrong with it.
        source: Box<Error>,
    },
    /// Two options that exclude each other.
    #[error("`{one}` and `{other}` exclude each other: give one of them")]
    Exclusive {
        /// One option.
        one: &'static str,
        /// The other.
        other: &'static str,
    },
    /// An option that makes no sense without another.
    #[error("`{option}` needs `{needs}`")]
    Needs {
        /// The option given.
        option: &'static str,
        /// The option missing.
        needs: &'static str,
    },
}

/// `Result` with the crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether a run left the numbers: then it is over, and no other run is concerned.
    pub fn has_diverged(&self) -> bool {
        matches!(self, Self::Diverged { .. } | Self::NotFinite { .. })
    }

    /// [`Error::Within`].
    pub fn within(self, what: &'static str, name: &str) -> Self {
        Self::Within { what, name: name.into(), source: Box::new(self) }
    }

    /// [`Error::File`].
    pub fn file(path: &Path, why: impl Into<String>) -> Self {
        Self::File { path: path.into(), why: why.into() }
    }

    /// [`Error::Line`].
    pub fn line(path: &Path, line: usize, why: impl Into<String>) -> Self {
        Self::Line { path: path.into(), line, why: why.into() }
    }
}

/// "`a`, `b` and `c`", cut after twenty.
pub(crate) fn list(names: &[String]) -> String {
    const MOST: usize = 20;
    let quoted: Vec<String> = names.iter().take(MOST).map(|name| format!("`{name}`")).collect();
    match quoted.as_slice() {
        [] => "none".into(),
        [one] => one.clone(),
        _ if names.len() > MOST => format!("{} and {} more", quoted.join(", "), names.len() - MOST),
        [all @ .., last] => format!("{} and {last}", all.join(", ")),
    }
}

fn hint(option: &&'static str) -> String {
    if option.is_empty() { String::new() } else { format!(" (choose with {option})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(n: usize) -> Vec<String> {
        (0..n).map(|i| i.to_string()).collect()
    }

    #[test]
    fn lists_read_as_english() {
        assert_eq!(list(&[]), "none");
        assert_eq!(list(&names(1)), "`0`");
        assert_eq!(list(&names(3)), "`0`, `1` and `2`");
        assert!(list(&names(25)).ends_with("`19` and 5 more"));
    }

    #[test]
    fn messages_name_the_place() {
        let error = Error::Column {
            path: "train.tsv".into(),
            wanted: "column `text`".into(),
            columns: vec!["a".into(), "b".into()],
            option: "--text-column",
        };
        assert_eq!(
            error.to_string(),
            "train.tsv has no column `text`; it has `a` and `b` (choose with --text-column)"
        );
        let error = Error::line(Path::new("x.csv"), 3, "the text is empty");
        assert_eq!(error.to_string(), "x.csv:3: the text is empty");
    }
}
