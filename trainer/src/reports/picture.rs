//! Pictures as SVG: what they share, and charts over the steps of a run.
//!
//! A chart takes its colours from the page that it stands in, by the classes `s0`, `s1` .. of its
//! series, `gridline` and `tick`.
use svg::{
    Document,
    node::element::{Circle, Group, Line, Path, Text, Title},
};

/// How many series have a colour of their own.
pub const COLOURS: usize = 6;

/// Pixels of a chart, which is scaled as a whole.
const SIZE: (f64, f64) = (440.0, 240.0);
/// Room beside the plot: left, right, above, below.
const ROOM: [f64; 4] = [50.0, 14.0, 10.0, 30.0];
/// Of so many points at most each has a mark that tells its value.
const MARKS: usize = 40;
/// The most points of a line; of more the mean of each part is drawn.
const POINTS: usize = 400;

/// Text at a place; its anchor is `start`, `middle` or `end`.
pub fn text(at: (f64, f64), anchor: &str, content: &str) -> Text {
    Text::new(content).set("x", at.0).set("y", at.1).set("text-anchor", anchor)
}

/// A number for people, with three or four digits.
pub fn number(x: f64) -> String {
    match x.abs() {
        _ if !x.is_finite() => "undefined".into(),
        0.0 => "0".into(),
        0.001..1.0 => trimmed(format!("{x:.4}")),
        1.0..100.0 => trimmed(format!("{x:.3}")),
        100.0..10_000.0 => trimmed(format!("{x:.1}")),
        10_000.0..1e15 => {
            let units = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
            let (unit, name) = units.into_iter().find(|(unit, _)| x.abs() >= *unit).unwrap_or((1.0, ""));
            trimmed(format!("{:.2}", x / unit)) + name
        }
        _ => {
            let text = format!("{x:.2e}");
            let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
            format!("{}e{power}", trimmed(digits.into()))
        }
    }
}
fn trimmed(text: String) -> String {
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').into(),
        false => text,
    }
}

/// Points of one thing, in the order of their steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What it is.
    pub name: String,
    /// (step, value); a value that is no number leaves a gap.
    pub points: Vec<(f64, f64)>,
}

/// How series are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Lines.
    Lines,
    /// Areas, each upon the one before; all have the same steps.
    Areas,
}

/// A chart over the steps of a run.
#[derive(Clone, Debug)]
pub struct Chart {
    /// What it shows, in a sentence, for who does not see it.
    pub title: String,
    /// What is drawn, the first at the bottom.
    pub series: Vec<Series>,
    /// How.
    pub style: Style,
    /// How values are written at the axis.
    pub show: fn(f64) -> String,
}

