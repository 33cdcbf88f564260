//! Executes tasks: dispatch, the four modes, scheduler, relay, recovery, health, drain.
//!
//! The path of a task: a wake reaches `dispatch`, which claims it; `execute` loads the agent's version, the journal and
//! the deadline; `modes` selects the execution mode; `runner` drives one agent loop and journals every call; `execute`
//! ends the task in one write. `recovery` finds everything that was begun and not ended.

mod budget;
mod claims;
mod context;
mod dispatch;
mod execute;
mod inbound;
mod journal;
mod lifecycle;
mod liveness;
mod metrics;
mod modes;
mod open_calls;
mod recovery;
mod relay;
mod run;
mod runner;
mod running;
mod scheduler;
mod sessions;
mod slack;
mod spans;
mod start;
mod status;
mod webhook;
mod write;

pub use context::{Options, OrchestratorDeps, Retention};
pub use metrics::Metrics;
pub use slack::SlackOut;
pub use start::{DrainResult, Orchestrator, Running};
pub use webhook::{CallbackError, CallbackSender, HttpCallbacks};
