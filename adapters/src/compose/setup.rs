//! Which adapters are active, and how they are put together: AdapterHub's composition blocks.
//!
//! ```text
//! setup = name | "None"
//!       | "Stack" "(" setup { "," setup } ")"             each reads what the one before gave
//!       | "Fuse" "(" .. [ "," "name=" text ] ")"          mixed by a fusion, named after them if by nothing else;
//!                                                         a Fuse in a Fuse is mixed like an adapter
//!       | "Average" "(" .. [ "," "weights=" list ] [ "," "normalize_weights=" bool ] ")"
//!       | "Split" "(" .. "," "splits=" list ")"           rows of each sequence, one behind the other
//!       | "BatchSplit" "(" .. "," "batch_sizes=" list ")" sequences of the batch, one behind the other
//!       | "Parallel" "(" .. ")"                           every sequence, once for each
//! ```
use crate::{Error, Result, grammar::Parser};
use serde_json::{Map, Value, json};
use std::{fmt, str::FromStr};

/// A composition of adapters, by their names.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Setup {
    /// No adapter: the plain model.
    #[default]
    Identity,
    /// One adapter.
    One(String),
    /// Each reads what the one before gave.
    Stack(Vec<Setup>),
    /// Mixed by a fusion.
    Fuse {
        /// What is mixed.
        of: Vec<Setup>,
        /// The fusion's name, if it is not made of those of the adapters.
        name: Option<String>,
    },
    /// The sum of outputs with weights.
    Average {
        /// What is averaged.
        of: Vec<Setup>,
        /// One for each, as they are multiplied.
        weights: Vec<f64>,
    },
    /// Each for so many rows of every sequence, one behind the other.
    Split {
        /// Who answers.
        of: Vec<Setup>,
        /// Rows of each.
        splits: Vec<usize>,
    },
    /// Each for so many sequences of the batch, one behind the other.
    BatchSplit {
        /// Who answers.
        of: Vec<Setup>,
        /// Sequences of each.
        batch_sizes: Vec<usize>,
    },
    /// Each for every sequence: the batch is computed once for each, all sequences of the first in
    /// front.
    Parallel(Vec<Setup>),
}

/// Blocks inside each other: nobody needs more.
const DEEPEST: usize = 16;

