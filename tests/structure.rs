//! The shape of the house: crates import downwards, files of a crate not in circles, and files stay
//! readable.
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const CRATES: [&str; 5] = ["kernels", "engine", "models", "adapters", "trainer"];
/// Files that are longer than they should be.
const LONG: usize = 400;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The files of a crate by the path of their module: `ops::linear`; the root's is empty.
struct Files {
    text: BTreeMap<Vec<String>, String>,
    /// The module in which a name that another one hands on is defined: (module, name).
    handed_on: BTreeMap<(Vec<String>, String), Vec<String>>,
}
type Names = Vec<String>;

/// The paths of a `use` tree, each as its segments: `a::{b, c::{self, d as e}}` gives a::b, a::c
/// and a::c::d.
fn paths(tree: &str) -> Vec<Names> {
    fn walk(tree: &str, before: &[String], to: &mut Vec<Names>) {
        let (mut depth, mut start) = (0, 0);
        let mut parts = vec![];
        for (i, c) in tree.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    parts.push(&tree[start..i]);
                    start = i + 1;
                }
                _ => {}
            }
        }
        parts.push(&tree[start..]);
        for part in parts.into_iter().map(str::trim).filter(|p| !p.is_empty()) {
            let (head, rest) = match part.find('{') {
                Some(open) => (&part[..open], Some(&part[open + 1..part.len() - 1])),
                None => (part.split(" as ").next().unwrap(), None),
            };
            let names = head.split("::").map(str::trim).filter(|n| !n.is_empty() && *n != "self");
            let path: Names = before.iter().cloned().chain(names.map(String::from)).collect();
            match rest {
                Some(rest) => walk(rest, &path, to),
                None => to.push(path),
            }
        }
    }
    let mut to = vec![];
    walk(tree, &[], &mut to);
    to
}
/// The trees of all `use` declarations, and whether others may use them too. What is compiled for
/// tests alone stands last in a file and is left out.
fn uses(text: &str) -> Vec<(bool, String)> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let code: String =
        code.lines().map(|l| l.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let mut found = vec![];
    for (i, _) in code.match_indices("use ") {
        let line = code[..i].rsplit('\n').next().unwrap_or_default().trim();
        if !matches!(line, "" | "pub" | "pub(crate)" | "pub(super)") {
            continue;
        }
        let tree = code[i + 4..].split(';').next().unwrap_or_default();
        found.push((!line.is_empty(), tree.split_whitespace().collect::<Vec<_>>().join(" ")));
    }
    found
}
impl Files {
    fn of(krate: &str) -> Files {
        let src = root().join(krate).join("src");
        let mut text = BTreeMap::new();
        for path in sources(&src) {
            let inside = path.strip_prefix(&src).unwrap().with_extension("");
            let mut module: Names = inside.iter().map(|n| n.to_string_lossy().into_owned()).collect();
            match module.last().map(String::as_str) {
                Some("tests" | "cases" | "main") => continue,
                Some("mod" | "lib") => drop(module.pop()),
                _ => {}
            }
            text.insert(module, std::fs::read_to_string(&path).unwrap());
        }
        let mut files = Files { text, handed_on: BTreeMap::new() };
        let modules: Vec<Names> = files.text.keys().cloned().collect();
        // names may be handed on several times
        for _ in 0..3 {
            for module in &modules {
                for (is_public, tree) in uses(&files.text[module]) {
                    for path in paths(&tree).into_iter().filter(|_| is_public) {
                        let Some(name) = path.last().cloned() else { continue };
                        if let Some(home) = files.home(module, &path) {
                            files.handed_on.insert((module.clone(), name), home);
                        }
                    }
                }
            }
        }
        files
    }
    /// The module that defines what a path in `module` names; none if that is another crate's.
    fn home(&self, module: &[String], path: &[String]) -> Option<Names> {
        let mut at: Names = module.to_vec();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => {
                at.clear();
                rest = &path[1..];
            }
            "super" => {
                while rest.first().is_some_and(|n| n == "super") {
                    at.pop();
                    rest = &rest[1..];
                }
            }
            name => {
                let child: Names = at.iter().cloned().chain([name.to_string()]).collect();
                if !self.text.contains_key(&child) {
                    return None;
                }
            }
        }
        while let Some(name) = rest.first() {
            let child: Names = at.iter().cloned().chain([name.clone()]).collect();
            if self.text.contains_key(&child) {
                at = child;
            } else {
                return Some(self.handed_on.get(&(at.clone(), name.clone())).cloned().unwrap_or(at));
            }
            rest = &rest[1..];
        }
        Some(at)
    }
    /// The modules whose definitions a module uses. That a module declares its own parts and hands
    /// them on does not count.
    fn imports(&self, module: &Names) -> BTreeSet<Names> {
        let trees = uses(&self.text[module]).into_iter();
        let all = trees.flat_map(|(is_public, tree)| paths(&tree).into_iter().map(move |p| (is_public, p)));
        all.filter_map(|(is_public, p)| {
            let home = self.home(module, &p)?;
            let is_part = home.starts_with(module) && (is_public || p[0] != "crate");
            (home != *module && !is_part).then_some(home)
        })
        .collect()
    }
}
fn reaches(edges: &BTreeMap<Names, BTreeSet<Names>>, from: &Names) -> BTreeSet<Names> {
    let (mut seen, mut left) = (BTreeSet::new(), vec![from.clone()]);
    while let Some(at) = left.pop() {
        for next in edges.get(&at).into_iter().flatten() {
            if seen.insert(next.clone()) {
                left.push(next.clone());
            }
        }
    }
    seen
}

