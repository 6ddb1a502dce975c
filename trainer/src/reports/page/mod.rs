//! Reports as a page of HTML: one file that needs no network, light or dark as its reader has it.
//! Whatever comes from data or settings is text in it, never markup.
mod parts;
mod run;
mod runs;

pub use parts::keys;
pub use run::Page;
pub use runs::runs;
