//! The real binary from outside: what it prints, where, and how it ends. One integration binary for all of it.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod access;
mod bad_input;
mod cli;
mod demo;
mod fleet;
mod http;
mod import;
#[path = "../common/invariants.rs"]
mod invariants;
mod kill9;
mod ledger;
mod listener;
mod log_level;
mod metrics;
mod observability;
mod operations;
mod serve;
mod slack;
mod support;
mod tape;
mod tools;
mod traces;
