//! Questions to the hub.
use super::{Failed, files::CONFIG, home::Home, name::Name};
use crate::Error;
use serde::Deserialize;
use std::{path::Path, sync::Arc, time::Duration};
use ureq::{
    Agent, Body,
    http::{HeaderMap, Response, Uri},
    tls::{PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem},
};

type Result<T> = std::result::Result<T, Failed>;

/// How long nothing may come before an answer is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most redirections one after the other.
const HOPS: usize = 10;
/// The most bytes of a list of files.
const LIST: u64 = 64 << 20;

/// One who asks the hub, with the user's token. The token goes to the hub's own address and to no
/// other, wherever the hub sends on to.
pub struct Client<'a> {
    agent: Agent,
    home: &'a Home,
    /// Why there is no TLS, if there is none.
    no_tls: Option<String>,
}

/// What a revision of a repository has.
#[derive(Deserialize)]
pub struct Listing {
    /// Its commit.
    pub sha: String,
    /// Its files.
    #[serde(default)]
    pub siblings: Vec<Sibling>,
}
/// A file of it.
#[derive(Deserialize)]
pub struct Sibling {
    /// Its path.
    #[serde(rename = "rfilename")]
    pub path: String,
}
/// What a file is, before it is fetched.
pub struct Head {
    /// The name of its blob: SHA-256 of what is in LFS, another hash of what is in git.
    pub etag: String,
    /// Its bytes.
    pub size: u64,
}

