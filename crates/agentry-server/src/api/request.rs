//! Validation of task requests: the hot path of `POST /v1/tasks` and of batches.

use std::time::Duration;

use agentry_api::TaskRequest;
use agentry_core::money::NanoUsd;
use agentry_core::session::MAX_SESSION_KEY_BYTES;
use agentry_core::task::{DEFAULT_TIMEOUT, IdempotencyKey, MAX_TIMEOUT, Submission, TaskSource};
use agentry_core::trace::Trace;
use agentry_intake::{Order, Refusal, UnavailableAgent};
use axum::http::Uri;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::problem::{ApiProblem, ApiResult, Code, did_you_mean};
use crate::state::AppState;

/// The longest callback URL, in bytes.
const MAX_URL_BYTES: usize = 2_048;
/// The longest idempotency key, in bytes.
pub(crate) const MAX_KEY_BYTES: usize = 255;

/// Validates everything that does not depend on the agents. `key` is the idempotency key of the header; it takes
/// precedence over the one in the body.
pub(crate) fn order(request: TaskRequest<'_>, trace: Trace, key: Option<String>) -> ApiResult<Order> {
    request.session.as_deref().map(check_session_key).transpose()?;
    let timeout = timeout(request.timeout_seconds)?;
    let budget = request.budget.map(budget).transpose()?;
    request.callback_url.as_deref().map(check_url).transpose()?;
    let key = key.or_else(|| request.idempotency_key.clone());
    let keyed = |key: String| check_key(&key).map(|()| IdempotencyKey { fingerprint: fingerprint(&request), key });
    let idempotency = key.map(keyed).transpose()?;
    let submission = Submission {
        session: request.session,
        priority: request.priority,
        timeout,
        callback_url: request.callback_url,
        budget,
        stream: request.stream,
        idempotency,
        ..Submission::new(request.input, TaskSource::Api, trace)
    };
    Ok(Order { agent: request.agent.into_owned(), submission })
}

/// Returns the problem of a refused order.
pub(crate) fn refused(state: &AppState, refusal: Refusal) -> ApiProblem {
    match refusal {
        Refusal::Agent(why) => unavailable_agent(state, &why),
        Refusal::NoSessions { .. } => ApiProblem::field("/session", refusal.to_string()),
        Refusal::KeyReused(_) => {
            ApiProblem::new(Code::IdempotencyKeyReused, format!("{refusal}; use a new key for a new request"))
        }
        Refusal::Store(error) => error.into(),
    }
}

/// Returns the problem of an agent that accepts no tasks.
pub(crate) fn unavailable_agent(state: &AppState, why: &UnavailableAgent) -> ApiProblem {
    match why {
        UnavailableAgent::Unknown { name } => {
            let hint = did_you_mean(name, state.fleet().iter().map(|(name, _)| name.as_str()));
            let hint = if hint.is_empty() { "; GET /v1/agents lists them".to_owned() } else { hint };
            ApiProblem::new(Code::UnknownAgent, format!("{why}{hint}"))
        }
        UnavailableAgent::Removed { .. } => ApiProblem::new(Code::UnknownAgent, why.to_string()),
        UnavailableAgent::Disabled { .. } => ApiProblem::new(Code::AgentDisabled, why.to_string()),
        UnavailableAgent::Invalid { .. } => ApiProblem::new(Code::AgentInvalid, why.to_string()),
    }
}

/// Returns the problem of an unknown agent.
pub(crate) fn unknown_agent(state: &AppState, name: &str) -> ApiProblem {
    unavailable_agent(state, &state.intake().deployment().unknown(name))
}

fn check_session_key(key: &str) -> ApiResult<()> {
    if key.is_empty() || key.len() > MAX_SESSION_KEY_BYTES || key.chars().any(char::is_control) {
        let text = format!("a session key has 1 to {MAX_SESSION_KEY_BYTES} bytes and no control characters");
        return Err(ApiProblem::field("/session", text));
    }
    Ok(())
}

/// Returns the timeout of a request, or the default.
pub(crate) fn timeout(seconds: Option<f64>) -> ApiResult<Duration> {
    let most = MAX_TIMEOUT.as_secs_f64();
    match seconds {
        None => Ok(DEFAULT_TIMEOUT),
        Some(seconds) if (0.001..=most).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        Some(seconds) => {
            Err(ApiProblem::field("/timeout_seconds", format!("is {seconds}: use 0.001 to {most} seconds")))
        }
    }
}

fn budget(raw: &RawValue) -> ApiResult<NanoUsd> {
    let text = raw.get();
    // A string without escapes or a number: the text is parsed exactly, without floating point.
    let amount = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    NanoUsd::parse_usd(amount).map_err(|error| ApiProblem::field("/budget", error.to_string()))
}

