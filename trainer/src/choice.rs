//! Values out of a short list, each with a name: what options, files and messages call them.

/// A value of a [`Choice`], with what is said of it.
#[derive(Debug, Clone, Copy)]
pub struct Named<T: 'static> {
    /// The value.
    pub value: T,
    /// Its name first, and other names under which it is taken.
    pub names: &'static [&'static str],
    /// What it means, as a line of help.
    pub help: &'static str,
}

/// A type whose values are few and have names. [`choices!`](crate::choices) makes one.
pub trait Choice: Copy + PartialEq + 'static {
    /// All its values, in the order in which they are listed.
    const ALL: &'static [Named<Self>];

    /// The value's name.
    fn name(self) -> &'static str {
        Self::ALL.iter().find(|n| n.value == self).map_or("", |n| n.names[0])
    }

    /// The value of this name, or an error that lists the names there are.
    fn of(name: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|n| n.names.contains(&name)).map(|n| n.value);
        let names = || Self::ALL.iter().map(|n| n.names[0]).collect::<Vec<_>>().join(", ");
        found.ok_or_else(|| format!("`{name}` is none of {}", names()))
    }
}

/// An enum whose values have names: a [`Choice`](crate::choice::Choice), displayed, parsed and
/// (de)serialised by name. A variant's documentation is its help.
#[macro_export]
macro_rules! choices {
    ($($(#[doc = $about:literal])+
       pub enum $ty:ident { $($(#[doc = $help:literal])+ $value:ident = $($name:literal)|+,)* })*) => {$(
        $(#[doc = $about])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $ty { $($(#[doc = $help])+ $value,)* }

        impl $crate::choice::Choice for $ty {
            const ALL: &'static [$crate::choice::Named<Self>] = &[$($crate::choice::Named {
                value: Self::$value,
                names: &[$($name),+],
                help: concat!($($help),+),
            }),*];
        }
        impl std::fmt::Display for $ty {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str($crate::choice::Choice::name(*self))
            }
        }
        impl std::str::FromStr for $ty {
            type Err = String;
            fn from_str(name: &str) -> Result<Self, String> {
                $crate::choice::Choice::of(name)
            }
        }
        impl serde::Serialize for $ty {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str($crate::choice::Choice::name(*self))
            }
        }
        impl<'de> serde::Deserialize<'de> for $ty {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let name = <String as serde::Deserialize>::deserialize(deserializer)?;
                $crate::choice::Choice::of(&name).map_err(serde::de::Error::custom)
            }
        }
    )*};
}

/// Serde for types that are written as text; text that is a number is written as a number.
#[macro_export]
macro_rules! by_text {
    ($($ty:ty),*) => {$(
        impl serde::Serialize for $ty {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let text = self.to_string();
                match (text.parse::<i64>(), text.parse::<f64>()) {
                    (Ok(number), _) if number.to_string() == text => serializer.serialize_i64(number),
                    (_, Ok(number)) if number.is_finite() && number.to_string() == text => {
                        serializer.serialize_f64(number)
                    }
                    _ => serializer.serialize_str(&text),
                }
            }
        }

        impl<'de> serde::Deserialize<'de> for $ty {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = deserializer.deserialize_any($crate::choice::Text)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

/// Takes a string or a number as text.
#[derive(Debug, Clone, Copy)]
pub struct Text;

impl serde::de::Visitor<'_> for Text {
    type Value = String;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a string or a number")
    }

    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(text.into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_u64<E>(self, number: u64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_f64<E>(self, number: f64) -> Result<String, E> {
        Ok(number.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    choices! {
        /// Sizes.
        pub enum Size {
            /// Not large
            Small = "small" | "s",
            /// Not small,
            /// but fine
            Large = "large",
        }
    }

    #[test]
    fn names_go_both_ways() {
        assert_eq!(
            ["small", "s", "large"].map(|n| n.parse()),
            [Size::Small, Size::Small, Size::Large].map(Ok)
        );
        assert_eq!((Size::Large.to_string(), Size::ALL[1].help), ("large".into(), " Not small, but fine"));
        assert_eq!("x".parse::<Size>(), Err("`x` is none of small, large".into()));
        let json = serde_json::to_string(&Size::Small).unwrap();
        assert_eq!((json.as_str(), serde_json::from_str::<Size>(&json).unwrap()), ("\"small\"", Size::Small));
        assert!(serde_json::from_str::<Size>("\"x\"").unwrap_err().to_string().contains("none of"));
    }
}
