//! Checks of the checker: `agentry bench` against platforms that are broken, frozen, or measured badly.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod halts;
mod live;
mod mutants;
mod suite;