fn check_url(url: &str) -> ApiResult<()> {
    let bad = |why: &str| {
        Err(ApiProblem::field("/callback_url", format!("{why}; use a URL such as https://example.com/hook")))
    };
    if url.len() > MAX_URL_BYTES {
        return bad("it has more than 2,048 bytes");
    }
    match url.parse::<Uri>() {
        Ok(uri) if !matches!(uri.scheme_str(), Some("http" | "https")) => bad("it is not an http or https URL"),
        Ok(uri) if uri.host().is_none_or(str::is_empty) => bad("it has no host"),
        Ok(_) => Ok(()),
        Err(error) => bad(&format!("it is not a URL ({error})")),
    }
}

fn check_key(key: &str) -> ApiResult<()> {
    if key.is_empty() || key.len() > MAX_KEY_BYTES || !key.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        let text = format!("an idempotency key has 1 to {MAX_KEY_BYTES} printable ASCII characters");
        return Err(ApiProblem::field("/idempotency_key", text));
    }
    Ok(())
}

/// Returns a hash of a request that is independent of the order of fields, and stable across versions and machines.
fn fingerprint(request: &TaskRequest<'_>) -> u64 {
    let mut hash = Fnv::default();
    hash.text(&request.agent);
    hash.value(&request.input);
    hash.text(request.session.as_deref().unwrap_or("\0"));
    hash.bytes(&[request.priority as u8]);
    hash.bytes(&request.timeout_seconds.unwrap_or(0.0).to_be_bytes());
    hash.text(request.callback_url.as_deref().unwrap_or("\0"));
    hash.text(request.budget.map_or("\0", RawValue::get));
    hash.0
}

/// FNV-1a, 64 bits.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// Hashes a text with its length, so that adjacent texts cannot be confused.
    fn text(&mut self, text: &str) {
        self.bytes(&(text.len() as u64).to_be_bytes());
        self.bytes(text.as_bytes());
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.bytes(b"n"),
            Value::Bool(flag) => self.bytes(&[b'b', u8::from(*flag)]),
            Value::Number(number) => self.text(&number.to_string()),
            Value::String(text) => {
                self.bytes(b"s");
                self.text(text);
            }
            Value::Array(items) => {
                self.bytes(b"a");
                items.iter().for_each(|item| self.value(item));
                self.bytes(b"]");
            }
            Value::Object(fields) => {
                let mut names: Vec<&String> = fields.keys().collect();
                names.sort_unstable();
                self.bytes(b"o");
                for name in names {
                    self.text(name);
                    self.value(&fields[name]);
                }
                self.bytes(b"}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> TaskRequest<'_> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_fingerprint_ignores_order_and_nothing_else() {
        let base = fingerprint(&read(r#"{"agent":"a","input":{"x":1,"y":["z"]}}"#));
        assert_eq!(base, fingerprint(&read(r#"{ "input": {"y":["z"], "x":1}, "agent":"a" }"#)));
        for other in [
            r#"{"agent":"b","input":{"x":1,"y":["z"]}}"#,
            r#"{"agent":"a","input":{"x":2,"y":["z"]}}"#,
            r#"{"agent":"a","input":{"x":1,"y":[["z"]]}}"#,
            r#"{"agent":"a","input":{"x":1,"y":["z"]},"priority":"high"}"#,
            r#"{"agent":"a","input":{"x":1,"y":["z"]},"session":"s"}"#,
            r#"{"agent":"a","input":{"x":1,"y":["z"]},"budget":0.1}"#,
        ] {
            assert_ne!(base, fingerprint(&read(other)), "{other}");
        }
    }

    #[test]
    fn budgets_are_read_from_their_text() {
        for (text, nanos) in [("0.1", 100_000_000), ("\"0.000000001\"", 1), ("12", 12_000_000_000)] {
            let raw = RawValue::from_string(text.to_owned()).unwrap();
            assert_eq!(budget(&raw).unwrap(), NanoUsd(nanos));
        }
        for text in ["-1", "1e3", "true", "\"a lot\"", "{}"] {
            let raw = RawValue::from_string(text.to_owned()).unwrap();
            assert_eq!(budget(&raw).unwrap_err().code, Code::InvalidRequest, "{text}");
        }
    }

    #[test]
    fn callbacks_go_to_http_only() {
        assert!(check_url("https://example.com/hook?x=1").is_ok());
        for bad in ["ftp://example.com", "/hook", "example.com", "http://", "https:// x", "file:///etc/passwd"] {
            assert!(check_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn timeouts_have_bounds() {
        assert_eq!(timeout(None).unwrap(), Duration::from_secs(300));
        assert_eq!(timeout(Some(0.5)).unwrap(), Duration::from_millis(500));
        for bad in [0.0, -1.0, 86_401.0, f64::NAN, f64::INFINITY] {
            assert!(timeout(Some(bad)).is_err(), "{bad}");
        }
    }
}
