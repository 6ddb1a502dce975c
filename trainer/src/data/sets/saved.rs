//! A directory that `save_to_disk` of `datasets` wrote: `state.json` lists the files of a data set, and
//! `dataset_dict.json` the directories of several.
use super::catalogue::Split;
use crate::error::{Error, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::io::ErrorKind;
use std::path::Path;

const DICT: &str = "dataset_dict.json";
const STATE: &str = "state.json";

#[derive(Deserialize)]
struct Dict {
    splits: Vec<String>,
}
#[derive(Deserialize)]
struct State {
    #[serde(rename = "_data_files")]
    files: Vec<DataFile>,
    #[serde(rename = "_split", default)]
    split: Option<String>,
}
#[derive(Deserialize)]
struct DataFile {
    filename: String,
}

/// The splits of a directory; none if it is not such a one.
pub(super) fn splits(directory: &Path) -> Result<Option<Vec<Split>>> {
    let Some(Dict { splits }) = read(&directory.join(DICT))? else {
        let Some(state) = state(directory)? else { return Ok(None) };
        let files = files(directory, "", &state)?;
        return Ok(Some(vec![Split { name: state.split, files }]));
    };
    let one = |name: String| {
        let within = directory.join(&name);
        if !is_plain(&name) {
            return Err(Error::file(&directory.join(DICT), format!("`{name}` is no name of a split")));
        }
        let missing = || Error::file(&within, format!("there is no {STATE}, and {DICT} lists it"));
        let files = files(&within, &format!("{name}/"), &state(&within)?.ok_or_else(missing)?)?;
        Ok(Split { name: Some(name), files })
    };
    splits.into_iter().map(one).collect::<Result<_>>().map(Some)
}

fn state(directory: &Path) -> Result<Option<State>> {
    read(&directory.join(STATE))
}

fn files(directory: &Path, prefix: &str, state: &State) -> Result<Vec<String>> {
    let one = |DataFile { filename }: &DataFile| match is_plain(filename) {
        true if !directory.join(filename).is_file() => {
            let why = format!("the file {filename} of the data set is not there");
            Err(Error::file(directory, why))
        }
        true => Ok(format!("{prefix}{filename}")),
        false => Err(Error::file(&directory.join(STATE), format!("`{filename}` is no file beside it"))),
    };
    let files: Vec<String> = state.files.iter().map(one).collect::<Result<_>>()?;
    match files.is_empty() {
        true => Err(Error::file(&directory.join(STATE), "it lists no files")),
        false => Ok(files),
    }
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.contains(['/', '\\']) && name != "." && name != ".."
}

/// A JSON file; none if it is not there.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Read { path: path.into(), source }),
    };
    let wrong = |e| Error::file(path, format!("it is not of `datasets`: {e}"));
    serde_json::from_slice(&bytes).map(Some).map_err(wrong)
}
