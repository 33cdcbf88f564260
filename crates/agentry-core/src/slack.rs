//! Slack messages of tasks: addresses, and the content to deliver.
//!
//! Formatting (mrkdwn, blocks, parts) and delivery are decided elsewhere.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agent::AgentName;
use crate::clarification::{Clarification, Resolution};
use crate::id::{OutboxId, TaskId};
use crate::outbox::{OutboxBody, OutboxMessage};
use crate::task::{Outcome, TaskStatus};
use crate::time::Timestamp;

/// The channel that receives the outcome of a task, besides its callback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum ReplyTo {
    /// A thread, channel or command in Slack.
    Slack(SlackAddress),
}

impl ReplyTo {
    /// Returns the Slack address, if there is one.
    #[must_use]
    pub fn slack(&self) -> Option<&SlackAddress> {
        match self {
            Self::Slack(place) => Some(place),
        }
    }
}

/// An address in Slack: a thread, a channel, or the user of a slash command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlackAddress {
    /// The workspace, `T…`.
    pub team: String,
    /// The channel or direct message, `C…`, `G…` or `D…`.
    pub channel: String,
    /// The `ts` of the message that started the thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// The user who asked, `U…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Short-lived address for answers to a slash command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_url: Option<ResponseUrl>,
}

impl SlackAddress {
    /// Returns the address without its `response_url`, for storage and display.
    #[must_use]
    pub fn lasting(&self) -> Self {
        Self { response_url: None, ..self.clone() }
    }

    /// Returns the thread as one word, `T0/C0/ts`; `None` if the address is not a thread.
    #[must_use]
    pub fn thread_key(&self) -> Option<String> {
        Some(format!("{}/{}/{}", self.team, self.channel, self.thread.as_ref()?))
    }
}

/// Slack's `response_url`: everybody who has it may answer, so it is not printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseUrl {
    /// The address.
    pub url: String,
    /// Time of expiry.
    pub until: Timestamp,
}

impl fmt::Debug for ResponseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseUrl").field("until", &self.until).finish_non_exhaustive()
    }
}

/// A message to Slack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SlackMessage {
    /// Destination.
    pub place: SlackAddress,
    /// Lower bound of the time of all posts of this message.
    pub since: Timestamp,
    /// Content.
    pub content: SlackContent,
}

/// The content of a Slack message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum SlackContent {
    /// The outcome of a task.
    Answer {
        /// In Markdown.
        markdown: String,
        /// The post that showed the answer while it was written.
        #[serde(default)]
        replaces: ReplacedPost,
    },
    /// A question to humans.
    Question {
        /// The question, open.
        question: Box<Clarification>,
    },
    /// The same question again, because it is still open.
    Reminder {
        /// The question as it was asked.
        question: Box<Clarification>,
    },
    /// A resolved question: its post is updated.
    Ended {
        /// The question with its resolution.
        question: Box<Clarification>,
    },
}

/// The post that an answer replaces.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum ReplacedPost {
    /// No post.
    Nothing,
    /// This post.
    Post {
        /// Id of the post.
        ts: String,
    },
    /// A post that must be searched for, because the process that may have made it cannot be asked.
    #[default]
    Unknown,
}

impl SlackMessage {
    /// Returns the mark of the message's first post: a post with this mark is this message, whichever process made it.
    #[must_use]
    pub fn mark(&self, task: TaskId) -> String {
        match &self.content {
            SlackContent::Answer { .. } => answer_mark(task),
            SlackContent::Question { question } | SlackContent::Ended { question } => {
                format!("question/{}", question.id)
            }
            SlackContent::Reminder { question } => format!("reminder/{}", question.id),
        }
    }

    /// Returns the message that delivers the outcome of a task.
    #[must_use]
    pub fn of_outcome(place: &SlackAddress, agent: &AgentName, outcome: &Outcome, since: Timestamp) -> Self {
        let markdown = outcome_markdown(agent, outcome);
        let content = SlackContent::Answer { markdown, replaces: ReplacedPost::Unknown };
        Self { place: place.clone(), since, content }
    }

    /// Returns the message as kept after a failed delivery: a repeated delivery searches for posts of earlier attempts
    /// first.
    #[must_use]
    pub fn lasting(&self) -> Self {
        let mut kept = Self { place: self.place.lasting(), ..self.clone() };
        if let SlackContent::Answer { replaces, .. } = &mut kept.content {
            *replaces = ReplacedPost::Unknown;
        }
        kept
    }
}

/// Returns the mark of the posts of a task's answer.
#[must_use]
pub fn answer_mark(task: TaskId) -> String {
    format!("answer/{task}")
}

/// Returns the message that asks a question in Slack; `None` if the question has no address there.
#[must_use]
pub fn question_asked(question: &Clarification, id: OutboxId) -> Option<OutboxMessage> {
    message_about(question, id, question.asked_at, |question| SlackContent::Question { question })
}

/// Returns the message that asks a question again at `at`; `None` if the question has no address in Slack.
#[must_use]
pub fn question_reminder(question: &Clarification, id: OutboxId, at: Timestamp) -> Option<OutboxMessage> {
    message_about(question, id, at, |question| SlackContent::Reminder { question })
}

