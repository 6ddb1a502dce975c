//! Pictures of a few areas and texts as files: SVG, or the pixels of a PNG.
//!
//! A PNG's letters are those of an 8 x 8 bitmap font (Latin and Greek; a box stands for others), which
//! needs no font of the machine.
use super::picture;
use crate::{Error, Result};
use font8x8::{BASIC_FONTS, GREEK_FONTS, LATIN_FONTS, MISC_FONTS, UnicodeFonts};
use std::path::Path;
use svg::{
    Document,
    node::element::{Rectangle, Title},
};

/// Red, green and blue.
pub type Colour = [u8; 3];

/// How a picture is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Shapes.
    Svg,
    /// Pixels.
    Png,
}
impl Format {
    /// All of them, by the extension of their files.
    const ALL: [(&'static str, Format); 2] = [("svg", Format::Svg), ("png", Format::Png)];
    /// What the extension of a file stands for; an error if that is no picture.
    pub fn of(path: &Path) -> Result<Format> {
        let own = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_lowercase();
        let found = Format::ALL.into_iter().find(|(extension, _)| *extension == own);
        found.map(|(_, format)| format).ok_or_else(|| {
            let known = Format::ALL.map(|(extension, _)| format!(".{extension}")).join(" or ");
            Error::file(path, format!("pictures are written as {known}"))
        })
    }
}

/// Where a text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// It begins at its place.
    Start,
    /// Its middle is there.
    Middle,
    /// It ends there.
    End,
}
/// A part of a picture; places are from the upper left corner to the right and down.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// A filled rectangle.
    Area {
        /// Its upper left corner.
        at: (f64, f64),
        /// Its width and height.
        size: (f64, f64),
        /// What it is filled with.
        fill: Colour,
        /// What is said of it where somebody points at it.
        title: Option<String>,
    },
    /// A line of text.
    Text {
        /// Its base line.
        at: (f64, f64),
        /// What of it is there.
        anchor: Anchor,
        /// What it says.
        content: String,
        /// Its colour.
        ink: Colour,
        /// Whether it is bold.
        bold: bool,
    },
}

/// A picture: what comes later lies on what comes before.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawing {
    /// Width and height.
    pub size: (f64, f64),
    /// What is drawn on white.
    pub shapes: Vec<Shape>,
}

/// The width of a letter, and what is above its base line.
pub const LETTER: (f64, f64) = (8.0, 7.0);
/// Pixels of a PNG for each unit of a length.
const PIXELS: f64 = 2.0;
/// The most of them.
const MOST: f64 = 1e8;

impl Drawing {
    /// The file, in the format that its name stands for.
    pub fn file(&self, path: &Path) -> Result<Vec<u8>> {
        match Format::of(path)? {
            Format::Svg => Ok(self.svg().into_bytes()),
            Format::Png => self.png().map_err(|why| Error::file(path, why)),
        }
    }
    /// As SVG.
    pub fn svg(&self) -> String {
        let hex = |[r, g, b]: Colour| format!("#{r:02x}{g:02x}{b:02x}");
        let (width, height) = self.size;
        let mut document = Document::new()
            .set("viewBox", (0.0, 0.0, width, height))
            .set("width", width)
            .set("height", height)
            .set("font-family", "sans-serif")
            .set("font-size", 13)
            .add(Rectangle::new().set("width", "100%").set("height", "100%").set("fill", "#fff"));
        for shape in &self.shapes {
            document = match shape {
                Shape::Area { at, size, fill, title } => {
                    let area = Rectangle::new().set("x", at.0).set("y", at.1);
                    let area = area.set("width", size.0).set("height", size.1).set("fill", hex(*fill));
                    document.add(match title {
                        Some(title) => area.add(Title::new(title)),
                        None => area,
                    })
                }
                Shape::Text { at, anchor, content, ink, bold } => {
                    let anchor = match anchor {
                        Anchor::Start => "start",
                        Anchor::Middle => "middle",
                        Anchor::End => "end",
                    };
                    let text = picture::text(*at, anchor, content).set("fill", hex(*ink));
                    document.add(if *bold { text.set("font-weight", "bold") } else { text })
                }
            };
        }
        document.to_string()
    }
    /// As PNG, or why not.
    fn png(&self) -> std::result::Result<Vec<u8>, String> {
        let mut pixels = Pixels::new(self.size)?;
        for shape in &self.shapes {
            match shape {
                Shape::Area { at, size, fill, .. } => pixels.fill(*at, *size, *fill),
                Shape::Text { at, anchor, content, ink, bold } => {
                    let width = LETTER.0 * content.chars().count() as f64;
                    let before = match anchor {
                        Anchor::Start => 0.0,
                        Anchor::Middle => width / 2.0,
                        Anchor::End => width,
                    };
                    pixels.write((at.0 - before, at.1 - LETTER.1), content, *ink, *bold);
                }
            }
        }
        pixels.encoded().map_err(|e| e.to_string())
    }
}

