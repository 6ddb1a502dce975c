//! What learning one task after the other came to: a matrix of scores, and the numbers that sum it
//! up.
//!
//! With T tasks, `R[i][j]` the score on task j behind task i and `b_j` that in front of all of them:
//!
//! ```text
//! average accuracy   1/T sum_j R[T][j]
//! backward transfer  1/(T-1) sum_{j<T} (R[T][j] - R[j][j])
//! forward transfer   1/(T-1) sum_{j>1} (R[j-1][j] - b_j)
//! forgetting         1/(T-1) sum_{j<T} (max_{j<=l<T} R[l][j] - R[T][j])
//! ```
//! (Lopez-Paz and Ranzato 2017, arXiv 1706.08840; Chaudhry et al. 2018, arXiv 1801.10112). Where
//! less is better, differences are turned round: a transfer above 0 and a forgetting of 0 are good.
use super::heat_map::{HeatMap, Row};
use super::metrics::{Better, Metric, Unit};
use serde::Serialize;
use serde_json::{Value, json};

/// Scores on several tasks, behind each of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Transfer {
    /// The tasks in the order in which they were learned, and what is scored of each.
    pub tasks: Vec<(String, Metric)>,
    /// b_j; none where it is not known.
    pub before: Vec<Option<f64>>,
    /// R, (tasks, tasks): none where nobody answers.
    pub matrix: Vec<Vec<Option<f64>>>,
}

/// The numbers that sum it up; none where they are not defined.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// None where tasks are scored in different directions.
    pub average_accuracy: Option<f64>,
    /// Backward transfer.
    pub bwt: Option<f64>,
    /// Forward transfer: none where tasks have labels of their own, so that nobody could answer
    /// before.
    pub fwt: Option<f64>,
    /// Forgetting.
    pub forgetting: Option<f64>,
}

fn mean(all: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let all: Vec<f64> = all.collect::<Option<_>>()?;
    let sum = |all: &[f64]| all.iter().sum::<f64>() / all.len() as f64;
    (!all.is_empty()).then(|| sum(&all)).filter(|mean| mean.is_finite())
}

