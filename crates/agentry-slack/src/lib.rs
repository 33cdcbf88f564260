//! Slack's Web API as a port, its client, and the formatting of messages for Slack.
//!
//! Both sides that use Slack share it: the relay, which posts answers, and the ingress, which opens dialogs. A queued
//! message is an [`agentry_core::slack::SlackMessage`] in the outbox; here it becomes mrkdwn, blocks and parts.

mod counters;
mod mrkdwn;
mod port;
mod render;
mod split;
mod tokens;
mod web;

pub use counters::{Counters, Counts};
pub use mrkdwn::{escape, to_mrkdwn};
pub use port::{MarkedPost, Post, ResponseMode, Slack, SlackError};
pub use render::{
    ANSWER_ACTION, ANSWER_BLOCK, ANSWER_INPUT, CALLBACK, Click, OPEN_ACTION, answer_dialog, answer_parts,
    question_post, reminder_post, resolution_text, resolved_question_post,
};
pub use split::{MAX_TEXT, split};
pub use tokens::BotTokens;
pub use web::WebApi;
