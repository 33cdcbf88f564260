//! `/v1/clarifications`: questions to humans.

use agentry_core::clarification::{Clarification, MAX_ANSWER_BYTES, Resolution};
use agentry_core::id::ClarificationId;
use agentry_intake::AnswerRefused;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::views::List;
use crate::extract::{Id, Json, Query, from_cursor, page_size, to_cursor};
use crate::problem::{Answer, Code, Problem, ProblemBody};
use crate::state::AppState;

/// Who answered when the caller does not say.
const ANONYMOUS: &str = "api";
/// The longest name of who answered, in bytes.
const MAX_BY_BYTES: usize = 256;

/// A question to a human. `resolution` is absent while it is open.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Clarification)]
pub(crate) struct ClarificationView {
    /// The question.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    clarification: Clarification,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Whether to list ended ones too.
    #[serde(default)]
    all: bool,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Rows, 1 to 1,000; 50 when absent.
    limit: Option<usize>,
}

/// Lists questions, oldest first
#[utoipa::path(
    get, path = "/v1/clarifications", tag = "clarifications", params(ListQuery),
    responses((status = 200, description = "A page of questions: open ones, or all", body = List<ClarificationView>))
)]
pub(crate) async fn list(State(state): State<AppState>, Query(query): Query<ListQuery>) -> Answer {
    let limit = page_size(query.limit)?;
    let after = from_cursor(query.cursor.as_deref())?;
    let page = state.store().clarifications(!query.all, after, limit).await?;
    let next_cursor = page.items.last().filter(|_| page.more).map(|clarification| to_cursor(&clarification.id));
    let items = page.items.into_iter().map(|clarification| ClarificationView { clarification }).collect();
    Ok(axum::Json(List { items, next_cursor }).into_response())
}

/// An answer.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AnswerRequest {
    /// What; at most 16 KiB. One of the options, when the question has some.
    pub(crate) answer: String,
    /// Who; `api` when absent.
    pub(crate) by: Option<String>,
}

impl AnswerRequest {
    fn check(&self, question: &Clarification) -> Answer<()> {
        if self.answer.is_empty() || self.answer.len() > MAX_ANSWER_BYTES {
            return Err(Problem::field("/answer", format!("has 1 to {MAX_ANSWER_BYTES} bytes")));
        }
        if self.by.as_ref().is_some_and(|by| by.is_empty() || by.len() > MAX_BY_BYTES) {
            return Err(Problem::field("/by", format!("has 1 to {MAX_BY_BYTES} bytes")));
        }
        if !question.options.is_empty() && !question.options.contains(&self.answer) {
            return Err(Problem::field(
                "/answer",
                format!("is not an option: choose from {}", question.options.join(", ")),
            ));
        }
        Ok(())
    }
}

fn unknown(id: ClarificationId) -> Problem {
    Problem::new(Code::UnknownClarification, format!("no clarification has the id {id}"))
}

/// Why a question takes no answer.
pub(crate) fn ended(question: &Clarification) -> Problem {
    let how = match &question.resolution {
        Some(Resolution::Answered { by, at, .. }) => format!("was answered by {by} at {at}; that answer stands"),
        Some(Resolution::Defaulted { at, .. }) => format!("went to its default at {at}"),
        Some(Resolution::Expired { at }) => format!("expired at {at}"),
        Some(Resolution::Withdrawn { at }) => format!("was withdrawn at {at}: its task has ended"),
        None => format!("expired at {}", question.expires_at),
    };
    Problem::new(Code::ClarificationResolved, format!("the question {how}"))
}

/// Answers a question
///
/// The first answer stands; the task goes on when no other question of it is open.
#[utoipa::path(
    post, path = "/v1/clarifications/{id}/answer", tag = "clarifications", params(("id" = String, Path)), request_body = AnswerRequest,
    responses(
        (status = 200, description = "The question with its answer", body = ClarificationView),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "It has ended", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "Not an answer to it", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn answer(
    State(state): State<AppState>,
    Id(id): Id<ClarificationId>,
    Json(request): Json<AnswerRequest>,
) -> Answer<Response> {
    let clarification = take_answer(&state, id, request).await?;
    Ok(axum::Json(ClarificationView { clarification }).into_response())
}

/// Answers a question for any surface; the other ones are told. The first answer stands.
pub(crate) async fn take_answer(
    state: &AppState,
    id: ClarificationId,
    request: AnswerRequest,
) -> Answer<Clarification> {
    let by = request.by.clone().unwrap_or_else(|| ANONYMOUS.to_owned());
    let answer = request.answer.clone();
    let question = state.intake().answer(id, answer, by, |question, _| request.check(question));
    Ok(*question.await?)
}

impl From<AnswerRefused> for Problem {
    fn from(refused: AnswerRefused) -> Self {
        match refused {
            AnswerRefused::Unknown(id) => unknown(id),
            AnswerRefused::Ended(question) => ended(&question),
            AnswerRefused::Store(error) => error.into(),
        }
    }
}
