//! What the environment says of the hub, as Python's `huggingface_hub` reads it.
use crate::{Error, Result};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

/// The hub itself.
const ENDPOINT: &str = "https://huggingface.co";

/// Where models are, on this machine and elsewhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Home {
    /// The cache: `$HF_HUB_CACHE`, else `hub` in `$HF_HOME`, which is `huggingface` in
    /// `$XDG_CACHE_HOME` or `~/.cache`.
    pub cache: PathBuf,
    /// Without a slash at its end: `$HF_ENDPOINT`.
    pub endpoint: String,
    /// `$HF_TOKEN`, else what is in the file `token` of `$HF_HOME`. It is nobody's to see.
    pub token: Option<String>,
    /// `$SSL_CERT_FILE`: the certificates of authorities that are trusted in place of the web's.
    pub authorities: Option<PathBuf>,
    /// `$HF_HUB_OFFLINE`: nothing is asked of the network.
    pub offline: bool,
}

impl Home {
    /// As the variables of this process say.
    pub fn from_env() -> Result<Home> {
        Home::of(&|name| std::env::var_os(name), std::env::home_dir())
    }
    fn of(var: &dyn Fn(&str) -> Option<OsString>, user: Option<PathBuf>) -> Result<Home> {
        let var = |name: &str| var(name).filter(|value| !value.is_empty());
        let path = |name: &str| var(name).map(|value| expand(Path::new(&value), user.as_deref()));
        let text = |name: &str| var(name).map(|value| value.to_string_lossy().trim().to_string());
        let is_true = |name: &str| {
            let value = text(name).unwrap_or_default().to_ascii_lowercase();
            matches!(value.as_str(), "1" | "on" | "yes" | "true")
        };
        let home = path("HF_HOME").or_else(|| {
            let caches = path("XDG_CACHE_HOME").or_else(|| Some(user.clone()?.join(".cache")));
            Some(caches?.join("huggingface"))
        });
        let cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE"));
        let Some(cache) = cache.or_else(|| Some(home.clone()?.join("hub"))) else {
            return Err(refused("HF_HOME", "nothing", "a directory, as there is no home directory"));
        };
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.into());
        let endpoint = endpoint.trim_end_matches('/').to_string();
        if !["https://", "http://"].iter().any(|scheme| endpoint.strip_prefix(scheme).is_some_and(is_host)) {
            return Err(refused(
                "HF_ENDPOINT",
                &format!("`{endpoint}`"),
                "an address such as https://huggingface.co",
            ));
        }
        let file = path("HF_TOKEN_PATH").or_else(|| Some(home?.join("token")));
        let saved = || Some(std::fs::read_to_string(file?).ok()?.trim().to_string());
        let token = text("HF_TOKEN").or_else(saved).filter(|token| !token.is_empty());
        let token = token.filter(|_| !is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN"));
        if token.as_ref().is_some_and(|token| !token.bytes().all(|b| b.is_ascii_graphic())) {
            return Err(refused("HF_TOKEN", "a text with spaces or other signs in it", "a token of the hub"));
        }
        let (authorities, offline) = (path("SSL_CERT_FILE"), is_true("HF_HUB_OFFLINE"));
        Ok(Home { cache, endpoint, token, authorities, offline })
    }
}

fn is_host(rest: &str) -> bool {
    !rest.is_empty() && !rest.starts_with('/') && !rest.contains(['@', '?', '#', ' '])
}
/// `~` stands for the user's directory.
fn expand(path: &Path, user: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), user) {
        (Ok(rest), Some(user)) => user.join(rest),
        _ => path.into(),
    }
}
fn refused(variable: &str, value: &str, wanted: &str) -> Error {
    Error::Hub { model: format!("${variable}"), why: format!("it is {value}, and should be {wanted}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(set: &[(&str, &str)]) -> Result<Home> {
        let var = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, value)| value.into());
        Home::of(&var, Some("/user".into()))
    }

    #[test]
    fn the_cache_is_where_others_have_it() {
        for (set, cache) in [
            (&[][..], "/user/.cache/huggingface/hub"),
            (&[("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub"),
            (&[("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/h")], "/h/hub"),
            (&[("HF_HOME", "~/h")], "/user/h/hub"),
            (&[("HF_HOME", "/h"), ("HUGGINGFACE_HUB_CACHE", "/o")], "/o"),
            (&[("HF_HOME", "/h"), ("HUGGINGFACE_HUB_CACHE", "/o"), ("HF_HUB_CACHE", "/c")], "/c"),
            (&[("HF_HOME", ""), ("HF_HUB_CACHE", "")], "/user/.cache/huggingface/hub"),
        ] {
            assert_eq!(of(set).unwrap().cache, Path::new(cache), "{set:?}");
        }
        let nowhere = Home::of(&|_| None, None).map(|_| ()).unwrap_err().to_string();
        assert!(nowhere.contains("HF_HOME"), "{nowhere}");
    }

    #[test]
    fn the_token_is_the_variables_or_the_files() {
        let dir = tempfile::tempdir().unwrap();
        let home = ("HF_HOME", dir.path().to_str().unwrap());
        assert_eq!(of(&[home]).unwrap().token, None);
        std::fs::write(dir.path().join("token"), "hf_file\n").unwrap();
        assert_eq!(of(&[home]).unwrap().token.unwrap(), "hf_file");
        assert_eq!(of(&[home, ("HF_TOKEN", " hf_var\n")]).unwrap().token.unwrap(), "hf_var");
        assert_eq!(of(&[home, ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]).unwrap().token, None);
        let elsewhere = dir.path().join("other");
        std::fs::write(&elsewhere, "hf_other").unwrap();
        let other = ("HF_TOKEN_PATH", elsewhere.to_str().unwrap());
        assert_eq!(of(&[home, other]).unwrap().token.unwrap(), "hf_other");
        // and a wrong one is not shown
        let error = of(&[("HF_TOKEN", "hf_a b")]).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("HF_TOKEN") && !error.contains("hf_a"), "{error}");
    }

    #[test]
    fn the_endpoint_is_an_address_and_offline_is_a_word() {
        assert_eq!(of(&[]).unwrap().endpoint, "https://huggingface.co");
        assert_eq!(
            of(&[("HF_ENDPOINT", "http://127.0.0.1:80/x/")]).unwrap().endpoint,
            "http://127.0.0.1:80/x"
        );
        for wrong in ["huggingface.co", "ftp://a", "https://", "https:///x", "https://user:word@host"] {
            let error = of(&[("HF_ENDPOINT", wrong)]).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains("HF_ENDPOINT"), "{wrong}: {error}");
        }
        for (value, offline) in
            [("1", true), ("TRUE", true), ("yes", true), ("on", true), ("0", false), ("no", false)]
        {
            assert_eq!(of(&[("HF_HUB_OFFLINE", value)]).unwrap().offline, offline, "{value}");
        }
        assert!(!of(&[]).unwrap().offline);
    }
}
