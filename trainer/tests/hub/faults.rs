//! What can go wrong on the way.
use super::{
    downloads::{INSPECT, ask, asking, folder},
    server::{COMMIT, Hub, Request, etag},
    *,
};

/// The bytes of the weights that are there so far, and whether they pass for whole.
fn weights(work: &Work) -> (Option<u64>, bool) {
    let blob = etag("model.safetensors", &small()["model.safetensors"]);
    let blobs = folder(work).join("blobs");
    let part = std::fs::metadata(blobs.join(format!("{blob}.incomplete"))).map(|m| m.len()).ok();
    let link = folder(work).join("snapshots").join(COMMIT).join("model.safetensors");
    assert_eq!(blobs.join(&blob).exists(), link.exists());
    (part, link.exists())
}
fn ranges(hub: &Hub) -> Vec<Option<String>> {
    let seen = std::mem::take(&mut hub.state().seen);
    seen.iter().filter(|r: &&Request| r.of_cdn).map(|r| r.headers.get("range").cloned()).collect()
}

#[test]
fn a_download_that_breaks_off_goes_on() {
    let work = Work::empty();
    let hub = Hub::serving(small());
    hub.state().cut = Some((40_000, 2));
    ask(&work, &hub, INSPECT).good();
    assert_eq!(ranges(&hub), [None, Some("bytes=40000-".into()), Some("bytes=80000-".into())]);
    assert_eq!(weights(&work), (None, true));
}

#[test]
fn one_that_comes_to_nothing_is_no_model_and_goes_on_the_next_time() {
    let work = Work::empty();
    let hub = Hub::serving(small());
    hub.state().cut = Some((50_000, 1));
    let state = |hub: &Hub| hub.state().cut = Some((0, 100));
    // a part comes, and then nothing more
    let mut first = asking(&work, &hub, INSPECT);
    let hub = std::thread::scope(|scope| {
        let ran = scope.spawn(|| Ran::of(&mut first));
        while hub.state().cut != Some((50_000, 0)) && !ran.is_finished() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        state(&hub);
        ran.join().unwrap().fails(&["model.safetensors", "broke off at byte 50000 of 105312", "it goes on"]);
        hub
    });
    assert_eq!(weights(&work), (Some(50_000), false));
    assert!(!folder(&work).join("refs/main").exists());
    Ran::of(asking(&work, &hub, INSPECT).env("HF_HUB_OFFLINE", "1")).fails(&["it is not in the cache"]);
    ranges(&hub);
    hub.state().cut = None;
    ask(&work, &hub, INSPECT).good();
    assert_eq!(ranges(&hub), [Some("bytes=50000-".into())]);
    assert_eq!(weights(&work), (None, true));
}

#[test]
fn what_is_left_of_another_file_is_not_a_beginning() {
    let work = Work::empty();
    let hub = Hub::serving(small());
    let bytes = &small()["model.safetensors"];
    let part = folder(&work).join("blobs").join(etag("model.safetensors", bytes) + ".incomplete");
    let rest = |length: usize| {
        std::fs::create_dir_all(part.parent().unwrap()).unwrap();
        std::fs::write(&part, vec![7; length]).unwrap();
    };
    for (length, whole_only, want) in [
        (1000, false, vec![Some("bytes=1000-".to_string()), None]),
        (1000, true, vec![Some("bytes=1000-".to_string())]),
        (bytes.len(), false, vec![None]),
        (bytes.len() + 1, false, vec![None]),
    ] {
        rest(length);
        hub.state().whole_only = whole_only;
        ask(&work, &hub, INSPECT).good();
        assert_eq!(ranges(&hub), want, "{length}");
        assert_eq!(weights(&work), (None, true));
        std::fs::remove_dir_all(folder(&work)).unwrap();
    }
    // what is there already whole needs checking only
    std::fs::create_dir_all(part.parent().unwrap()).unwrap();
    std::fs::write(&part, bytes).unwrap();
    ask(&work, &hub, INSPECT).good();
    assert_eq!(ranges(&hub), []);
}

#[test]
fn other_bytes_than_those_that_were_promised_are_refused() {
    let work = Work::empty();
    let hub = Hub::serving(small());
    hub.state().spoiled = true;
    let hash = etag("model.safetensors", &small()["model.safetensors"]);
    ask(&work, &hub, INSPECT).fails(&["hf:tiny/demo: model.safetensors", &format!("SHA-256 {hash}")]);
    assert_eq!(weights(&work), (Some(0), false));
    hub.state().spoiled = false;
    ask(&work, &hub, INSPECT).good();
    assert_eq!(weights(&work), (None, true));
}

