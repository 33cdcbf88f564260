//! The deployment's fleet over processes whose files differ, and the ways into it.

mod deployment;
mod publish;
mod stage;
