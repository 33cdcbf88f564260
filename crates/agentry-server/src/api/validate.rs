//! `POST /v1/agents/validate`: validates an agent file without adding it to the fleet.

use agentry_api::{FileProblemView, ValidateReply, ValidateRequest};
use agentry_config::{Problem as FileProblem, Severity, validate_text};
use axum::response::IntoResponse;

use crate::extract::Json;
use crate::problem::{ApiProblem, ApiResult, Code, ProblemBody};

/// The default file name in messages.
const UNNAMED: &str = "agent.yml";
/// The longest file name, in bytes.
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

/// Validates an agent file
///
/// Variables are not resolved: `${VAR}` is valid wherever some value would be, `${VAR:-default}` is its default.
#[utoipa::path(
    post, path = "/v1/agents/validate", tag = "agents", request_body = ValidateRequest,
    responses(
        (status = 200, description = "The result; an invalid file is no error of the request", body = ValidateReply),
        (status = 422, description = "A field is invalid", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn validate(Json(request): Json<ValidateRequest>) -> ApiResult {
    let file = request.file.unwrap_or_else(|| UNNAMED.to_owned());
    if file.is_empty() || file.len() > MAX_NAME_BYTES || file.chars().any(char::is_control) {
        return Err(ApiProblem::field("/file", format!("has 1 to {MAX_NAME_BYTES} bytes and no control characters")));
    }
    // Parsing a large file takes long, so it runs on a blocking thread.
    let found = tokio::task::spawn_blocking(move || validate_text(&file, &request.text)).await;
    let found = found.map_err(|error| {
        tracing::error!(%error, "validating an agent file failed");
        ApiProblem::new(Code::Internal, "the validation failed; the log has the reason")
    })?;
    let valid = found.iter().all(|problem| problem.severity == Severity::Warning);
    let problems = found.into_iter().map(problem_view).collect();
    Ok(axum::Json(ValidateReply { valid, problems }).into_response())
}
