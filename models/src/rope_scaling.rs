//! The frequencies of rotary positions, as `rope_theta` and `rope_scaling` describe them
//! (transformers' `modeling_rope_utils.py`).
//!
//! ```text
//! f_i = θ^(-2i / d), i from 0 to d/2 - 1
//! linear    f_i / s  (Chen et al. 2023)
//! dynamic   θ (s n / N - (s - 1))^(d / (d - 2)) for θ, with sequences of n > N tokens  (NTK)
//! yarn      f_i where it turns often, f_i / s where seldom, a ramp between  (Peng et al. 2023)
//! llama3    the same, the ramp over wave lengths  (Llama 3.1)
//! longrope  f_i / l_i, with lists for short and for long sequences  (Ding et al. 2024)
//! ```
//! s is `factor` and N the length that the model was made for. With yarn and longrope cosines and
//! sines are multiplied by a number as well.
use crate::{Config, Result};
use std::f64::consts::TAU;

/// Frequencies, of sequences of any length or of each by itself.
#[derive(Clone, Debug)]
pub(crate) enum Frequencies {
    /// Those of all sequences.
    Same(Vec<f32>),
    /// Sequences of more than `most` tokens have some of their own.
    Dynamic { base: f64, dim: usize, factor: f64, most: usize },
    /// Sequences of more than `most` tokens have others.
    Long { short: Vec<f32>, long: Vec<f32>, most: usize },
}
/// How a configuration turns heads.
#[derive(Clone, Debug)]
pub(crate) struct Scaling {
    pub frequencies: Frequencies,
    /// What cosines and sines are multiplied by.
    pub scale: f32,
    /// The longest sequence that the model is made for.
    pub positions: usize,
}

/// θ^(2i / d): what the library divides 1 by.
fn wave_numbers(base: f64, dim: usize) -> impl Iterator<Item = f64> {
    // an exponent is an f32 there
    (0..dim / 2).map(move |i| base.powf(f64::from((2 * i) as f32 / dim as f32)))
}
fn plain(base: f64, dim: usize) -> Vec<f32> {
    wave_numbers(base, dim).map(|w| (1.0 / w) as f32).collect()
}

impl Frequencies {
    /// Tells sequences of different frequencies apart by their lengths.
    pub fn key(&self, tokens: usize) -> usize {
        match self {
            Frequencies::Same(_) => 0,
            Frequencies::Dynamic { most, .. } => tokens.max(*most),
            Frequencies::Long { most, .. } => usize::from(tokens > *most),
        }
    }
    /// Those of sequences with this key.
    pub fn of(&self, key: usize) -> Vec<f32> {
        match self {
            Frequencies::Same(all) => all.clone(),
            Frequencies::Long { short, .. } if key == 0 => short.clone(),
            Frequencies::Long { long, .. } => long.clone(),
            Frequencies::Dynamic { base, dim, factor, most } => {
                let longer = factor * key as f64 / *most as f64 - (factor - 1.0);
                plain(base * longer.powf(*dim as f64 / (*dim as f64 - 2.0)), *dim)
            }
        }
    }
}

/// The most channels of a head that are turned: more are in no model, and their frequencies would
/// be made before a weight is missed.
pub(crate) const WIDEST: usize = 1 << 16;

impl Scaling {
    /// Frequencies as they are.
    pub fn plain(base: f64, dim: usize, positions: usize) -> Scaling {
        Scaling { frequencies: Frequencies::Same(plain(base, dim)), scale: 1.0, positions }
    }
    /// `rope_theta` and `rope_scaling` of a model whose heads have `dim` channels that are turned,
    /// and that is made for sequences of `max_position_embeddings` = `positions` tokens.
    pub fn read(config: &Config, dim: usize, positions: usize) -> Result<Scaling> {
        let base = Scaling::base(config, "rope_theta", 10000.0)?;
        Scaling::of(config, base, dim, positions)
    }
    /// The base of frequencies that a field says.
    pub fn base(config: &Config, name: &str, default: f64) -> Result<f64> {
        match config.number(name, default)? {
            base if base > 1.0 => Ok(base),
            base => Err(config.error(format!("`{name}` is {base}, expected more than 1"))),
        }
    }
    /// The same of a base that another field says.
    pub fn of(config: &Config, base: f64, dim: usize, positions: usize) -> Result<Scaling> {
        let original = match config.has("original_max_position_embeddings") {
            true => Some(config.count("original_max_position_embeddings")?),
            false => None,
        };
        let scaled = config.within("rope_scaling", |c| scaled(c, (base, dim), positions, original))?;
        Ok(scaled.unwrap_or_else(|| Scaling::plain(base, dim, positions)))
    }
}

