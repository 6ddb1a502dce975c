//! What is trained below the head.
use engraft::adapters::{Fields, parse};
use std::fmt;
use std::str::FromStr;

/// What is trained below the head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Adapter {
    /// An adapter: the name of a preset, or one of AdapterHub's configuration strings.
    Of(String),
    /// No adapter: the head alone, as `none`.
    None,
    /// No adapter: the whole backbone, as `full`.
    Full,
}

impl FromStr for Adapter {
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
impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Of(text) => text,
            Self::None => "none",
            Self::Full => "full",
        })
    }
}
engraft::by_text!(Adapter);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_strings_are_read() {
        for text in ["houlsby", "double_seq_bn[reduction_factor=6]", "lora[r=8,alpha=16]", "none", "full"] {
            assert_eq!(text.parse::<Adapter>().unwrap().to_string(), text);
        }
        let error = "lor".parse::<Adapter>().unwrap_err();
        assert!(
            error.contains("`lor`") && error.contains("`houlsby`") && error.ends_with("or `none` or `full`"),
            "{error}"
        );
        assert!("lora[r=x]".parse::<Adapter>().is_err());
    }
}
