//! The page of one run.
use super::parts::{document, escape, figure, figures, grid, keys, percent, section, settings, sheet, table};
use crate::reports::{
    by_example::ExamplePrediction,
    bytes,
    history::History,
    picture::{Series, Style, number},
    progress::clock,
    report::Report,
};
use engraft_engine::Class;
use serde_json::Value;

/// Of so many classes at most a matrix is drawn; of more the most confused pairs are listed.
const MATRIX: usize = 30;
/// The most rows of a table of classes or pairs.
const ROWS: usize = 30;

/// A run as a page.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// What it is called.
    pub title: &'a str,
    /// What was done, in a sentence.
    pub about: &'a str,
    /// What came out.
    pub report: &'a Report,
    /// What was noted on the way.
    pub history: &'a History,
    /// The examples with the highest losses in the best evaluation, the highest first.
    pub hardest: &'a [ExamplePrediction],
    /// The text of the run's file of settings.
    pub settings: &'a str,
}

impl Page<'_> {
    /// The page.
    pub fn html(&self) -> String {
        let memory = "What the device held at the moment of each stretch of steps when it held most, by what it was \
                      held for.";
        let hardest = "Of what was held out, the examples with the highest losses at the best evaluation.";
        let body = [
            self.figures(),
            section("Curves", "", &grid(&curves(self.history))),
            self.classes(),
            self.confusion(),
            section("Memory", memory, &self.memory().unwrap_or_default()),
            section("Hardest examples", hardest, &self.hardest()),
            section("Configuration", "", &self.configuration()),
        ];
        document(self.title, self.about, &body.concat())
    }
    fn figures(&self) -> String {
        let r = self.report;
        let mut all = vec![];
        if let Some(metrics) = &r.metrics {
            let scores = metrics.scores.0.iter().filter(|(name, _)| name != "loss").take(2);
            let on = format!("held out, {} examples", metrics.examples);
            all.extend(scores.map(|(name, x)| (name.as_str(), number(*x), on.clone())));
            all.extend(metrics.scores.get("loss").map(|x| ("held-out loss", number(x), "in nats".into())));
        }
        if let Some(last) = r.epochs.last() {
            all.push(("training loss", number(last.loss), format!("epoch {}", r.epochs.len())));
        }
        let share = r.trainable_parameters as f64 / r.total_parameters.max(1) as f64;
        let of = format!("{} of {}", percent(share), number(r.total_parameters as f64));
        all.push(("trained numbers", number(r.trainable_parameters as f64), of));
        let speed = format!("{} tokens/s", number(r.tokens_per_second.round()));
        all.push(("time", clock(r.train_seconds), speed));
        all.push(("peak memory", bytes::show(r.ledger_peak_bytes as usize), "on the device".into()));
        figures(&all)
    }
    fn detail(&self, name: &str) -> Option<&Value> {
        self.report.metrics.as_ref()?.details.get(name)
    }
    /// How well each class, or type of entity, is found.
    fn classes(&self) -> String {
        let found = [("classes", "label"), ("entities", "type")];
        let Some((list, name)) =
            found.into_iter().find_map(|(key, name)| Some((self.detail(key)?.as_array()?, name)))
        else {
            return String::new();
        };
        let mut list: Vec<&Value> = list.iter().collect();
        list.sort_by_key(|class| std::cmp::Reverse(class["support"].as_u64()));
        let number = |class: &Value, key: &str| class[key].as_f64().unwrap_or(f64::NAN);
        let row = |class: &&Value| {
            let [p, r, f] = ["precision", "recall", "f1"].map(|key| number(class, key));
            let width = if f.is_finite() { (100.0 * f).clamp(0.0, 100.0) } else { 0.0 };
            format!(
                "<tr><th scope=\"row\">{}</th><td class=\"bar\"><i style=\"--p:{width:.1}%\"></i></td><td class=\"n\">{}</td>\
                 <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>\n",
                escape(class[name].as_str().unwrap_or_default()),
                percent(f),
                percent(p),
                percent(r),
                class["support"].as_u64().unwrap_or_default()
            )
        };
        let rows: String = list.iter().take(ROWS).map(row).collect();
        let left = list.len().saturating_sub(ROWS);
        let more = if left > 0 {
            format!("<p class=\"note\">And {left} more with fewer examples.</p>\n")
        } else {
            String::new()
        };
        let table = format!(
            "<div class=\"scroll\"><table>\n<thead><tr><th scope=\"col\">{name}</th><td class=\"bar\"></td>\
             <th scope=\"col\" class=\"n\">F1</th><th scope=\"col\" class=\"n\">precision</th>\
             <th scope=\"col\" class=\"n\">recall</th><th scope=\"col\" class=\"n\">examples</th></tr></thead>\n\
             <tbody>\n{rows}</tbody>\n</table></div>\n{more}"
        );
        let about = "Precision is the share of what was put in a class that belongs there, recall the share of what \
                     belongs there that was put there, F1 their harmonic mean.";
        section("Scores by class", about, &sheet(&table))
    }
    /// What was taken for what.
    fn confusion(&self) -> String {
        let labels: Vec<&str> = match self.detail("classes").and_then(Value::as_array) {
            Some(list) => list.iter().map(|class| class["label"].as_str().unwrap_or_default()).collect(),
            None => return String::new(),
        };
        let matrix =
            self.detail("confusion").and_then(Value::as_array).filter(|rows| rows.len() == labels.len());
        if let Some(rows) = matrix.filter(|rows| rows.len() <= MATRIX) {
            let about = "A row for each true class, a column for each that was predicted; what is on the diagonal is \
                         right.";
            return section("Confusion", about, &sheet(&drawn(&labels, rows)));
        }
        let mut pairs: Vec<(String, String, u64)> = vec![];
        let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
        for (i, row) in matrix.into_iter().flatten().enumerate() {
            let counts = row.as_array().into_iter().flatten().enumerate();
            pairs.extend(counts.filter(|(j, _)| i != *j).map(|(j, n)| {
                (
                    labels[i].to_string(),
                    labels.get(j).map(ToString::to_string).unwrap_or_default(),
                    n.as_u64().unwrap_or(0),
                )
            }));
        }
        for pair in self.detail("confusion_pairs").and_then(Value::as_array).into_iter().flatten() {
            pairs.push((text(&pair[0]), text(&pair[1]), pair[2].as_u64().unwrap_or(0)));
        }
        pairs.retain(|(truth, predicted, n)| truth != predicted && *n > 0);
        pairs.sort_by(|a, b| b.2.cmp(&a.2).then_with(|| a.cmp(b)));
        pairs.truncate(ROWS);
        if pairs.is_empty() {
            return String::new();
        }
        let rows: Vec<Vec<String>> = pairs.into_iter().map(|(t, p, n)| vec![t, p, n.to_string()]).collect();
        let about = "The pairs of classes that were confused most often.";
        section("Confusion", about, &sheet(&table(&["true class", "predicted", "examples"], &rows, 2)))
    }
    /// Bytes by class, over the steps and at their highest.
    fn memory(&self) -> Option<String> {
        let most = self.history.training(|t| t.bytes.total() as f64).iter().fold(0.0, |a: f64, p| a.max(p.1));
        let (unit, name) =
            if most < f64::from(1 << 20) { (1024.0, "KiB") } else { (f64::from(1 << 20), "MiB") };
        let held = |class: Class, bytes: &bytes::Bytes| {
            let found = bytes.by_class().into_iter().find(|(name, _)| *name == class.name());
            found.map_or(0.0, |(_, n)| n as f64)
        };
        let series = |class: Class| Series {
            name: class.name().into(),
            points: self.history.training(|t| held(class, &t.bytes) / unit),
        };
        let highest = |s: &Series| s.points.iter().fold(0.0, |a: f64, p| a.max(p.1));
        let all: Vec<Series> = Class::ALL.map(series).into_iter().filter(|s| highest(s) > 0.0).collect();
        let row = |s: &Series| vec![s.name.clone(), bytes::show((highest(s) * unit) as usize)];
        let table = table(&["held for", "at most"], &all.iter().map(row).collect::<Vec<_>>(), 1);
        let chart = figure(&format!("Memory in {name}"), all, Style::Areas, number)?;
        Some(grid(&[chart, sheet(&table)]))
    }
    fn hardest(&self) -> String {
        if self.hardest.is_empty() {
            return String::new();
        }
        let one = |e: &ExamplePrediction| {
            let class = if e.is_right() { "t" } else { "f" };
            let said = if e.prediction.is_null() {
                String::new()
            } else {
                format!("<span>predicted <b class=\"{class}\">{}</b></span>", escape(&words(&e.prediction)))
            };
            let truth = if e.truth.is_null() {
                String::new()
            } else {
                format!("<span>true <b>{}</b></span>", escape(&words(&e.truth)))
            };
            let line = e.line.map(|line| format!("<span>line {line}</span>")).unwrap_or_default();
            let loss = e.loss.map_or_else(|| "undefined".into(), number);
            format!(
                "<li class=\"example\"><p>{}</p><footer>{said}{truth}<span>loss {loss}</span>{line}</footer></li>\n",
                escape(&words(&e.input))
            )
        };
        format!("<ol class=\"examples\">\n{}</ol>\n", self.hardest.iter().map(one).collect::<String>())
    }
    fn configuration(&self) -> String {
        let rows = keys(self.settings);
        match rows.is_empty() {
            true if self.settings.trim().is_empty() => String::new(),
            true => sheet(&format!("<pre>{}</pre>\n", escape(self.settings))),
            false => settings(&rows),
        }
    }
}

