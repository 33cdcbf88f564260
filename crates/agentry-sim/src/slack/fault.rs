//! What can go wrong on purpose when the Web API or a `response_url` is called.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What stands for every method.
const ANY: &str = "*";
/// The error of `fail` when no other is named.
const DEFAULT_ERROR: &str = "internal_error";

/// Something that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlackFault {
    /// `{"ok": false, "error": …}`.
    Fail,
    /// This HTTP status.
    Status(u16),
    /// 429 with `Retry-After: 1`.
    Ratelimit,
    /// No answer, ever, and nothing is done.
    Hang,
    /// It is done, and the connection closed before the answer.
    Lose,
}

/// A fault, where, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultRule {
    /// A Web API method, `response_url`, or `*`.
    pub method: String,
    /// What goes wrong.
    pub fault: SlackFault,
    /// How often still; always without.
    pub times: Option<u32>,
    /// The error of [`SlackFault::Fail`].
    pub error: String,
}

/// A fault as `POST /sim/faults` takes it.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    method: String,
    kind: String,
    times: Option<u32>,
    error: Option<String>,
}

impl Wanted {
    /// The rule that is meant.
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

    /// `METHOD=KIND[*N]`, such as `chat.postMessage=lose*1`.
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
        Wanted { method: method.to_owned(), kind: word.to_owned(), times, error: None }.rule()
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

/// The fault that hits a call of this method, if any; counts it.
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