fn scaled(
    c: &Config,
    (base, dim): (f64, usize),
    positions: usize,
    original: Option<usize>,
) -> Result<Scaling> {
    // the older name of the field, which the library prefers in the families that copy it
    let (name, older) = (c.text("rope_type", "")?, c.text("type", "")?);
    let name = match (&*name, &*older) {
        ("", _) => older,
        (a, b) if b.is_empty() || a == b => name,
        (a, b) => return Err(c.error(format!("`rope_type` is `{a}`, and `type` is `{b}`"))),
    };
    let factor = || match c.number("factor", 0.0)? {
        f if f > 0.0 => Ok(f),
        f => Err(c.error(format!("`factor` is {f}, expected a number above 0"))),
    };
    let of = |frequencies| Scaling { frequencies, scale: 1.0, positions };
    let longer = |positions: usize, factor: f64| (positions as f64 * factor.max(1.0)) as usize;
    match &*name {
        "default" => Ok(Scaling::plain(base, dim, positions)),
        "linear" => {
            let s = factor()?;
            let all = plain(base, dim).iter().map(|f| (f64::from(*f) / s) as f32).collect();
            Ok(Scaling { positions: longer(positions, s), ..of(Frequencies::Same(all)) })
        }
        "dynamic" if dim <= 2 => Err(c.error("`dynamic` needs heads of more than 2 channels")),
        "dynamic" => {
            let s = factor()?;
            c.value("original_max_position_embeddings"); // the library takes it, and reads it not
            let dynamic = Frequencies::Dynamic { base, dim, factor: s, most: positions };
            Ok(Scaling { positions: longer(positions, s), ..of(dynamic) })
        }
        "yarn" => yarn(c, factor()?, (base, dim), positions),
        "llama3" => {
            let all = llama3(c, factor()?, plain(base, dim))?;
            Ok(of(Frequencies::Same(all)))
        }
        "longrope" => {
            let stretched = match original {
                Some(original) => Some(positions as f64 / original as f64),
                None => c.value("factor").is_some().then(factor).transpose()?,
            };
            let most = original.unwrap_or(positions);
            let list = |name: &str| -> Result<Vec<f32>> {
                let all = c.numbers(name)?.ok_or_else(|| c.error(format!("no field `{name}`")))?;
                if all.len() != dim / 2 || all.iter().any(|l| *l <= 0.0) {
                    let n = dim / 2;
                    return Err(c.error(format!("`{name}` is not a list of {n} numbers above 0")));
                }
                let waves = wave_numbers(base, dim);
                Ok(all.iter().zip(waves).map(|(l, w)| (1.0 / (l * w)) as f32).collect())
            };
            let frequencies =
                Frequencies::Long { short: list("short_factor")?, long: list("long_factor")?, most };
            let given = c.value("attention_factor").is_some();
            let scale = match (given, stretched) {
                (true, _) => c.number("attention_factor", 1.0)?,
                (false, None) => return Err(c.error("no field `factor`")),
                (false, Some(s)) if s <= 1.0 => 1.0,
                (false, Some(s)) => (1.0 + s.ln() / (most as f64).ln()).sqrt(),
            };
            let positions =
                if original.is_some() { positions } else { longer(positions, stretched.unwrap_or(1.0)) };
            Ok(Scaling { frequencies, scale: scale as f32, positions })
        }
        other => Err(c.error(format!(
            "`rope_type` is `{other}`; supported: default, linear, dynamic, yarn, llama3, longrope"
        ))),
    }
}

/// `factor` s: frequencies that turn more than `beta_fast` times over the original length stay,
/// those that turn less than `beta_slow` times are divided by s.
fn yarn(c: &Config, s: f64, (base, dim): (f64, usize), positions: usize) -> Result<Scaling> {
    // 0 stands for the default there, as `null` does
    let number = |name: &str, default: f64| -> Result<f64> {
        match c.value(name) {
            Some(_) => c.number(name, default).map(|x| if x == 0.0 { default } else { x }),
            None => Ok(default),
        }
    };
    let most = c.count_or_null("original_max_position_embeddings", positions)?;
    let (fast, slow) = (number("beta_fast", 32.0)?, number("beta_slow", 1.0)?);
    let (m, all) = (number("mscale", 0.0)?, number("mscale_all_dim", 0.0)?);
    let grown = |m: f64| if s <= 1.0 { 1.0 } else { 0.1 * m * s.ln() + 1.0 };
    let scale = match c.value("attention_factor") {
        Some(_) => c.number("attention_factor", 1.0)?,
        None if m != 0.0 && all != 0.0 => grown(m) / grown(all),
        None => grown(1.0),
    };
    // the pair of channels that turns so many times over the original length
    let pair = |turns: f64| dim as f64 * (most as f64 / (turns * TAU)).ln() / (2.0 * base.ln());
    let (mut low, mut high) = (pair(fast), pair(slow));
    if c.flag("truncate", true)? {
        (low, high) = (low.floor(), high.ceil());
    }
    (low, high) = (low.max(0.0), high.min(dim as f64 - 1.0));
    if low == high {
        high += 0.001;
    }
    let blend = |(i, wave): (usize, f64)| {
        let ramp = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
        (ramp / (s * wave) + (1.0 - ramp) / wave) as f32
    };
    let frequencies = Frequencies::Same(wave_numbers(base, dim).enumerate().map(blend).collect());
    let positions = positions.max((most as f64 * s.max(1.0)) as usize);
    Ok(Scaling { frequencies, scale: scale as f32, positions })
}

/// `factor` s: waves longer than the original length over `low_freq_factor` are stretched, those
/// shorter than it over `high_freq_factor` stay.
fn llama3(c: &Config, s: f64, plain: Vec<f32>) -> Result<Vec<f32>> {
    let number = |name: &str| match c.value(name) {
        Some(_) => c.number(name, 0.0),
        None => Err(c.error(format!("no field `{name}`"))),
    };
    let (low, high) = (number("low_freq_factor")?, number("high_freq_factor")?);
    if !(low > 0.0 && high > low) {
        let what = format!("`high_freq_factor` is {high}, expected more than `low_freq_factor`, {low}");
        return Err(c.error(what));
    }
    let most = c.count("original_max_position_embeddings")? as f64;
    let one = |f: f32| {
        let (f, wave) = (f64::from(f), TAU / f64::from(f));
        let smooth = (most / wave - low) / (high - low);
        (match () {
            () if wave > most / low => f / s,
            () if wave < most / high => f,
            () => (1.0 - smooth) * f / s + smooth * f,
        }) as f32
    };
    Ok(plain.into_iter().map(one).collect())
}
