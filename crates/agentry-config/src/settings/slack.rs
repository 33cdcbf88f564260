//! Settings of Slack: secrets of apps, tokens of workspaces, and routes to agents.

use std::time::Duration;

use agentry_core::agent::AgentName;
use agentry_core::slack::SlackAddress;
use secrecy::SecretString;

use super::value::{Parsed, duration};

/// Minimum length of a signing secret or token: anything shorter is a mistake.
const MIN_SECRET_BYTES: usize = 8;
/// Minimum delay of a reminder.
const MIN_REMINDER: Duration = Duration::from_secs(60);

/// The settings of a process's Slack connection.
#[derive(Debug, Clone, Default)]
pub struct SlackSettings {
    /// Signing secrets of the apps whose requests are accepted.
    pub signing_secrets: Vec<SecretString>,
    /// Bot tokens, by workspace or for every workspace; without one nothing is posted.
    pub bot_tokens: Vec<(Option<String>, SecretString)>,
    /// Address of the Web API.
    pub api_url: String,
    /// Agents by workspace, channel or command; these take precedence over subscriptions.
    pub routes: Vec<SlackRoute>,
    /// Channel for questions of tasks that did not come from Slack.
    pub questions: Option<SlackAddress>,
    /// Delay before an open question is asked again.
    pub reminder: Option<Duration>,
}

impl SlackSettings {
    /// Returns whether Slack is not configured.
    #[must_use]
    pub fn is_unset(&self) -> bool {
        self.signing_secrets.is_empty() && self.bot_tokens.is_empty()
    }
}

/// The agent that answers in a workspace, in a channel, or to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlackRoute {
    /// Workspace; `None` for any.
    pub team: Option<String>,
    /// Channel; `None` for any.
    pub channel: Option<String>,
    /// Command without its slash; `None` for a route of messages.
    pub command: Option<String>,
    /// Agent that answers.
    pub agent: AgentName,
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty())
}

/// Returns whether a text is a Slack id: a letter of `kinds`, then capitals and digits.
fn is_id(text: &str, kinds: &str) -> bool {
    text.len() > 1
        && text.starts_with(|first| kinds.contains(first))
        && text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
}

fn secret(text: &str, what: &str) -> Parsed<SecretString> {
    if text.len() < MIN_SECRET_BYTES || text.chars().any(char::is_whitespace) {
        return Err(format!("expected {what} of {MIN_SECRET_BYTES} or more characters, several apart by commas").into());
    }
    Ok(text.to_owned().into())
}

pub(super) fn signing_secrets(text: &str) -> Parsed<Vec<SecretString>> {
    words(text).map(|word| secret(word, "signing secrets")).collect()
}

pub(super) fn bot_tokens(text: &str) -> Parsed<Vec<(Option<String>, SecretString)>> {
    words(text)
        .map(|word| match word.split_once('=') {
            Some((team, token)) if is_id(team, "TE") => Ok((Some(team.to_owned()), secret(token, "bot tokens")?)),
            Some(_) => Err("expected a token such as xoxb-…, or T0123ABCD=xoxb-… for one workspace".into()),
            None => Ok((None, secret(word, "bot tokens")?)),
        })
        .collect()
}

pub(super) fn routes(text: &str) -> Parsed<Vec<SlackRoute>> {
    words(text).map(route).collect()
}

fn route(text: &str) -> Parsed<SlackRoute> {
    let expected = || {
        "expected where=agent, where being a workspace (T0123), a channel (C0123), both (T0123/C0456) or a command \
         (/report)"
    };
    let (place, agent) = text.split_once('=').ok_or_else(expected)?;
    let agent = AgentName::new(agent.trim()).map_err(|error| error.to_string())?;
    let place = place.trim();
    let (mut team, mut channel, mut command) = (None, None, None);
    if let Some(name) = place.strip_prefix('/') {
        command = Some(name.to_owned()).filter(|name| !name.is_empty());
    } else {
        for id in place.split('/') {
            match id {
                id if is_id(id, "TE") && team.is_none() && channel.is_none() => team = Some(id.to_owned()),
                id if is_id(id, "CGD") && channel.is_none() => channel = Some(id.to_owned()),
                _ => return Err(expected().into()),
            }
        }
    }
    if team.is_none() && channel.is_none() && command.is_none() {
        return Err(expected().into());
    }
    Ok(SlackRoute { team, channel, command, agent })
}

pub(super) fn questions(text: &str) -> Parsed<SlackAddress> {
    match text.split_once('/') {
        Some((team, channel)) if is_id(team, "TE") && is_id(channel, "CGD") => Ok(SlackAddress {
            team: team.to_owned(),
            channel: channel.to_owned(),
            thread: None,
            user: None,
            response_url: None,
        }),
        _ => Err("expected a workspace and a channel, such as T0123ABCD/C0456EFGH".into()),
    }
}

pub(super) fn reminder(text: &str) -> Parsed<Duration> {
    duration(text)
        .filter(|value| *value >= MIN_REMINDER)
        .ok_or_else(|| "expected a time of 1m or more, such as 4h".into())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn tokens_are_of_one_workspace_or_of_all() {
        let tokens = bot_tokens("xoxb-for-all, T02=xoxb-for-two").unwrap();
        assert_eq!((tokens[0].0.as_deref(), tokens[1].0.as_deref()), (None, Some("T02")));
        assert_eq!(tokens[1].1.expose_secret(), "xoxb-for-two");
        assert!(bot_tokens("C02=xoxb-for-two").is_err() && bot_tokens("short").is_err());
        assert!(!format!("{tokens:?}").contains("xoxb"));
    }

    #[test]
    fn routes_say_where_and_who() {
        let routes = routes("C1=support, T1/C2=triage, T1=writer, /report=daily-report").unwrap();
        let seen: Vec<_> =
            routes.iter().map(|r| (r.team.as_deref(), r.channel.as_deref(), r.command.as_deref())).collect();
        let expected = [
            (None, Some("C1"), None),
            (Some("T1"), Some("C2"), None),
            (Some("T1"), None, None),
            (None, None, Some("report")),
        ];
        assert_eq!(seen, expected);
        for bad in ["support", "X1=support", "C1/T1=support", "/=support", "C1=Not Good", "=support"] {
            assert!(super::routes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn places_and_times_are_checked() {
        assert_eq!(questions("T1/C2").unwrap().channel, "C2");
        assert!(questions("C2").is_err() && questions("T1/general").is_err());
        assert_eq!(reminder("4h").unwrap(), Duration::from_secs(14_400));
        assert!(reminder("10s").is_err() && reminder("soon").is_err());
    }
}
