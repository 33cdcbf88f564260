//! Domain types and decisions of Agentry: no IO, no tokio, no clock reads, no randomness.
//!
//! Everything that must be decided the same way by every process lives here as plain data and pure
//! functions: what an agent is, which transitions a task may take, what the agent loop does next, when a
//! schedule fires, what a call costs. Callers bring time and random bytes.

pub mod access;
pub mod agent;
pub mod agent_loop;
pub mod answer;
pub mod chat;
pub mod clarification;
pub mod event;
pub mod fleet;
pub mod id;
pub mod journal;
pub mod models;
pub mod money;
pub mod outbox;
pub mod plan;
pub mod prices;
pub mod retry;
pub mod sample;
pub mod schedule;
pub mod session;
pub mod slack;
pub mod tape;
pub mod task;
pub mod time;
pub mod topic;
pub mod trace;
pub mod wake;
pub mod words;
pub mod worker;