/// What a PNG is made of.
struct Pixels {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}
impl Pixels {
    fn new(size: (f64, f64)) -> std::result::Result<Pixels, String> {
        let [width, height] = [size.0, size.1].map(|x| (x * PIXELS).ceil().max(1.0));
        if width * height > MOST {
            return Err(format!("{width} x {height} pixels are too many for a PNG: write .svg"));
        }
        // both are from 1 to MOST
        let (width, height) = (width as usize, height as usize);
        Ok(Pixels { width, height, rgb: vec![255; 3 * width * height] })
    }
    fn fill(&mut self, at: (f64, f64), size: (f64, f64), colour: Colour) {
        let pixel = |x: f64, most: usize| ((x * PIXELS).round().max(0.0) as usize).min(most);
        let (left, right) = (pixel(at.0, self.width), pixel(at.0 + size.0, self.width));
        for y in pixel(at.1, self.height)..pixel(at.1 + size.1, self.height) {
            let row = &mut self.rgb[3 * (y * self.width + left)..3 * (y * self.width + right.max(left))];
            row.chunks_exact_mut(3).for_each(|pixel| pixel.copy_from_slice(&colour));
        }
    }
    /// A text whose upper left corner is there.
    fn write(&mut self, at: (f64, f64), text: &str, ink: Colour, bold: bool) {
        let side = 1.0 + if bold { 1.0 / PIXELS } else { 0.0 };
        for (n, letter) in text.chars().enumerate() {
            let left = at.0 + LETTER.0 * n as f64;
            for (y, row) in glyph(letter).into_iter().enumerate() {
                for x in (0..8).filter(|x| row >> x & 1 == 1) {
                    self.fill((left + f64::from(x), at.1 + y as f64), (side, 1.0), ink);
                }
            }
        }
    }
    fn encoded(&self) -> std::result::Result<Vec<u8>, png::EncodingError> {
        let mut bytes = vec![];
        // both were checked to be no more than MOST
        let mut encoder = png::Encoder::new(&mut bytes, self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.rgb)?;
        writer.finish()?;
        Ok(bytes)
    }
}

/// The rows of a letter from above, with its left column in the lowest bit.
fn glyph(letter: char) -> [u8; 8] {
    let unknown = [0x00, 0x7e, 0x42, 0x42, 0x42, 0x42, 0x7e, 0x00];
    let fonts: [&dyn Fn(char) -> Option<[u8; 8]>; 4] =
        [&|c| BASIC_FONTS.get(c), &|c| LATIN_FONTS.get(c), &|c| GREEK_FONTS.get(c), &|c| MISC_FONTS.get(c)];
    fonts.into_iter().find_map(|font| font(letter)).unwrap_or(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawing() -> Drawing {
        let area =
            Shape::Area { at: (2.0, 3.0), size: (4.0, 2.0), fill: [1, 2, 3], title: Some("a<b".into()) };
        let text = |at, anchor| Shape::Text { at, anchor, content: "I&".into(), ink: [9, 9, 9], bold: false };
        let shapes = vec![area, text((20.0, 10.0), Anchor::Start), text((60.0, 10.0), Anchor::End)];
        Drawing { size: (64.0, 12.0), shapes }
    }
    /// Width, height and pixels.
    fn decoded(bytes: &[u8]) -> (u32, u32, Vec<u8>) {
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        (info.width, info.height, pixels)
    }

    #[test]
    fn the_extension_decides() {
        let of = |name: &str| Format::of(Path::new(name));
        assert_eq!((of("x/y.svg").unwrap(), of("y.PNG").unwrap()), (Format::Svg, Format::Png));
        for name in ["y.jpg", "y", "svg", "y.svg.gz"] {
            let e = of(name).unwrap_err().to_string();
            assert!(e.contains(name) && e.contains(".svg or .png"), "{e}");
        }
        let drawing = drawing();
        assert_eq!(drawing.file(Path::new("a.svg")).unwrap(), drawing.svg().into_bytes());
        assert!(drawing.file(Path::new("a.png")).unwrap().starts_with(b"\x89PNG"));
        assert!(drawing.file(Path::new("a.bmp")).is_err());
    }

    #[test]
    fn pixels_are_where_shapes_are() {
        let (width, height, pixels) = decoded(&drawing().png().unwrap());
        assert_eq!((width, height), (128, 24));
        let at = |x: usize, y: usize| <[u8; 3]>::try_from(&pixels[3 * (y * 128 + x)..][..3]).unwrap();
        let filled: Vec<(usize, usize)> = (0..24)
            .flat_map(|y| (0..128).map(move |x| (x, y)))
            .filter(|(x, y)| at(*x, *y) == [1, 2, 3])
            .collect();
        let all: Vec<_> = (6..10).flat_map(|y| (4..12).map(move |x| (x, y))).collect();
        assert_eq!(filled, all);
        let inked = |columns: std::ops::Range<usize>| {
            columns
                .flat_map(|x| (0..24).map(move |y| (x, y)))
                .filter(|(x, y)| at(*x, *y) == [9, 9, 9])
                .count()
        };
        let letters =
            ['I', '&'].map(|c| 4 * glyph(c).iter().map(|row| row.count_ones() as usize).sum::<usize>());
        assert!(letters[0] > 0 && letters[0] != letters[1]);
        // each letter is 16 pixels wide: one text from 40 on, one up to 120
        assert_eq!(
            [inked(40..56), inked(56..72), inked(88..104), inked(104..120)],
            [letters, letters].concat()[..]
        );
        assert_eq!(inked(0..128), 2 * (letters[0] + letters[1]));
    }

    #[test]
    fn letters_without_a_form_are_boxes_and_what_leaves_the_picture_is_cut() {
        assert_eq!(glyph('漢'), glyph('字'));
        assert!(glyph('é') != glyph('e') && glyph('λ') != glyph('漢'));
        let mut drawing = drawing();
        let (at, size) = ((-5.0, -5.0), (500.0, 500.0));
        drawing.shapes = vec![Shape::Area { at, size, fill: [7; 3], title: None }];
        assert!(decoded(&drawing.png().unwrap()).2.iter().all(|x| *x == 7));
        drawing.size = (1e6, 1e6);
        assert!(drawing.png().unwrap_err().contains("write .svg"));
        drawing.size = (0.0, 0.0);
        drawing.png().unwrap();
    }

    #[test]
    fn titles_and_texts_are_escaped() {
        let svg = drawing().svg();
        assert!(svg.contains("a&lt;b") && svg.contains("I&amp;") && svg.contains("#010203"), "{svg}");
    }
}
