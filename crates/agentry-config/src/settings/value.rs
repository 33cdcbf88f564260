//! Text to values of settings; errors say what was expected.

use std::str::FromStr;
use std::time::Duration;

use agentry_core::agent::{ExecutionMode, ModeSet};
use secrecy::SecretString;

use super::Role;
use crate::problem::{did_you_mean, one_of};

/// The longest drain, in seconds: an orchestrator that waits longer has given up on the process.
const MAX_DRAIN_SECONDS: f64 = 86_400.0;
/// The shortest retention: the API promises to know an idempotency key for a day.
const MIN_RETENTION: Duration = Duration::from_secs(86_400);
/// The longest retention: ten years.
const MAX_RETENTION: Duration = Duration::from_secs(10 * 365 * 86_400);
/// The longest name of a schema or a prefix: what is appended to it must fit into PostgreSQL's 63 bytes.
const MAX_NAME_BYTES: usize = 40;

/// One of a few words.
pub(super) fn choice<T: Copy>(text: &str, words: &[(&'static str, T)]) -> Result<T, String> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let expected = format!("expected {}", one_of(&names));
    Err(match did_you_mean(text, names.iter().copied()) {
        Some(near) => format!("{expected}; did you mean `{near}`?"),
        None => expected,
    })
}

/// Several of a few words, apart by commas.
fn several<T: Copy>(text: &str, words: &[(&'static str, T)]) -> Result<Vec<T>, String> {
    text.split(',').map(str::trim).map(|word| choice(word, words)).collect()
}

/// Names of hosts, by commas, without ports.
pub(super) fn hosts(text: &str) -> Result<Vec<String>, String> {
    let good =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'));
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_ascii_lowercase()).collect();
    match names.iter().all(|name| good(name)) {
        true => Ok(names),
        false => Err("expected names of hosts by commas, without ports, such as agents.example.com".to_owned()),
    }
}

pub(super) fn roles(text: &str) -> Result<Vec<Role>, String> {
    let mut roles = several(text, &Role::ALL.map(|role| (role.as_str(), role)))?;
    roles.sort_unstable();
    roles.dedup();
    Ok(roles)
}

pub(super) fn modes(text: &str) -> Result<ModeSet, String> {
    several(text, &ExecutionMode::ALL.map(|mode| (mode.as_str(), mode))).map(ModeSet::from)
}

/// A whole number within bounds.
pub(super) fn number<T: FromStr + PartialOrd + std::fmt::Display>(text: &str, low: T, high: T) -> Result<T, String> {
    let expected = format!("expected a whole number from {low} to {high}");
    text.parse().ok().filter(|value| (&low..=&high).contains(&value)).ok_or(expected)
}

/// A number of bytes, also with KiB, MiB or GiB.
pub(super) fn bytes(text: &str) -> Result<usize, String> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
    let (digits, shift) = units
        .iter()
        .find_map(|(unit, shift)| text.strip_suffix(unit).map(|rest| (rest.trim_end(), *shift)))
        .unwrap_or((text, 0));
    let value = digits.parse::<usize>().ok().and_then(|value| value.checked_mul(1 << shift)).filter(|value| *value > 0);
    value.ok_or_else(|| "expected a number of bytes such as 1048576 or 1MiB".to_owned())
}

/// A number of seconds.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let value = text.parse::<f64>().ok().filter(|value| (0.0..=MAX_DRAIN_SECONDS).contains(value));
    value.map(Duration::from_secs_f64).ok_or_else(|| "expected seconds, from 0 to 86400".to_owned())
}

/// A number of seconds that is more than none.
pub(super) fn some_seconds(text: &str) -> Result<Duration, String> {
    let some = seconds(text).ok().filter(|time| !time.is_zero());
    some.ok_or_else(|| "expected seconds, more than 0 and up to 86400".to_owned())
}

/// The name of an AWS region.
pub(super) fn region(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_one = !text.is_empty() && text.len() <= MAX_NAME_BYTES && text.chars().all(fits);
    if is_one { Ok(text.to_owned()) } else { Err("expected a region such as eu-central-1".to_owned()) }
}

/// Where Ollama is: a URL, or host and port as Ollama's own variable has them. What it listens on is not always where it
/// can be reached.
pub(super) fn ollama_host(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.starts_with("http://") || text.starts_with("https://") {
        return web_address(text);
    }
    let (host, port) = text.rsplit_once(':').map_or((text, "11434"), |(host, port)| (host, port));
    let host = if host.is_empty() || host == "0.0.0.0" { "127.0.0.1" } else { host };
    if port.parse::<u16>().is_err() || host.contains(['/', ' ']) {
        return Err("expected http://host:port or host:port".to_owned());
    }
    Ok(format!("http://{host}:{port}"))
}

/// An HTTP address, without the slash at its end.
pub(super) fn web_address(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') => Ok(text.trim_end_matches('/').to_owned()),
        _ => Err("expected http://… or https://…".to_owned()),
    }
}

/// A time with its unit: minutes, hours or days; a bare number is seconds.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];
    let (digits, scale) =
        units.iter().find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, *scale))).unwrap_or((text, 1));
    let value = digits.parse::<u64>().ok().and_then(|value| value.checked_mul(scale)).map(Duration::from_secs);
    let expected = || "expected a time of 24h or more, such as 36h or 7d".to_owned();
    value.filter(|value| (MIN_RETENTION..=MAX_RETENTION).contains(value)).ok_or_else(expected)
}

/// A retention, or `None` for `forever`.
pub(super) fn span_or_forever(text: &str) -> Result<Option<Duration>, String> {
    if text == "forever" {
        return Ok(None);
    }
    span(text).map(Some).map_err(|expected| format!("{expected}, or `forever`"))
}

/// The address of a server, which may hold a password: what begins as it must, and has a host.
pub(super) fn server_address(text: &str, (schemes, example): (&[&str], &str)) -> Result<SecretString, String> {
    let rest = schemes.iter().find_map(|scheme| text.strip_prefix(scheme));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') => Ok(text.to_owned().into()),
        _ => Err(format!("expected an address such as {example}")),
    }
}

/// A name that servers take without quotes: a letter, then letters, digits and `also`.
pub(super) fn name(text: &str, also: &str) -> Result<String, String> {
    let fits = text.len() <= MAX_NAME_BYTES
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || also.contains(c));
    if fits {
        return Ok(text.to_owned());
    }
    let also: Vec<String> = also.chars().map(|c| format!("`{c}`")).collect();
    let also = also.join(", ");
    Err(format!("expected a lower-case letter, then at most {} more, digits and {also}", MAX_NAME_BYTES - 1))
}
