//! `/slack/interactive`: clicks on the buttons of questions, and submitted dialogs. The first answer stands, whichever
//! surface it comes from; a later one gets an ephemeral message.

use agentry_api::AnswerRequest;
use agentry_core::clarification::Clarification;
use agentry_core::id::ClarificationId;
use agentry_core::slack::ReplyTo;
use agentry_intake::is_open;
use agentry_slack::{ANSWER_BLOCK, ANSWER_INPUT, CALLBACK, Click, answer_dialog};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    RequestOutcome, SlackForm, SlackIngress, SlackRequestKind, call_in_background, read_verified, send_ephemeral,
    sentence,
};
use crate::api::clarifications::{ended, take_answer};
use crate::problem::{ApiProblem, ApiResult, Code, ProblemBody};
use crate::state::AppState;

const REQUEST: SlackRequestKind = SlackRequestKind::Interaction;

/// The payload of an interaction.
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
    /// The user's name in a click.
    username: Option<String>,
    /// The user's name in a dialog.
    name: Option<String>,
}

impl Payload {
    fn team(&self) -> &str {
        self.team.as_ref().map_or("", |team| &team.id)
    }

    /// Returns the name of the user, as the other surfaces show it.
    fn by(&self) -> String {
        let Some(user) = &self.user else { return "Slack".to_owned() };
        let name: String = user.username.as_ref().or(user.name.as_ref()).unwrap_or(&user.id).chars().take(80).collect();
        format!("{name} (Slack {})", user.id)
    }
}

/// Receives an interaction
///
/// Must be signed by Slack. A click on a question answers it, or opens a dialog for free text.
#[utoipa::path(
    post, path = "/slack/interactive", tag = "slack",
    request_body(content = String, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "Accepted or ignored", body = Object),
        (status = 400, description = "Not a form with a payload", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "Not signed by Slack, or too old", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn interactive(State(state): State<AppState>, request: Request) -> ApiResult {
    let (slack, body) = read_verified(&state, REQUEST, request).await?;
    let form = SlackForm::read(&state, REQUEST, &body)?;
    let payload: Payload = serde_json::from_str(form.need(&state, REQUEST, "payload")?).map_err(|error| {
        state.slack.note(REQUEST, RequestOutcome::Malformed);
        ApiProblem::new(Code::MalformedJson, format!("the form's payload is not an interaction: {error}"))
    })?;
    let (outcome, response) = match payload.kind.as_str() {
        "block_actions" => match payload.actions.iter().find_map(|action| Click::parse(&action.value)) {
            Some(click) => (clicked(&state, &slack, &payload, click).await, ok()),
            None => (RequestOutcome::Ignored, ok()),
        },
        "view_submission" if payload.view["callback_id"] == CALLBACK => submitted(&state, &payload).await,
        _ => (RequestOutcome::Ignored, ok()),
    };
    state.slack.note(REQUEST, outcome);
    Ok(response)
}

fn ok() -> Response {
    StatusCode::OK.into_response()
}

/// Answers a question with the clicked option, or opens the dialog.
async fn clicked(state: &AppState, slack: &SlackIngress, payload: &Payload, click: Click) -> RequestOutcome {
    let found = question(state, payload, click.question).await;
    let result = match (found, click.option) {
        (Err(problem), _) => Err(problem),
        (Ok(question), Some(option)) => match question.options.get(option) {
            Some(answer) => answer_with(state, payload, question.id, answer.clone()).await,
            None => Err(ApiProblem::new(Code::InvalidRequest, "the question has no such option")),
        },
        (Ok(question), None) if is_open(&question, state.now()) => {
            open(state, slack, payload, &question);
            Ok(())
        }
        (Ok(question), None) => Err(ended(&question)),
    };
    match result {
        Ok(()) => RequestOutcome::Accepted,
        Err(problem) => {
            send_ephemeral(state, slack, &payload.response_url, format!(":information_source: {}", text_of(&problem)));
            outcome_of(&problem)
        }
    }
}

fn outcome_of(problem: &ApiProblem) -> RequestOutcome {
    match problem.code {
        Code::ClarificationResolved => RequestOutcome::Duplicate,
        code if code.status().is_server_error() => RequestOutcome::Refused,
        _ => RequestOutcome::Ignored,
    }
}

/// Returns the text of a problem for people.
fn text_of(problem: &ApiProblem) -> String {
    if problem.code.status().is_server_error() {
        return "Your answer could not be stored. Please try again in a minute.".to_owned();
    }
    sentence(&problem.detail)
}

/// Returns the question with this id, if it was asked in the workspace of the interaction.
async fn question(state: &AppState, payload: &Payload, id: ClarificationId) -> ApiResult<Clarification> {
    let found = state.store().clarification(id).await?;
    let here = |question: &Clarification| {
        question.reply_to.as_ref().and_then(ReplyTo::slack).is_none_or(|place| place.team == payload.team())
    };
    found
        .filter(here)
        .ok_or_else(|| ApiProblem::new(Code::UnknownClarification, "this question does not exist any more"))
}

async fn answer_with(state: &AppState, payload: &Payload, id: ClarificationId, answer: String) -> ApiResult<()> {
    take_answer(state, id, AnswerRequest { answer, by: Some(payload.by()) }).await.map(drop)
}

/// Opens the dialog in the background. The `trigger_id` is valid for 3 s only.
fn open(state: &AppState, slack: &SlackIngress, payload: &Payload, question: &Clarification) {
    let view = answer_dialog(question, &question.id.to_string());
    let (team, trigger, url) = (payload.team().to_owned(), payload.trigger_id.clone(), payload.response_url.clone());
    let (ctx, slack) = (state.clone(), slack.clone());
    call_in_background(state, "dialog", async move {
        slack.api.open_dialog(&team, &trigger, &view).await.inspect_err(|_| {
            let text = ":warning: The dialog could not be opened. Please click again.";
            send_ephemeral(&ctx, &slack, &url, text.to_owned());
        })
    });
}

/// Answers a question with the text of a dialog; an error is shown in the dialog.
async fn submitted(state: &AppState, payload: &Payload) -> (RequestOutcome, Response) {
    let text = payload.view.pointer(&format!("/state/values/{ANSWER_BLOCK}/{ANSWER_INPUT}/value"));
    let text = text.and_then(Value::as_str).unwrap_or("").trim().to_owned();
    let id = payload.view["private_metadata"].as_str().unwrap_or("").parse::<ClarificationId>();
    let result = match id {
        Ok(id) => match question(state, payload, id).await {
            Ok(question) => answer_with(state, payload, question.id, text).await,
            Err(problem) => Err(problem),
        },
        Err(error) => Err(ApiProblem::new(Code::InvalidId, error.to_string())),
    };
    match result {
        Ok(()) => (RequestOutcome::Accepted, ok()),
        Err(problem) => {
            let errors = json!({"response_action": "errors", "errors": {ANSWER_BLOCK: text_of(&problem)}});
            (outcome_of(&problem), axum::Json(errors).into_response())
        }
    }
}
