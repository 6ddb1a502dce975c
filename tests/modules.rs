//! Inside a crate the files depend on each other in one direction: no circles.
//!
//! The text is read, not compiled: a file uses another if a path in it leads there, through re-exports to where a name is
//! defined. What stands in `#[cfg(test)]` modules and comments is not looked at.
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

const CRATES: [&str; 5] = ["kernels", "engine", "models", "adapters", "trainer"];
/// Files that belong together: what one allocates the other counts.
const TOGETHER: [(&str, &str); 1] = [("kernels::buffer", "kernels::device")];

/// The module that a file is: `["run", "train"]`.
type Module = Vec<String>;

/// A file: its own modules, and the paths in it.
#[derive(Default)]
struct File {
    /// Paths that are used, from the crate's root.
    uses: BTreeSet<Vec<String>>,
    /// Names that `use` brings in, and where they lead; none: out of the crate.
    names: BTreeMap<String, Option<Vec<String>>>,
}

fn files(directory: &Path, module: &[String], into: &mut BTreeMap<Module, PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap().map(|e| e.unwrap().path()) {
        let name = entry.file_stem().unwrap().to_str().unwrap().to_string();
        let path: Module = module.iter().cloned().chain([name.clone()]).collect();
        match (entry.is_dir(), entry.extension().and_then(|e| e.to_str()), name.as_str()) {
            (true, ..) => files(&entry, &path, into),
            (_, Some("rs"), "lib" | "mod" | "main") => drop(into.insert(module.to_vec(), entry)),
            (_, Some("rs"), "tests") => {}
            (_, Some("rs"), _) => drop(into.insert(path, entry)),
            _ => {}
        }
    }
}

/// The code of a file, without comments, strings and test modules.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let line = |l: &str| l.split("//").next().unwrap_or_default().to_string() + "\n";
    text.lines().map(line).collect()
}

/// Every leaf of a use tree: `a::{b, c::d as e}` gives `a::b` and `a::c::d`, with the names `b` and `e`.
fn leaves(tree: &str, before: &[String], into: &mut Vec<(Vec<String>, String)>) {
    let tree = tree.trim();
    let (head, group) = match tree.split_once('{') {
        Some((head, group)) => (head, Some(group.trim().trim_end_matches('}'))),
        None => (tree, None),
    };
    let (head, alias) = head.split_once(" as ").map_or((head, None), |(h, a)| (h, Some(a.trim())));
    let mut path = before.to_vec();
    path.extend(head.split("::").map(str::trim).filter(|s| !s.is_empty() && *s != "self").map(String::from));
    match group {
        None => {
            let name = alias.map(String::from).or_else(|| path.last().cloned()).unwrap_or_default();
            into.push((path, name));
        }
        Some(_) => {
            let inner = &tree[tree.find('{').unwrap() + 1..tree.rfind('}').unwrap_or(tree.len())];
            let (mut depth, mut from) = (0, 0);
            for (i, c) in inner.char_indices().chain([(inner.len(), ',')]) {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        if !inner[from..i].trim().is_empty() {
                            leaves(&inner[from..i], &path, into);
                        }
                        from = i + 1;
                    }
                    _ => {}
                }
            }
        }
    }
}

fn read(path: &Path, module: &[String], modules: &BTreeMap<Module, PathBuf>) -> File {
    let text = code(&std::fs::read_to_string(path).unwrap());
    let mut file = File::default();
    // from the crate's root
    let rooted = |path: Vec<String>| -> Option<Vec<String>> {
        let ups = path.iter().take_while(|s| *s == "super").count();
        match path.first().map(String::as_str) {
            Some("crate") => Some(path[1..].to_vec()),
            Some("super") => {
                let base = module.len().checked_sub(ups)?;
                Some(module[..base].iter().chain(&path[ups..]).cloned().collect())
            }
            Some(first) => {
                let child: Module = module.iter().cloned().chain([first.to_string()]).collect();
                modules.contains_key(&child).then(|| module.iter().chain(&path).cloned().collect())
            }
            None => None,
        }
    };
    let mut rest = text.as_str();
    while let Some(at) = rest.find("use ") {
        let starts = rest[..at].chars().next_back().is_none_or(|c| c.is_whitespace() || c == ')');
        rest = &rest[at + 4..];
        let Some(end) = rest.find(';').filter(|_| starts) else { continue };
        let mut all = vec![];
        leaves(&rest[..end].replace('\n', " "), &[], &mut all);
        for (path, name) in all {
            let path = rooted(path);
            file.uses.extend(path.clone());
            file.names.insert(name, path);
        }
        rest = &rest[end..];
    }
    // paths in the code itself
    for start in ["crate::", "super::"] {
        for (at, _) in text.match_indices(start) {
            if text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
                continue;
            }
            let end = text[at..].find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(0);
            let path: Vec<_> = text[at..at + end].split("::").filter(|s| !s.is_empty()).map(String::from).collect();
            if path.last().is_some_and(|last| last != "crate" && last != "super") {
                file.uses.extend(rooted(path));
            }
        }
    }
    file
}

/// The file that defines what a path names.
fn target(path: &[String], files: &BTreeMap<Module, File>, depth: usize) -> Option<Module> {
    let module = (0..=path.len()).rev().map(|n| &path[..n]).find(|m| files.contains_key(*m))?;
    let (file, rest) = (&files[module], &path[module.len()..]);
    let Some(name) = rest.first().filter(|_| depth < 8) else { return Some(module.to_vec()) };
    match file.names.get(name) {
        None => Some(module.to_vec()),
        Some(next) => {
            let full: Vec<String> = next.as_ref()?.iter().chain(&rest[1..]).cloned().collect();
            if full == path { Some(module.to_vec()) } else { target(&full, files, depth + 1) }
        }
    }
}

/// The files that can be reached from one.
fn reached(from: &Module, edges: &BTreeMap<Module, BTreeSet<Module>>) -> BTreeSet<Module> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from.clone()]);
    while let Some(m) = open.pop() {
        for next in edges.get(&m).into_iter().flatten() {
            if seen.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    seen
}

#[test]
fn files_depend_on_each_other_in_one_direction() {
    let mut circles = vec![];
    for name in CRATES {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(name).join("src");
        let mut paths = BTreeMap::new();
        files(&root, &[], &mut paths);
        assert!(paths.len() > 3, "{name}");
        let read: BTreeMap<Module, File> =
            paths.iter().map(|(m, path)| (m.clone(), read(path, m, &paths))).collect();
        let edges: BTreeMap<Module, BTreeSet<Module>> = read
            .iter()
            .map(|(m, file)| {
                let to = file.uses.iter().filter_map(|path| target(path, &read, 0)).filter(|t| t != m);
                (m.clone(), to.collect())
            })
            .collect();
        let shown = |m: &Module| [name].into_iter().chain(m.iter().map(String::as_str)).collect::<Vec<_>>().join("::");
        for (from, to) in &edges {
            for to in to.iter().filter(|to| reached(to, &edges).contains(from)) {
                let (a, b) = (shown(from), shown(to));
                let together = |(x, y): &(&str, &str)| (a == *x && b == *y) || (a == *y && b == *x);
                if !TOGETHER.iter().any(together) {
                    circles.push(format!("{a} -> {b}"));
                }
            }
        }
    }
    assert!(circles.is_empty(), "these files are part of circles:\n{}", circles.join("\n"));
}
