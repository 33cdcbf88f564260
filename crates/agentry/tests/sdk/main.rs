//! The simulators held against the official libraries of those whom they play: what these take for the real thing is
//! the real thing on the wire. Nothing of ours takes part but the binary; the scripts stand beside this file.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod llm;
mod python;
mod simulator;
mod slack;
#[allow(dead_code, reason = "shared with another test, which uses more of it")]
#[path = "../it/support.rs"]
mod support;
