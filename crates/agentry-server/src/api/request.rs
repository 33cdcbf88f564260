//! The door: from a request to a checked [`Task`]. The hot path of every way in.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use agentry_core::agent::{AgentName, AgentSpec, ExecutionMode};
use agentry_core::fleet::Fleet;
use agentry_core::id::TaskId;
use agentry_core::money::NanoUsd;
use agentry_core::session::{MAX_SESSION_KEY_BYTES, SessionId};
use agentry_core::task::{DEFAULT_TIMEOUT, MAX_TIMEOUT, Priority, Task, TaskSource};
use agentry_core::time::Timestamp;
use agentry_core::trace::Trace;
use agentry_store::{NewTask, Refused};
use axum::http::Uri;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::problem::{Answer, Code, Problem, did_you_mean};

/// The longest callback URL, in bytes.
const MAX_URL_BYTES: usize = 2_048;
/// The longest idempotency key, in bytes.
pub(crate) const MAX_KEY_BYTES: usize = 255;

/// What a caller asks for. Borrows from the body where the body allows it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "a task: an object with `agent` and `input`")]
pub(crate) struct TaskRequest<'a> {
    /// Who is to do it.
    #[serde(borrow)]
    #[schema(value_type = String)]
    pub(crate) agent: Cow<'a, str>,
    /// What is asked: text or any JSON value.
    pub(crate) input: Value,
    /// The conversation it belongs to (continuous agents only); a new one when absent. At most 256 bytes.
    #[serde(default)]
    pub(crate) session: Option<String>,
    /// Which of the waiting tasks goes first: `low`, `normal` (default) or `high`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) priority: Priority,
    /// Running time it is given, in seconds: above 0, at most 86,400; 300 when absent.
    #[serde(default)]
    pub(crate) timeout_seconds: Option<f64>,
    /// Where to post the outcome, signed: http or https.
    #[serde(default)]
    pub(crate) callback_url: Option<String>,
    /// The most that its model calls may cost together, in US dollars: a number or a string, read exactly, with at
    /// most nine decimals.
    #[serde(default, borrow)]
    #[schema(value_type = Option<String>)]
    pub(crate) budget: Option<&'a RawValue>,
    /// Whether you will follow `/v1/tasks/{id}/events`: the model's answers then stream from the first call on.
    #[serde(default)]
    pub(crate) stream: bool,
    /// The same key with the same request is the same task for 24 h. The `Idempotency-Key` header wins.
    #[serde(default)]
    pub(crate) idempotency_key: Option<String>,
}

/// The agents as of one moment, for one request. Remembers the agent it looked up last: the tasks of a batch are
/// often for the same one.
pub(crate) struct Door<'f> {
    fleet: &'f Fleet,
    now: Timestamp,
    last: Option<&'f Arc<AgentSpec>>,
}

impl<'f> Door<'f> {
    pub(crate) fn new(fleet: &'f Fleet, now: Timestamp) -> Self {
        Self { fleet, now, last: None }
    }

    /// Checks a request and makes a task of it. `key` is the idempotency key of the request.
    pub(crate) fn admit(&mut self, request: TaskRequest<'_>, trace: Trace, key: Option<String>) -> Answer<NewTask> {
        let spec = self.agent(&request.agent)?;
        let timeout_ms = timeout_ms(request.timeout_seconds)?;
        let budget = request.budget.map(budget).transpose()?;
        request.callback_url.as_deref().map(check_url).transpose()?;
        let key = key.or_else(|| request.idempotency_key.clone());
        let idempotency = key.map(|key| check_key(&key).map(|()| (key, fingerprint(&request)))).transpose()?;
        let id = TaskId::generate();
        let session = session_of(spec, request.session.as_deref(), id)?;
        let task = Task {
            id,
            agent: spec.name.clone(),
            mode: spec.mode,
            input: request.input,
            session,
            priority: request.priority,
            source: TaskSource::Api,
            trace_id: trace.id,
            parent: trace.parent,
            created_at: self.now,
            timeout_ms,
            callback_url: request.callback_url,
            reply_to: None,
            budget,
            stream: request.stream,
            hops: 0,
        };
        Ok(NewTask { task: Arc::new(task), idempotency, ready_at: None })
    }

    fn agent(&mut self, name: &str) -> Answer<&'f Arc<AgentSpec>> {
        if let Some(spec) = self.last.filter(|spec| spec.name.as_str() == name) {
            return Ok(spec);
        }
        let spec = live_agent(self.fleet, name)?;
        self.last = Some(spec);
        Ok(spec)
    }
}

/// The live version of an agent that takes tasks.
pub(crate) fn live_agent<'f>(fleet: &'f Fleet, name: &str) -> Answer<&'f Arc<AgentSpec>> {
    let Some(entry) = fleet.entry(name) else { return Err(unknown_agent(fleet, name)) };
    match (&entry.spec, &entry.error) {
        (Some(spec), _) if spec.enabled => Ok(spec),
        (Some(_), _) => Err(Problem::new(
            Code::AgentDisabled,
            format!("agent `{name}` is disabled; set `enabled: true` in {}", entry.file),
        )),
        (None, error) => {
            let reason = error.as_deref().unwrap_or("its file has no good version");
            Err(Problem::new(Code::AgentInvalid, format!("agent `{name}` is invalid: {reason}")))
        }
    }
}

