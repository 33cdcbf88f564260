//! `POST /v1/agents/validate`: checks an agent file without putting it into the fleet.

use agentry_api::{FileProblemView, ValidateReply, ValidateRequest};
use agentry_config::{Problem as FileProblem, Severity, validate_text};
use axum::response::IntoResponse;

use crate::extract::Json;
use crate::problem::{Answer, Code, Problem, ProblemBody};

/// What a file is called in messages when the caller does not say.
const UNNAMED: &str = "agent.yml";
/// The longest name of a file, in bytes.
const MAX_NAME_BYTES: usize = 255;

fn problem_view(problem: FileProblem) -> FileProblemView {
    FileProblemView {
        text: problem.to_string(),
        severity: problem.severity.as_str().to_owned(),
        line: problem.line,
        column: problem.column,
        message: problem.message,
        help: problem.help,
    }
}

/// Checks an agent file
///
/// Variables are not resolved: `${VAR}` fits wherever some value of it would, `${VAR:-default}` is its default.
#[utoipa::path(
    post, path = "/v1/agents/validate", tag = "agents", request_body = ValidateRequest,
    responses(
        (status = 200, description = "What was found; an invalid file is an answer, not an error", body = ValidateReply),
        (status = 422, description = "A field is wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn validate(Json(request): Json<ValidateRequest>) -> Answer {
    let file = request.file.unwrap_or_else(|| UNNAMED.to_owned());
    if file.is_empty() || file.len() > MAX_NAME_BYTES || file.chars().any(char::is_control) {
        return Err(Problem::field("/file", format!("has 1 to {MAX_NAME_BYTES} bytes and no control characters")));
    }
    // A file of a mebibyte takes a while: not on the threads that answer everybody else.
    let found = tokio::task::spawn_blocking(move || validate_text(&file, &request.text)).await;
    let found = found.map_err(|error| {
        tracing::error!(%error, "checking an agent file failed");
        Problem::new(Code::Internal, "the check itself failed; the log has the reason")
    })?;
    let valid = found.iter().all(|problem| problem.severity == Severity::Warning);
    let problems = found.into_iter().map(problem_view).collect();
    Ok(axum::Json(ValidateReply { valid, problems }).into_response())
}
