//! The page of several runs.
use super::parts::{document, figure, grid, section, sheet, table};
use crate::reports::{
    history::History,
    picture::{Series, Style, number},
};

/// A table: the names of its columns, and its rows.
type Columns = (Vec<String>, Vec<Vec<String>>);

/// A page of runs by name: what they came to, their curves over each other, and the settings in
/// which they differ.
pub fn runs(histories: &[(&str, &History)], results: Columns, differences: Option<Columns>) -> String {
    let drawn =
        |(head, rows): Columns| sheet(&table(&head.iter().map(String::as_str).collect::<Vec<_>>(), &rows, 1));
    let about = "What they came to, in which settings they differ, and how they went.";
    let body = [
        section("Results", "", &drawn(results)),
        section("Settings that differ", "", &differences.map(drawn).unwrap_or_default()),
        section("Curves", "", &grid(&curves(histories))),
    ];
    document(&format!("{} runs side by side", histories.len()), about, &body.concat())
}

fn curves(histories: &[(&str, &History)]) -> Vec<String> {
    let of = |points: &dyn Fn(&History) -> Vec<(f64, f64)>| -> Vec<Series> {
        let one =
            |(name, history): &(&str, &History)| Series { name: name.to_string(), points: points(history) };
        histories.iter().map(one).collect()
    };
    let mut scores: Vec<&str> = vec![];
    for name in histories.iter().flat_map(|(_, history)| history.scores()) {
        if name != "loss" && !scores.contains(&name) {
            scores.push(name);
        }
    }
    let draw = |caption: &str, series: Vec<Series>| figure(caption, series, Style::Lines, number);
    let mut all = vec![draw("Training loss", of(&|h| h.training(|t| t.loss)))];
    all.push(draw("Held-out loss", of(&|h| h.score("loss"))));
    all.extend(scores.into_iter().map(|name| draw(name, of(&|h| h.score(name)))));
    all.push(draw("Gradient norm", of(&|h| h.training(|t| t.norm))));
    all.push(draw("Learning rate", of(&|h| h.training(|t| t.rate))));
    all.into_iter().flatten().collect()
}
