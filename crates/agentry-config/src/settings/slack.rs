//! Settings of Slack: secrets of apps, tokens of workspaces, and which agent answers where.

use std::time::Duration;

use agentry_core::agent::AgentName;
use agentry_core::slack::SlackPlace;
use secrecy::SecretString;

/// The shortest signing secret and token that are believed: anything shorter is a slip.
const MIN_SECRET_BYTES: usize = 8;
/// The shortest wait before a question is asked again.
const MIN_REMINDER: Duration = Duration::from_secs(60);

/// What a process needs to speak with Slack.
#[derive(Debug, Clone, Default)]
pub struct SlackSettings {
    /// Signing secrets of the apps whose requests are taken; none: none are.
    pub signing_secrets: Vec<SecretString>,
    /// Bot tokens, by workspace or for every workspace; none: nothing is said in Slack.
    pub bot_tokens: Vec<(Option<String>, SecretString)>,
    /// Where the Web API is.
    pub api_url: String,
    /// Which agent answers where; before the agents' own subscriptions.
    pub routes: Vec<SlackRoute>,
    /// Where questions of tasks are asked that did not come from Slack.
    pub questions: Option<SlackPlace>,
    /// After how long an open question is asked again.
    pub reminder: Option<Duration>,
}

impl SlackSettings {
    /// Whether nothing says that there is a Slack.
    #[must_use]
    pub fn is_unset(&self) -> bool {
        self.signing_secrets.is_empty() && self.bot_tokens.is_empty()
    }
}

/// Who answers in a workspace, in a channel, or to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlackRoute {
    /// The workspace; `None`: any.
    pub team: Option<String>,
    /// The channel; `None`: any.
    pub channel: Option<String>,
    /// The command without its slash; `None`: the route is of messages.
    pub command: Option<String>,
    /// Who answers.
    pub agent: AgentName,
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty())
}

/// An id of Slack's: a letter of `kinds`, then capitals and digits.
fn is_id(text: &str, kinds: &str) -> bool {
    text.len() > 1
        && text.starts_with(|first| kinds.contains(first))
        && text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
}

fn secret(text: &str, what: &str) -> Result<SecretString, String> {
    if text.len() < MIN_SECRET_BYTES || text.chars().any(char::is_whitespace) {
        return Err(format!("expected {what} of {MIN_SECRET_BYTES} or more characters, several apart by commas"));
    }
    Ok(text.to_owned().into())
}

pub(super) fn signing_secrets(text: &str) -> Result<Vec<SecretString>, String> {
    words(text).map(|word| secret(word, "signing secrets")).collect()
}

pub(super) fn bot_tokens(text: &str) -> Result<Vec<(Option<String>, SecretString)>, String> {
    words(text)
        .map(|word| match word.split_once('=') {
            Some((team, token)) if is_id(team, "TE") => Ok((Some(team.to_owned()), secret(token, "bot tokens")?)),
            Some(_) => Err("expected a token such as xoxb-…, or T0123ABCD=xoxb-… for one workspace".to_owned()),
            None => Ok((None, secret(word, "bot tokens")?)),
        })
        .collect()
}

pub(super) fn routes(text: &str) -> Result<Vec<SlackRoute>, String> {
    words(text).map(route).collect()
}

fn route(text: &str) -> Result<SlackRoute, String> {
    let expected = || {
        "expected where=agent, where being a workspace (T0123), a channel (C0123), both (T0123/C0456) or a command \
         (/report)"
            .to_owned()
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
                _ => return Err(expected()),
            }
        }
    }
    if team.is_none() && channel.is_none() && command.is_none() {
        return Err(expected());
    }
    Ok(SlackRoute { team, channel, command, agent })
}

pub(super) fn questions(text: &str) -> Result<SlackPlace, String> {
    match text.split_once('/') {
        Some((team, channel)) if is_id(team, "TE") && is_id(channel, "CGD") => Ok(SlackPlace {
            team: team.to_owned(),
            channel: channel.to_owned(),
            thread: None,
            user: None,
            response_url: None,
        }),
        _ => Err("expected a workspace and a channel, such as T0123ABCD/C0456EFGH".to_owned()),
    }
}

pub(super) fn reminder(text: &str) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];
    let (digits, scale) =
        units.iter().find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, *scale))).unwrap_or((text, 1));
    let value = digits.parse::<u64>().ok().and_then(|value| value.checked_mul(scale)).map(Duration::from_secs);
    value.filter(|value| *value >= MIN_REMINDER).ok_or_else(|| "expected a time of 1m or more, such as 4h".to_owned())
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
