//! The places in a model where adapters answer, as the model lists them.
use crate::Act;
use std::ops::Range;

/// A place in a model.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Site {
    /// The layer, from 0. In an encoder-decoder the layers of the decoder count on from
    /// those of the encoder.
    pub layer: usize,
    /// Which part of the layer.
    pub part: Part,
    /// Which point of the part.
    pub point: Point,
}
/// A part of a layer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Part {
    /// The embeddings, in front of the first layer.
    Embed,
    /// The layer as a whole.
    Layer,
    /// Self-attention.
    Attn,
    /// Attention of a decoder to the encoder's output.
    Cross,
    /// The feed-forward network.
    Ffn,
    /// The encoder's output, as a decoder reads it.
    Memory,
    /// Behind the last layer.
    Head,
}
/// A point of a part.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Point {
    /// The residual stream on its way in.
    Stream,
    /// The query projection.
    Q,
    /// The key projection.
    K,
    /// The value projection.
    V,
    /// The query, key and value projections as one linear layer, their outputs side by side.
    Qkv,
    /// Keys and values beside those of the tokens.
    Prefix,
    /// The attention probabilities.
    Probs,
    /// The output projection.
    O,
    /// The first feed-forward projection.
    Up,
    /// The projection whose activation is multiplied with the first one's output.
    Gate,
    /// The second feed-forward projection.
    Down,
    /// A norm that stands by itself.
    Norm,
    /// The end of the sub-layer: residual and norm. The end of a layer: the residual
    /// stream on its way out.
    Close,
    /// The residual stream before positions are known.
    Words,
}

impl Part {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Part::Embed => "embed",
            Part::Layer => "layer",
            Part::Attn => "attn",
            Part::Cross => "cross",
            Part::Ffn => "ffn",
            Part::Memory => "memory",
            Part::Head => "head",
        }
    }
}
impl Point {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Point::Stream => "stream",
            Point::Q => "q",
            Point::K => "k",
            Point::V => "v",
            Point::Qkv => "qkv",
            Point::Prefix => "prefix",
            Point::Probs => "probs",
            Point::O => "o",
            Point::Up => "up",
            Point::Gate => "gate",
            Point::Down => "down",
            Point::Norm => "norm",
            Point::Close => "close",
            Point::Words => "words",
        }
    }
}

impl Site {
    /// What it is called, whatever its layer: `attn.q`.
    pub fn name(self) -> String {
        format!("{}.{}", self.part.name(), self.point.name())
    }
    /// Behind the embeddings of words alone: rows that are added here have positions.
    pub const WORDS: Site = Site { layer: 0, part: Part::Embed, point: Point::Words };
    /// Behind the embeddings.
    pub const EMBED: Site = Site { layer: 0, part: Part::Embed, point: Point::Stream };
    /// The norm of the embeddings.
    pub const EMBED_NORM: Site = Site { layer: 0, part: Part::Embed, point: Point::Norm };
    /// In front of layer `l`.
    pub fn layer(layer: usize) -> Site {
        Site { layer, part: Part::Layer, point: Point::Stream }
    }
    /// Behind layer `l`.
    pub fn behind(layer: usize) -> Site {
        Site { layer, part: Part::Layer, point: Point::Close }
    }
    /// A point of the self-attention of a layer.
    pub fn attn(layer: usize, point: Point) -> Site {
        Site { layer, part: Part::Attn, point }
    }
    /// The end of the self-attention of a layer.
    pub fn after_attn(layer: usize) -> Site {
        Site::attn(layer, Point::Close)
    }
    /// A point of the feed-forward network of a layer.
    pub fn ffn(layer: usize, point: Point) -> Site {
        Site { layer, part: Part::Ffn, point }
    }
    /// A point of the cross-attention of a layer.
    pub fn cross(layer: usize, point: Point) -> Site {
        Site { layer, part: Part::Cross, point }
    }
    /// A point of the encoder's output, in front of the first layer of a decoder.
    pub fn memory(layer: usize, point: Point) -> Site {
        Site { layer, part: Part::Memory, point }
    }
    /// The end of the cross-attention of a layer.
    pub fn after_cross(layer: usize) -> Site {
        Site::cross(layer, Point::Close)
    }
    /// The end of the feed-forward network of a layer.
    pub fn after_ffn(layer: usize) -> Site {
        Site::ffn(layer, Point::Close)
    }
    /// Behind the last layer.
    pub fn head() -> Site {
        Site { layer: 0, part: Part::Head, point: Point::Stream }
    }
    /// The norm behind the last layer.
    pub const LAST_NORM: Site = Site { layer: 0, part: Part::Head, point: Point::Norm };
    /// A number for the random choices made here; `salt` tells several of them apart. The numbers
    /// of parts and points may not change: they are what a seed means.
    pub(crate) fn place(self, salt: u8) -> u64 {
        let part: u64 = match self.part {
            Part::Embed => 0,
            Part::Layer => 1,
            Part::Attn => 2,
            Part::Ffn => 3,
            Part::Head => 4,
            Part::Cross => 5,
            Part::Memory => 6,
        };
        let point: u64 = match self.point {
            Point::Stream => 0,
            Point::Q => 1,
            Point::K => 2,
            Point::V => 3,
            Point::Probs => 4,
            Point::O => 5,
            Point::Up => 6,
            Point::Down => 7,
            Point::Close => 8,
            Point::Qkv => 9,
            Point::Prefix => 10,
            Point::Gate => 11,
            Point::Norm => 12,
            Point::Words => 13,
        };
        (self.layer as u64) << 24 | part << 16 | point << 8 | u64::from(salt)
    }
}

