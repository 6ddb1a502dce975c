//! What pages are put together from.
use crate::reports::picture::{COLOURS, Chart, Series, Style};

/// How a page looks.
const STYLE: &str = include_str!("style.css");
/// The most rows of the numbers of a chart.
const ROWS: usize = 50;

/// Text in a page.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            // no page may hold them
            '\0'..='\x08' | '\x0b'..='\x1f' | '\x7f' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A whole page, of markup that is safe.
pub fn document(title: &str, about: &str, body: &str) -> String {
    let (title, about) = (escape(title), escape(about));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>\n<p>{about}</p>\n</header>\n<main>\n{body}\
         <p class=\"colophon\">Written by engraft {}.</p>\n</main>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// A section with a heading and a line below it; nothing if there is nothing in it.
pub fn section(title: &str, about: &str, body: &str) -> String {
    if body.is_empty() {
        return String::new();
    }
    let about = if about.is_empty() { String::new() } else { format!("<p>{}</p>\n", escape(about)) };
    format!("<section>\n<h2>{}</h2>\n{about}{body}</section>\n", escape(title))
}

/// Figures in a row: what it is, the number, and a remark.
pub fn figures(all: &[(&str, String, String)]) -> String {
    let one = |(name, value, more): &(&str, String, String)| {
        let more = if more.is_empty() { String::new() } else { format!("<small>{}</small>", escape(more)) };
        format!("<div><dt>{}</dt><dd>{}{more}</dd></div>\n", escape(name), escape(value))
    };
    format!("<dl class=\"figures\">\n{}</dl>\n", all.iter().map(one).collect::<String>())
}

/// Charts beside each other, as far as there is room.
pub fn grid(figures: &[String]) -> String {
    if figures.is_empty() {
        String::new()
    } else {
        format!("<div class=\"grid\">\n{}</div>\n", figures.concat())
    }
}

/// A chart with its caption, what its colours mean, and its numbers as a table; none without
/// points.
pub fn figure(caption: &str, series: Vec<Series>, style: Style, show: fn(f64) -> String) -> Option<String> {
    let series: Vec<Series> = series.into_iter().filter(|s| !s.points.is_empty()).collect();
    if series.is_empty() {
        return None;
    }
    let names: Vec<&str> = series.iter().map(|s| s.name.as_str()).collect();
    let title = format!("{caption} by optimiser step: {}", names.join(", "));
    let keys = names
        .iter()
        .enumerate()
        .map(|(n, name)| format!("<li class=\"s{}\">{}</li>", n % COLOURS, escape(name)));
    let keys = if names.len() > 1 {
        format!("<ul class=\"keys\">{}</ul>", keys.collect::<String>())
    } else {
        String::new()
    };
    let numbers = numbers(&series, show);
    let svg = Chart { title, series, style, show }.svg();
    Some(format!(
        "<figure>\n<figcaption>{}{keys}</figcaption>\n{svg}\n<details><summary>Numbers</summary>\n{numbers}</details>\n</figure>\n",
        escape(caption)
    ))
}

/// The numbers of a chart, a row for each step; of many steps some.
fn numbers(series: &[Series], show: fn(f64) -> String) -> String {
    let mut steps: Vec<f64> = series.iter().flat_map(|s| &s.points).map(|p| p.0).collect();
    steps.sort_by(f64::total_cmp);
    steps.dedup();
    let each = steps.len().div_ceil(ROWS).max(1);
    let last = steps.len() - 1;
    let shown = steps.iter().enumerate().filter(|(i, _)| i % each == 0 || *i == last).map(|(_, step)| *step);
    let row = |step: f64| {
        let of = |s: &Series| s.points.iter().find(|p| p.0 == step).map_or(String::new(), |p| show(p.1));
        [format!("{step}")].into_iter().chain(series.iter().map(of)).collect()
    };
    let head: Vec<&str> = ["step"].into_iter().chain(series.iter().map(|s| s.name.as_str())).collect();
    table(&head, &shown.map(row).collect::<Vec<Vec<String>>>(), 1)
}

/// A table whose columns from `numbers` on are numbers.
pub fn table(head: &[&str], rows: &[Vec<String>], numbers: usize) -> String {
    let class = |i: usize| if i >= numbers { " class=\"n\"" } else { "" };
    let heads = head
        .iter()
        .enumerate()
        .map(|(i, name)| format!("<th scope=\"col\"{}>{}</th>", class(i), escape(name)));
    let row = |row: &Vec<String>| {
        let cells = row.iter().enumerate().map(|(i, cell)| match i {
            0 => format!("<th scope=\"row\">{}</th>", escape(cell)),
            _ => format!("<td{}>{}</td>", class(i), escape(cell)),
        });
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    };
    format!(
        "<div class=\"scroll\"><table>\n<thead><tr>{}</tr></thead>\n<tbody>\n{}</tbody>\n</table></div>\n",
        heads.collect::<String>(),
        rows.iter().map(row).collect::<String>()
    )
}

/// A card around a table.
pub fn sheet(body: &str) -> String {
    format!("<div class=\"sheet\">\n{body}</div>\n")
}

/// Settings, a row for each key.
pub fn settings(rows: &[(String, Vec<String>)]) -> String {
    let row = |(key, values): &(String, Vec<String>)| {
        let values: Vec<String> = values.iter().map(|value| escape(value)).collect();
        format!("<tr><th scope=\"row\">{}</th><td>{}</td></tr>\n", escape(key), values.join("<br>"))
    };
    format!(
        "<div class=\"sheet scroll\"><table class=\"settings\">\n<tbody>\n{}</tbody>\n</table></div>\n",
        rows.iter().map(row).collect::<String>()
    )
}

/// The keys of a file of settings such as `run.toml`, and what they are set to, of a list each of
/// it; nothing of text that is no TOML.
pub fn keys(settings: &str) -> Vec<(String, Vec<String>)> {
    let table: toml::Table = settings.parse().unwrap_or_default();
    let one = |value: &toml::Value| match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let values = |value: &toml::Value| match value {
        toml::Value::Array(all) => all.iter().map(one).collect(),
        other => vec![one(other)],
    };
    table.iter().map(|(key, value)| (key.clone(), values(value))).collect()
}

/// A share for people.
pub fn percent(x: f64) -> String {
    if x.is_finite() { format!("{:.1} %", 100.0 * x) } else { "undefined".into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reports::picture::number;

    #[test]
    fn text_is_never_markup() {
        let bad = "<script>\"'&\u{1}";
        let safe = "&lt;script&gt;&quot;&#39;&amp;\u{fffd}";
        assert_eq!(escape(bad), safe);
        let series = || vec![Series { name: bad.into(), points: vec![(1.0, 2.0)] }; 2];
        for html in [
            document(bad, bad, ""),
            section(bad, bad, "x"),
            figures(&[(bad, bad.into(), bad.into())]),
            figure(bad, series(), Style::Lines, number).unwrap(),
            table(&[bad, bad], &[vec![bad.into(), bad.into()]], 1),
            settings(&[(bad.into(), vec![bad.into()])]),
        ] {
            assert!(!html.contains("<script") && html.contains("&lt;script&gt;"), "{html}");
        }
    }

    #[test]
    fn numbers_of_many_steps_are_few() {
        let points: Vec<(f64, f64)> = (0..1000).map(|i| (f64::from(i), 1.0)).collect();
        let table = numbers(&[Series { name: "a".into(), points }], number);
        assert!((50..60).contains(&table.matches("<tr>").count()) && table.contains(">999<"), "{table}");
    }

    #[test]
    fn keys_of_settings() {
        let row =
            |key: &str, values: &[&str]| (key.to_string(), values.iter().map(ToString::to_string).collect());
        let found = keys("a = 1\nb = \"x\"\nc = [\"y\", \"z\"]\n");
        assert_eq!(found, [row("a", &["1"]), row("b", &["x"]), row("c", &["y", "z"])]);
        assert_eq!(keys("thirty epochs"), []);
    }
}
