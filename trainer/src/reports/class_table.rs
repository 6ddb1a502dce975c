//! Classes, or types of entities, as lines of a terminal.
use super::confusion::{ROWS, more};

/// Name, precision, recall, F1 and number.
pub type Row<'a> = (&'a str, f64, f64, f64, u64);

/// A table of rows, those with the highest numbers if there are many, and a last one over all.
pub fn table(title: &str, counted: &str, mut rows: Vec<Row<'_>>, all: Option<Row<'_>>) -> Vec<String> {
    let left_out = more(rows.len());
    if left_out.is_some() {
        rows.sort_by_key(|row| std::cmp::Reverse(row.4));
        rows.truncate(ROWS);
    }
    let widths = rows.iter().chain(&all).map(|r| r.0.chars().count());
    let width = widths.max().unwrap_or(0).max(title.len());
    let head = format!("{title:width$}  precision  recall      F1  {counted}");
    let row = |(name, p, r, f1, n): Row<'_>| {
        format!("{name:width$}  {p:>9.4}  {r:.4}  {f1:.4}  {n:>w$}", w = counted.len())
    };
    [head].into_iter().chain(rows.into_iter().map(row)).chain(left_out).chain(all.map(row)).collect()
}
