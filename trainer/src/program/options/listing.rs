//! How the one list of options becomes types: what flags and a `run.toml` say, and what a run works
//! with.

/// The type of a settled option: its own with a default, an `Option` without.
macro_rules! settled {
    ($ty:ty) => { Option<$ty> };
    ($ty:ty, $default:expr) => { $ty };
}

/// What an option is about, where that matters to others than a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// How texts become what is learned from, and how the backbone computes: whoever uses what was
    /// learned does the same.
    Use,
    /// The run as a whole: single steps have no use for it.
    Run,
    /// What each of several runs over the same batches may have for itself.
    Own,
    /// What only some tasks know: a task is told, and refuses what it does not know.
    Task,
    /// What each of several tasks may have for itself, besides what only some tasks know.
    Each,
    /// What `engraft meta` follows; it refuses the others.
    Meta,
}

/// Whether an option has a mark.
macro_rules! is {
    ($asked:expr $(, $mark:ident)*) => {{
        let marks: &[Mark] = &[$(Mark::$mark),*];
        marks.contains(&$asked)
    }};
}

/// A settled option's value.
macro_rules! settle {
    ($value:expr) => {
        $value
    };
    ($value:expr, $default:expr) => {
        $value.unwrap_or_else(|| $default)
    };
}

/// The way back.
macro_rules! unsettle {
    ($value:expr) => {
        $value
    };
    ($value:expr, $default:expr) => {
        Some($value)
    };
}

/// Each line is `name: type = default;` or `name: type;`, perhaps with [`Mark`]s in front of the
/// semicolon, under its documentation (the flag's help) and in brackets what clap should know
/// besides; `[with ..]` names the module that (de)serialises it. From it come the field of
/// [`Options`] with its flag and its key, the field of [`Settings`], and their parts in everything
/// that goes over all options.
macro_rules! options {
    ($($heading:literal {
        $(
            $(#[doc = $doc:literal])* $([$($arg:tt)*])?
            $name:ident: $ty:ty $(, [with $with:literal])? $(= $default:expr)? $(, $mark:ident)*;
        )*
    })*) => {
        /// Options as they are given, by flags or by a `run.toml`: any may be missing.
        #[derive(Debug, Clone, Default, PartialEq, clap::Args, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields)]
        pub struct Options {
            $($(
                $(#[doc = $doc])*
                #[arg(long, help_heading = $heading, allow_negative_numbers = true $(, $($arg)*)?)]
                #[serde(skip_serializing_if = "Option::is_none" $(, default, with = $with)?)]
                pub $name: Option<$ty>,
            )*)*
        }

        /// The settled options of a run; `None` where an option is off or left to the model.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Settings {
            $($(
                $(#[doc = $doc])*
                pub $name: settled!($ty $(, $default)?),
            )*)*
        }

        impl Options {
            /// The names of all options, as keys of a `run.toml`.
            pub fn keys() -> Vec<String> {
                vec![$($(stringify!($name).replace('_', "-")),*),*]
            }

            /// The names of those that are given.
            pub fn keys_given(&self) -> Vec<String> {
                let given = [$($((stringify!($name), self.$name.is_some())),*),*];
                given.into_iter().filter(|(_, given)| *given).map(|(name, _)| name.replace('_', "-")).collect()
            }

            /// Those with this mark.
            pub fn only(&self, mark: Mark) -> Self {
                Self { $($($name: self.$name.clone().filter(|_| is!(mark $(, $mark)*)),)*)* }
            }

            /// Those without it.
            pub fn without(&self, mark: Mark) -> Self {
                Self { $($($name: self.$name.clone().filter(|_| !is!(mark $(, $mark)*)),)*)* }
            }

            /// The names of all options with this mark.
            pub fn keys_of(mark: Mark) -> Vec<String> {
                let all = [$($((stringify!($name), is!(mark $(, $mark)*))),*),*];
                all.into_iter().filter(|(_, is)| *is).map(|(name, _)| name.replace('_', "-")).collect()
            }

            pub(super) fn or(self, lower: Self) -> Self {
                Self { $($($name: self.$name.or(lower.$name),)*)* }
            }

            pub(super) fn fill(self) -> Settings {
                Settings { $($($name: settle!(self.$name $(, $default)?),)*)* }
            }
        }

        impl Settings {
            /// These settings as options that are all given.
            pub fn to_options(&self) -> Options {
                let settings = self.clone();
                Options { $($($name: unsettle!(settings.$name $(, $default)?),)*)* }
            }
        }
    };
}
