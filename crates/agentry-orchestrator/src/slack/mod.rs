//! What is said in Slack: claimed from the outbox, said in order within a channel, at the pace that Slack allows.
//!
//! A message that was tried before is looked for by its mark before it is said again, so that a lost answer of Slack, or
//! the death of a process between a post and the note of it, makes no second post.

mod deliver;
mod lanes;
mod pace;
mod progress;

use std::sync::Arc;
use std::time::Duration;

use agentry_core::clarification::Clarification;
use agentry_core::outbox::OutboxMessage;
use agentry_core::slack::{ReplyTo, SlackPlace, question_message};
use agentry_core::task::Task;
use agentry_slack::{Counters, Slack};

use crate::context::Context;

pub(crate) use lanes::{Lanes, hand_over};
pub(crate) use progress::{Progress, Shown};

/// What is needed to speak in Slack.
pub struct SlackOut {
    /// The Web API.
    pub api: Arc<dyn Slack>,
    /// What is counted.
    pub counters: Arc<Counters>,
    /// Where questions of tasks are asked that did not come from Slack.
    pub questions: Option<SlackPlace>,
    /// After how long an open question is asked once more.
    pub reminder: Option<Duration>,
}

/// Where a task's questions are asked, besides the list of them.
pub(crate) fn place_of_questions(ctx: &Context, task: &Task) -> Option<ReplyTo> {
    let own = task.reply_to.as_ref().and_then(ReplyTo::slack);
    let place = own.or_else(|| ctx.slack.as_ref()?.out.questions.as_ref())?;
    Some(ReplyTo::Slack(place.lasting()))
}

/// What must leave when questions are asked: each is shown where it belongs, and once more when nobody answers.
pub(crate) fn messages_of_questions(ctx: &Context, questions: &[Clarification]) -> Vec<OutboxMessage> {
    let reminder = ctx.slack.as_ref().and_then(|slack| slack.out.reminder);
    let mut messages = Vec::new();
    for question in questions.iter().filter(|question| question.reply_to.is_some()) {
        messages.extend(question_message(question, ctx.new_outbox_id(), question.asked_at, false));
        let again = reminder.map(|after| question.asked_at.after(after)).filter(|at| *at < question.expires_at);
        messages.extend(again.and_then(|at| question_message(question, ctx.new_outbox_id(), at, true)));
    }
    messages
}
