//! `/slack/commands`: slash commands. The answer goes to the `response_url`; only the user who asked sees it.

use std::time::Duration;

use agentry_core::event::Event;
use agentry_core::fleet::Fleet;
use agentry_core::slack::{ResponseUrl, SlackAddress};
use agentry_core::time::Timestamp;
use agentry_core::topic::check_topic;
use agentry_core::trace::Trace;
use agentry_intake::{Audience, Order};
use agentry_slack::escape;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::events::{KIND, accept};
use super::routing::{self, SlackPrompt};
use super::{RequestOutcome, SlackForm, SlackIngress, SlackRequestKind, read_verified};
use crate::extract::span_context;
use crate::problem::{ApiProblem, ApiResult, Code, ProblemBody, did_you_mean};
use crate::state::AppState;

/// Time for which a `response_url` is used: Slack's 30 minutes, less a margin for clock skew and retries.
const RESPONSE_URL_LIFE: Duration = Duration::from_secs(29 * 60);
/// The most commands listed in the answer to an unknown one.
const MAX_NAMED: usize = 20;

/// Receives a slash command
///
/// Must be signed by Slack. The task is durable when the response arrives; its answer is sent to the `response_url`.
#[utoipa::path(
    post, path = "/slack/commands", tag = "slack",
    request_body(content = String, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "The message that Slack shows to the user", body = Object),
        (status = 400, description = "Not the form of a slash command", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "Not signed by Slack, too old, or a replay", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn commands(State(state): State<AppState>, request: Request) -> ApiResult {
    const REQUEST: SlackRequestKind = SlackRequestKind::Command;
    let trace = span_context(request.extensions(), &state).propagate();
    let (slack, body) = read_verified(&state, REQUEST, request).await?;
    let form = SlackForm::read(&state, REQUEST, &body)?;
    if form.get("ssl_check") == "1" {
        return Ok(axum::Json(json!({})).into_response());
    }
    let name = form.need(&state, REQUEST, "command")?.trim_start_matches('/').to_lowercase();
    let command = SlackCommand {
        team: form.need(&state, REQUEST, "team_id")?,
        channel: form.need(&state, REQUEST, "channel_id")?,
        user: form.need(&state, REQUEST, "user_id")?,
        response_url: form.need(&state, REQUEST, "response_url")?,
        trigger: form.need(&state, REQUEST, "trigger_id")?,
        text: form.get("text").trim(),
        name: &name,
    };
    let topic = routing::command_topic(&name);
    let place = command.place(state.now());
    let pick = |fleet: &Fleet| -> Vec<Order> { command.orders(fleet, &slack, &place, trace) };
    if check_topic(&topic).is_err() || pick(&state.fleet()).is_empty() {
        state.slack.note(REQUEST, RequestOutcome::Unheard);
        return Ok(ephemeral(&unknown(&state, &slack, &name)));
    }
    match accept(&state, command.event(topic, trace, state.now()), Audience::Picked(&pick)).await {
        Ok((RequestOutcome::Duplicate, _)) => {
            state.slack.note(REQUEST, RequestOutcome::Duplicate);
            // Slack never sends a command twice.
            Err(ApiProblem::new(Code::SlackUnverified, "this command was accepted before: the request is a replay"))
        }
        Ok((outcome, tasks)) => {
            state.slack.note(REQUEST, outcome);
            let names: Vec<String> = tasks.iter().map(|task| format!("`{}`", task.agent)).collect();
            let verb = if names.len() == 1 { "is" } else { "are" };
            Ok(ephemeral(&format!(":hourglass_flowing_sand: {} {verb} on it…", names.join(", "))))
        }
        // Slack shows nothing useful for an error and does not retry: the user has to.
        Err(problem) => {
            state.slack.note(REQUEST, RequestOutcome::Refused);
            tracing::warn!(detail = %problem.detail, "slash command not accepted");
            Ok(ephemeral(
                ":warning: Not now: the queue is full or the store is unavailable. Please try again in a minute.",
            ))
        }
    }
}

/// The fields of a slash command.
struct SlackCommand<'a> {
    team: &'a str,
    channel: &'a str,
    user: &'a str,
    response_url: &'a str,
    trigger: &'a str,
    text: &'a str,
    name: &'a str,
}

impl SlackCommand<'_> {
    fn id(&self) -> String {
        format!("command/{}", self.trigger)
    }

    /// Returns the address of the channel where the command was used.
    fn place(&self, now: Timestamp) -> SlackAddress {
        SlackAddress {
            team: self.team.to_owned(),
            channel: self.channel.to_owned(),
            thread: None,
            user: Some(self.user.to_owned()),
            response_url: Some(ResponseUrl { url: self.response_url.to_owned(), until: now.after(RESPONSE_URL_LIFE) }),
        }
    }

    /// Returns one order for each agent that answers the command.
    fn orders(&self, fleet: &Fleet, slack: &SlackIngress, place: &SlackAddress, trace: Trace) -> Vec<Order> {
        let whole = format!("/{}", self.name);
        let asked = SlackPrompt {
            text: if self.text.is_empty() { &whole } else { self.text },
            session: &format!("{}/{}/{}", self.team, self.channel, self.user),
            place,
            event_id: &self.id(),
        };
        let agents = routing::of_command(fleet, &slack.routes, self.name);
        agents.iter().map(|spec| asked.order(spec, trace)).collect()
    }

    fn event(&self, topic: String, trace: Trace, now: Timestamp) -> Event {
        Event {
            id: self.id(),
            source: format!("slack/{}", self.team),
            kind: KIND.to_owned(),
            topic,
            time: now,
            trace_id: trace.id,
            parent: trace.parent,
            hops: 0,
            data: json!({"team": self.team, "channel": self.channel, "user": self.user,
                         "command": format!("/{}", self.name), "text": self.text}),
        }
    }
}

/// Returns a response that only the user who asked sees.
fn ephemeral(text: &str) -> Response {
    axum::Json(json!({"response_type": "ephemeral", "text": text})).into_response()
}

fn unknown(state: &AppState, slack: &SlackIngress, name: &str) -> String {
    let known = routing::known_commands(&state.fleet(), &slack.routes);
    let near = did_you_mean(name, known.iter().map(|(name, _)| name.as_str())).replace('`', "*");
    let head = format!("No agent answers `/{}`{near}", escape(name));
    if known.is_empty() {
        return format!(
            "{head}. No command is configured yet: an agent subscribes to `slack.command.NAME` to answer /NAME."
        );
    }
    let lines = known.iter().take(MAX_NAMED).map(|(name, agent)| format!("\n• `/{name}` – {agent}"));
    format!("{head}. Known commands:{}", lines.collect::<String>())
}
