//! The scripts of `loadtest/`, run by their own tools against the real binary: every kind of request is sent, none
//! fails, and what a tool counts as done is what the server says it did. Each can also fail.
//!
//! Locust and Artillery are found or installed by `cargo xtask loadtest`, which `cargo xtask test` runs; where one is
//! missing its tests fail and say so. Where there is no k6, its scripts are played by Node, and the test says that too.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may stop at the first surprise, and says what it saw"
)]

mod artillery;
#[allow(dead_code, reason = "shared with another test, which uses more of it")]
#[path = "../it/http.rs"]
mod http;
mod k6;
mod loaded_server;
mod locust;
#[allow(dead_code, reason = "shared with another test, which uses more of it")]
#[path = "../it/support.rs"]
mod support;
mod tools;
