//! `agentry bench`: the validation suite. A user points it at a deployment and gets a verdict that a sceptical
//! engineer can trust: every number says how it was taken, and nothing passes because nothing was measured.
//!
//! The suite is never part of what it measures: it starts the shipped binary and talks to it over sockets, so it sees
//! what a user would see. It uses the words of `agentry-core` and nothing of the store, the bus or the server.
//!
//! - `catalogue`: the scenarios and every acceptance criterion, as data; the one source for lists, reports and tables.
//! - `model`: what a report holds; `report.json` is this, and everything else is rendered from it.
//! - `stats`: intervals, tests and fits; `verdict`: from figures to verdicts, tables, one sentence and an exit code.
//! - `report`: HTML, Markdown, JUnit, CSV; `compare`: runs against runs; `advice`: what the evidence recommends.
//! - `run`, `scenarios`: what is measured and in which order; `load`, `sample`, `faults`, `check`, `sut`: with what.
//! - `estimate`: the price of a live run; `generate`: test data; `cli`: the verbs.

mod advice;
mod catalogue;
pub mod cli;
mod compare;
mod estimate;
mod generate;
mod model;
mod report;
mod show;
#[cfg(test)]
mod specimen;
pub mod stats;
mod verdict;

#[cfg(target_os = "linux")]
mod check;
#[cfg(target_os = "linux")]
pub mod faults;
#[cfg(target_os = "linux")]
pub mod load;
#[cfg(target_os = "linux")]
pub mod run;
#[cfg(target_os = "linux")]
pub mod sample;
#[cfg(target_os = "linux")]
mod scenarios;
#[cfg(target_os = "linux")]
pub mod sut;