/// The answer to a name that no agent has.
pub(crate) fn unknown_agent(fleet: &Fleet, name: &str) -> Problem {
    let shown: String = name.chars().take(80).collect();
    let hint = did_you_mean(&shown, fleet.iter().map(|(name, _)| name.as_str()));
    let hint = if hint.is_empty() { "; GET /v1/agents lists them".to_owned() } else { hint };
    Problem::new(Code::UnknownAgent, format!("no agent is called `{shown}`{hint}"))
}

/// The session of a task: the caller's, or a new conversation under the task's own id.
pub(crate) fn session_of(spec: &AgentSpec, key: Option<&str>, id: TaskId) -> Answer<Option<SessionId>> {
    match (spec.mode, key) {
        (ExecutionMode::Continuous, Some(key)) => {
            check_session_key(key)?;
            Ok(Some(SessionId::new(&spec.name, key)))
        }
        (ExecutionMode::Continuous, None) => Ok(Some(SessionId::new(&spec.name, &id.to_string()))),
        (_, None) => Ok(None),
        (mode, Some(_)) => Err(Problem::field(
            "/session",
            format!("agent `{}` is {mode} and keeps no sessions; leave it out", spec.name),
        )),
    }
}

fn check_session_key(key: &str) -> Answer<()> {
    if key.is_empty() || key.len() > MAX_SESSION_KEY_BYTES || key.chars().any(char::is_control) {
        let text = format!("a session key has 1 to {MAX_SESSION_KEY_BYTES} bytes and no control characters");
        return Err(Problem::field("/session", text));
    }
    Ok(())
}

/// A timeout in milliseconds: the caller's within its bounds, or the default.
pub(crate) fn timeout_ms(seconds: Option<f64>) -> Answer<u64> {
    let most = MAX_TIMEOUT.as_secs_f64();
    let timeout = match seconds {
        None => DEFAULT_TIMEOUT,
        Some(seconds) if (0.001..=most).contains(&seconds) => Duration::from_secs_f64(seconds),
        Some(seconds) => {
            return Err(Problem::field("/timeout_seconds", format!("is {seconds}: use 0.001 to {most} seconds")));
        }
    };
    Ok(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX))
}

fn budget(raw: &RawValue) -> Answer<NanoUsd> {
    let text = raw.get();
    // A string without escapes, or a number: in both the text is the amount, and no float ever sees it.
    let amount = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    NanoUsd::parse_usd(amount).map_err(|error| Problem::field("/budget", error.to_string()))
}

fn check_url(url: &str) -> Answer<()> {
    let bad =
        |why: &str| Err(Problem::field("/callback_url", format!("{why}; use a URL such as https://example.com/hook")));
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

fn check_key(key: &str) -> Answer<()> {
    if key.is_empty() || key.len() > MAX_KEY_BYTES || !key.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        let text = format!("an idempotency key has 1 to {MAX_KEY_BYTES} printable ASCII characters");
        return Err(Problem::field("/idempotency_key", text));
    }
    Ok(())
}

/// What a refusal of the store means to a caller.
pub(crate) fn refusal(refused: Refused) -> Problem {
    match refused {
        Refused::KeyReused(_) => {
            Problem::new(Code::IdempotencyKeyReused, format!("{refused}; use a new key for a new request"))
        }
        Refused::Store(error) => error.into(),
    }
}

/// A stable hash of what is asked, whatever the order of its fields: the same over versions and machines.
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

    /// With its length, so that two neighbours cannot be read as one.
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

/// A task that continues what another asked: of this agent as it is now, under this trace.
pub(crate) fn task_for(
    spec: &AgentSpec,
    input: Value,
    session: Option<SessionId>,
    source: TaskSource,
    trace: Trace,
    now: Timestamp,
) -> Task {
    Task {
        id: TaskId::generate(),
        agent: AgentName::clone(&spec.name),
        mode: spec.mode,
        input,
        session,
        priority: Priority::Normal,
        source,
        trace_id: trace.id,
        parent: trace.parent,
        created_at: now,
        timeout_ms: u64::try_from(DEFAULT_TIMEOUT.as_millis()).unwrap_or(u64::MAX),
        callback_url: None,
        reply_to: None,
        budget: None,
        stream: false,
        hops: 0,
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
        assert_eq!(timeout_ms(None).unwrap(), 300_000);
        assert_eq!(timeout_ms(Some(0.5)).unwrap(), 500);
        for bad in [0.0, -1.0, 86_401.0, f64::NAN, f64::INFINITY] {
            assert!(timeout_ms(Some(bad)).is_err(), "{bad}");
        }
    }
}
