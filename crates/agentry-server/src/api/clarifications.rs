//! `/v1/clarifications`: questions to people.

use agentry_api::{AnswerRequest, ClarificationView, List, OpenItemQuery};
use agentry_core::clarification::{Clarification, MAX_ANSWER_BYTES, Resolution};
use agentry_core::id::ClarificationId;
use agentry_intake::AnswerRefused;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::views::list_reply;
use crate::extract::{Json, PathParam, Query, from_cursor, page_size};
use crate::problem::{ApiProblem, ApiResult, Code, ProblemBody};
use crate::state::AppState;

/// The default name of the answering person.
const ANONYMOUS: &str = "api";
/// The longest name of the answering person, in bytes.
const MAX_BY_BYTES: usize = 256;

/// Lists questions, oldest first
#[utoipa::path(
    get, path = "/v1/clarifications", tag = "clarifications", params(OpenItemQuery),
    responses((status = 200, description = "A page of open questions, or of all", body = List<ClarificationView>))
)]
pub(crate) async fn list(State(state): State<AppState>, Query(query): Query<OpenItemQuery>) -> ApiResult {
    let limit = page_size(query.limit)?;
    let after = from_cursor(query.cursor.as_deref())?;
    let page = state.store().clarifications(!query.all, after, limit).await?;
    list_reply(page, |question| question.id, |clarification| ClarificationView { clarification })
}

fn check(request: &AnswerRequest, question: &Clarification) -> ApiResult<()> {
    if request.answer.is_empty() || request.answer.len() > MAX_ANSWER_BYTES {
        return Err(ApiProblem::field("/answer", format!("has 1 to {MAX_ANSWER_BYTES} bytes")));
    }
    if request.by.as_ref().is_some_and(|by| by.is_empty() || by.len() > MAX_BY_BYTES) {
        return Err(ApiProblem::field("/by", format!("has 1 to {MAX_BY_BYTES} bytes")));
    }
    if !question.options.is_empty() && !question.options.contains(&request.answer) {
        return Err(ApiProblem::field(
            "/answer",
            format!("is not an option: choose from {}", question.options.join(", ")),
        ));
    }
    Ok(())
}

fn unknown(id: ClarificationId) -> ApiProblem {
    ApiProblem::new(Code::UnknownClarification, format!("no clarification has the id {id}"))
}

/// Returns the problem of a question that is not open.
pub(crate) fn ended(question: &Clarification) -> ApiProblem {
    let how = match &question.resolution {
        Some(Resolution::Answered { by, at, .. }) => format!("was answered by {by} at {at}; that answer stands"),
        Some(Resolution::Defaulted { at, .. }) => format!("went to its default at {at}"),
        Some(Resolution::Expired { at }) => format!("expired at {at}"),
        Some(Resolution::Withdrawn { at }) => format!("was withdrawn at {at}: its task has ended"),
        None => format!("expired at {}", question.expires_at),
    };
    ApiProblem::new(Code::ClarificationResolved, format!("the question {how}"))
}

/// Answers a question
///
/// The first answer stands. The task continues when it has no other open question.
#[utoipa::path(
    post, path = "/v1/clarifications/{id}/answer", tag = "clarifications", params(("id" = String, Path)), request_body = AnswerRequest,
    responses(
        (status = 200, description = "The question with its answer", body = ClarificationView),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "Already resolved", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "Not a valid answer", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn answer(
    State(state): State<AppState>,
    PathParam(id): PathParam<ClarificationId>,
    Json(request): Json<AnswerRequest>,
) -> ApiResult<Response> {
    let clarification = take_answer(&state, id, request).await?;
    Ok(axum::Json(ClarificationView { clarification }).into_response())
}

/// Answers a question for any surface, and notifies the others. The first answer stands.
pub(crate) async fn take_answer(
    state: &AppState,
    id: ClarificationId,
    request: AnswerRequest,
) -> ApiResult<Clarification> {
    let by = request.by.clone().unwrap_or_else(|| ANONYMOUS.to_owned());
    let answer = request.answer.clone();
    let question = state.intake().answer(id, answer, by, |question, _| check(&request, question));
    Ok(*question.await?)
}

impl From<AnswerRefused> for ApiProblem {
    fn from(refused: AnswerRefused) -> Self {
        match refused {
            AnswerRefused::Unknown(id) => unknown(id),
            AnswerRefused::Ended(question) => ended(&question),
            AnswerRefused::Store(error) => error.into(),
        }
    }
}
