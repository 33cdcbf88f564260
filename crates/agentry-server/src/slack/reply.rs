//! A reply in the thread of a question answers it, as a click does. The first answer stands.

use std::sync::Arc;

use agentry_api::AnswerRequest;
use agentry_core::clarification::{Clarification, Resolution};
use agentry_core::slack::SlackAddress;
use agentry_intake::is_open;
use agentry_slack::{Post, escape};

use super::SlackDoor;
use crate::api::clarifications::{ended, take_answer};
use crate::problem::Answer;
use crate::state::AppState;

/// Questions of a thread that are looked at, newest first.
const MAX_ASKED: usize = 20;

/// What a reply is to the questions of its thread.
pub(super) enum Reply {
    /// Nothing: no question was asked there.
    Other,
    /// The answer to one.
    Answered,
    /// What the same person answered before: the same post told of twice, unless it was written twice.
    AnsweredBefore,
    /// An answer that cannot be taken, and why; when nobody else takes the post, its writer is told.
    NotTaken(String),
}

/// Takes a reply as the answer to the oldest open question of its thread that it can answer.
pub(super) async fn take(state: &AppState, place: &SlackAddress, text: &str) -> Answer<Reply> {
    let Some(thread) = place.thread_key() else { return Ok(Reply::Other) };
    let asked = state.store().clarifications_in_thread(&thread, MAX_ASKED).await?;
    let Some(newest) = asked.first() else { return Ok(Reply::Other) };
    let by = format!("Slack {}", place.user.as_deref().unwrap_or("user"));
    let now = state.now();
    let open = || asked.iter().rev().filter(|question| is_open(question, now));
    let answered = open().find_map(|question| Some((question, answer_of(question, text)?)));
    if let Some((question, answer)) = answered {
        return match take_answer(state, question.id, AnswerRequest { answer, by: Some(by) }).await {
            Ok(_) => Ok(Reply::Answered),
            Err(problem) if problem.code.status().is_server_error() => Err(problem),
            Err(problem) => Ok(Reply::NotTaken(problem.detail.into_owned())),
        };
    }
    if asked.iter().any(|question| was_answered(question, text, &by)) {
        return Ok(Reply::AnsweredBefore);
    }
    match (open().next(), &newest.resolution) {
        (Some(question), _) => Ok(Reply::NotTaken(format!(
            "that is no answer to the question: choose from {}",
            question.options.join(", ")
        ))),
        // People go on talking below a question that was answered.
        (None, Some(Resolution::Answered { .. })) => Ok(Reply::Other),
        (None, _) => Ok(Reply::NotTaken(ended(newest).detail.into_owned())),
    }
}

/// What a text answers: itself, or the option that it names.
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

/// Says in the thread why a reply was not taken, without keeping Slack waiting.
pub(super) fn tell(state: &AppState, slack: &SlackDoor, place: &SlackAddress, why: &str) {
    let Ok(permit) = Arc::clone(&state.slack_background).try_acquire_owned() else {
        return tracing::warn!("too many answers to replies are under way; one is left out");
    };
    let mut letters = why.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let text = format!(":information_source: {}.", escape(&format!("{first}{}", letters.as_str())));
    let (api, place) = (Arc::clone(&slack.api), place.clone());
    tokio::spawn(async move {
        let _permit = permit;
        let post = Post { text, ..Post::default() };
        if let Err(error) = api.post(&place.team, &place.channel, place.thread.as_deref(), &post).await {
            tracing::warn!(%error, "who replied to a question in Slack could not be told");
        }
    });
}