/// Returns the message that updates the post of a question that has ended. Its id is derived from the question's, so
/// that a store that retries its write leaves one message.
#[must_use]
pub fn question_ended(question: &Clarification) -> Option<OutboxMessage> {
    let at = match question.resolution.as_ref()? {
        Resolution::Answered { at, .. }
        | Resolution::Defaulted { at, .. }
        | Resolution::Expired { at }
        | Resolution::Withdrawn { at } => *at,
    };
    let random = u128::from_be_bytes(*question.id.as_bytes()).rotate_left(64);
    let id = OutboxId::from_parts(u64::try_from(at.millis()).unwrap_or(0), random);
    message_about(question, id, at, |question| SlackContent::Ended { question })
}

fn message_about(
    question: &Clarification,
    id: OutboxId,
    created_at: Timestamp,
    content: impl FnOnce(Box<Clarification>) -> SlackContent,
) -> Option<OutboxMessage> {
    let place = question.reply_to.as_ref()?.slack()?.clone();
    let message = SlackMessage { place, since: question.asked_at, content: content(Box::new(question.clone())) };
    let body = OutboxBody::Slack { message: Box::new(message) };
    Some(OutboxMessage { id, task: Some(question.task), created_at, trace: None, body })
}

/// Returns an outcome as Markdown.
fn outcome_markdown(agent: &AgentName, outcome: &Outcome) -> String {
    let reason = |what: &str| match &outcome.error {
        Some(error) => format!(":warning: **{agent}** {what}: {} (`{}`)", error.message, error.code),
        None => format!(":warning: **{agent}** {what}"),
    };
    match outcome.status {
        TaskStatus::Completed => match outcome.output.as_ref() {
            Some(Value::String(text)) if !text.trim().is_empty() => text.clone(),
            None | Some(Value::Null | Value::String(_)) => format!("**{agent}** has finished; its answer is empty."),
            Some(other) => format!("```\n{}\n```", serde_json::to_string_pretty(other).unwrap_or_default()),
        },
        TaskStatus::TimedOut => reason("ran out of time"),
        TaskStatus::Cancelled => reason("was stopped"),
        _ => reason("could not answer"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::id::ClarificationId;
    use crate::task::{ErrorCode, TaskError};

    fn place() -> SlackAddress {
        let response_url = Some(ResponseUrl { url: "https://hooks/secret".to_owned(), until: Timestamp(5) });
        SlackAddress {
            team: "T1".to_owned(),
            channel: "C1".to_owned(),
            thread: Some("1.2".to_owned()),
            user: None,
            response_url,
        }
    }

    fn question(resolution: Option<Resolution>) -> Clarification {
        Clarification {
            id: ClarificationId::from_parts(7, 9),
            task: TaskId::from_parts(1, 1),
            agent: AgentName::new("team").unwrap(),
            scope: "main".to_owned(),
            question: "which?".to_owned(),
            options: Vec::new(),
            asked_at: Timestamp(3),
            expires_at: Timestamp(9),
            default: None,
            reply_to: Some(ReplyTo::Slack(place().lasting())),
            resolution,
        }
    }

    #[test]
    fn every_end_says_something() {
        let agent = AgentName::new("support").unwrap();
        let text = |outcome: &Outcome| outcome_markdown(&agent, outcome);
        assert_eq!(text(&Outcome::completed(json!("hi"))), "hi");
        assert!(text(&Outcome::completed(json!(" "))).contains("empty"));
        assert!(text(&Outcome::completed(json!({"a": 1}))).starts_with("```\n{\n"));
        for (code, words) in [
            (ErrorCode::TimedOut, "ran out of time"),
            (ErrorCode::Cancelled, "was stopped"),
            (ErrorCode::ProviderUnavailable, "could not answer"),
        ] {
            let text = text(&Outcome::from_error(TaskError::new(code, "why")));
            assert!(text.contains(words) && text.contains("why") && text.contains(&code.to_string()), "{text}");
        }
    }

    #[test]
    fn a_place_is_never_printed_with_its_right_to_answer() {
        assert!(!format!("{:?}", place()).contains("secret"));
        assert_eq!(place().lasting().response_url, None);
        let kept: ReplyTo = serde_json::from_value(serde_json::to_value(ReplyTo::Slack(place())).unwrap()).unwrap();
        assert_eq!(kept, ReplyTo::Slack(place()));
    }

    #[test]
    fn an_ended_question_leaves_one_message_under_one_id() {
        assert_eq!(question_ended(&question(None)), None);
        let ended = question(Some(Resolution::Expired { at: Timestamp(9_000) }));
        let message = question_ended(&ended).unwrap();
        assert_eq!(message, question_ended(&ended).unwrap());
        let OutboxBody::Slack { message } = message.body else { panic!("not for Slack") };
        assert_eq!(message.mark(ended.task), format!("question/{}", ended.id));
        let elsewhere = Clarification { reply_to: None, ..ended };
        assert_eq!(question_ended(&elsewhere), None);
    }
}
