//! A hub on the loopback, as huggingface.co answers: what is small from its own address, what is in
//! LFS from another one (`cdn`), to which it redirects.
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::JoinHandle,
    time::Duration,
};

/// A request, as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub of_cdn: bool,
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
}

/// What is served, and what goes wrong with it.
#[derive(Default)]
pub struct State {
    /// Whether `tiny/demo` is a data set, and no model.
    pub is_data: bool,
    /// Of `tiny/demo`.
    pub files: BTreeMap<String, Vec<u8>>,
    pub commit: String,
    /// All requests so far.
    pub seen: Vec<Request>,
    /// After so many bytes of an answer of the CDN it breaks off, as often as is said.
    pub cut: Option<(usize, usize)>,
    /// The CDN sends other bytes.
    pub spoiled: bool,
    /// The CDN sends files from the beginning, whatever is asked for.
    pub whole_only: bool,
    /// The list of files comes with this status.
    pub status: Option<u16>,
}

pub struct Hub {
    /// Where it is: `HF_ENDPOINT`.
    pub endpoint: String,
    address: SocketAddr,
    cdn: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// The commit that a hub begins with.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

impl Hub {
    pub fn serving(files: BTreeMap<String, Vec<u8>>) -> Hub {
        Hub::start(files, false)
    }
    /// The same with TLS, as `localhost`. What is large then comes from an address without.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    pub fn with_tls(files: BTreeMap<String, Vec<u8>>) -> Hub {
        Hub::start(files, true)
    }
    fn start(files: BTreeMap<String, Vec<u8>>, with_tls: bool) -> Hub {
        let state = Arc::new(Mutex::new(State { files, commit: COMMIT.into(), ..State::default() }));
        let stop = Arc::new(AtomicBool::new(false));
        let [own, cdn] = [(), ()].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let (address, cdn_address) = (own.local_addr().unwrap(), cdn.local_addr().unwrap());
        let listen = |listener: TcpListener, of_cdn: bool| {
            let (state, stop) = (state.clone(), stop.clone());
            std::thread::spawn(move || {
                for stream in listener.incoming().take(10_000) {
                    if stop.load(SeqCst) {
                        break;
                    }
                    let (state, stream) = (state.clone(), stream.unwrap());
                    // one who hangs up early is part of the game
                    std::thread::spawn(move || {
                        drop(stream.set_read_timeout(Some(Duration::from_secs(10))));
                        match with_tls && !of_cdn {
                            true => drop(answer(tls(stream), &state, of_cdn, cdn_address)),
                            false => drop(answer(stream, &state, of_cdn, cdn_address)),
                        }
                    });
                }
            })
        };
        let threads = vec![listen(own, false), listen(cdn, true)];
        let endpoint = match with_tls {
            true => format!("https://localhost:{}", address.port()),
            false => format!("http://{address}"),
        };
        Hub { endpoint, address, cdn: cdn_address, state, stop, threads }
    }
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
    /// Paths of requests since this was asked last, with their methods.
    pub fn seen(&self) -> Vec<String> {
        let seen = std::mem::take(&mut self.state().seen);
        seen.iter().map(|r| format!("{} {}", r.method, r.path)).collect()
    }
}
impl Drop for Hub {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        for address in [self.address, self.cdn] {
            drop(TcpStream::connect(address));
        }
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

/// What the CDN has.
pub fn is_large(name: &str) -> bool {
    [".safetensors", ".bin", ".parquet"].iter().any(|end| name.ends_with(end))
}
pub fn etag(name: &str, bytes: &[u8]) -> String {
    let hash: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    if is_large(name) { hash } else { hash[..40].into() }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn tls(stream: TcpStream) -> impl Read + Write {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    let certificate = CertificateDer::from_pem_slice(include_bytes!("tls/server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/server.key")).unwrap();
    let provider = Arc::new(rustls_graviola::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.unwrap().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    rustls::StreamOwned::new(rustls::ServerConnection::new(Arc::new(config)).unwrap(), stream)
}
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn tls(stream: TcpStream) -> TcpStream {
    stream
}

fn answer(
    mut stream: impl Read + Write,
    state: &Mutex<State>,
    of_cdn: bool,
    cdn: SocketAddr,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(&mut stream).lines();
    let mut first = String::new();
    let mut headers = BTreeMap::new();
    for line in lines.by_ref() {
        let line = line?;
        match line.split_once(':') {
            _ if line.is_empty() => break,
            Some((key, value)) if !first.is_empty() => {
                headers.insert(key.to_ascii_lowercase(), value.trim().to_string());
            }
            _ => first = line,
        }
    }
    if first.is_empty() {
        return Ok(()); // nobody asked
    }
    let mut words = first.split(' ').map(String::from);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let request = Request { of_cdn, method, path, headers };
    let reply = reply(&request, &mut state.lock().unwrap(), cdn);
    reply.send(stream, request.method == "HEAD")
}

struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// Bytes of the body that are sent.
    sent: usize,
}
impl Reply {
    fn new(status: u16, headers: &[(&'static str, String)], body: &[u8]) -> Reply {
        Reply { status, headers: headers.to_vec(), body: body.into(), sent: body.len() }
    }
    fn send(self, mut to: impl Write, is_head: bool) -> std::io::Result<()> {
        let mut head = format!(
            "HTTP/1.1 {} X\r\nContent-Length: {}\r\nConnection: close\r\n",
            self.status,
            self.body.len()
        );
        self.headers.iter().for_each(|(key, value)| head += &format!("{key}: {value}\r\n"));
        to.write_all(format!("{head}\r\n").as_bytes())?;
        if !is_head {
            to.write_all(&self.body[..self.sent])?;
        }
        to.flush()
    }
}

fn reply(request: &Request, state: &mut State, cdn: SocketAddr) -> Reply {
    state.seen.push(request.clone());
    let missing = |code: &str| Reply::new(404, &[("X-Error-Code", code.into())], b"");
    if request.of_cdn {
        return from_cdn(request, state);
    }
    let refused = |status, code: &str| Reply::new(status, &[("X-Error-Code", code.into())], b"");
    let parts: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
    let of_data = parts.get(1) == Some(&"datasets") || parts[0] == "datasets";
    match parts[..] {
        ["api", "models", "tiny", "gated", ..] => match request.headers.contains_key("authorization") {
            true => refused(403, "GatedRepo"),
            false => refused(401, "GatedRepo"),
        },
        ["api", "models", "old", "demo", "revision", revision] => {
            Reply::new(307, &[("Location", format!("/api/models/tiny/demo/revision/{revision}"))], b"")
        }
        ["api", "models" | "datasets", "tiny", "demo", "revision", revision] if of_data == state.is_data => {
            if let Some(status) = state.status {
                return Reply::new(status, &[], b"");
            }
            if !["main", "v1", "refs%2Fpr%2F1", &state.commit].contains(&revision) {
                return missing("RevisionNotFound");
            }
            let others = ["README.md", "onnx/model.onnx", "tf_model.h5", "../evil.json"].map(String::from);
            let others = others.into_iter().filter(|name| !state.is_data || name.starts_with(".."));
            let names = state.files.keys().cloned().chain(others);
            let siblings: Vec<_> = names.map(|name| serde_json::json!({"rfilename": name})).collect();
            let list = serde_json::json!({"id": "tiny/demo", "sha": state.commit, "siblings": siblings});
            Reply::new(200, &[], list.to_string().as_bytes())
        }
        ["api", "models" | "datasets", ..] => refused(401, "RepoNotFound"),
        ["tiny", "demo", "resolve", commit, ..] | ["datasets", "tiny", "demo", "resolve", commit, ..]
            if commit == state.commit && of_data == state.is_data =>
        {
            let name = &parts[if of_data { 5 } else { 4 }..].join("/");
            let Some(bytes) = state.files.get(name) else { return missing("EntryNotFound") };
            let etag = etag(name, bytes);
            if is_large(name) {
                let to = format!("http://{cdn}/blob/{etag}?X-Amz-Signature=1");
                let linked =
                    [("X-Linked-Etag", format!("\"{etag}\"")), ("X-Linked-Size", bytes.len().to_string())];
                return Reply::new(302, &[&[("Location", to)], &linked[..]].concat(), b"");
            }
            Reply::new(307, &[("Location", format!("/cached/{name}"))], b"Temporary redirect")
        }
        ["cached", ..] => {
            let name = &parts[1..].join("/");
            let bytes = state.files.get(name).cloned().unwrap_or_default();
            let etag = format!("W/\"{}\"", etag(name, &bytes));
            Reply::new(200, &[("ETag", etag), ("X-Repo-Commit", state.commit.clone())], &bytes)
        }
        _ => missing("EntryNotFound"),
    }
}
fn from_cdn(request: &Request, state: &mut State) -> Reply {
    let wanted = |(name, bytes): &(&String, &Vec<u8>)| request.path.contains(&etag(name, bytes));
    let Some((_, bytes)) = state.files.iter().find(wanted) else { return Reply::new(404, &[], b"") };
    let mut bytes = bytes.clone();
    if state.spoiled {
        bytes[0] ^= 1;
    }
    let all = bytes.len();
    let range =
        request.headers.get("range").and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let from: usize = range.filter(|_| !state.whole_only).unwrap_or(0);
    let mut reply = match from {
        0 => Reply::new(200, &[], &bytes),
        from if from >= all => return Reply::new(416, &[], b""),
        from => {
            Reply::new(206, &[("Content-Range", format!("bytes {from}-{}/{all}", all - 1))], &bytes[from..])
        }
    };
    if let Some((length, times)) = &mut state.cut
        && *times > 0
    {
        *times -= 1;
        reply.sent = reply.sent.min(*length);
    }
    reply
}