/// A matrix of counts: each cell as strong as its share of its row.
fn drawn(labels: &[&str], rows: &[Value]) -> String {
    let heads: String = labels.iter().map(|l| format!("<th scope=\"col\">{}</th>", escape(l))).collect();
    let mut body = String::new();
    for (i, row) in rows.iter().enumerate() {
        let counts: Vec<u64> =
            row.as_array().into_iter().flatten().map(|n| n.as_u64().unwrap_or(0)).collect();
        let all = counts.iter().sum::<u64>().max(1);
        body += &format!("<tr><th scope=\"row\">{}</th>", escape(labels[i]));
        for (j, n) in counts.into_iter().enumerate() {
            // a few that are wrong are to be seen, and on the strongest colour the number
            let share = n as f64 / all as f64;
            let share = 62.0 * if i == j { share } else { share.sqrt() };
            let class = match (i == j, n) {
                (_, 0) => "none",
                (true, _) => "right",
                (false, _) => "wrong",
            };
            body += &format!("<td class=\"{class}\" style=\"--p:{share:.1}%\">{n}</td>");
        }
        body += "</tr>\n";
    }
    format!(
        "<div class=\"scroll\"><table class=\"matrix\">\n<thead><tr><td></td>{heads}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>\n"
    )
}

/// Data as it is read: a text as it is, words with blanks between, the texts of a pair below each
/// other.
fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(all) => all.iter().map(words).collect::<Vec<_>>().join(" "),
        Value::Object(all) => all.values().map(words).collect::<Vec<_>>().join("\n"),
        Value::Null => "-".into(),
        other => other.to_string(),
    }
}

