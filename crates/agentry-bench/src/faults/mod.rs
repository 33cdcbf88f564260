//! Faults: links that can be slowed, cut and broken, and signals to processes. Each says what shows that it bit; a
//! fault without that proof is not counted.

mod link;
mod shape;

pub use link::{Counters, Link};
pub use shape::{Shape, Side};
