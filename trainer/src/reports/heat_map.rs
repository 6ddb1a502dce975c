//! Heat maps.
use super::drawing::{Anchor, Colour, Drawing, LETTER, Shape};

const BLACK: Colour = [0; 3];
const WHITE: Colour = [255; 3];

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

/// The height of a row, and the least width of a column.
const CELL: (f64, f64) = (72.0, 24.0);
/// The least width of what stands beside the rows.
const NAMES: f64 = 190.0;
const HEAD: f64 = 64.0;
const MARGIN: f64 = 16.0;

/// White for 0, blue for 1 and above.
fn colour(x: f64) -> Colour {
    let x = x.clamp(0.0, 1.0);
    [(255.0, 8.0), (255.0, 69.0), (255.0, 148.0)].map(|(from, to): (f64, f64)| {
        (from + (to - from) * x).round() as u8 // within 0 and 255
    })
}
/// The width of the longest of these, with room beside it.
fn width<'a>(names: impl Iterator<Item = &'a String>, least: f64) -> f64 {
    names.map(|name| LETTER.0 * (name.chars().count() + 2) as f64).fold(least, f64::max)
}

impl HeatMap {
    fn height(&self) -> f64 {
        HEAD + CELL.1 * self.rows.len() as f64
    }
    fn names(&self) -> f64 {
        width(self.rows.iter().map(|row| &row.name), NAMES)
    }
    fn column(&self) -> f64 {
        width(self.columns.iter(), CELL.0)
    }
    fn width(&self) -> f64 {
        width([&self.title].into_iter(), self.names() + self.column() * self.columns.len() as f64)
    }
    fn draw(&self, (left, top): (f64, f64), to: &mut Vec<Shape>) {
        let (first, column) = (left + self.names(), self.column());
        let text = |at, anchor, content: &str, ink: Colour| Shape::Text {
            at,
            anchor,
            content: content.into(),
            ink,
            bold: false,
        };
        let middle = |i: usize| first + column * (i as f64 + 0.5);
        let (at, content) = ((left, top + 18.0), self.title.clone());
        to.push(Shape::Text { at, anchor: Anchor::Start, content, ink: BLACK, bold: true });
        for (i, name) in self.columns.iter().enumerate() {
            to.push(text((middle(i), top + HEAD - 8.0), Anchor::Middle, name, BLACK));
        }
        for (j, row) in self.rows.iter().enumerate() {
            let top = top + HEAD + CELL.1 * j as f64;
            to.push(text((first - 8.0, top + 16.0), Anchor::End, &row.name, BLACK));
            let values = row.values.iter().enumerate().filter_map(|(i, x)| Some((i, (*x)?)));
            for (i, x) in values {
                to.push(Shape::Area {
                    at: (first + column * i as f64, top),
                    size: (column - 1.0, CELL.1 - 1.0),
                    fill: colour(x),
                    title: Some(format!("{}, {}: {x:.4}", self.columns[i], row.name)),
                });
                let ink = if x > 0.55 { WHITE } else { BLACK };
                to.push(text((middle(i), top + 16.0), Anchor::Middle, &format!("{:.1}", 100.0 * x), ink));
            }
        }
    }
}

/// The maps, one below the other; the numbers in the cells are percent.
pub fn drawing(maps: &[HeatMap]) -> Drawing {
    let width = maps.iter().map(HeatMap::width).fold(0.0, f64::max) + 2.0 * MARGIN;
    let (mut top, mut shapes) = (MARGIN, vec![]);
    for map in maps {
        map.draw((MARGIN, top), &mut shapes);
        top += map.height() + MARGIN;
    }
    Drawing { size: (width, top), shapes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_have_their_colour_and_number_and_names_are_escaped() {
        let row = Row { name: "layer 0".into(), values: vec![Some(0.25), None, Some(1.0)] };
        let columns = ["a<b".into(), "c".into(), "d".into()].to_vec();
        let drawing = drawing(&[HeatMap { title: "x & y".into(), columns, rows: vec![row] }]);
        let picture = drawing.svg();
        assert_eq!(picture.matches("<rect").count(), 3, "the background and two cells: {picture}");
        for part in ["x &amp; y", "a&lt;b", "25.0", "100.0", "#c1d1e4", "#084594", "layer 0"] {
            assert!(picture.contains(part), "{part}: {picture}");
        }
        assert!(!picture.contains("a<b"));
        assert!(drawing.file("x.png".as_ref()).unwrap().starts_with(b"\x89PNG"));
    }

    #[test]
    fn long_names_have_room() {
        let row = |name: &str| Row { name: name.into(), values: vec![Some(0.5), Some(0.5)] };
        let map = |column: &str, name: &str| HeatMap {
            title: "t".into(),
            columns: vec![column.into(), "b".into()],
            rows: vec![row(name)],
        };
        let size = |column: &str, name: &str| drawing(&[map(column, name)]).size;
        let (short, long) = (size("a", "r"), "n".repeat(40));
        assert!(size(&long, "r").0 - short.0 > 2.0 * (8.0 * 40.0 - 72.0));
        assert!(size("a", &long).0 - short.0 > 8.0 * 40.0 - 190.0);
        assert_eq!(size(&long, &long).1, short.1);
    }
}
