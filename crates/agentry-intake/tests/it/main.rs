//! Tests of the deployment's fleet over processes whose files differ, and of the ingress.

#![allow(clippy::unwrap_used, reason = "tests")]

mod deployment;
mod publish;
mod stage;