/// What a model says about one of its sites: enough to build, name and size a module there.
#[derive(Clone, Debug)]
pub struct SiteInfo {
    /// Where.
    pub site: Site,
    /// What happens there.
    pub kind: SiteKind,
    /// The path under which AdapterHub's checkpoints name what hangs there.
    pub path: String,
    /// The first part of the path, if the names of the model's own weights do not have it: AdapterHub's
    /// class for heads may hold a whole model in one of its modules. Empty where they have it.
    pub outer: &'static str,
    /// The site whose module answers here: this one, unless layers share their weights.
    pub module: Site,
    /// The norm that is applied here: by itself, or at the end of a sub-layer.
    pub norm: Option<SiteNorm>,
    /// The point that AdapterHub's configurations take it for: its own, but in families that the
    /// library has otherwise (in LLaMA `output_lora` stands at `up_proj`).
    pub known_as: Point,
}
impl SiteInfo {
    /// A site with a module of its own, and without a norm.
    pub fn new(site: Site, kind: SiteKind, path: impl Into<String>) -> SiteInfo {
        let (outer, known_as) = ("", site.point);
        SiteInfo { site, kind, path: path.into(), outer, module: site, norm: None, known_as }
    }
    /// A path as the model's own weights and PEFT's checkpoints have it: without [`SiteInfo::outer`].
    pub fn in_model<'p>(&self, path: &'p str) -> &'p str {
        match path.strip_prefix(self.outer) {
            Some(rest) if !self.outer.is_empty() => rest.strip_prefix('.').unwrap_or(rest),
            _ => path,
        }
    }
}
/// A norm at a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteNorm {
    /// Its Hugging Face module.
    pub path: String,
    /// True if it has a bias.
    pub bias: bool,
}
/// What happens at a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SiteKind {
    /// The residual stream.
    Stream {
        /// Channels.
        channels: usize,
    },
    /// A linear layer; the path is its Hugging Face module.
    Linear {
        /// Inputs.
        input: usize,
        /// Outputs, of all parts together.
        output: usize,
        /// Projections of equal width whose outputs stand side by side: 3 where query, key and
        /// value are one layer.
        parts: usize,
        /// True if the weight is stored (in, out).
        in_out: bool,
        /// True if it has a bias.
        bias: bool,
    },
    /// Keys and values of an attention; the path is the module that AdapterHub gives a prefix.
    Prefix {
        /// Channels of keys and of values.
        channels: usize,
    },
    /// A norm that stands by itself; the path is its Hugging Face module.
    Norm {
        /// Channels.
        channels: usize,
    },
    /// The end of a sub-layer; the path is the module in which AdapterHub keeps `adapters`.
    Close {
        /// Channels.
        channels: usize,
    },
}

/// Keys and values that stand beside those of the tokens.
#[derive(Clone, Debug)]
pub struct Prefix {
    /// Keys, (rows, channels): sequences may share rows.
    pub k: Act,
    /// Values, (rows, channels).
    pub v: Act,
    /// For each sequence of the queries the rows that it attends to besides its
    /// own, in their order.
    pub of: Vec<Vec<Range<usize>>>,
}
impl Prefix {
    /// Rows that every one of so many sequences attends to.
    pub fn shared(k: Act, v: Act, sequences: usize) -> Prefix {
        let all = 0..k.rows();
        Prefix { k, v, of: vec![vec![all]; sequences] }
    }
}
