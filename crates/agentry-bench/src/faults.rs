//! Connections that can be slowed, cut and broken. Each says what shows that a fault took effect; a fault without that
//! proof is not counted.

pub use agentry_lab::{Counters, Direction, FaultProxy as Link, Shape};
