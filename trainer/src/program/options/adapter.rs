//! What is trained below the head.
use engraft::adapters::{Fields, methods::METHODS, parse};
use std::fmt;
use std::str::FromStr;

/// What is trained below the head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdapterChoice {
    /// An adapter: the name of a preset, or one of AdapterHub's configuration strings.
    Of(String),
    /// No adapter: the head alone, as `none`.
    None,
    /// No adapter: the whole backbone, as `full`.
    Full,
}

impl FromStr for AdapterChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" | "head" => Ok(Self::None),
            "full" => Ok(Self::Full),
            _ => {
                parse(text, &Fields::new()).map_err(|e| format!("{e}; or `none` or `full`"))?;
                Ok(Self::Of(text.into()))
            }
        }
    }
}
impl fmt::Display for AdapterChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Of(text) => text,
            Self::None => "none",
            Self::Full => "full",
        })
    }
}
engraft::by_text!(AdapterChoice);

/// What is trained, one after the other: adapters, `head`, `full`.
#[derive(Debug, Clone, PartialEq)]
pub struct Methods(pub Vec<AdapterChoice>);

impl Default for Methods {
    /// The whole backbone, one adapter of each method, the head alone.
    fn default() -> Self {
        let one = METHODS.iter().map(|m| AdapterChoice::Of(m.names[0].into()));
        Self([AdapterChoice::Full].into_iter().chain(one).chain([AdapterChoice::None]).collect())
    }
}

impl FromStr for Methods {
    type Err = String;

    /// Split at commas that are in no brackets.
    fn from_str(text: &str) -> Result<Self, String> {
        let (mut depth, mut parts) = (0i32, vec![String::new()]);
        for c in text.chars() {
            depth += i32::from(matches!(c, '[' | '{' | '(')) - i32::from(matches!(c, ']' | '}' | ')'));
            match (c, parts.last_mut()) {
                (',', _) if depth == 0 => parts.push(String::new()),
                (_, Some(part)) => part.push(c),
                (_, None) => {}
            }
        }
        parts.iter().map(|part| part.trim().parse()).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_strings_are_read() {
        for text in ["houlsby", "double_seq_bn[reduction_factor=6]", "lora[r=8,alpha=16]", "none", "full"] {
            assert_eq!(text.parse::<AdapterChoice>().unwrap().to_string(), text);
        }
        let error = "lor".parse::<AdapterChoice>().unwrap_err();
        assert!(
            error.contains("`lor`") && error.contains("`houlsby`") && error.ends_with("or `none` or `full`"),
            "{error}"
        );
        assert!("lora[r=x]".parse::<AdapterChoice>().is_err());
    }

    #[test]
    fn methods_are_split_outside_of_brackets() {
        let methods: Methods = "full, lora[r=8,alpha=16],head".parse().unwrap();
        assert_eq!(
            methods.0,
            [AdapterChoice::Full, AdapterChoice::Of("lora[r=8,alpha=16]".into()), AdapterChoice::None]
        );
        assert!("full,,head".parse::<Methods>().is_err());
        assert!(Methods::default().0.len() >= 4);
    }
}
