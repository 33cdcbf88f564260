//! Simulator tests of the orchestrator: faults in store, bus, model, tools and clock, lives that end in three ways, and
//! the invariants checked after.
//!
//! Each seed is a short history. The orchestrator runs on a runtime of its own with paused time. A life ends by kill -9
//! (its runtime is dropped: nothing is given back, nothing is written), by a drain, or by the end of its faults: then
//! everything that was accepted must end without a restart. Between lives the store stays. `history` is the course of
//! it, `life` one life, `people` what happens in it, `stage` what outlives it, `checks` the invariants.
//!
//! `cargo xtask sim --seeds N` runs many seeds and lists the failed ones; `cargo xtask sim --seed S` repeats one.

#![allow(clippy::unwrap_used, reason = "tests")]

mod callbacks;
mod campaign;
mod checks;
mod fleet;
mod history;
mod life;
mod log;
mod parts;
mod people;
mod records;
mod roles;
mod schedules;
mod script;
mod stage;
mod steady;
mod tool_calls;
mod tools;
