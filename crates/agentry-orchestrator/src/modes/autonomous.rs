//! Autonomous: one agent, one loop, no memory but the result.

use agentry_core::chat::Message;
use agentry_core::journal::Scope;

use crate::execute::ModeEnd;
use crate::run::{Run, Stop};
use crate::runner::{ClarificationPolicy, LoopEnd, Runner};

pub(super) async fn execute(run: &Run) -> Result<ModeEnd, Stop> {
    let runner = Runner { run, spec: &run.spec, scope: Scope::MAIN, clarification: ClarificationPolicy::default() };
    let mut machine = runner.machine(vec![
        Message::System { content: run.spec.system_text() },
        Message::User { content: run.task.input_text() },
    ]);
    Ok(match runner.drive(&mut machine).await? {
        LoopEnd::Done(result) => ModeEnd::Done(result, None),
        LoopEnd::Paused => ModeEnd::Paused,
    })
}
