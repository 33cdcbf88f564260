//! `/slack/commands`: slash commands. The answer comes to the `response_url`, to who asked alone.

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
use super::routing::{self, Asked};
use super::{Door, Form, Outcome, SlackDoor, verified};
use crate::extract::place_of;
use crate::problem::{Answer, Code, Problem, ProblemBody, did_you_mean};
use crate::state::AppState;

/// How long a `response_url` is used: Slack's 30 minutes, less what clocks and retries take.
const RESPONSE_URL_LIFE: Duration = Duration::from_secs(29 * 60);
/// Commands that an answer to an unknown one names at most.
const MAX_NAMED: usize = 20;

/// Takes a slash command
///
/// Signed by Slack. The task is durable when the answer arrives; what it says comes to the `response_url`.
#[utoipa::path(
    post, path = "/slack/commands", tag = "slack",
    request_body(content = String, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "What Slack shows to who asked", body = Object),
        (status = 400, description = "Not a command's form", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "Not signed by Slack, too old, or taken before", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn commands(State(state): State<AppState>, request: Request) -> Answer {
    const DOOR: Door = Door::Command;
    let trace = place_of(request.extensions(), &state).propagate();
    let (slack, body) = verified(&state, DOOR, request).await?;
    let form = Form::read(&state, DOOR, &body)?;
    if form.get("ssl_check") == "1" {
        return Ok(axum::Json(json!({})).into_response());
    }
    let name = form.need(&state, DOOR, "command")?.trim_start_matches('/').to_lowercase();
    let command = Command {
        team: form.need(&state, DOOR, "team_id")?,
        channel: form.need(&state, DOOR, "channel_id")?,
        user: form.need(&state, DOOR, "user_id")?,
        response_url: form.need(&state, DOOR, "response_url")?,
        trigger: form.need(&state, DOOR, "trigger_id")?,
        text: form.get("text").trim(),
        name: &name,
    };
    let topic = routing::command_topic(&name);
    let place = command.place(state.now());
    let pick = |fleet: &Fleet| -> Vec<Order> { command.orders(fleet, &slack, &place, trace) };
    if check_topic(&topic).is_err() || pick(&state.fleet()).is_empty() {
        state.slack.note(DOOR, Outcome::Unheard);
        return Ok(ephemeral(&unknown(&state, &slack, &name)));
    }
    match accept(&state, command.event(topic, trace, state.now()), Audience::Picked(&pick)).await {
        Ok((Outcome::Duplicate, _)) => {
            state.slack.note(DOOR, Outcome::Duplicate);
            // Slack never sends a command twice.
            Err(Problem::new(Code::SlackUnverified, "this very command was taken before: it is a replay"))
        }
        Ok((outcome, tasks)) => {
            state.slack.note(DOOR, outcome);
            let names: Vec<String> = tasks.iter().map(|task| format!("`{}`", task.agent)).collect();
            let verb = if names.len() == 1 { "is" } else { "are" };
            Ok(ephemeral(&format!(":hourglass_flowing_sand: {} {verb} on it…", names.join(", "))))
        }
        // Slack shows nothing useful for an error, and does not try again: who asked must.
        Err(problem) => {
            state.slack.note(DOOR, Outcome::Refused);
            tracing::warn!(detail = %problem.detail, "a command was not taken");
            Ok(ephemeral(":warning: Not now: the queue is full or the store is away. Please try again in a minute."))
        }
    }
}

/// A command as it was given.
struct Command<'a> {
    team: &'a str,
    channel: &'a str,
    user: &'a str,
    response_url: &'a str,
    trigger: &'a str,
    text: &'a str,
    name: &'a str,
}

impl Command<'_> {
    fn id(&self) -> String {
        format!("command/{}", self.trigger)
    }

    /// Where it was given.
    fn place(&self, now: Timestamp) -> SlackAddress {
        SlackAddress {
            team: self.team.to_owned(),
            channel: self.channel.to_owned(),
            thread: None,
            user: Some(self.user.to_owned()),
            response_url: Some(ResponseUrl { url: self.response_url.to_owned(), until: now.after(RESPONSE_URL_LIFE) }),
        }
    }

    /// What is asked of those who answer it.
    fn orders(&self, fleet: &Fleet, slack: &SlackDoor, place: &SlackAddress, trace: Trace) -> Vec<Order> {
        let whole = format!("/{}", self.name);
        let asked = Asked {
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

/// What who asked alone sees.
fn ephemeral(text: &str) -> Response {
    axum::Json(json!({"response_type": "ephemeral", "text": text})).into_response()
}

fn unknown(state: &AppState, slack: &SlackDoor, name: &str) -> String {
    let known = routing::known_commands(&state.fleet(), &slack.routes);
    let near = did_you_mean(name, known.iter().map(|(name, _)| name.as_str())).replace('`', "*");
    let head = format!("No agent answers `/{}`{near}", escape(name));
    if known.is_empty() {
        return format!(
            "{head}. No command is answered yet: an agent subscribes to `slack.command.NAME` to answer /NAME."
        );
    }
    let lines = known.iter().take(MAX_NAMED).map(|(name, agent)| format!("\n• `/{name}` – {agent}"));
    format!("{head}. Known commands:{}", lines.collect::<String>())
}