impl<'a> Client<'a> {
    pub fn new(home: &'a Home) -> Client<'a> {
        let (tls, no_tls) = match tls(home) {
            Ok(tls) => (tls, None),
            Err(why) => (TlsConfig::default(), Some(why)),
        };
        let agent = Agent::config_builder()
            .tls_config(tls)
            .max_redirects(0) // followed here, where it is known who is told the token
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .user_agent(concat!("engraft/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(PATIENCE))
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_per_read(Some(PATIENCE))
            .build();
        Client { agent: agent.into(), home, no_tls }
    }

    /// The commit and the files of a revision.
    pub fn list(&self, name: &Name) -> Result<Listing> {
        let (repository, revision) = (&name.repository, encoded(&name.revision));
        let kind = name.kind.plural();
        let url = format!("{}/api/{kind}/{repository}/revision/{revision}", self.home.endpoint);
        let mut answer = self.good(name, None, self.follow(name, false, url, 0, false)?)?;
        let text = answer.body_mut().with_config().limit(LIST).read_to_string();
        let text = text.map_err(|e| self.unreachable(&e))?;
        serde_json::from_str(&text).map_err(|e| wrong(name, format!("the hub's list of files: {e}")))
    }
    /// What a file of a commit is.
    pub fn head(&self, name: &Name, commit: &str, file: &str) -> Result<Head> {
        let answers = self.follow(name, true, self.url(name, commit, file), 0, true)?;
        // what is in LFS is linked to, and where that is said may send on
        let linked = |key: &str| answers.iter().find_map(|answer| text(answer.headers(), key));
        let (etag, size) = (linked("x-linked-etag"), linked("x-linked-size"));
        let last = answers.last().map(Response::headers);
        let last = |key: &str| last.and_then(|headers| text(headers, key));
        let (etag, size) = (etag.or_else(|| last("etag")), size.or_else(|| last("content-length")));
        if !answers.last().is_some_and(|answer| answer.status().is_redirection()) {
            self.good(name, Some(file), answers)?;
        }
        let etag = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"').to_string());
        let is_plain = |etag: &String| {
            (1..=128).contains(&etag.len()) && etag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        match (etag.filter(is_plain), size.and_then(|size| size.parse().ok())) {
            (Some(etag), Some(size)) => Ok(Head { etag, size }),
            _ => {
                let why = format!("{} does not say which blob {file} is and how long", self.home.endpoint);
                Err(wrong(name, why))
            }
        }
    }
    /// The content of a file from a byte on, if it is sent from there; else from the beginning.
    pub fn get(&self, name: &Name, commit: &str, file: &str, from: u64) -> Result<Response<Body>> {
        let answers = self.follow(name, false, self.url(name, commit, file), from, false)?;
        match from > 0 && answers.last().is_some_and(|answer| answer.status() == 416) {
            true => self.get(name, commit, file, 0), // there is nothing from there on
            false => self.good(name, Some(file), answers),
        }
    }

    fn url(&self, name: &Name, commit: &str, file: &str) -> String {
        let (endpoint, prefix, repository) = (&self.home.endpoint, name.prefix(), &name.repository);
        let file = file.split('/').map(encoded).collect::<Vec<_>>().join("/");
        format!("{endpoint}/{prefix}{repository}/resolve/{commit}/{file}")
    }
    /// The answers along a chain of redirections, which may have to end where the hub's own address
    /// is left.
    fn follow(
        &self,
        name: &Name,
        head: bool,
        url: String,
        from: u64,
        stay: bool,
    ) -> Result<Vec<Response<Body>>> {
        let at = |url: &str| url.parse::<Uri>().map_err(|e| wrong(name, format!("{url} is no address: {e}")));
        let (own, mut url) = (origin(&at(&self.home.endpoint)?), at(&url)?);
        let mut answers = vec![];
        while answers.len() <= HOPS {
            let answer = self.ask(name, head, &url, from, origin(&url) == own)?;
            let to = text(answer.headers(), "location").filter(|_| answer.status().is_redirection());
            answers.push(answer);
            let Some(to) = to else { return Ok(answers) };
            let next = at(&joined(&url, &to))?;
            if stay && origin(&next) != own {
                return Ok(answers);
            }
            url = next;
        }
        Err(wrong(name, format!("{} redirects in a circle", self.home.endpoint)))
    }
    fn ask(&self, name: &Name, head: bool, url: &Uri, from: u64, is_own: bool) -> Result<Response<Body>> {
        match (url.scheme_str(), &self.no_tls) {
            (Some("https"), Some(why)) => return Err(Failed::Unasked(why.clone())),
            (Some("http"), _) if self.home.endpoint.starts_with("https:") => {
                let host = url.host().unwrap_or_default();
                return Err(wrong(name, format!("the hub sends on to {host} without TLS, which is refused")));
            }
            _ => {}
        }
        let request = if head { self.agent.head(url) } else { self.agent.get(url) };
        // sizes are those of the files
        let mut request = request.header("accept-encoding", "identity");
        if from > 0 {
            request = request.header("range", format!("bytes={from}-"));
        }
        if let (true, Some(token)) = (is_own, &self.home.token) {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.call().map_err(|e| self.unreachable(&e))
    }
    fn unreachable(&self, e: &ureq::Error) -> Failed {
        Failed::Unasked(format!("{} cannot be reached ({e})", self.home.endpoint))
    }
    /// The last answer, if it is what was asked for.
    fn good(
        &self,
        name: &Name,
        file: Option<&str>,
        mut answers: Vec<Response<Body>>,
    ) -> Result<Response<Body>> {
        let endpoint = &self.home.endpoint;
        let Some(answer) = answers.pop() else { return Err(wrong(name, format!("{endpoint} says nothing"))) };
        let (status, repository) = (answer.status().as_u16(), &name.repository);
        let code = answers.iter().chain([&answer]).find_map(|a| text(a.headers(), "x-error-code"));
        let (page, kind) = (format!("{endpoint}/{}{repository}", name.prefix()), name.kind.word());
        let why = match (status, code.as_deref(), &self.home.token) {
            (200 | 206, ..) => return Ok(answer),
            (429 | 500.., ..) => {
                return Err(Failed::Unasked(format!("{endpoint} answers with status {status}")));
            }
            (401 | 403, Some("GatedRepo"), None) => {
                format!(
                    "it is given to those who ask for it at {page} only: do that, and set HF_TOKEN or log in with `hf auth login`"
                )
            }
            (403, ..) | (401, Some("GatedRepo"), _) => {
                format!(
                    "the token in HF_TOKEN, or of the login, may not read it: ask for access at {page}, or take another token"
                )
            }
            (401, ..) => {
                let token = if self.home.token.is_some() {
                    "check the name and the token".to_string()
                } else {
                    format!(
                        "check the name; for a {kind} that is not public set HF_TOKEN, or log in with `hf auth login`"
                    )
                };
                format!("{endpoint} has no such {kind}, or not for this user (status 401): {token}")
            }
            (404, Some("RevisionNotFound"), _) => {
                format!("{endpoint} has the {kind}, but no revision `{}`", name.revision)
            }
            (404, ..) => match file {
                Some(file) => format!("{endpoint} has no {file} (status 404)"),
                None => format!("{endpoint} has no such {kind} or revision (status 404): check the name"),
            },
            _ => format!("{endpoint} answers with status {status} for {}", file.unwrap_or(CONFIG)),
        };
        Err(wrong(name, why))
    }
}

pub fn wrong(name: &Name, why: String) -> Failed {
    Failed::Wrong(Error::Hub { model: name.to_string(), why })
}
fn text(headers: &HeaderMap, key: &str) -> Option<String> {
    headers.get(key).and_then(|value| value.to_str().ok()).map(String::from)
}
/// Scheme, host and port.
fn origin(url: &Uri) -> (String, String, u16) {
    let scheme = url.scheme_str().unwrap_or_default().to_ascii_lowercase();
    let port = url.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    (scheme, url.host().unwrap_or_default().to_ascii_lowercase(), port)
}
/// Where a redirection leads to.
fn joined(from: &Uri, to: &str) -> String {
    let scheme = from.scheme_str().unwrap_or_default();
    let host = from.authority().map(|a| a.as_str()).unwrap_or_default();
    let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
    match to {
        _ if to.contains("://") => to.into(),
        _ if to.starts_with("//") => format!("{scheme}:{to}"),
        _ if to.starts_with('/') => format!("{scheme}://{host}{to}"),
        _ => format!("{scheme}://{host}{folder}/{to}"),
    }
}
/// As a part of an address.
fn encoded(text: &str) -> String {
    let one = |b: u8| match b {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(b).to_string(),
        _ => format!("%{b:02X}"),
    };
    text.bytes().map(one).collect()
}

/// TLS without C code.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn tls(home: &Home) -> std::result::Result<TlsConfig, String> {
    if !graviola::util::is_cpu_supported() {
        return Err("TLS needs a processor with AES, and on x86-64 with AVX2 and ADX".into());
    }
    let roots = home.authorities.as_deref().map_or(Ok(RootCerts::WebPki), authorities)?;
    let tls = TlsConfig::builder().provider(TlsProvider::Rustls).root_certs(roots);
    Ok(tls.unversioned_rustls_crypto_provider(Arc::new(rustls_graviola::default_provider())).build())
}
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn tls(home: &Home) -> std::result::Result<TlsConfig, String> {
    home.authorities.as_deref().map_or(Ok(RootCerts::WebPki), authorities)?;
    Err("there is no TLS for this kind of processor".into())
}
/// Certificates in a file.
fn authorities(file: &Path) -> std::result::Result<RootCerts, String> {
    let failed = |why: String| format!("SSL_CERT_FILE is {}: {why}", file.display());
    let pem = std::fs::read(file).map_err(|e| failed(e.to_string()))?;
    let mut all = vec![];
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(one) = item.map_err(|e| failed(e.to_string()))? {
            all.push(one);
        }
    }
    if all.is_empty() {
        Err(failed("there is no certificate in it".into()))
    } else {
        Ok(RootCerts::Specific(Arc::new(all)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirections_are_joined_and_origins_told_apart() {
        let from: Uri = "https://hub.co/a/resolve/x?q".parse().unwrap();
        for (to, url) in [
            ("https://cdn.co/b?s=1", "https://cdn.co/b?s=1"),
            ("//cdn.co/b", "https://cdn.co/b"),
            ("/api/b", "https://hub.co/api/b"),
            ("y", "https://hub.co/a/resolve/y"),
        ] {
            assert_eq!(joined(&from, to), url);
        }
        let same = |a: &str, b: &str| origin(&a.parse().unwrap()) == origin(&b.parse().unwrap());
        assert!(same("https://Hub.co/a", "https://hub.co:443/b"));
        for other in ["http://hub.co", "https://hub.co:8443", "https://hub.co.evil.co", "https://cdn.hub.co"]
        {
            assert!(!same("https://hub.co", other), "{other}");
        }
    }

    #[test]
    fn parts_of_addresses_are_encoded() {
        assert_eq!(encoded("refs/pr/1 ä"), "refs%2Fpr%2F1%20%C3%A4");
    }
}
