//! Where files are written that somebody asked for.
use crate::{Error, Result};
use engraft_engine::output;
use std::path::Path;

/// Makes sure that a file can be written to `path` before hours are spent on what stands in it.
pub fn check_file(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Err(Error::file(path, "this is a directory, and a file is to be written"));
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(output::check_writable(folder)?)
}
