//! Heat maps as SVG.
use super::picture::text;
use svg::{
    Document,
    node::element::{Group, Rectangle, Title},
};

/// A table of numbers, most of them from 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct HeatMap {
    /// What stands above it.
    pub title: String,
    /// The names of the columns.
    pub columns: Vec<String>,
    /// From above.
    pub rows: Vec<Row>,
}
/// A row of a heat map.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What stands beside it.
    pub name: String,
    /// A number for each column; none leaves a gap.
    pub values: Vec<Option<f64>>,
}

/// Pixels.
const CELL: (f64, f64) = (72.0, 24.0);
const NAMES: f64 = 190.0;
const HEAD: f64 = 64.0;
const MARGIN: f64 = 16.0;

/// White for 0, blue for 1 and above.
fn colour(x: f64) -> String {
    let x = x.clamp(0.0, 1.0);
    let [r, g, b] = [(255.0, 8.0), (255.0, 69.0), (255.0, 148.0)].map(|(from, to): (f64, f64)| {
        (from + (to - from) * x).round() as u8 // within 0 and 255
    });
    format!("#{r:02x}{g:02x}{b:02x}")
}

impl HeatMap {
    fn height(&self) -> f64 {
        HEAD + CELL.1 * self.rows.len() as f64
    }
    fn width(&self) -> f64 {
        NAMES + CELL.0 * self.columns.len() as f64
    }
    fn drawn(&self) -> Group {
        let middle = |column: usize| NAMES + CELL.0 * (column as f64 + 0.5);
        let title = text((0.0, 18.0), "start", &self.title).set("font-weight", "bold");
        let mut group = Group::new().add(title);
        for (i, name) in self.columns.iter().enumerate() {
            group = group.add(text((middle(i), HEAD - 8.0), "middle", name));
        }
        for (j, row) in self.rows.iter().enumerate() {
            let top = HEAD + CELL.1 * j as f64;
            group = group.add(text((NAMES - 8.0, top + 16.0), "end", &row.name));
            let values = row.values.iter().enumerate().filter_map(|(i, x)| Some((i, (*x)?)));
            for (i, x) in values {
                let place = format!("{}, {}: {x:.4}", self.columns[i], row.name);
                let cell = Rectangle::new()
                    .set("x", NAMES + CELL.0 * i as f64)
                    .set("y", top)
                    .set("width", CELL.0 - 1.0)
                    .set("height", CELL.1 - 1.0)
                    .set("fill", colour(x))
                    .add(Title::new(place));
                let ink = if x > 0.55 { "#fff" } else { "#000" };
                let number = text((middle(i), top + 16.0), "middle", &format!("{:.1}", 100.0 * x));
                group = group.add(cell).add(number.set("fill", ink));
            }
        }
        group
    }
}

/// The maps, one below the other, as an SVG file; the numbers in the cells are percent.
pub fn svg(maps: &[HeatMap]) -> String {
    let width = maps.iter().map(HeatMap::width).fold(0.0, f64::max) + 2.0 * MARGIN;
    let mut top = MARGIN;
    let mut drawn = vec![];
    for map in maps {
        drawn.push(map.drawn().set("transform", format!("translate({MARGIN} {top})")));
        top += map.height() + MARGIN;
    }
    let document = Document::new()
        .set("viewBox", (0.0, 0.0, width, top))
        .set("width", width)
        .set("height", top)
        .set("font-family", "sans-serif")
        .set("font-size", 13)
        .add(Rectangle::new().set("width", "100%").set("height", "100%").set("fill", "#fff"));
    drawn.into_iter().fold(document, Document::add).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_have_their_colour_and_number_and_names_are_escaped() {
        let row = Row { name: "layer 0".into(), values: vec![Some(0.25), None, Some(1.0)] };
        let columns = ["a<b".into(), "c".into(), "d".into()].to_vec();
        let picture = svg(&[HeatMap { title: "x & y".into(), columns, rows: vec![row] }]);
        assert_eq!(picture.matches("<rect").count(), 3, "the background and two cells: {picture}");
        for part in ["x &amp; y", "a&lt;b", "25.0", "100.0", "#c1d1e4", "#084594", "layer 0"] {
            assert!(picture.contains(part), "{part}: {picture}");
        }
        assert!(!picture.contains("a<b"));
    }
}