/// The curves of a run: losses, scores, rate, norm.
fn curves(history: &History) -> Vec<String> {
    let series = |name: &str, points| Series { name: name.into(), points };
    let loss =
        vec![series("training", history.training(|t| t.loss)), series("held out", history.score("loss"))];
    let mut all = vec![figure("Loss", loss, Style::Lines, number)];
    let scores: Vec<&str> = history.scores().into_iter().filter(|name| *name != "loss").collect();
    // shares in one chart, others each in one
    let is_share =
        |name: &&str| history.score(name).iter().all(|(_, x)| x.is_nan() || (-1.0..=1.0).contains(x));
    let (shares, others): (Vec<&str>, Vec<&str>) = scores.into_iter().partition(is_share);
    let shares = shares.into_iter().map(|name| series(name, history.score(name))).collect();
    all.push(figure("Scores", shares, Style::Lines, number));
    all.extend(
        others
            .into_iter()
            .map(|name| figure(name, vec![series(name, history.score(name))], Style::Lines, number)),
    );
    let of_steps = [
        ("Learning rate", series("learning rate", history.training(|t| t.rate))),
        ("Gradient norm", series("gradient norm", history.training(|t| t.norm))),
    ];
    all.extend(of_steps.map(|(caption, s)| figure(caption, vec![s], Style::Lines, number)));
    all.into_iter().flatten().collect()
}
