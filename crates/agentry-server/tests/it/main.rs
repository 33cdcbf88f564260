//! The API as callers see it: the whole router over a store in memory and the embedded bus.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod access;
mod log;
mod people;
mod problems;
mod resources;
mod roles;
mod schedules;
mod slack;
mod streams;
mod support;
mod tasks;
mod traces;