impl Setup {
    /// Each reads what the one before gave.
    pub fn stack(of: impl IntoIterator<Item = impl Into<Setup>>) -> Setup {
        Setup::Stack(of.into_iter().map(Into::into).collect())
    }
    /// Mixed by the fusion that is named after them.
    pub fn fuse(of: impl IntoIterator<Item = impl Into<Setup>>) -> Setup {
        Setup::Fuse { of: of.into_iter().map(Into::into).collect(), name: None }
    }
    /// The same share of each.
    pub fn average(of: impl IntoIterator<Item = impl Into<Setup>>) -> Setup {
        let of: Vec<Setup> = of.into_iter().map(Into::into).collect();
        let weights = vec![1.0 / of.len() as f64; of.len()];
        Setup::Average { of, weights }
    }
    /// Each for every sequence.
    pub fn parallel(of: impl IntoIterator<Item = impl Into<Setup>>) -> Setup {
        Setup::Parallel(of.into_iter().map(Into::into).collect())
    }
    /// What it is made of.
    pub fn children(&self) -> &[Setup] {
        match self {
            Setup::Identity | Setup::One(_) => &[],
            Setup::Stack(of) | Setup::Parallel(of) => of,
            Setup::Fuse { of, .. }
            | Setup::Average { of, .. }
            | Setup::Split { of, .. }
            | Setup::BatchSplit { of, .. } => of,
        }
    }
    /// The names of its adapters, in order.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Setup::One(name) => vec![name],
            _ => self.children().iter().flat_map(Setup::names).collect(),
        }
    }
    /// The names of its adapters, each once.
    pub fn distinct(&self) -> Vec<&str> {
        let mut names = vec![];
        self.names().into_iter().for_each(|n| {
            if !names.contains(&n) {
                names.push(n)
            }
        });
        names
    }
    /// How many sequences a batch must have, if it does not go with any number of them.
    pub fn items(&self) -> Option<usize> {
        match self {
            Setup::BatchSplit { batch_sizes, .. } => Some(batch_sizes.iter().sum()),
            _ => self.children().iter().find_map(Setup::items),
        }
    }
    /// True if it is made of adapters, stacks, averages and splits alone.
    pub(super) fn is_plain(&self) -> bool {
        match self {
            Setup::One(_) => true,
            Setup::Stack(of) | Setup::Average { of, .. } | Setup::Split { of, .. } => {
                of.iter().all(Setup::is_plain)
            }
            _ => false,
        }
    }
    /// The name of the last adapter, whose head is the head of what it answers for.
    pub fn last(&self) -> Option<&str> {
        self.names().pop()
    }
    /// Refuses what has no children, or not one number for each.
    fn check(self) -> Result<Setup, String> {
        let n = self.children().len();
        let (block, numbers) = match &self {
            Setup::Identity | Setup::One(_) => return Ok(self),
            Setup::Stack(_) => ("Stack", None),
            Setup::Fuse { .. } => ("Fuse", None),
            Setup::Parallel(_) => ("Parallel", None),
            Setup::Average { weights, .. } => ("Average", Some(("weights", weights.len()))),
            Setup::Split { splits, .. } => ("Split", Some(("splits", splits.len()))),
            Setup::BatchSplit { batch_sizes, .. } => ("BatchSplit", Some(("batch_sizes", batch_sizes.len()))),
        };
        if n == 0 {
            return Err(format!("{block} of nothing"));
        }
        match numbers {
            Some((what, m)) if m != n => Err(format!("{block} of {n} has {m} numbers in `{what}`")),
            _ => Ok(self),
        }
    }
    /// A block by its name, with its options.
    fn block(name: &str, of: Vec<Setup>, mut options: Map<String, Value>) -> Result<Setup, String> {
        let n = of.len();
        let mut taken = |key: &str| options.remove(key);
        let sizes = |key: &str, value: Option<Value>| match value {
            Some(Value::Array(list)) => list.iter().map(|v| size(key, v)).collect(),
            Some(one) => Ok(vec![size(key, &one)?; n]),
            None => Err(format!("{name} needs `{key}`")),
        };
        let made = match name {
            "Stack" => Setup::Stack(of),
            "Parallel" => Setup::Parallel(of),
            "Fuse" => match taken("name") {
                None | Some(Value::Null) => Setup::Fuse { of, name: None },
                Some(Value::String(s)) => Setup::Fuse { of, name: Some(s) },
                Some(v) => return Err(format!("`name` is {v}, expected a text")),
            },
            "Split" => Setup::Split { of, splits: sizes("splits", taken("splits"))? },
            "BatchSplit" => {
                Setup::BatchSplit { of, batch_sizes: sizes("batch_sizes", taken("batch_sizes"))? }
            }
            "Average" => {
                let normal = match taken("normalize_weights") {
                    None => true,
                    Some(Value::Bool(b)) => b,
                    Some(v) => return Err(format!("`normalize_weights` is {v}, expected True or False")),
                };
                let weights: Vec<f64> = match taken("weights") {
                    None | Some(Value::Null) => vec![1.0; n],
                    Some(Value::Array(list)) => list.iter().map(weight).collect::<Result<_, _>>()?,
                    Some(v) => return Err(format!("`weights` is {v}, expected a list")),
                };
                let sum: f64 = weights.iter().sum();
                if normal && !(sum.is_normal() && sum.is_finite()) {
                    return Err(format!("the weights add up to {sum}: they cannot be normalised"));
                }
                let by = if normal { sum } else { 1.0 };
                Setup::Average { of, weights: weights.into_iter().map(|w| w / by).collect() }
            }
            other => return Err(format!("`{other}` is no block of a composition")),
        };
        match options.keys().next() {
            Some(key) => Err(format!("{name} has no `{key}`")),
            None => made.check(),
        }
    }
    fn read(p: &mut Parser<'_>, depth: usize) -> Result<Setup> {
        if depth > DEEPEST {
            return Err(p.error("blocks are nested too deeply"));
        }
        let first = p.peek();
        let start = p.at;
        if let Some(quote @ ('\'' | '"')) = first {
            return Ok(Setup::One(p.quoted(quote)?));
        }
        let word = p.word("the name of an adapter or a block", &['-', '+'])?;
        if !p.takes('(') {
            return Ok(if word == "None" { Setup::Identity } else { Setup::One(word) });
        }
        let (mut of, mut options) = (vec![], Map::new());
        while !p.takes(')') {
            p.peek();
            let here = p.at;
            match Setup::option(p) {
                Some(key) => {
                    if options.insert(key.clone(), p.value(depth)?).is_some() {
                        p.at = here;
                        return Err(p.error(format!("`{key}` is given twice")));
                    }
                }
                None => of.push(Setup::read(p, depth + 1)?),
            }
            p.separated(')')?;
        }
        Setup::block(&word, of, options).map_err(|what| {
            p.at = start;
            p.error(what)
        })
    }
    /// The key of an option, if one stands here; the place moves behind its `=`.
    fn option(p: &mut Parser<'_>) -> Option<String> {
        let start = p.at;
        let key = p.word("", &[]).ok().filter(|_| p.takes('='));
        if key.is_none() {
            p.at = start;
        }
        key
    }
    /// As AdapterHub's `adapter_setup.json` has it.
    pub fn to_json(&self) -> Value {
        let block = |kind: &str, of: &[Setup], kwargs: Value| {
            let children: Vec<Value> = of.iter().map(Setup::to_json).collect();
            let mut v = json!({"type": kind, "children": children});
            if !kwargs.is_null() {
                v["kwargs"] = kwargs;
            }
            v
        };
        match self {
            Setup::Identity => json!({"type": "single", "children": [null]}),
            Setup::One(name) => json!({"type": "single", "children": [name]}),
            Setup::Stack(of) => block("Stack", of, Value::Null),
            Setup::Parallel(of) => block("Parallel", of, Value::Null),
            Setup::Fuse { of, name } => {
                block("Fuse", of, name.as_ref().map_or(Value::Null, |n| json!({"name": n})))
            }
            Setup::Average { of, weights } => {
                block("Average", of, json!({"weights": weights, "normalize_weights": false}))
            }
            Setup::Split { of, splits } => block("Split", of, json!({"splits": splits})),
            Setup::BatchSplit { of, batch_sizes } => {
                block("BatchSplit", of, json!({"batch_sizes": batch_sizes}))
            }
        }
    }
    /// Reads [`Setup::to_json`], or what AdapterHub wrote.
    pub fn from_json(v: &Value) -> Result<Setup> {
        Setup::of_json(v, 0).map_err(Error::Config)
    }
    fn of_json(v: &Value, depth: usize) -> Result<Setup, String> {
        if depth > DEEPEST {
            return Err("blocks are nested too deeply".into());
        }
        let kind = v["type"].as_str().ok_or("a block of a setup needs a `type`")?;
        let children = v["children"].as_array().ok_or("a block of a setup needs `children`")?;
        if kind == "single" {
            return match children.as_slice() {
                [Value::String(name)] => Ok(Setup::One(name.clone())),
                [Value::Null] => Ok(Setup::Identity),
                other => Err(format!("a single adapter is {}, expected a name", json!(other))),
            };
        }
        let of = children.iter().map(|c| Setup::of_json(c, depth + 1)).collect::<Result<_, _>>()?;
        let mut options = match v.get("kwargs") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(map)) => map.clone(),
            Some(v) => return Err(format!("`kwargs` is {v}, expected an object")),
        };
        if kind == "Average" {
            // what the library writes is what it multiplies with
            options.entry("normalize_weights").or_insert(false.into());
        }
        Setup::block(kind, of, options)
    }
}
fn size(key: &str, v: &Value) -> Result<usize, String> {
    let n = v.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| *n < 1 << 32);
    n.ok_or_else(|| format!("`{key}` holds {v}, expected a number of 0 or more"))
}
fn weight(v: &Value) -> Result<f64, String> {
    v.as_f64().ok_or_else(|| format!("`weights` holds {v}, expected a number"))
}

