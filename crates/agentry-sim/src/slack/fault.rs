//! Faults that are injected into calls of the Web API or a `response_url`.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

const ANY: &str = "*";
const DEFAULT_ERROR: &str = "internal_error";

/// A fault that the Slack simulator injects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlackFault {
    /// Answers `{"ok": false, "error": …}`.
    Fail,
    /// Answers with this HTTP status.
    Status(u16),
    /// Answers 429 with `Retry-After: 1`.
    Ratelimit,
    /// Never answers, and does nothing.
    Hang,
    /// Carries the call out and closes the connection before the answer.
    Lose,
}

/// A fault, the method that it hits, and its remaining uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultRule {
    /// A Web API method, `response_url`, or `*`.
    pub method: String,
    /// Injected fault.
    pub fault: SlackFault,
    /// Remaining uses; unlimited when absent.
    pub times: Option<u32>,
    /// Error code of [`SlackFault::Fail`].
    pub error: String,
}

/// Body of `POST /sim/faults`.
#[derive(Debug, Deserialize)]
pub(super) struct FaultRequest {
    method: String,
    kind: String,
    times: Option<u32>,
    error: Option<String>,
}

impl FaultRequest {
    pub(super) fn rule(self) -> Result<FaultRule, String> {
        let rule = FaultRule {
            method: self.method,
            fault: kind(&self.kind)?,
            times: self.times,
            error: self.error.unwrap_or_else(|| DEFAULT_ERROR.to_owned()),
        };
        if rule.method.is_empty() {
            Err("`method` is empty: name a method, response_url or *".into())
        } else {
            Ok(rule)
        }
    }
}

impl FromStr for FaultRule {
    type Err = String;

    /// Parses `METHOD=KIND[*N]`, such as `chat.postMessage=lose*1`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (method, rest) = text
            .split_once('=')
            .ok_or_else(|| format!("`{text}` is not METHOD=KIND, such as chat.postMessage=lose*1"))?;
        let (word, times) = match rest.split_once('*') {
            None => (rest, None),
            Some((word, times)) => {
                let times = times.parse().map_err(|_| format!("`{times}` in `{text}` is not a number of times"))?;
                (word, Some(times))
            }
        };
        FaultRequest { method: method.to_owned(), kind: word.to_owned(), times, error: None }.rule()
    }
}

fn kind(word: &str) -> Result<SlackFault, String> {
    let status = || word.strip_prefix("status:")?.parse().ok().filter(|status| (400..600).contains(status));
    match word {
        "fail" => Ok(SlackFault::Fail),
        "ratelimit" => Ok(SlackFault::Ratelimit),
        "hang" => Ok(SlackFault::Hang),
        "lose" => Ok(SlackFault::Lose),
        _ => status()
            .map(SlackFault::Status)
            .ok_or_else(|| format!("there is no fault `{word}`: expected fail, status:503, ratelimit, hang or lose")),
    }
}

/// Returns the fault that hits a call of this method and counts the use.
pub(super) fn hit(rules: &mut Vec<FaultRule>, method: &str) -> Option<(SlackFault, String)> {
    let at = rules.iter().position(|rule| rule.method == method || rule.method == ANY)?;
    let rule = &mut rules[at];
    let found = (rule.fault.clone(), rule.error.clone());
    if let Some(times) = &mut rule.times {
        *times = times.saturating_sub(1);
        if *times == 0 {
            rules.remove(at);
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_counted_and_used_up() {
        let mut rules =
            vec!["chat.postMessage=lose*2".parse::<FaultRule>().unwrap(), "*=status:503*1".parse().unwrap()];
        assert_eq!(hit(&mut rules, "views.open"), Some((SlackFault::Status(503), "internal_error".into())));
        assert_eq!(hit(&mut rules, "views.open"), None);
        assert!(hit(&mut rules, "chat.postMessage").is_some() && hit(&mut rules, "chat.postMessage").is_some());
        assert_eq!(rules, []);
        for (text, problem) in
            [("x", "METHOD=KIND"), ("x=explode", "no fault `explode`"), ("x=fail*y", "number of times")]
        {
            assert!(text.parse::<FaultRule>().unwrap_err().contains(problem), "{text}");
        }
    }
}
