//! Arguments of `engraft report`.
use clap::Args;
use std::path::PathBuf;

/// `engraft report`.
#[derive(Debug, Args)]
pub struct Report {
    /// Directories of runs, as --out of `engraft train` names them, or of several runs at once
    #[arg(value_name = "DIR", required = true)]
    pub runs: Vec<PathBuf>,
    /// Write a page with the curves of all of them
    #[arg(long, value_name = "FILE.html")]
    pub html: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
