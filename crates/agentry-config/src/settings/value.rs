//! Parsers of settings; their errors say what was expected.

use std::str::FromStr;
use std::time::Duration;

use agentry_core::agent::{ExecutionMode, ModeSet};
use secrecy::SecretString;

use super::Role;
use crate::problem::{did_you_mean, one_of};

/// Maximum duration of a drain, in seconds: an orchestrator that waits longer has given up on the process.
const MAX_DRAIN_SECONDS: f64 = 86_400.0;
/// Minimum retention: the API guarantees an idempotency key for a day.
const MIN_RETENTION: Duration = Duration::from_secs(86_400);
/// Maximum retention: ten years.
const MAX_RETENTION: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Maximum length of a schema or prefix: with its suffixes it must fit into PostgreSQL's 63 bytes.
const MAX_NAME_BYTES: usize = 40;

/// The reason why a text is not a value of a setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct InvalidValue(pub String);

/// A value of a setting, or the reason why its text is invalid.
pub(super) type Parsed<T> = Result<T, InvalidValue>;

impl From<String> for InvalidValue {
    fn from(reason: String) -> Self {
        Self(reason)
    }
}

impl From<&str> for InvalidValue {
    fn from(reason: &str) -> Self {
        Self(reason.to_owned())
    }
}

/// Parses one of a few words.
pub(super) fn choice<T: Copy>(text: &str, words: &[(&'static str, T)]) -> Parsed<T> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let expected = format!("expected {}", one_of(&names));
    let near = did_you_mean(text, names.iter().copied());
    Err(near.map_or_else(|| expected.clone(), |near| format!("{expected}; did you mean `{near}`?")).into())
}

/// Parses several of a few words, separated by commas.
fn several<T: Copy>(text: &str, words: &[(&'static str, T)]) -> Parsed<Vec<T>> {
    text.split(',').map(str::trim).map(|word| choice(word, words)).collect()
}

/// Parses host names, separated by commas, without ports.
pub(super) fn hosts(text: &str) -> Parsed<Vec<String>> {
    let good =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'));
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_ascii_lowercase()).collect();
    match names.iter().all(|name| good(name)) {
        true => Ok(names),
        false => Err("expected names of hosts by commas, without ports, such as agents.example.com".into()),
    }
}

pub(super) fn roles(text: &str) -> Parsed<Vec<Role>> {
    let mut roles = several(text, &Role::ALL.map(|role| (role.as_str(), role)))?;
    roles.sort_unstable();
    roles.dedup();
    Ok(roles)
}

pub(super) fn modes(text: &str) -> Parsed<ModeSet> {
    several(text, &ExecutionMode::ALL.map(|mode| (mode.as_str(), mode))).map(ModeSet::from)
}

/// Parses a whole number within bounds.
pub(super) fn number<T: FromStr + PartialOrd + std::fmt::Display>(text: &str, low: T, high: T) -> Parsed<T> {
    let expected = format!("expected a whole number from {low} to {high}");
    text.parse().ok().filter(|value| (&low..=&high).contains(&value)).ok_or(InvalidValue(expected))
}

/// Parses a number of bytes, also in KiB, MiB or GiB.
pub(super) fn bytes(text: &str) -> Parsed<usize> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
    let (digits, shift) = units
        .iter()
        .find_map(|(unit, shift)| text.strip_suffix(unit).map(|rest| (rest.trim_end(), *shift)))
        .unwrap_or((text, 0));
    let value = digits.parse::<usize>().ok().and_then(|value| value.checked_mul(1 << shift)).filter(|value| *value > 0);
    value.ok_or_else(|| "expected a number of bytes such as 1048576 or 1MiB".into())
}

/// Parses a number of seconds.
pub(super) fn seconds(text: &str) -> Parsed<Duration> {
    let value = text.parse::<f64>().ok().filter(|value| (0.0..=MAX_DRAIN_SECONDS).contains(value));
    value.map(Duration::from_secs_f64).ok_or_else(|| "expected seconds, from 0 to 86400".into())
}

/// Parses a number of seconds above zero.
pub(super) fn some_seconds(text: &str) -> Parsed<Duration> {
    let some = seconds(text).ok().filter(|time| !time.is_zero());
    some.ok_or_else(|| "expected seconds, more than 0 and up to 86400".into())
}

/// Parses the name of an AWS region.
pub(super) fn region(text: &str) -> Parsed<String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_one = !text.is_empty() && text.len() <= MAX_NAME_BYTES && text.chars().all(fits);
    if is_one { Ok(text.to_owned()) } else { Err("expected a region such as eu-central-1".into()) }
}

/// Parses the address of Ollama: a URL, or a host and port as in Ollama's own variable. The address it listens on is
/// not always one that it can be reached at.
pub(super) fn ollama_host(text: &str) -> Parsed<String> {
    let text = text.trim();
    if text.starts_with("http://") || text.starts_with("https://") {
        return web_address(text);
    }
    let (host, port) = text.rsplit_once(':').map_or((text, "11434"), |(host, port)| (host, port));
    let host = if host.is_empty() || host == "0.0.0.0" { "127.0.0.1" } else { host };
    if port.parse::<u16>().is_err() || host.contains(['/', ' ']) {
        return Err("expected http://host:port or host:port".into());
    }
    Ok(format!("http://{host}:{port}"))
}

/// Parses an HTTP address, and removes the slash at its end.
pub(super) fn web_address(text: &str) -> Parsed<String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') => Ok(text.trim_end_matches('/').to_owned()),
        _ => Err("expected http://… or https://…".into()),
    }
}

/// Parses a duration with its unit: minutes, hours or days; a bare number is seconds.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let units = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];
    let (digits, scale) =
        units.iter().find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, *scale))).unwrap_or((text, 1));
    digits.parse::<u64>().ok()?.checked_mul(scale).map(Duration::from_secs)
}

/// Parses a retention.
pub(super) fn span(text: &str) -> Parsed<Duration> {
    let value = duration(text).filter(|value| (MIN_RETENTION..=MAX_RETENTION).contains(value));
    value.ok_or_else(|| "expected a time of 24h or more, such as 36h or 7d".into())
}

/// Parses a retention; `None` for `forever`.
pub(super) fn span_or_forever(text: &str) -> Parsed<Option<Duration>> {
    if text == "forever" {
        return Ok(None);
    }
    span(text).map(Some).map_err(|InvalidValue(expected)| format!("{expected}, or `forever`").into())
}

/// Parses the address of a server, which may contain a password.
pub(super) fn server_address(text: &str, (schemes, example): (&[&str], &str)) -> Parsed<SecretString> {
    let rest = schemes.iter().find_map(|scheme| text.strip_prefix(scheme));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') => Ok(text.to_owned().into()),
        _ => Err(format!("expected an address such as {example}").into()),
    }
}

/// Parses a name that servers accept without quotes: a letter, then letters, digits and `also`.
pub(super) fn name(text: &str, also: &str) -> Parsed<String> {
    let fits = text.len() <= MAX_NAME_BYTES
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || also.contains(c));
    if fits {
        return Ok(text.to_owned());
    }
    let also: Vec<String> = also.chars().map(|c| format!("`{c}`")).collect();
    let also = also.join(", ");
    Err(format!("expected a lower-case letter, then at most {} more, digits and {also}", MAX_NAME_BYTES - 1).into())
}