impl Transfer {
    fn at(&self, i: usize, j: usize) -> Option<f64> {
        *self.matrix.get(i)?.get(j)?
    }
    /// How much better one score of a task is than another.
    fn gain(&self, j: usize, a: Option<f64>, b: Option<f64>) -> Option<f64> {
        let sign = if self.tasks[j].1.better == Better::More { 1.0 } else { -1.0 };
        Some(sign * (a? - b?))
    }
    /// The numbers that sum it up.
    pub fn summary(&self) -> Summary {
        let n = self.tasks.len();
        let last = n.saturating_sub(1);
        let alike = self.tasks.windows(2).all(|two| two[0].1.better == two[1].1.better);
        let forgotten = |j: usize| {
            let gains = (j..last).map(|l| self.gain(j, self.at(l, j), self.at(last, j)));
            gains.collect::<Option<Vec<_>>>()?.into_iter().reduce(f64::max)
        };
        Summary {
            average_accuracy: mean((0..n).map(|j| self.at(last, j))).filter(|_| alike),
            bwt: mean((0..last).map(|j| self.gain(j, self.at(last, j), self.at(j, j)))),
            fwt: mean((1..n).map(|j| self.gain(j, self.at(j - 1, j), *self.before.get(j)?))),
            forgetting: mean((0..last).map(forgotten)),
        }
    }
    /// All of it.
    pub fn json(&self) -> Value {
        let order: Vec<&String> = self.tasks.iter().map(|(name, _)| name).collect();
        let metrics: Vec<&str> = self.tasks.iter().map(|(_, metric)| metric.name).collect();
        let mut report =
            json!({"order": order, "metrics": metrics, "before": self.before, "matrix": self.matrix});
        if let (Some(all), Ok(Value::Object(summary))) =
            (report.as_object_mut(), serde_json::to_value(self.summary()))
        {
            all.extend(summary);
        }
        report
    }
    /// A row for each task behind which all were scored, a column for each.
    pub fn heat_map(&self, title: &str) -> HeatMap {
        let row = |name: String, values: &[Option<f64>]| Row { name, values: values.to_vec() };
        let behind = self.tasks.iter().zip(&self.matrix);
        let behind = behind.map(|((name, _), values)| row(format!("after {name}"), values));
        HeatMap {
            title: title.into(),
            columns: self.tasks.iter().map(|(name, _)| name.clone()).collect(),
            rows: std::iter::once(row("before all".into(), &self.before)).chain(behind).collect(),
        }
    }
    /// The same for people, and what it comes to.
    pub fn lines(&self) -> Vec<String> {
        let width =
            |names: &mut dyn Iterator<Item = &str>| names.map(|n| n.chars().count()).max().unwrap_or(0);
        let first = 6 + width(&mut self.tasks.iter().map(|(name, _)| name.as_str())).max(4);
        let columns: Vec<usize> = self.tasks.iter().map(|(name, _)| name.chars().count().max(8)).collect();
        let cell = |((value, (_, metric)), width): ((&Option<f64>, &(String, Metric)), &usize)| {
            let shown = match (value, metric.unit) {
                (None, _) => "-".into(),
                (Some(x), Unit::Share) => format!("{:.2}", 100.0 * x),
                (Some(x), Unit::Number) => format!("{x:.4}"),
            };
            format!("  {shown:>width$}")
        };
        let row = |name: &str, values: &[Option<f64>]| {
            let cells: String = values.iter().zip(&self.tasks).zip(&columns).map(cell).collect();
            format!("{name:first$}{cells}")
        };
        let heads = self.tasks.iter().zip(&columns).map(|((name, _), width)| format!("  {name:>width$}"));
        let mut lines = vec![format!("{:first$}{}", "", heads.collect::<String>())];
        lines.push(row("before", &self.before));
        lines.extend(
            self.tasks.iter().zip(&self.matrix).map(|((name, _), v)| row(&format!("after {name}"), v)),
        );
        let s = self.summary();
        let all = [
            ("average", s.average_accuracy),
            ("backward transfer", s.bwt),
            ("forward transfer", s.fwt),
            ("forgetting", s.forgetting),
        ];
        let shown = all.map(|(name, value)| match value {
            Some(x) => format!("{name} {x:.4}"),
            None => format!("{name} is not defined"),
        });
        lines.push(shown.join(", "));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transfer(better: [Metric; 3], unseen: Option<f64>) -> Transfer {
        let names = ["a", "b", "c"].map(String::from);
        Transfer {
            tasks: names.into_iter().zip(better).collect(),
            before: vec![Some(0.5), Some(0.3), Some(0.2)],
            matrix: vec![
                vec![Some(0.9), unseen, unseen],
                vec![Some(0.95), Some(0.8), unseen],
                vec![Some(0.7), Some(0.75), Some(0.6)],
            ],
        }
    }
    fn close(found: Option<f64>, expected: f64) {
        assert!((found.unwrap() - expected).abs() < 1e-12, "{found:?} {expected}");
    }

    #[test]
    fn numbers_are_those_of_the_formulas() {
        let t = transfer([Metric::share("accuracy"); 3], Some(0.4));
        let s = t.summary();
        close(s.average_accuracy, (0.7 + 0.75 + 0.6) / 3.0);
        close(s.bwt, ((0.7 - 0.9) + (0.75 - 0.8)) / 2.0);
        close(s.fwt, ((0.4 - 0.3) + (0.4 - 0.2)) / 2.0);
        close(s.forgetting, ((0.95 - 0.7) + (0.8 - 0.75)) / 2.0);
        // losses are better when they fall
        let s = transfer([Metric::loss("loss"); 3], None).summary();
        close(s.bwt, ((0.9 - 0.7) + (0.8 - 0.75)) / 2.0);
        close(s.forgetting, ((0.7f64 - 0.9).max(0.7 - 0.95) + (0.75 - 0.8)) / 2.0);
        assert_eq!(s.fwt, None);
        let mixed = [Metric::share("accuracy"), Metric::loss("loss"), Metric::share("f1")];
        assert_eq!(transfer(mixed, None).summary().average_accuracy, None);
    }

    #[test]
    fn what_is_not_defined_is_null() {
        let one = Transfer {
            tasks: vec![("a".into(), Metric::share("accuracy"))],
            before: vec![None],
            matrix: vec![vec![Some(0.5)]],
        };
        let found = one.json();
        assert_eq!(found["average_accuracy"], 0.5);
        for key in ["bwt", "fwt", "forgetting"] {
            assert!(found[key].is_null(), "{found}");
        }
        assert!(one.lines().last().unwrap().contains("forgetting is not defined"));
        let none = Transfer { tasks: vec![], before: vec![], matrix: vec![] };
        assert_eq!(none.summary().average_accuracy, None);
    }

    #[test]
    fn it_is_shown_as_a_table_and_a_picture() {
        let t = transfer([Metric::share("accuracy"); 3], None);
        let lines = t.lines();
        assert_eq!(lines.len(), 6);
        assert!(
            lines[2].starts_with("after a") && lines[2].contains("90.00") && lines[2].ends_with('-'),
            "{lines:?}"
        );
        assert!(
            lines[5].contains("forgetting 0.1500") && lines[5].contains("forward transfer is not defined")
        );
        let map = t.heat_map("accuracy");
        assert_eq!((map.rows.len(), map.columns.len()), (4, 3));
        assert_eq!((map.rows[0].name.as_str(), map.rows[1].values[1]), ("before all", None));
    }
}
