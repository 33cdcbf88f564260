//! Text to values of settings; errors say what was expected.

use std::str::FromStr;
use std::time::Duration;

use agentry_core::agent::{ExecutionMode, ModeSet};

use super::Role;
use crate::problem::{did_you_mean, one_of};

/// The longest drain, in seconds: an orchestrator that waits longer has given up on the process.
const MAX_DRAIN_SECONDS: f64 = 86_400.0;

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

/// An HTTP address, without the slash at its end.
pub(super) fn web_address(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') => Ok(text.trim_end_matches('/').to_owned()),
        _ => Err("expected http://… or https://…".to_owned()),
    }
}
