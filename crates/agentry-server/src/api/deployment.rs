//! Changes of the fleet: removal of agents, activation of versions, and the files of processes.

use agentry_api::{ActivateReply, ActivateRequest, ProcessFile};
use agentry_core::agent::AgentName;
use agentry_core::worker::WorkerRecord;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::request::unknown_agent;
use crate::extract::{Json, PathParam};
use crate::problem::{ApiProblem, ApiResult, Code, ProblemBody};
use crate::state::AppState;

/// Returns the file of an agent on a worker; `current` is the active version of the deployment.
pub(crate) fn process_file(worker: &WorkerRecord, agent: &AgentName, current: Option<&str>) -> ProcessFile {
    let host = worker.host.clone();
    match worker.files.iter().find(|report| report.agent == *agent) {
        Some(report) => ProcessFile {
            host,
            version: report.version.as_deref().map(str::to_owned),
            error: report.error.clone(),
            current: false,
        },
        None => ProcessFile { host, version: current.map(str::to_owned), error: None, current: true },
    }
}

fn agent_name(state: &AppState, name: &str) -> ApiResult<AgentName> {
    AgentName::new(name).map_err(|_| unknown_agent(state, name))
}

/// Removes an agent from the deployment
///
/// The agent accepts no more tasks; accepted ones still run, on its last version. Existing files do not bring it back, a
/// new version in a file does.
#[utoipa::path(
    delete, path = "/v1/agents/{name}", tag = "agents", params(("name" = String, Path)),
    responses(
        (status = 204, description = "Removed"),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn remove(State(state): State<AppState>, PathParam(name): PathParam<String>) -> ApiResult<Response> {
    let agent = agent_name(&state, &name)?;
    let removed = state.intake().deployment().remove(vec![agent]).await?;
    if removed.is_empty() {
        return Err(unknown_agent(&state, &name));
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Activates a version of an agent
///
/// For a rollback, or to restore a removed agent, whose default is its last version. Files with another version do not
/// replace it unless they change.
#[utoipa::path(
    post, path = "/v1/agents/{name}/activate", tag = "agents", params(("name" = String, Path)),
    request_body = ActivateRequest,
    responses(
        (status = 200, description = "Activated", body = ActivateReply),
        (status = 404, description = "Unknown agent or version", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A field is invalid", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn activate(
    State(state): State<AppState>,
    PathParam(name): PathParam<String>,
    Json(request): Json<ActivateRequest>,
) -> ApiResult<Response> {
    let agent = agent_name(&state, &name)?;
    let version = request.version.as_deref();
    match (state.intake().deployment().activate(&agent, version).await?, version) {
        (Some(active), _) => Ok(axum::Json(ActivateReply { name: agent, version: active.into() }).into_response()),
        (None, Some(version)) => {
            let shown: String = version.chars().take(80).collect();
            Err(ApiProblem::new(Code::UnknownAgent, format!("agent `{agent}` never had a version `{shown}`")))
        }
        (None, None) if state.fleet().entry(agent.as_str()).is_none() => Err(unknown_agent(&state, agent.as_str())),
        (None, None) => Err(ApiProblem::field(
            "/version",
            format!("agent `{agent}` was not removed: say which version it is to run"),
        )),
    }
}
