//! A reply in the thread of a question answers it, as a click does. The first answer stands.

use std::sync::Arc;

use agentry_api::AnswerRequest;
use agentry_core::clarification::{Clarification, Resolution};
use agentry_core::slack::SlackAddress;
use agentry_intake::is_open;
use agentry_slack::Post;

use super::{SlackIngress, call_in_background, sentence};
use crate::api::clarifications::{ended, take_answer};
use crate::problem::ApiResult;
use crate::state::AppState;

/// The most questions of a thread that are read, newest first.
const MAX_QUESTIONS: usize = 20;

/// The relation of a reply to the questions of its thread.
pub(super) enum ThreadReply {
    /// No question was asked in the thread.
    Other,
    /// It answered a question.
    Answered,
    /// It repeats an answer of the same user: either Slack redelivered the post, or the user wrote it twice.
    AlreadyAnswered,
    /// It is no valid answer, for this reason. Its author is told unless an agent handles the post.
    Rejected(String),
}

/// Answers the oldest open question of the thread that the reply fits.
pub(super) async fn take(state: &AppState, place: &SlackAddress, text: &str) -> ApiResult<ThreadReply> {
    let Some(thread) = place.thread_key() else { return Ok(ThreadReply::Other) };
    let asked = state.store().clarifications_in_thread(&thread, MAX_QUESTIONS).await?;
    let Some(newest) = asked.first() else { return Ok(ThreadReply::Other) };
    let by = format!("Slack {}", place.user.as_deref().unwrap_or("user"));
    let now = state.now();
    let open = || asked.iter().rev().filter(|question| is_open(question, now));
    let answered = open().find_map(|question| Some((question, answer_of(question, text)?)));
    if let Some((question, answer)) = answered {
        return match take_answer(state, question.id, AnswerRequest { answer, by: Some(by) }).await {
            Ok(_) => Ok(ThreadReply::Answered),
            Err(problem) if problem.code.status().is_server_error() => Err(problem),
            Err(problem) => Ok(ThreadReply::Rejected(problem.detail.into_owned())),
        };
    }
    if asked.iter().any(|question| was_answered(question, text, &by)) {
        return Ok(ThreadReply::AlreadyAnswered);
    }
    match (open().next(), &newest.resolution) {
        (Some(question), _) => Ok(ThreadReply::Rejected(format!(
            "that is no answer to the question: choose from {}",
            question.options.join(", ")
        ))),
        // People go on talking below a question that was answered.
        (None, Some(Resolution::Answered { .. })) => Ok(ThreadReply::Other),
        (None, _) => Ok(ThreadReply::Rejected(ended(newest).detail.into_owned())),
    }
}

/// Returns the answer that a text gives: itself, or the option that it names.
fn answer_of(question: &Clarification, text: &str) -> Option<String> {
    if question.options.is_empty() {
        return Some(text.to_owned());
    }
    question.options.iter().find(|option| option.trim().eq_ignore_ascii_case(text)).cloned()
}

fn was_answered(question: &Clarification, text: &str, who: &str) -> bool {
    let same = |answer: &str, by: &str| by == who && answer_of(question, text).as_deref() == Some(answer);
    matches!(&question.resolution, Some(Resolution::Answered { answer, by, .. }) if same(answer, by))
}

/// Posts the reason of a rejection into the thread.
pub(super) fn post_rejection(state: &AppState, slack: &SlackIngress, place: &SlackAddress, why: &str) {
    let post = Post { text: format!(":information_source: {}", sentence(why)), ..Post::default() };
    let (api, place) = (Arc::clone(&slack.api), place.clone());
    let work = async move { api.post(&place.team, &place.channel, place.thread.as_deref(), &post).await.map(drop) };
    call_in_background(state, "rejected reply", work);
}
