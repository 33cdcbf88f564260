//! Routing: the most specific route of the settings, else the agents that subscribe to the topic.

use std::sync::Arc;

use agentry_config::SlackRoute;
use agentry_core::agent::{AgentSpec, ExecutionMode};
use agentry_core::fleet::Fleet;
use agentry_core::session::MAX_SESSION_KEY_BYTES;
use agentry_core::slack::{ReplyTo, SlackAddress};
use agentry_core::task::{Submission, TaskSource};
use agentry_core::trace::Trace;
use agentry_intake::Order;
use serde_json::Value;

/// The topic of posts that mention the app.
pub(super) const MENTION: &str = "slack.event.app_mention";
/// The topic of posts that do not mention the app.
pub(super) const MESSAGE: &str = "slack.event.message";

/// Returns the agents that answer a post. A mention goes to the subscribers of mentions, or else to those of all
/// messages: Slack may deliver it as a mention, as a message, or as both, and the result must be the same.
pub(super) fn of_post(
    fleet: &Fleet,
    routes: &[SlackRoute],
    place: &SlackAddress,
    mention: bool,
) -> Vec<Arc<AgentSpec>> {
    let fits = |route: &&SlackRoute| {
        route.command.is_none()
            && route.team.as_ref().is_none_or(|team| *team == place.team)
            && route.channel.as_ref().is_none_or(|channel| *channel == place.channel)
    };
    let exactness = |route: &&SlackRoute| (route.channel.is_some(), route.team.is_some());
    if let Some(route) = routes.iter().filter(fits).max_by_key(exactness) {
        return of_route(fleet, route);
    }
    let topics: &[&str] = if mention { &[MENTION, MESSAGE] } else { &[MESSAGE] };
    let mut found = topics.iter().map(|topic| of_topic(fleet, topic));
    found.find(|agents| !agents.is_empty()).unwrap_or_default()
}

/// Returns the agents that answer a command.
pub(super) fn of_command(fleet: &Fleet, routes: &[SlackRoute], name: &str) -> Vec<Arc<AgentSpec>> {
    match routes.iter().find(|route| route.command.as_deref() == Some(name)) {
        Some(route) => of_route(fleet, route),
        None => of_topic(fleet, &command_topic(name)),
    }
}

/// Returns the topic of a command.
pub(super) fn command_topic(name: &str) -> String {
    format!("slack.command.{name}")
}

/// Returns the commands that an agent answers, with the agent.
pub(super) fn known_commands(fleet: &Fleet, routes: &[SlackRoute]) -> Vec<(String, String)> {
    let routed = routes.iter().filter_map(|route| Some((route.command.clone()?, route.agent.to_string())));
    let mut known: Vec<(String, String)> = routed.collect();
    for (name, entry) in fleet.iter() {
        let Some(spec) = entry.spec.as_ref().filter(|spec| spec.enabled) else { continue };
        let commands = spec.subscriptions.iter().filter_map(|pattern| pattern.as_str().strip_prefix("slack.command."));
        known.extend(commands.filter(|name| !name.contains(['*', '#'])).map(|it| (it.to_owned(), name.to_string())));
    }
    known.sort();
    known.dedup();
    known
}

fn of_route(fleet: &Fleet, route: &SlackRoute) -> Vec<Arc<AgentSpec>> {
    let spec = fleet.live(&route.agent).cloned();
    if spec.is_none() {
        tracing::warn!(agent = %route.agent, "a Slack route names an agent that accepts no tasks");
    }
    spec.into_iter().collect()
}

/// Returns the live agents that subscribe to a topic.
pub(super) fn of_topic(fleet: &Fleet, topic: &str) -> Vec<Arc<AgentSpec>> {
    fleet.subscribers(topic).iter().filter_map(|name| fleet.live(name).cloned()).collect()
}

/// The request to an agent that came from Slack.
pub(super) struct SlackPrompt<'a> {
    pub text: &'a str,
    /// The session key, for continuous agents.
    pub session: &'a str,
    pub place: &'a SlackAddress,
    /// Slack's id of the event.
    pub event_id: &'a str,
}

impl SlackPrompt<'_> {
    /// Returns the order for one agent.
    pub fn order(&self, spec: &AgentSpec, trace: Trace) -> Order {
        let key = || self.session.chars().take(MAX_SESSION_KEY_BYTES / 4).collect();
        let source = TaskSource::Slack { event_id: self.event_id.to_owned() };
        let submission = Submission {
            session: (spec.mode == ExecutionMode::Continuous).then(key),
            reply_to: Some(ReplyTo::Slack(self.place.clone())),
            ..Submission::new(Value::String(self.text.to_owned()), source, trace)
        };
        Order { agent: spec.name.to_string(), submission }
    }
}
