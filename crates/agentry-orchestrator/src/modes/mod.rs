//! Execution modes: one path with three switches.

mod autonomous;
mod collaborative;
mod continuous;
mod prompts;

use agentry_core::agent::ExecutionMode;
use agentry_core::session::SessionRecord;

use crate::execute::ModeEnd;
use crate::run::{Run, Stop};

pub(crate) use continuous::{Window, last_turn};

pub(crate) async fn execute(run: &Run, session: Option<&SessionRecord>) -> Result<ModeEnd, Stop> {
    match (run.task.mode, session) {
        // [`crate::scheduler`] has decided the slot; its task executes like any other.
        (ExecutionMode::Autonomous | ExecutionMode::Scheduled, _) => autonomous::execute(run).await,
        (ExecutionMode::Collaborative, _) => collaborative::execute(run).await,
        (ExecutionMode::Continuous, Some(session)) => continuous::execute(run, session).await,
        // A continuous agent without a session answers once and remembers nothing.
        (ExecutionMode::Continuous, None) => autonomous::execute(run).await,
    }
}
