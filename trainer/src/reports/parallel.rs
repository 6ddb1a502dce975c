//! Parallel coordinates: an axis for each option that was searched and one for the score, and a line
//! through them for each trial, as a picture for light and for dark pages.
use super::picture::{Scale, number, text, through};
use svg::{
    Document,
    node::element::{Circle, Group, Line, Path, Rectangle, Style, Title},
};

/// Pixels between two axes.
const APART: f64 = 170.0;
/// Room beside the outer axes: left, right.
const BESIDE: [f64; 2] = [110.0, 80.0];
/// Where axes end, and how high the picture is.
const ENDS: [f64; 3] = [84.0, 356.0, 400.0];
/// How many colours there are from the worst to the best.
const SHADES: usize = 5;
const STYLE: &str = "
svg { --page: #ffffff; --ink: #16202e; --soft: #526071; --rule: #aeb8c4; --best: #c2410c;
  --q0: #b9c6dd; --q1: #8fa9d6; --q2: #648ccf; --q3: #3a70c6; --q4: #1450ae; }
@media (prefers-color-scheme: dark) { svg { --page: #0f141b; --ink: #e8edf3; --soft: #a3b0bf; --rule: #55606e;
  --best: #ff9d66; --q0: #34465f; --q1: #3f5f8a; --q2: #4f7db8; --q3: #6a9de0; --q4: #9cc3ff; } }
.page { fill: var(--page); } text { fill: var(--soft); paint-order: stroke; stroke: var(--page); stroke-width: 4px;
  stroke-linejoin: round; } .name, .title { fill: var(--ink); font-weight: 600; }
.axis { stroke: var(--rule); stroke-width: 1.5; } .tick { stroke: var(--rule); }
.trial { fill: none; stroke-width: 1.8; stroke-linejoin: round; opacity: .85; } .left { stroke-dasharray: 5 4; }
.q0 { stroke: var(--q0); } .q1 { stroke: var(--q1); } .q2 { stroke: var(--q2); } .q3 { stroke: var(--q3); }
.q4 { stroke: var(--q4); } .trial.best { stroke: var(--best); stroke-width: 3.5; opacity: 1; }
circle { fill: var(--best); stroke: var(--page); stroke-width: 1.5; }
";

/// Where values lie on an axis.
#[derive(Clone, Debug, PartialEq)]
pub enum Along {
    /// Numbers between two ends, on a logarithmic scale if `log`.
    Numbers {
        /// The lower end.
        low: f64,
        /// The upper end.
        high: f64,
        /// Whether the scale is logarithmic; then both ends are above 0.
        log: bool,
    },
    /// One of these, by its number.
    Points(Vec<String>),
}

/// A vertical axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// What stands above it.
    pub name: String,
    /// What lies where.
    pub along: Along,
    /// Whether the upper end of the numbers lies below.
    pub falls: bool,
}

impl Axis {
    fn scale(&self) -> Scale {
        let [above, below, _] = ENDS;
        let (from, to) = if self.falls { (above, below) } else { (below, above) };
        let (low, high) = match &self.along {
            Along::Numbers { low, high, log: true } => (low.ln(), high.ln()),
            Along::Numbers { low, high, .. } => (*low, *high),
            Along::Points(all) => (-0.5, all.len() as f64 - 0.5),
        };
        Scale { low, high, from, to }
    }
    /// Where a value lies: a number, or that of a point.
    fn at(&self, value: f64) -> f64 {
        let log = matches!(self.along, Along::Numbers { log: true, .. });
        self.scale().at(if log { value.ln() } else { value })
    }
    /// Values that are written at the axis.
    fn ticks(&self) -> Vec<(f64, String)> {
        let shown = |values: Vec<f64>| values.into_iter().map(|x| (x, number(x))).collect();
        match &self.along {
            Along::Points(all) => all.iter().enumerate().map(|(i, name)| (i as f64, name.clone())).collect(),
            Along::Numbers { low, high, log: true } => {
                let powers = (low.log10() - 1e-9).ceil() as i32..=(high.log10() + 1e-9).floor() as i32;
                let powers: Vec<f64> = powers.map(|power| 10f64.powi(power)).collect();
                shown(if powers.len() > 1 { powers } else { vec![*low, *high] })
            }
            Along::Numbers { .. } => shown(self.scale().ticks()),
        }
    }
}

/// A trial as a line.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// What it was, in a sentence.
    pub about: String,
    /// Where it crosses each axis; none where it has no value there.
    pub values: Vec<Option<f64>>,
    /// How good it was among the others, from 0 for the worst to 1 for the best.
    pub rank: f64,
    /// Whether it was given up, or failed.
    pub is_left: bool,
    /// Whether it is the best of all.
    pub is_best: bool,
}

/// Axes, and the trials that cross them.
#[derive(Clone, Debug, PartialEq)]
pub struct Parallel {
    /// What stands above.
    pub title: String,
    /// From the left.
    pub axes: Vec<Axis>,
    /// In any order: the better ones lie upon the others.
    pub trials: Vec<Trial>,
}

impl Parallel {
    /// The picture as an SVG file.
    pub fn svg(&self) -> String {
        let width = BESIDE[0] + BESIDE[1] + APART * self.axes.len().saturating_sub(1) as f64;
        let width = width.max(360.0);
        let mut order: Vec<&Trial> = self.trials.iter().collect();
        order.sort_by(|a, b| {
            (a.is_best, a.rank).partial_cmp(&(b.is_best, b.rank)).unwrap_or(std::cmp::Ordering::Equal)
        });
        let lines = order.iter().fold(Group::new(), |all, trial| all.add(self.line(trial)));
        let axes = self.axes.iter().enumerate();
        let axes = axes.fold(Group::new(), |all, (i, axis)| all.add(drawn(axis, place(i))));
        let title = text((16.0, 26.0), "start", &self.title).set("class", "title").set("font-size", 15);
        Document::new()
            .set("viewBox", (0.0, 0.0, width, ENDS[2]))
            .set("width", width)
            .set("height", ENDS[2])
            .set("role", "img")
            .set("font-family", "system-ui, sans-serif")
            .set("font-size", 13)
            .add(Title::new(self.title.clone()))
            .add(Style::new(STYLE))
            .add(Rectangle::new().set("width", "100%").set("height", "100%").set("class", "page"))
            .add(lines)
            .add(axes)
            .add(title)
            .to_string()
    }
    /// The line of a trial, and where it is the best a mark on each axis.
    fn line(&self, trial: &Trial) -> Group {
        let points: Vec<Option<(f64, f64)>> = self
            .axes
            .iter()
            .zip(&trial.values)
            .enumerate()
            .map(|(i, (axis, value))| Some((place(i), axis.at((*value).filter(|x| x.is_finite())?))))
            .collect();
        let shade = ((trial.rank * SHADES as f64) as usize).min(SHADES - 1);
        let classes = [Some("trial"), trial.is_left.then_some("left"), trial.is_best.then_some("best")];
        let classes = classes.into_iter().flatten().collect::<Vec<_>>().join(" ");
        let mut group = Group::new();
        for run in points.split(Option::is_none).filter(|run| run.len() > 1) {
            let path = Path::new()
                .set("d", through(run.iter().flatten().copied()))
                .set("class", format!("{classes} q{shade}"));
            group = group.add(path.add(Title::new(trial.about.clone())));
        }
        let marks = points.iter().flatten().filter(|_| trial.is_best);
        marks.fold(group, |group, (x, y)| group.add(Circle::new().set("cx", *x).set("cy", *y).set("r", 5)))
    }
}

/// Where an axis stands.
fn place(number: usize) -> f64 {
    BESIDE[0] + APART * number as f64
}
fn drawn(axis: &Axis, x: f64) -> Group {
    let line = |ends: [f64; 4], class| {
        let [x1, y1, x2, y2] = ends;
        Line::new().set("x1", x1).set("y1", y1).set("x2", x2).set("y2", y2).set("class", class)
    };
    let name = text((x, ENDS[0] - 22.0), "middle", &axis.name).set("class", "name");
    let group = Group::new().add(line([x, ENDS[0], x, ENDS[1]], "axis")).add(name);
    axis.ticks().into_iter().fold(group, |group, (value, label)| {
        let y = axis.at(value);
        group.add(line([x - 5.0, y, x, y], "tick")).add(text((x - 9.0, y + 4.5), "end", &label))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(along: Along) -> Axis {
        Axis { name: "x".into(), along, falls: false }
    }
    fn numbers(low: f64, high: f64, log: bool) -> Axis {
        axis(Along::Numbers { low, high, log })
    }

    #[test]
    fn values_lie_where_their_axis_says() {
        let [above, below, _] = ENDS;
        let lr = numbers(1e-5, 1e-1, true);
        assert_eq!([lr.at(1e-5), lr.at(1e-3), lr.at(1e-1)], [below, (above + below) / 2.0, above]);
        let ticks: Vec<String> = lr.ticks().into_iter().map(|(_, name)| name).collect();
        assert_eq!(ticks, ["1e-5", "1e-4", "0.001", "0.01", "0.1"]);
        assert_eq!(numbers(2e-4, 8e-4, true).ticks().len(), 2, "without a power of ten its ends");
        let whole = numbers(4.0, 64.0, false);
        assert_eq!((whole.at(4.0), whole.at(64.0)), (below, above));
        assert!(whole.ticks().len() > 2);
        let loss = Axis { falls: true, ..numbers(0.0, 1.0, false) };
        assert_eq!((loss.at(0.0), loss.at(1.0)), (above, below), "the better end is above");
        let points = axis(Along::Points(["a", "b"].map(String::from).into()));
        assert_eq!(points.at(0.0) - points.at(1.0), (below - above) / 2.0);
        assert_eq!(points.ticks()[1], (1.0, "b".into()));
        assert!(axis(Along::Points(vec!["one".into()])).at(0.0) > above);
    }

    #[test]
    fn a_trial_is_a_line_and_the_best_is_marked() {
        let trial = |values: &[Option<f64>], rank: f64, is_best| Trial {
            about: format!("trial <{rank}>"),
            values: values.to_vec(),
            rank,
            is_left: values.contains(&None),
            is_best,
        };
        let picture = Parallel {
            title: "a & b".into(),
            axes: vec![
                numbers(1.0, 2.0, false),
                axis(Along::Points(vec!["<p>".into()])),
                numbers(0.0, 1.0, false),
            ],
            trials: vec![
                trial(&[Some(1.5), Some(0.0), Some(0.75)], 1.0, true),
                trial(&[Some(1.0), Some(0.0), None], 0.0, false),
                trial(&[Some(1.2), Some(0.0), Some(f64::NAN)], 0.4, false),
            ],
        };
        let svg = picture.svg();
        assert_eq!((svg.matches("<path").count(), svg.matches("<circle").count()), (3, 3));
        let [best, left] = ["trial best q4", "trial left q0"].map(|class| svg.find(class).unwrap());
        assert!(left < best, "the best lies upon the others");
        for part in ["a &amp; b", "&lt;p&gt;", "trial &lt;1&gt;", "prefers-color-scheme: dark"] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("<p>"));
        let none = Parallel { title: "none".into(), axes: vec![], trials: vec![] };
        assert!(none.svg().contains("none"));
    }
}