impl From<&str> for Setup {
    /// The adapter of this name.
    fn from(name: &str) -> Setup {
        Setup::One(name.into())
    }
}
impl FromStr for Setup {
    type Err = Error;
    /// Reads a setup as it is written above. An error names the character (from 1).
    fn from_str(text: &str) -> Result<Setup> {
        let mut p = Parser::new(text);
        let setup = Setup::read(&mut p, 0)?;
        p.end()?;
        Ok(setup)
    }
}
impl fmt::Display for Setup {
    /// As it is read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |name: &str| {
            let is_word = |c: char| c.is_alphanumeric() || "_-+".contains(c);
            match !name.is_empty() && name != "None" && name.chars().all(is_word) {
                true => name.to_string(),
                false => format!("'{}'", name.replace('\\', "\\\\").replace('\'', "\\'")),
            }
        };
        let list = |of: &[Setup]| of.iter().map(Setup::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Setup::Identity => f.write_str("None"),
            Setup::One(n) => f.write_str(&name(n)),
            Setup::Stack(of) => write!(f, "Stack({})", list(of)),
            Setup::Parallel(of) => write!(f, "Parallel({})", list(of)),
            Setup::Fuse { of, name: None } => write!(f, "Fuse({})", list(of)),
            Setup::Fuse { of, name: Some(n) } => {
                write!(f, "Fuse({}, name='{}')", list(of), n.replace('\\', "\\\\").replace('\'', "\\'"))
            }
            Setup::Average { of, weights } => {
                write!(f, "Average({}, weights={weights:?}, normalize_weights=False)", list(of))
            }
            Setup::Split { of, splits } => write!(f, "Split({}, splits={splits:?})", list(of)),
            Setup::BatchSplit { of, batch_sizes } => {
                write!(f, "BatchSplit({}, batch_sizes={batch_sizes:?})", list(of))
            }
        }
    }
}
