//! A caller that writes down what it asks before it asks, and what it was promised.

use std::collections::BTreeSet;

use serde_json::json;

use crate::check::{History, HistoryError, OperationKind};
use crate::load::{Answer, Caller, Outcome, by_status, put_post};

/// Asks for tasks under idempotency keys.
pub(super) struct KeyedTaskCaller {
    host: String,
    agent: String,
    call_ms: u32,
    pub history: History,
    /// Keys that were sent.
    pub attempts: BTreeSet<String>,
    /// Keys that were acknowledged.
    pub acknowledged: BTreeSet<String>,
    /// Keys whose outcome nobody knows.
    pub unknown: BTreeSet<String>,
    /// Error that kept the history from being written.
    pub trouble: Option<HistoryError>,
}

impl KeyedTaskCaller {
    /// Tasks of an agent, each with one call that takes so many milliseconds.
    pub fn new(host: &str, agent: &str, call_ms: u32, history: History) -> Self {
        let (attempts, acknowledged, unknown) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let (host, agent) = (host.to_owned(), agent.to_owned());
        Self { host, agent, call_ms, history, attempts, acknowledged, unknown, trouble: None }
    }

    /// The body of the request with a key.
    pub fn body(agent: &str, call_ms: u32, key: &str) -> String {
        format!("{{\"agent\":\"{agent}\",\"input\":\"{key} [[sleep:{call_ms}]]\"}}")
    }

    fn note(&mut self, kind: OperationKind, key: &str) {
        if let Err(error) = self.history.note(kind, "caller", "submit", &json!(key)) {
            self.trouble.get_or_insert(error);
        }
    }
}

fn key_of(number: u64) -> String {
    format!("k{number:08}")
}

impl Caller for KeyedTaskCaller {
    fn request(&mut self, number: u64, _: u64, out: &mut Vec<u8>) {
        let key = key_of(number);
        self.note(OperationKind::Invoke, &key);
        let body = Self::body(&self.agent, self.call_ms, &key);
        put_post(out, &self.host, "/v1/tasks", &[("idempotency-key", &key)], body.as_bytes());
        self.attempts.insert(key);
    }

    fn judge(&mut self, answer: &Answer<'_>) -> Outcome {
        let (outcome, key) = (by_status(answer.status), key_of(answer.number));
        match outcome {
            Outcome::Ok => {
                self.note(OperationKind::Ok, &key);
                self.acknowledged.insert(key);
            }
            Outcome::Refused => self.note(OperationKind::Fail, &key),
            Outcome::Failed(_) => self.unknown(answer.number),
        }
        outcome
    }

    fn unknown(&mut self, number: u64) {
        let key = key_of(number);
        self.note(OperationKind::Info, &key);
        self.attempts.insert(key.clone());
        self.unknown.insert(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_connection_is_an_unknown_outcome_and_no_failure() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("h");
        let mut caller = KeyedTaskCaller::new("h", "a", 5, History::create(&path).unwrap());
        let mut out = Vec::new();
        caller.request(1, 0, &mut out);
        caller.request(2, 0, &mut out);
        caller.unknown(1);
        let answer = Answer { number: 2, status: 202, body: b"", intended: 0, received: 1 };
        assert_eq!(caller.judge(&answer), Outcome::Ok);
        assert_eq!((caller.attempts.len(), caller.acknowledged.len(), caller.unknown.len()), (2, 1, 1));
        caller.history.end().unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains("\"info\"") && text.lines().count() == 4, "{text}");
    }
}
