//! Which task a text is of, where nobody says it: a Gaussian for each task over what the frozen
//! model computes for texts.
//!
//! Nothing is trained, and no text is kept: a router is the mean of each task and one covariance.
mod features;
mod gaussians;
mod router;

pub use features::{Pooling, features, split};
pub use gaussians::{Gaussians, Moments};
pub use router::{FILE, Routed, Router, Tested};
