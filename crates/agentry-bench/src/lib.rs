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
//! - `run`, `scenarios`: what is measured and in which order; `load`, `sample`, `check`, `sut`: with what.
//! - `estimate`: the price of a live run; `generate`: test data; `cli`: the verbs.

mod advice;
mod catalogue;
mod check;
pub mod cli;
mod compare;
mod estimate;
#[cfg(test)]
mod fixtures;
mod generate;
pub mod load;
mod model;
mod report;
mod run;
mod sample;
mod scenarios;
mod show;
mod stats;
mod sut;
mod verdict;
