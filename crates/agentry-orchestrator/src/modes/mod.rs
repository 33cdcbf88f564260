//! What a task is made of: one path with three switches.

mod autonomous;
mod collaborative;
mod continuous;
mod prompts;
mod scheduled;

use agentry_core::agent::ExecutionMode;
use agentry_core::session::SessionRecord;

use crate::execute::ModeEnd;
use crate::run::{Run, Stop};

pub(crate) use continuous::Window;

/// The one match over the modes.
pub(crate) async fn execute(run: &Run, session: Option<&SessionRecord>) -> Result<ModeEnd, Stop> {
    match (run.task.mode, session) {
        (ExecutionMode::Autonomous, _) => autonomous::execute(run).await,
        (ExecutionMode::Scheduled, _) => scheduled::execute(run).await,
        (ExecutionMode::Collaborative, _) => collaborative::execute(run).await,
        (ExecutionMode::Continuous, Some(session)) => continuous::execute(run, session).await,
        // A continuous agent without a session is asked once and forgets.
        (ExecutionMode::Continuous, None) => autonomous::execute(run).await,
    }
}
