//! The deployment's fleet over processes whose files differ, and the ways into it.

#![allow(clippy::unwrap_used, reason = "tests")]

mod deployment;
mod publish;
mod stage;
