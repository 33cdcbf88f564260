//! `/slack/interactive`: clicks on questions, and what dialogs bring. The first answer stands, whichever surface it
//! comes from; who is too late is told so, and nobody else.

use std::sync::Arc;

use agentry_api::AnswerRequest;
use agentry_core::clarification::Clarification;
use agentry_core::id::ClarificationId;
use agentry_core::slack::ReplyTo;
use agentry_intake::is_open;
use agentry_slack::{ANSWER_BLOCK, ANSWER_INPUT, CALLBACK, Click, answer_dialog, escape};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Door, Form, Outcome, SlackDoor, verified, whisper};
use crate::api::clarifications::{ended, take_answer};
use crate::problem::{Answer, Code, Problem, ProblemBody};
use crate::state::AppState;

const DOOR: Door = Door::Interaction;

/// What was clicked or sent.
#[derive(Debug, Deserialize)]
struct Payload {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    team: Option<Named>,
    #[serde(default)]
    user: Option<Named>,
    #[serde(default)]
    trigger_id: String,
    #[serde(default)]
    response_url: String,
    #[serde(default)]
    actions: Vec<Action>,
    #[serde(default)]
    view: Value,
}

#[derive(Debug, Deserialize)]
struct Action {
    #[serde(default)]
    value: String,
}

#[derive(Debug, Deserialize)]
struct Named {
    id: String,
    /// What clicks call a user's name.
    username: Option<String>,
    /// What dialogs call it.
    name: Option<String>,
}

impl Payload {
    fn team(&self) -> &str {
        self.team.as_ref().map_or("", |team| &team.id)
    }

    /// Who it was, as the other surfaces show it.
    fn by(&self) -> String {
        let Some(user) = &self.user else { return "Slack".to_owned() };
        let name: String = user.username.as_ref().or(user.name.as_ref()).unwrap_or(&user.id).chars().take(80).collect();
        format!("{name} (Slack {})", user.id)
    }
}

/// Takes a click or a dialog
///
/// Signed by Slack. A click on a question answers it, or opens a dialog for free text.
#[utoipa::path(
    post, path = "/slack/interactive", tag = "slack",
    request_body(content = String, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "Taken, or of no interest", body = Object),
        (status = 400, description = "Not a form with a payload", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "Not signed by Slack, or too old", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn interactive(State(state): State<AppState>, request: Request) -> Answer {
    let (slack, body) = verified(&state, DOOR, request).await?;
    let form = Form::read(&state, DOOR, &body)?;
    let payload: Payload = serde_json::from_str(form.need(&state, DOOR, "payload")?).map_err(|error| {
        state.slack.note(DOOR, Outcome::Malformed);
        Problem::new(Code::MalformedJson, format!("the form's payload is not an interaction: {error}"))
    })?;
    let (outcome, response) = match payload.kind.as_str() {
        "block_actions" => match payload.actions.iter().find_map(|action| Click::parse(&action.value)) {
            Some(click) => (clicked(&state, &slack, &payload, click).await, ok()),
            None => (Outcome::Ignored, ok()),
        },
        "view_submission" if payload.view["callback_id"] == CALLBACK => submitted(&state, &payload).await,
        _ => (Outcome::Ignored, ok()),
    };
    state.slack.note(DOOR, outcome);
    Ok(response)
}

fn ok() -> Response {
    StatusCode::OK.into_response()
}

/// Answers with an option, or opens the dialog.
async fn clicked(state: &AppState, slack: &SlackDoor, payload: &Payload, click: Click) -> Outcome {
    let found = question(state, payload, click.question).await;
    let result = match (found, click.option) {
        (Err(problem), _) => Err(problem),
        (Ok(question), Some(option)) => match question.options.get(option) {
            Some(answer) => answer_with(state, payload, question.id, answer.clone()).await,
            None => Err(Problem::new(Code::InvalidRequest, "the question has no such option")),
        },
        (Ok(question), None) if is_open(&question, state.now()) => {
            open(state, slack, payload, &question);
            Ok(())
        }
        (Ok(question), None) => Err(ended(&question)),
    };
    match result {
        Ok(()) => Outcome::Accepted,
        Err(problem) => {
            whisper(state, slack, &payload.response_url, format!(":information_source: {}", sentence(&problem)));
            outcome_of(&problem)
        }
    }
}

fn outcome_of(problem: &Problem) -> Outcome {
    match problem.code {
        Code::ClarificationResolved => Outcome::Duplicate,
        code if code.status().is_server_error() => Outcome::Refused,
        _ => Outcome::Ignored,
    }
}

/// What a problem says, for people.
fn sentence(problem: &Problem) -> String {
    if problem.code.status().is_server_error() {
        return "Your answer could not be noted. Please try again in a minute.".to_owned();
    }
    let mut letters = problem.detail.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    escape(&format!("{first}{}.", letters.as_str()))
}

/// The question that is meant, when it was asked in this workspace.
async fn question(state: &AppState, payload: &Payload, id: ClarificationId) -> Answer<Clarification> {
    let found = state.store().clarification(id).await?;
    let here = |question: &Clarification| {
        question.reply_to.as_ref().and_then(ReplyTo::slack).is_none_or(|place| place.team == payload.team())
    };
    found.filter(here).ok_or_else(|| Problem::new(Code::UnknownClarification, "this question is not known any more"))
}

async fn answer_with(state: &AppState, payload: &Payload, id: ClarificationId, answer: String) -> Answer<()> {
    take_answer(state, id, AnswerRequest { answer, by: Some(payload.by()) }).await.map(drop)
}

/// Opens the dialog: the right to do so ends after 3 s, so at once, but Slack is not kept waiting.
fn open(state: &AppState, slack: &SlackDoor, payload: &Payload, question: &Clarification) {
    let Ok(permit) = Arc::clone(&state.slack_background).try_acquire_owned() else {
        return tracing::warn!("too many answers to clicks are under way; a dialog is not opened");
    };
    let view = answer_dialog(question, &question.id.to_string());
    let (state, slack) = (state.clone(), slack.clone());
    let (team, trigger, url) = (payload.team().to_owned(), payload.trigger_id.clone(), payload.response_url.clone());
    tokio::spawn(async move {
        let _permit = permit;
        if let Err(error) = slack.api.open_dialog(&team, &trigger, &view).await {
            tracing::warn!(%error, "a dialog could not be opened in Slack");
            whisper(&state, &slack, &url, ":warning: The dialog could not be opened. Please click again.".to_owned());
        }
    });
}

/// Takes what a dialog brings; a mistake is shown in the dialog.
async fn submitted(state: &AppState, payload: &Payload) -> (Outcome, Response) {
    let text = payload.view.pointer(&format!("/state/values/{ANSWER_BLOCK}/{ANSWER_INPUT}/value"));
    let text = text.and_then(Value::as_str).unwrap_or("").trim().to_owned();
    let id = payload.view["private_metadata"].as_str().unwrap_or("").parse::<ClarificationId>();
    let result = match id {
        Ok(id) => match question(state, payload, id).await {
            Ok(question) => answer_with(state, payload, question.id, text).await,
            Err(problem) => Err(problem),
        },
        Err(error) => Err(Problem::new(Code::InvalidId, error.to_string())),
    };
    match result {
        Ok(()) => (Outcome::Accepted, ok()),
        Err(problem) => {
            let errors = json!({"response_action": "errors", "errors": {ANSWER_BLOCK: sentence(&problem)}});
            (outcome_of(&problem), axum::Json(errors).into_response())
        }
    }
}
