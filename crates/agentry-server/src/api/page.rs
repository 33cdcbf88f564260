//! `/` and `/openapi.json`: a plain page of the fleet for people, the API's document for programs.

use std::fmt::Write as _;

use agentry_core::fleet::AgentState;
use axum::extract::State;
use axum::http::header;
use axum::response::{Html, IntoResponse, Response};

use super::agents::{AgentView, all};
use crate::openapi::openapi;
use crate::problem::Answer;
use crate::state::AppState;

/// Agents that the page lists at most; `/v1/agents` has all.
const MAX_ROWS: usize = 1_000;

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\
th,td{text-align:left;padding:.3rem .8rem .3rem 0;border-bottom:1px solid #8884;vertical-align:top}\
.n{text-align:right}.scroll{overflow-x:auto}";

/// The document of this API
#[utoipa::path(
    get, path = "/openapi.json", tag = "health",
    responses((status = 200, description = "OpenAPI 3.1", body = Object))
)]
pub(crate) async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], openapi()).into_response()
}

/// Shows the fleet to people
#[utoipa::path(
    get, path = "/", tag = "health",
    responses((status = 200, description = "A page", body = String, content_type = "text/html"))
)]
pub(crate) async fn index(State(state): State<AppState>) -> Answer {
    let agents = all(&state).await?;
    let counts = state.store().counts().await?;
    let now = state.now();
    let alive = state.store().workers().await?.iter().filter(|worker| worker.is_alive(now)).count();
    let healthy = agents.iter().filter(|agent| agent.status == AgentState::Healthy).count();
    let mut html = String::with_capacity(4 * 1024);
    let _ = write!(
        html,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>Agentry</title><style>{STYLE}</style><h1>Agentry</h1>\
         <p>{} engine, version {}. {healthy} of {} agents healthy; {} tasks queued, {} running, {} waiting for a \
         person; {alive} workers alive.</p>",
        escape(state.deps.engine),
        escape(state.deps.version),
        agents.len(),
        counts.queued,
        counts.running,
        counts.waiting,
    );
    if agents.is_empty() {
        html.push_str("<p>The fleet is empty: put an agent file into the agents folder and it appears here.</p>");
    } else {
        html.push_str(
            "<div class=\"scroll\"><table><thead><tr><th>agent<th>mode<th>version<th>state<th>model\
             <th class=\"n\">today (USD)<th>notes</thead><tbody>",
        );
        agents.iter().take(MAX_ROWS).for_each(|agent| row(&mut html, agent));
        html.push_str("</tbody></table></div>");
        if agents.len() > MAX_ROWS {
            let _ = write!(html, "<p>{} more: see <a href=\"/v1/agents\">/v1/agents</a>.</p>", agents.len() - MAX_ROWS);
        }
    }
    html.push_str("<p>");
    for path in [
        "/v1/agents",
        "/v1/tasks",
        "/v1/sessions",
        "/v1/schedules",
        "/v1/clarifications",
        "/v1/dead-letters",
        "/v1/workers",
        "/v1/usage",
        "/health/ready",
        "/metrics",
        "/openapi.json",
    ] {
        let _ = write!(html, "<a href=\"{path}\">{path}</a> ");
    }
    html.push_str("</p></html>");
    Ok(Html(html).into_response())
}

fn row(html: &mut String, agent: &AgentView) {
    // A word and a shape for every state.
    let shape = match agent.status {
        AgentState::Healthy => "●",
        AgentState::Starting | AgentState::Restarting => "◐",
        AgentState::Disabled => "◌",
        AgentState::Failed | AgentState::Invalid => "▲",
    };
    let mut notes: Vec<&str> = agent.error.iter().chain(&agent.reason).map(String::as_str).collect();
    notes.extend(agent.warnings.iter().map(String::as_str));
    let _ = write!(
        html,
        "<tr><td><a href=\"/v1/agents/{name}\">{name}</a><td>{}<td>{}<td>{shape} {}<td>{}<td class=\"n\">{}<td>{}",
        agent.mode.map_or("–", |mode| mode.as_str()),
        escape(agent.version.as_deref().unwrap_or("–")),
        agent.status.as_str(),
        escape(agent.model.as_deref().unwrap_or("–")),
        agent.counters.cost_usd_today,
        escape(&notes.join("; ")),
        name = escape(agent.name.as_str()),
    );
}

/// Text as HTML: nothing from a file or a caller becomes markup.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}
