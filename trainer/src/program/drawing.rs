//! A model's architecture as lines of a terminal.
use engraft::reports::architecture::{Added, Alike, Architecture, Row, Size, sides};

/// A line: how far it is moved in, and its columns.
struct Line {
    depth: usize,
    name: String,
    shape: String,
    storage: &'static str,
    size: Size,
    site: String,
}
impl Line {
    fn title(depth: usize, name: impl Into<String>, size: Size) -> Line {
        let (shape, storage, site) = (String::new(), "", String::new());
        Line { depth, name: name.into(), shape, storage, size, site }
    }
    fn added(depth: usize, a: &Added, many: bool) -> Line {
        let name = if many { format!("+ {} of {}", a.kind, a.adapter) } else { format!("+ {}", a.kind) };
        let size = Size { added: a.parameters, ..Size::default() };
        let shapes: Vec<String> = a.tensors.iter().map(|(_, shape)| sides(shape)).collect();
        Line { shape: shapes.join(", "), ..Line::title(depth, name, size) }
    }
}

/// The drawing: a line of headings, sections, their layers, sub-layers and modules, and a sum.
pub fn lines(a: &Architecture) -> Vec<String> {
    let mut all = vec![];
    let adapters: Vec<&str> = names(a);
    let many = adapters.len() > 1;
    let mut sum = Size::default();
    for section in &a.sections {
        sum += section.size;
        all.push(Line::title(0, section.name, section.size));
        for alike in &section.layers {
            all.push(Line::title(1, layers(alike), alike.each));
            for part in &alike.parts {
                if part.name != "layer" {
                    all.push(Line::title(2, title(part.name), part.size));
                }
                let depth = if part.name == "layer" { 2 } else { 3 };
                part.rows.iter().for_each(|row| rows(row, depth, many, &mut all));
            }
        }
        section.rows.iter().for_each(|row| rows(row, 1, many, &mut all));
    }
    for shared in &a.shared {
        sum.added += shared.parameters;
        all.push(Line::added(0, shared, many));
    }
    all.push(Line::title(0, "all", sum));
    let adds = sum.added > 0;
    let width = |f: &dyn Fn(&Line) -> usize| all.iter().map(f).max().unwrap_or(0);
    let name = width(&|l| 2 * l.depth + l.name.chars().count());
    let (shape, storage) = (width(&|l| l.shape.chars().count()), width(&|l| l.storage.len()));
    let number = |n: usize| if n == 0 { String::new() } else { n.to_string() };
    let line = |name_: &str, shape_: &str, storage_: &str, numbers: [&str; 3], site: &str| {
        let mut text = format!("{name_:<name$}  {shape_:<shape$}  {storage_:<storage$}");
        text += &format!("  {:>12}  {:>13}", numbers[0], numbers[1]);
        if adds {
            text += &format!("  {:>11}", numbers[2]);
        }
        format!("{text}  {site}").trim_end().to_string()
    };
    let mut text = vec![line("", "", "", ["parameters", "bytes", "adds"], "site")];
    for l in &all {
        let title = format!("{}{}", "  ".repeat(l.depth), l.name);
        let [p, b, a] = [l.size.parameters, l.size.bytes, l.size.added].map(number);
        text.push(line(&title, &l.shape, l.storage, [&p, &b, &a], &l.site));
    }
    text
}
/// The adapters that stand somewhere.
fn names(a: &Architecture) -> Vec<&str> {
    let of_layers = a.sections.iter().flat_map(|s| &s.layers).flat_map(|l| &l.parts).flat_map(|p| &p.rows);
    let rows = a.sections.iter().flat_map(|s| &s.rows).chain(of_layers);
    let mut names: Vec<&str> = rows.flat_map(|r| &r.adds).map(|a| a.adapter.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names
}
fn rows(row: &Row, depth: usize, many: bool, to: &mut Vec<Line>) {
    let size = Size { added: 0, ..row.size };
    let storage = row.tensors.first().map_or("", |t| t.storage);
    let site = row.site.clone().unwrap_or_default();
    to.push(Line { shape: row.shape.clone(), storage, site, ..Line::title(depth, &row.name, size) });
    to.extend(row.adds.iter().map(|a| Line::added(depth + 1, a, many)));
}
fn title(part: &str) -> &str {
    match part {
        "attn" => "attention",
        "cross" => "attention to the encoder",
        "ffn" => "feed-forward",
        other => other,
    }
}
/// `layers 0-11  x 12`, and how many of them have weights of their own.
fn layers(a: &Alike) -> String {
    let mut ranges = vec![];
    for run in a.layers.chunk_by(|l, next| l + 1 == *next) {
        match run {
            [one] => ranges.push(one.to_string()),
            [first, .., last] => ranges.push(format!("{first}-{last}")),
            [] => {}
        }
    }
    let times = a.layers.len();
    let word = if times == 1 { "layer" } else { "layers" };
    let times = if times == 1 { String::new() } else { format!("  x {times}") };
    let shared = match a.sets {
        1 if a.layers.len() == 1 => String::new(),
        n if n == a.layers.len() => ", each".into(),
        1 => ", with one set of weights".into(),
        n => format!(", with {n} sets of weights"),
    };
    format!("{word} {}{times}{shared}", ranges.join(","))
}
