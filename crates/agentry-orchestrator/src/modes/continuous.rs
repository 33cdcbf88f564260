//! Continuous: one message of a session. The window of the conversation is sent with it; the messages of the turn are
//! written in the transaction that ends the task, under the session's fence.

use agentry_core::agent::{ContinuousConfig, Pruning};
use agentry_core::answer::ended;
use agentry_core::chat::{ChatRequest, Message};
use agentry_core::journal::{JournalBody, Scope};
use agentry_core::session::{SessionRecord, SessionWrite, Summary};
use agentry_core::task::{ErrorCode, TaskError};

use super::prompts;
use crate::execute::ModeEnd;
use crate::run::{Run, Stop};
use crate::runner::{ClarificationPolicy, LoopEnd, Runner};

/// The recent messages of a session: a suffix of the conversation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Window {
    /// Number of the last message; equals the one of the session's record if the window is current.
    pub last: u64,
    /// Messages, oldest first.
    pub messages: Vec<Message>,
}

pub(super) async fn execute(run: &Run, session: &SessionRecord) -> Result<ModeEnd, Stop> {
    let config = run.spec.continuous.as_deref().cloned().unwrap_or_default();
    let window = match load(run, session, &config).await {
        Ok(window) => window,
        Err(error) => return Ok(ModeEnd::Done(Err(error), None)),
    };
    let (window, summary) = match summarise(run, session, &config, window).await? {
        Ok(pair) => pair,
        Err(error) => return Ok(ModeEnd::Done(Err(error), None)),
    };
    let user = Message::User { content: run.task.input_text() };
    let mut messages = vec![Message::System { content: run.spec.system_text() }];
    if let Some(summary) = summary.as_ref().or(session.summary.as_ref()) {
        messages.push(Message::System { content: prompts::summary_of_before(&summary.text) });
    }
    messages.extend(within(&window.messages, config.max_history).iter().cloned());
    messages.push(user.clone());

    let runner = Runner { run, spec: &run.spec, scope: Scope::MAIN, clarification: ClarificationPolicy::default() };
    let mut machine = runner.machine(messages);
    let result = match runner.drive(&mut machine).await? {
        LoopEnd::Done(result) => result,
        LoopEnd::Paused => return Ok(ModeEnd::Paused),
    };
    if result.is_err() {
        return Ok(ModeEnd::Done(result, None));
    }
    let mut added = vec![user];
    added.extend(machine.added().iter().cloned());
    run.ctx.windows.keep(session, window, &added, config.max_history, config.idle_timeout_ms, run.ctx.now());
    let write = SessionWrite { session: session.id.clone(), fence: session.fence, messages: added, summary };
    Ok(ModeEnd::Done(result, Some(write)))
}

/// Returns the window from memory if it is current, else from the store: a bounded number of messages either way, and at
/// least the last turn.
async fn load(run: &Run, session: &SessionRecord, config: &ContinuousConfig) -> Result<Window, TaskError> {
    if let Some(window) = run.ctx.windows.take(session) {
        return Ok(window);
    }
    let summarised = session.summary.as_ref().map_or(0, |summary| summary.through);
    let mut keep = u64::from(config.max_history) * if config.pruning == Pruning::Summarize { 2 } else { 1 };
    loop {
        let after = summarised.max(session.messages.saturating_sub(keep));
        let limit = usize::try_from(session.messages - after).unwrap_or(usize::MAX);
        let messages = run.ctx.store.messages(&session.id, after, limit).await.map_err(|error| {
            TaskError::new(ErrorCode::Internal, format!("cannot read session {}: {error}", session.id))
        })?;
        let messages: Vec<Message> = messages.into_iter().map(|m| m.message).collect();
        if after == summarised || last_turn(&messages).is_some() {
            return Ok(Window { last: session.messages, messages });
        }
        // The last turn is longer.
        keep = keep.max(1) * 4;
    }
}

/// Returns the place of the message that began the last turn.
pub(crate) fn last_turn(messages: &[Message]) -> Option<usize> {
    messages.iter().rposition(|message| matches!(message, Message::User { .. }))
}

/// Returns the last `most` messages, starting with a user's message: an answer or a tool's result never stands alone.
/// The last turn is whole, however long it is.
fn within(messages: &[Message], most: u32) -> &[Message] {
    let start = messages.len().saturating_sub(most as usize);
    let is_user = |message: &Message| matches!(message, Message::User { .. });
    let first = messages[start..].iter().position(is_user).map(|at| start + at);
    &messages[first.or_else(|| last_turn(messages)).unwrap_or(messages.len())..]
}

/// Lets the model summarise the older half of a window that holds twice the number of messages sent (`summarize`).
async fn summarise(
    run: &Run,
    session: &SessionRecord,
    config: &ContinuousConfig,
    mut window: Window,
) -> Result<Result<(Window, Option<Summary>), TaskError>, Stop> {
    let most = config.max_history as usize;
    if config.pruning != Pruning::Summarize || window.messages.len() < most * 2 {
        return Ok(Ok((window, None)));
    }
    let kept = within(&window.messages, config.max_history).len();
    let older: Vec<Message> = window.messages.drain(..window.messages.len() - kept).collect();
    let through = window.last - u64::try_from(kept).unwrap_or(0);
    let recorded = run.past_of(&Scope::SUMMARY).find_map(|body| match body {
        JournalBody::ModelCompleted { reply, .. } => Some(reply.content.clone()),
        _ => None,
    });
    let text = match recorded {
        Some(text) => text,
        None => {
            let before = session.summary.as_ref().map(|summary| summary.text.as_str());
            let request =
                ChatRequest { messages: prompts::summarise(before, &older), tools: Vec::new(), output_schema: None };
            let runner =
                Runner { run, spec: &run.spec, scope: Scope::SUMMARY, clarification: ClarificationPolicy::default() };
            match runner.call_model(0, request).await? {
                Ok(reply) => match ended(&reply) {
                    Ok(()) => reply.content,
                    Err(error) => return Ok(Err(error)),
                },
                Err(error) => return Ok(Err(error)),
            }
        }
    };
    Ok(Ok((window, Some(Summary { text, through }))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(text: &str) -> Message {
        Message::User { content: text.to_owned() }
    }

    fn tool(text: &str) -> Message {
        Message::Tool { call_id: "c".to_owned(), content: text.to_owned(), is_error: false }
    }

    #[test]
    fn a_window_begins_with_a_user() {
        let messages = [user("a"), tool("b"), user("c"), tool("d")];
        assert_eq!(within(&messages, 3), &messages[2..]);
        assert_eq!(within(&messages, 1), &messages[2..], "the last turn is whole");
        assert_eq!(within(&messages[1..2], 1), &[] as &[Message]);
        assert_eq!(within(&messages, 10), &messages);
    }
}