#[test]
fn files_of_a_crate_import_each_other_in_one_direction() {
    let mut found = vec![];
    for krate in CRATES {
        let files = Files::of(krate);
        let edges: BTreeMap<Names, BTreeSet<Names>> =
            files.text.keys().map(|m| (m.clone(), files.imports(m))).collect();
        let mut circles: BTreeSet<BTreeSet<String>> = BTreeSet::new();
        for module in files.text.keys() {
            let ahead = reaches(&edges, module);
            if ahead.contains(module) {
                let both = ahead.into_iter().filter(|m| reaches(&edges, m).contains(module));
                circles.insert(both.map(|m| m.join("::")).collect());
            }
        }
        // a buffer gives its memory back to its device, which made it
        circles.retain(|c| !(krate == "kernels" && c.iter().eq(["buffer", "device"])));
        found.extend(
            circles.into_iter().map(|c| format!("{krate}: {}", c.into_iter().collect::<Vec<_>>().join(", "))),
        );
    }
    assert!(found.is_empty(), "files that import each other in circles:\n{}", found.join("\n"));
}

#[test]
fn a_use_tree_is_read_as_the_compiler_reads_it() {
    let names = |t: &str| paths(t).iter().map(|p| p.join("::")).collect::<Vec<_>>();
    assert_eq!(
        names("crate::{a::{self, B as C}, d::{E, f::G}, H}"),
        ["crate::a", "crate::a::B", "crate::d::E", "crate::d::f::G", "crate::H"]
    );
    let text =
        "use a::b;\npub use crate::c; // use x::y;\nlet house = 3;\n#[cfg(test)]\nmod tests {\nuse z;\n}";
    assert_eq!(uses(text), [(false, "a::b".to_string()), (true, "crate::c".to_string())]);
}

#[test]
fn files_stay_readable() {
    let all = CRATES.iter().flat_map(|c| sources(&root().join(c)));
    let own = sources(&root().join("tests"));
    let mut long = vec![];
    for path in all.chain(own).filter(|p| !p.iter().any(|part| part == "target")) {
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        if lines > LONG {
            long.push(format!("{}: {lines}", path.strip_prefix(root()).unwrap().display()));
        }
    }
    assert!(long.is_empty(), "files of more than {LONG} lines:\n{}", long.join("\n"));
}

#[test]
fn what_exists_once_is_named_once() {
    // families, methods and tasks are known to their own files and registries
    for (krate, name, allowed) in [
        ("models", "gpt2::", &["registry.rs", "lib.rs"][..]),
        ("models", "bert::", &["registry.rs", "lib.rs"]),
    ] {
        for path in sources(&root().join(krate).join("src")) {
            let text = std::fs::read_to_string(&path).unwrap();
            let file = path.file_name().unwrap().to_string_lossy().into_owned();
            assert!(!text.contains(name) || allowed.contains(&&*file), "{} names {name}", path.display());
        }
    }
}
