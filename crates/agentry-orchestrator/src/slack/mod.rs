//! Slack delivery: messages are claimed from the outbox and sent in order within a channel, at the rate that Slack
//! allows.
//!
//! A repeated attempt searches for the message's mark first, so that a lost answer of Slack, or the death of a process
//! between a post and its record, makes no second post.

mod deliver;
mod progress;
mod queues;
mod rate_limit;

use std::sync::Arc;
use std::time::Duration;

use agentry_core::clarification::Clarification;
use agentry_core::outbox::OutboxMessage;
use agentry_core::slack::{ReplyTo, SlackAddress, question_asked, question_reminder};
use agentry_core::task::Task;
use agentry_slack::{Counters, Slack};

use crate::context::Context;

pub(crate) use progress::{Progress, StreamPreview};
pub(crate) use queues::{ChannelQueues, enqueue};

/// The dependencies of Slack delivery.
pub struct SlackOut {
    /// Web API.
    pub api: Arc<dyn Slack>,
    /// Delivery counters.
    pub counters: Arc<Counters>,
    /// Channel for questions of tasks that did not come from Slack.
    pub questions: Option<SlackAddress>,
    /// Delay before an open question is asked again.
    pub reminder: Option<Duration>,
}

/// Returns the address for a task's questions, besides the list of clarifications.
pub(crate) fn place_of_questions(ctx: &Context, task: &Task) -> Option<ReplyTo> {
    let own = task.reply_to.as_ref().and_then(ReplyTo::slack);
    let place = own.or_else(|| ctx.slack.as_ref()?.out.questions.as_ref())?;
    Some(ReplyTo::Slack(place.lasting()))
}

/// Returns the messages that ask these questions, and the reminders.
pub(crate) fn messages_of_questions(ctx: &Context, questions: &[Clarification]) -> Vec<OutboxMessage> {
    let reminder = ctx.slack.as_ref().and_then(|slack| slack.out.reminder);
    let mut messages = Vec::new();
    for question in questions.iter().filter(|question| question.reply_to.is_some()) {
        messages.extend(question_asked(question, ctx.intake.new_outbox_id()));
        let again = reminder.map(|after| question.asked_at.after(after)).filter(|at| *at < question.expires_at);
        messages.extend(again.and_then(|at| question_reminder(question, ctx.intake.new_outbox_id(), at)));
    }
    messages
}
