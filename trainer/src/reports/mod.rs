//! What is said of a run: metrics, progress, reports and profiles.
pub mod architecture;
pub mod by_example;
pub mod bytes;
pub mod class_table;
pub mod comparison;
pub mod confusion;
pub mod entities;
pub mod heat_map;
pub mod metrics;
pub mod place;
pub mod process;
pub mod profile;
pub mod progress;
pub mod report;
pub mod scores;
pub mod shares;
pub mod spread;
