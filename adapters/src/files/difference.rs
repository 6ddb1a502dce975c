//! How two saved adapters differ, told by their files.
use super::saved::Saved;
use crate::{Error, Result};
use serde::Serialize;
use serde_json::Value;
use std::{collections::BTreeMap, path::Path};

/// How two saved adapters differ. Names of tensors are without those of the adapters.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Difference {
    /// Fields of what the files say that are not the same.
    pub fields: Vec<FieldDifference>,
    /// Tensors that only the first has.
    pub only_first: Vec<String>,
    /// Tensors that only the second has.
    pub only_second: Vec<String>,
    /// Tensors that both have, with other values or in another shape.
    pub tensors: Vec<TensorDifference>,
    /// Tensors that are the same to the bit.
    pub same: usize,
}
/// A field that is not the same.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FieldDifference {
    /// Its path, as in `config.reduction_factor`; of a head behind `head.`
    pub field: String,
    /// What the first says; none if it says nothing.
    pub first: Option<Value>,
    /// What the second says.
    pub second: Option<Value>,
}
/// A tensor that is not the same.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TensorDifference {
    /// Its name; of a head behind `head.`
    pub tensor: String,
    /// Both shapes, if they differ; then there are no numbers.
    pub shapes: Option<[Vec<usize>; 2]>,
    /// max |a - b|
    pub max: f64,
    /// The same over max |a|; none if that is 0.
    pub relative: Option<f64>,
    /// a · b / (|a| |b|); none if one of them is 0.
    pub cosine: Option<f64>,
}
impl Difference {
    /// The difference of the adapters of two directories, and of their heads. An error if they are
    /// in two formats.
    pub fn of(first: &Path, second: &Path) -> Result<Difference> {
        let (a, b) = (Saved::adapter(first)?, Saved::adapter(second)?);
        if a.format != b.format {
            let what = format!(
                "it is in {}'s format, and {} in {}'s: bring them to one before they are compared",
                a.format.name(),
                second.display(),
                b.format.name()
            );
            return Err(Error::File { path: first.into(), what });
        }
        let mut d = Difference::default();
        d.add("", Some(&a), Some(&b))?;
        d.add("head.", Saved::head(first)?.as_ref(), Saved::head(second)?.as_ref())?;
        Ok(d)
    }
    /// True if there is none.
    pub fn is_none(&self) -> bool {
        self.fields.is_empty()
            && self.only_first.is_empty()
            && self.only_second.is_empty()
            && self.tensors.is_empty()
    }
    fn add(&mut self, start: &str, a: Option<&Saved>, b: Option<&Saved>) -> Result<()> {
        let fields = |s: Option<&Saved>| {
            let mut all = BTreeMap::new();
            s.iter().for_each(|s| flat("", &Value::Object(s.card.clone()), &mut all));
            all
        };
        let (one, two) = (fields(a), fields(b));
        let mut names: Vec<&String> = one.keys().chain(two.keys()).collect();
        names.sort();
        names.dedup();
        for name in names.into_iter().filter(|n| one.get(*n) != two.get(*n)) {
            let [first, second] = [&one, &two].map(|all| all.get(name).cloned());
            self.fields.push(FieldDifference { field: format!("{start}{name}"), first, second });
        }
        let tensors = |s: Option<&Saved>| -> BTreeMap<String, String> {
            let names =
                s.into_iter().flat_map(|s| s.checkpoint.names().map(move |n| (s.nameless(n), n.into())));
            names.collect()
        };
        let (one, two) = (tensors(a), tensors(b));
        let only = |x: &BTreeMap<String, String>, y: &BTreeMap<String, String>| -> Vec<String> {
            x.keys().filter(|n| !y.contains_key(*n)).map(|n| format!("{start}{n}")).collect()
        };
        self.only_first.extend(only(&one, &two));
        self.only_second.extend(only(&two, &one));
        let (Some(a), Some(b)) = (a, b) else { return Ok(()) };
        for (name, of_a) in &one {
            let Some(of_b) = two.get(name) else { continue };
            let (first, second) = (a.values(of_a)?, b.values(of_b)?);
            match difference(&format!("{start}{name}"), first, second) {
                Some(d) => self.tensors.push(d),
                None => self.same += 1,
            }
        }
        Ok(())
    }
}

fn difference(name: &str, a: (&[usize], Vec<f32>), b: (&[usize], Vec<f32>)) -> Option<TensorDifference> {
    let tensor = name.to_string();
    if a.0 != b.0 {
        let shapes = Some([a.0.to_vec(), b.0.to_vec()]);
        return Some(TensorDifference { tensor, shapes, max: 0.0, relative: None, cosine: None });
    }
    if a.1.iter().map(|x| x.to_bits()).eq(b.1.iter().map(|x| x.to_bits())) {
        return None;
    }
    let (mut max, mut top, mut dot, mut squares) = (0f64, 0f64, 0f64, (0f64, 0f64));
    for (x, y) in a.1.iter().zip(&b.1) {
        let (x, y) = (f64::from(*x), f64::from(*y));
        (max, top) = (max.max((x - y).abs()), top.max(x.abs()));
        (dot, squares) = (dot + x * y, (squares.0 + x * x, squares.1 + y * y));
    }
    let lengths = (squares.0 * squares.1).sqrt();
    let over = |x: f64, by: f64| (by > 0.0).then(|| x / by);
    Some(TensorDifference { tensor, shapes: None, max, relative: over(max, top), cosine: over(dot, lengths) })
}
/// Every value that is no object, under its path.
fn flat(path: &str, v: &Value, to: &mut BTreeMap<String, Value>) {
    match v {
        Value::Object(fields) => fields.iter().for_each(|(k, v)| {
            let inside = if path.is_empty() { k.clone() } else { format!("{path}.{k}") };
            flat(&inside, v, to);
        }),
        other => drop(to.insert(path.into(), other.clone())),
    }
}