/// Where numbers lie on a line of so many pixels.
pub(super) struct Scale {
    pub low: f64,
    pub high: f64,
    pub from: f64,
    pub to: f64,
}
impl Scale {
    pub fn of(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Scale {
        let (low, high) = values
            .filter(|x| x.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
        let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
        Scale { low, high, from, to }
    }
    /// With room for values that are all the same, and ends at ticks.
    pub fn rounded(mut self) -> Scale {
        if self.high - self.low <= f64::EPSILON * self.high.abs() {
            let half = if self.high == 0.0 { 0.5 } else { 0.1 * self.high.abs() };
            (self.low, self.high) = (self.low - half, self.high + half);
        }
        let step = self.step();
        (self.low, self.high) = ((self.low / step).floor() * step, (self.high / step).ceil() * step);
        self
    }
    /// Of about five ticks, 1, 2 or 5 times a power of ten.
    fn step(&self) -> f64 {
        let rough = ((self.high - self.low) / 5.0).max(f64::MIN_POSITIVE);
        let power = 10f64.powf(rough.log10().floor());
        let factor = [1.0, 2.0, 5.0].into_iter().find(|f| f * power >= rough * 0.999).unwrap_or(10.0);
        factor * power
    }
    pub fn ticks(&self) -> Vec<f64> {
        let step = self.step();
        // an end that is a tick but for its last digits is one
        let (first, last) =
            ((self.low / step - 1e-9).ceil() as i64, (self.high / step + 1e-9).floor() as i64);
        (first..=last).take(12).map(|i| i as f64 * step).collect()
    }
    pub fn at(&self, x: f64) -> f64 {
        let share = if self.high > self.low { (x - self.low) / (self.high - self.low) } else { 0.5 };
        // a tenth of a pixel is enough
        ((self.from + share * (self.to - self.from)) * 10.0).round() / 10.0
    }
}

/// Means of parts of a line that has too many points to be drawn.
fn fewer(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let each = points.len().div_ceil(POINTS).max(1);
    let mean = |part: &[(f64, f64)]| {
        let n = part.len() as f64;
        (part.iter().map(|p| p.0).sum::<f64>() / n, part.iter().map(|p| p.1).sum::<f64>() / n)
    };
    if each == 1 { points.to_vec() } else { points.chunks(each).map(mean).collect() }
}

impl Chart {
    /// The chart as an element of a page.
    pub fn svg(&self) -> String {
        let [left, right, above, below] = ROOM;
        let mut lines: Vec<Vec<(f64, f64)>> = self.series.iter().map(|s| fewer(&s.points)).collect();
        let mut bottoms: Vec<Vec<f64>> = vec![];
        if self.style == Style::Areas {
            let mut below = vec![0.0; lines.iter().map(Vec::len).max().unwrap_or(0)];
            for line in &mut lines {
                bottoms.push(below.clone());
                line.iter_mut().zip(&mut below).for_each(|(point, sum)| {
                    *sum += point.1;
                    point.1 = *sum;
                });
            }
        }
        let all = || lines.iter().flatten();
        let x = Scale::of(all().map(|p| p.0), left, SIZE.0 - right);
        let zero = (self.style == Style::Areas).then_some(0.0);
        let y = Scale::of(all().map(|p| p.1).chain(zero), SIZE.1 - below, above).rounded();
        let mut group = Group::new();
        for tick in y.ticks() {
            let (at, from) = (y.at(tick), left);
            let line = Line::new().set("x1", from).set("x2", SIZE.0 - right).set("y1", at).set("y2", at);
            let label = text((left - 6.0, at + 4.0), "end", &(self.show)(tick)).set("class", "tick");
            group = group.add(line.set("class", "gridline")).add(label);
        }
        let whole = x.ticks().into_iter().filter(|tick| tick.fract() == 0.0);
        for tick in whole {
            let label = text((x.at(tick), SIZE.1 - below + 18.0), "middle", &number(tick));
            group = group.add(label.set("class", "tick"));
        }
        // the first lies upon the others
        for (n, line) in lines.iter().enumerate().rev() {
            let class = format!("s{}", n % COLOURS);
            let place = |(step, value): &(f64, f64)| (x.at(*step), y.at(*value));
            if self.style == Style::Areas {
                group = group.add(area(line, &bottoms[n], &x, &y).set("class", format!("area {class}")));
                continue;
            }
            for run in line.split(|(_, value)| !value.is_finite()).filter(|run| run.len() > 1) {
                group = group.add(
                    Path::new()
                        .set("d", through(run.iter().map(place)))
                        .set("class", format!("line {class}")),
                );
            }
            if line.len() <= MARKS {
                for point in line.iter().filter(|p| p.1.is_finite()) {
                    let (cx, cy) = place(point);
                    let said = format!(
                        "{}, step {}: {}",
                        self.series[n].name,
                        number(point.0),
                        (self.show)(point.1)
                    );
                    let mark = Circle::new().set("cx", cx).set("cy", cy).set("r", 3);
                    group = group.add(mark.set("class", format!("mark {class}")).add(Title::new(said)));
                }
            }
        }
        Document::new()
            .set("viewBox", (0.0, 0.0, SIZE.0, SIZE.1))
            .set("role", "img")
            .add(Title::new(self.title.clone()))
            .add(group)
            .to_string()
    }
}

pub(super) fn through(points: impl Iterator<Item = (f64, f64)>) -> String {
    points.enumerate().map(|(i, (x, y))| format!("{}{x} {y}", if i == 0 { 'M' } else { 'L' })).collect()
}
fn area(line: &[(f64, f64)], bottom: &[f64], x: &Scale, y: &Scale) -> Path {
    let top = line.iter().map(|(step, value)| (x.at(*step), y.at(*value)));
    let back = line.iter().zip(bottom).rev().map(|((step, _), value)| (x.at(*step), y.at(*value)));
    Path::new().set("d", through(top.chain(back)) + "Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(style: Style, series: &[&[(f64, f64)]]) -> String {
        let series = series.iter().map(|points| Series { name: "a<b".into(), points: points.to_vec() });
        Chart { title: "x & y".into(), series: series.collect(), style, show: number }.svg()
    }

    #[test]
    fn numbers_read_well() {
        let numbers = [0.0, 0.5, 0.00012, 31.4159, 250.0, 12_345.0, 1.5e6, -0.25, f64::NAN, 1e20];
        let expected =
            ["0", "0.5", "1.2e-4", "31.416", "250", "12.35k", "1.5M", "-0.25", "undefined", "1e20"];
        assert_eq!(numbers.map(number), expected);
    }

    #[test]
    fn a_line_has_marks_and_gaps() {
        let gap = [(1.0, 0.5), (2.0, 0.25), (3.0, f64::NAN), (4.0, 0.1), (5.0, 0.1)];
        let svg = chart(Style::Lines, &[&gap, &[(1.0, 1.0)]]);
        assert_eq!((svg.matches("<circle").count(), svg.matches("line s0").count()), (5, 2), "{svg}");
        assert!(!svg.contains("line s1"), "of one point there is a mark and no line");
        for part in ["x &amp; y", "a&lt;b, step 2: 0.25", "class=\"gridline\"", "role=\"img\""] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("a<b"));
    }

    #[test]
    fn areas_lie_upon_each_other() {
        let svg = chart(Style::Areas, &[&[(1.0, 10.0), (2.0, 20.0)], &[(1.0, 30.0), (2.0, 20.0)]]);
        assert_eq!(svg.matches("class=\"area ").count(), 2);
        assert!(svg.contains("\n40\n") && svg.contains("\n0\n"), "from nothing to the sum: {svg}");
    }

    #[test]
    fn whatever_there_is_to_draw_there_are_numbers() {
        let far: Vec<(f64, f64)> = (0..5000).map(|i| (f64::from(i), f64::from(i % 7))).collect();
        for points in [
            &[][..],
            &[(1.0, 0.0)],
            &[(1.0, 3.0), (2.0, 3.0)],
            &[(1.0, 1e-300)],
            &[(1.0, 1e300), (2.0, -1e300)],
            &far,
        ] {
            for style in [Style::Lines, Style::Areas] {
                let svg = chart(style, &[points]);
                assert!(!svg.contains("NaN") && !svg.contains("inf") && svg.len() < 20_000, "{svg}");
            }
        }
    }

    #[test]
    fn ticks_are_round() {
        let ticks = |low, high| Scale { low, high, from: 0.0, to: 1.0 }.rounded().ticks();
        let near = |a: Vec<f64>, b: &[f64]| {
            assert!(a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9), "{a:?} {b:?}");
        };
        near(ticks(0.0, 1.0), &[0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
        near(ticks(0.13, 0.71), &[0.0, 0.2, 0.4, 0.6, 0.8]);
        near(ticks(3.0, 40.0), &[0.0, 10.0, 20.0, 30.0, 40.0]);
        near(ticks(0.61, 0.99), &[0.6, 0.7, 0.8, 0.9, 1.0]);
    }
}