#[test]
fn a_blob_of_the_wrong_length_is_fetched_again() {
    let work = Work::empty();
    let hub = Hub::serving(small());
    ask(&work, &hub, INSPECT).good();
    let blob = folder(&work).join("blobs").join(etag("model.safetensors", &small()["model.safetensors"]));
    std::fs::write(&blob, b"cut").unwrap();
    std::fs::remove_dir_all(folder(&work).join("snapshots")).unwrap();
    ask(&work, &hub, INSPECT).good();
    assert_eq!(std::fs::read(blob).unwrap(), small()["model.safetensors"]);
}

#[test]
fn what_the_hub_refuses_is_said_with_what_to_do() {
    let work = Work::empty();
    let hub = Hub::serving(small());
    let ask_for = |model: &str, token: Option<&str>| {
        let mut command = asking(&work, &hub, &format!("inspect --model {model}"));
        Ran::of(command.envs(token.map(|token| ("HF_TOKEN", token))))
    };
    let page = format!("{}/tiny/gated", hub.endpoint);
    ask_for("hf:tiny/gated", None).fails(&["hf:tiny/gated", &page, "set HF_TOKEN", "hf auth login"]);
    let ran = ask_for("hf:tiny/gated", Some("hf_secret"));
    assert!(!ran.stderr.contains("hf_secret"));
    ran.fails(&["hf:tiny/gated", "ask for access", &page]);
    ask_for("hf:tiny/none", None).fails(&["hf:tiny/none", "status 401", "check the name", "set HF_TOKEN"]);
    ask_for("hf:tiny/none", Some("hf_secret")).fails(&["check the name and the token"]);
    ask_for("hf:tiny/demo@v9", None).fails(&["hf:tiny/demo@v9", "no revision `v9`"]);
    ask_for("hf:old/demo@v9", None).fails(&["hf:old/demo@v9", "no revision `v9`"]); // it was sent on
    hub.state().status = Some(418);
    ask_for("hf:tiny/demo", None).fails(&["status 418"]);
    for status in [429, 500, 503] {
        hub.state().status = Some(status);
        ask_for("hf:tiny/demo", None).fails(&[
            "it is not in the cache",
            &format!("status {status}"),
            "`hf download tiny/demo`",
        ]);
    }
    hub.state().status = None;
    hub.state().files.remove("config.json");
    ask_for("hf:tiny/demo", None).fails(&["has no config.json"]);
    hub.state().commit = "../../x".into();
    ask_for("hf:tiny/demo", None).fails(&["its commit is `../../x`"]);
    assert!(!folder(&work).join("snapshots").exists());
}

#[test]
fn where_nobody_answers_the_error_says_so() {
    let work = Work::empty();
    let hub = Hub::serving(small());
    let mut command = asking(&work, &hub, INSPECT);
    let endpoint = hub.endpoint.clone();
    drop(hub);
    Ran::of(&mut command).fails(&[
        "it is not in the cache",
        &endpoint,
        "cannot be reached",
        "`hf download tiny/demo`",
    ]);
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[test]
fn tls_is_with_whom_it_should_be_and_is_not_given_up() {
    let work = Work::empty();
    let hub = Hub::with_tls(small());
    let at = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hub/tls").join(name);
    let ask = |line: &str, authorities: &Path| {
        Ran::of(asking(&work, &hub, line).env("HF_TOKEN", "hf_secret").env("SSL_CERT_FILE", authorities))
    };
    let config = "memory --model hf:tiny/demo --batch 1 --length 4 --methods lora";
    ask(config, &at("server.key")).fails(&["SSL_CERT_FILE", "server.key", "no certificate in it"]);
    ask(config, &at("none.pem")).fails(&["SSL_CERT_FILE", "none.pem"]);
    // one whom the web's authorities do not know is told nothing
    Ran::of(&mut asking(&work, &hub, config)).fails(&[&hub.endpoint, "cannot be reached", "certificate"]);
    assert!(hub.seen().is_empty());
    ask(config, &at("ca.pem")).good();
    assert!(folder(&work).join("snapshots").join(COMMIT).join("config.json").is_file());
    // and what is large is not fetched without TLS if the hub has it
    ask(INSPECT, &at("ca.pem")).fails(&["hf:tiny/demo", "without TLS"]);
    assert_eq!(weights(&work), (Some(0), false));
    let seen = std::mem::take(&mut hub.state().seen);
    assert!(seen.iter().all(|r| !r.of_cdn && r.headers["authorization"] == "Bearer hf_secret"));
}
