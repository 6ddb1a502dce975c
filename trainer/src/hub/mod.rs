//! Models of the Hugging Face hub, by paths such as `hf:OWNER/NAME@REVISION`, and its data sets
//! ([`Repository`]).
//!
//! [`find`] gives the directory that such a path stands for, in the cache that all programs share
//! (`home.rs`). With the feature `hub` what is missing there is downloaded; without it, with
//! `HF_HUB_OFFLINE=1` and where there is no network the cache alone serves.
//!
//! The client is our own, and small. The crate `hf-hub` 0.5 cannot be built without C code (its
//! `ureq` brings `ring`), and it sends the user's token to the hosts that files are redirected to,
//! appends to a file what a server sends from its beginning, and checks neither sizes nor hashes;
//! `hf-hub` 1.0 needs cmake and a C compiler, for `aws-lc`.
mod cache;
#[cfg(feature = "hub")]
mod client;
#[cfg(feature = "hub")]
mod download;
mod files;
mod home;
mod name;
mod repository;

pub(crate) use cache::files_below;
pub use files::Need;
pub(crate) use files::is_companion;
pub use repository::{Repository, file};

use crate::{Error, Result, reports::progress::Mode};
use cache::Place;
use home::Home;
use name::{Kind, Name, is_commit};
use std::{
    collections::BTreeSet,
    io::Write,
    path::{Path, PathBuf},
};

/// A model that a path stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where its files are.
    pub directory: PathBuf,
    /// `OWNER/NAME`, or what its directory is called.
    pub name: String,
    /// The commit that its files are of, if it is the hub's.
    pub commit: Option<String>,
}

/// Why nothing was downloaded.
enum Failed {
    /// Nobody was asked, or nobody answered: the cache may serve.
    Unasked(String),
    /// Something is wrong.
    Wrong(Error),
}
impl<E: Into<Error>> From<E> for Failed {
    fn from(e: E) -> Failed {
        Failed::Wrong(e.into())
    }
}

/// Finds a model: a directory as it is, one of the hub in the cache, into which is downloaded what
/// is needed and not there.
///
/// # Errors
/// A path that begins with `hf:` and names no model, a model that is not there or that is not for
/// this user, files that are neither here nor to be had.
pub fn find(path: &Path, need: Need, mode: Mode) -> Result<Found> {
    let Some(name) = Name::of(path)? else {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        return Ok(Found { directory: path.into(), name, commit: None });
    };
    let home = Home::from_env()?;
    let place = Place::new(&home, &name);
    let commit = match fetch(&home, &name, &place, need, mode) {
        Ok(commit) => commit,
        Err(Failed::Wrong(error)) => return Err(error),
        Err(Failed::Unasked(why)) => match place.cached(need)? {
            Ok(commit) => {
                if mode != Mode::Quiet && cfg!(feature = "hub") && !home.offline {
                    let said = format!("note: {why}; {name} is taken from the cache, at commit {commit}");
                    let _ = writeln!(std::io::stderr(), "{said}");
                }
                commit
            }
            Err(missing) => return Err(absent(&name, &missing, &why)),
        },
    };
    Ok(Found { directory: place.snapshot(&commit), name: name.repository, commit: Some(commit) })
}

/// The path of the same model at a commit.
pub fn pinned(path: &Path, commit: &str) -> Result<PathBuf> {
    let refused = |why| Err(Error::Option { option: "model-commit", value: commit.into(), why });
    match Name::of(path)? {
        None => refused(format!("{} is not a model of the hub", path.display())),
        Some(_) if !is_commit(commit) => refused("it is a commit in full, 40 digits".into()),
        Some(name) => Ok(name.at(commit).to_string().into()),
    }
}

/// What to say of a repository that is neither here nor to be had.
fn absent(name: &Name, missing: &str, why: &str) -> Error {
    let revision =
        name.to_string().split_once('@').map(|(_, r)| format!(" --revision {r}")).unwrap_or_default();
    let repository = match name.kind {
        Kind::Model => name.repository.clone(),
        Kind::Dataset => format!("{} --repo-type dataset", name.repository),
    };
    let fill = format!(
        "`hf download {repository}{revision}` of Python's huggingface_hub (before its version 1: `huggingface-cli \
         download`) fills the cache"
    );
    Error::Hub { model: name.to_string(), why: format!("{missing}, and {why}; {fill}") }
}

/// Why nobody is asked, if that is so.
fn ask(home: &Home) -> std::result::Result<(), Failed> {
    let _ = (&home.endpoint, &home.token, &home.authorities);
    let why = match (cfg!(feature = "hub"), home.offline) {
        (false, _) => "this program was built without the feature `hub`, which downloads",
        (true, true) => "HF_HUB_OFFLINE is set, so nothing is downloaded",
        (true, false) => return Ok(()),
    };
    Err(Failed::Unasked(why.into()))
}

/// Without the feature nobody gets beyond [`ask`].
#[cfg(not(feature = "hub"))]
mod download {
    use super::*;
    type Result<T> = std::result::Result<T, Failed>;

    pub fn fetch(home: &Home, _: &Name, _: &Place, _: Need, _: Mode) -> Result<String> {
        ask(home).map(|()| String::new())
    }
    pub fn look(home: &Home, _: &Name) -> Result<(String, BTreeSet<String>)> {
        ask(home).map(|()| Default::default())
    }
    pub fn file(home: &Home, _: &Name, _: &Place, _: (&str, &str), _: Mode) -> Result<()> {
        ask(home)
    }
}

fn fetch(
    home: &Home,
    name: &Name,
    place: &Place,
    need: Need,
    mode: Mode,
) -> std::result::Result<String, Failed> {
    ask(home)?;
    download::fetch(home, name, place, need, mode)
}

/// The commit of a revision, and its files.
fn look(home: &Home, name: &Name) -> std::result::Result<(String, BTreeSet<String>), Failed> {
    ask(home)?;
    download::look(home, name)
}

/// Sees to it that a file of a commit is in the cache.
fn download_file(
    home: &Home,
    name: &Name,
    place: &Place,
    file: (&str, &str),
    mode: Mode,
) -> std::result::Result<(), Failed> {
    ask(home)?;
    download::file(home, name, place, file, mode)
}
