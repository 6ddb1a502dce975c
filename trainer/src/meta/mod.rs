//! Meta-learning: an adapter from which a new task is learned in a few steps from a few examples.
//!
//! What is learned are the weights of an adapter; heads are new for every task and start at zero. In
//! an outer step some tasks are learned for a few inner steps each ([`inner`]), and the weights
//! follow what came of that ([`outer`]): towards where the tasks led (Reptile, Nichol et al. 2018),
//! or down the gradient at the end of each (first-order MAML, Finn et al. 2017). [`episodes`] draws
//! the tasks out of a data set of many classes, and [`protocol`] says how good a start is.
pub mod episodes;
pub mod inner;
pub mod outer;
pub mod protocol;

#[cfg(test)]
mod tests;
