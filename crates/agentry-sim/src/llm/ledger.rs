//! The simulator's ledger: one JSON line per request, written when the request has ended.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde::Serialize;
use tokio::time::Instant;

use super::ids::Ids;
use super::prompt::{Prompt, TokenCounts};
use crate::clock::{micros, now_us};
use crate::ledger::LineLog;
use crate::server::lock;

/// Lines kept in memory for `GET /sim/ledger`; the file has all of them.
const RECENT_LINES: usize = 10_000;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RequestEnd {
    Completed,
    Failed,
    /// The client disconnected; also the state of a request that has not ended.
    #[default]
    Aborted,
    /// The connection was closed in the middle of the answer.
    Truncated,
    Garbled,
    Broken,
    Html,
    Hung,
    Disconnected,
    Stopped,
}

#[derive(Debug, Default, Serialize)]
struct LedgerLine {
    n: u64,
    protocol: &'static str,
    /// The provider's id of the call as sent to the client; empty when none was sent.
    provider_id: String,
    /// `x-request-id` or `x-client-request-id` of the request.
    request_id: String,
    model: String,
    input_tokens: u64,
    cached_tokens: u64,
    cache_write_tokens: u64,
    output_tokens: u64,
    reasoning_tokens: u64,
    /// Pieces of reasoning that the request returned as they were made.
    thinking_equal: u64,
    /// Pieces of reasoning that the request changed, or returned after something else.
    thinking_altered: u64,
    /// Pieces of reasoning that the request left out.
    thinking_missing: u64,
    /// The provider's words when the request breaks one of its rules.
    refusal: Option<String>,
    /// HTTP status; 0 when none was sent.
    status: u16,
    /// `Retry-After` of the response, in seconds.
    retry_after: Option<u64>,
    end: RequestEnd,
    /// The request asked for a stream.
    stream: bool,
    /// Arrival, in microseconds since the Unix epoch.
    t_us: u64,
    /// Microseconds from arrival to the first content sent.
    first_us: Option<u64>,
    end_us: u64,
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Stats {
    /// Requests that have ended.
    pub requests: u64,
    /// Requests with a complete answer.
    pub completed: u64,
    /// Requests that ended in any other way.
    pub failed: u64,
    /// Input tokens of requests with a complete answer.
    pub input_tokens: u64,
    /// Output tokens of complete answers.
    pub output_tokens: u64,
    /// The part of `input_tokens` that was read from the cache.
    pub cached_tokens: u64,
    /// Requests that break a rule of the provider; they are part of `failed`.
    pub refused: u64,
    /// Pieces of reasoning that requests returned as they were made.
    pub thinking_equal: u64,
    /// Pieces of reasoning that requests changed, or returned after something else.
    pub thinking_altered: u64,
    /// Pieces of reasoning that requests left out.
    pub thinking_missing: u64,
}

#[derive(Debug)]
pub(super) struct Ledger {
    lines: Mutex<LineLog>,
    stats: Mutex<Stats>,
}

impl Ledger {
    pub(super) fn open(path: Option<&Path>) -> io::Result<Self> {
        Ok(Self { lines: Mutex::new(LineLog::open(path, RECENT_LINES)?), stats: Mutex::default() })
    }

    fn write(&self, line: &LedgerLine) {
        lock(&self.stats).add(line);
        let mut text = match serde_json::to_string(line) {
            Ok(text) => text,
            Err(error) => return tracing::error!(%error, "a ledger line cannot be written"),
        };
        text.push('\n');
        lock(&self.lines).append(text);
    }

    pub(super) fn recent(&self) -> String {
        lock(&self.lines).recent()
    }

    pub(super) fn stats(&self) -> Stats {
        *lock(&self.stats)
    }
}

impl Stats {
    fn add(&mut self, line: &LedgerLine) {
        self.requests += 1;
        if line.end == RequestEnd::Completed {
            self.completed += 1;
            self.input_tokens += line.input_tokens;
            self.output_tokens += line.output_tokens;
            self.cached_tokens += line.cached_tokens;
        } else {
            self.failed += 1;
        }
        self.refused += u64::from(line.refusal.is_some());
        self.thinking_equal += line.thinking_equal;
        self.thinking_altered += line.thinking_altered;
        self.thinking_missing += line.thinking_missing;
    }
}

/// The pending ledger line of a request. When it is dropped before it is written, the client has disconnected.
#[derive(Debug)]
pub(super) struct LedgerEntry {
    ledger: Arc<Ledger>,
    began: Instant,
    line: Option<LedgerLine>,
}

impl LedgerEntry {
    /// Starts the line of a request that has just arrived.
    pub(super) fn begin(ledger: Arc<Ledger>, protocol: &'static str, ids: Ids, request_id: &str) -> Self {
        let (n, request_id, t_us) = (ids.n, request_id.to_owned(), now_us());
        let line = LedgerLine { n, protocol, request_id, t_us, ..LedgerLine::default() };
        Self { ledger, began: Instant::now(), line: Some(line) }
    }

    pub(super) fn began(&self) -> Instant {
        self.began
    }

    pub(super) fn set_request(&mut self, prompt: &Prompt<'_>, counts: &TokenCounts) {
        if let Some(line) = &mut self.line {
            prompt.model.as_ref().clone_into(&mut line.model);
            line.stream = prompt.stream;
            let returned = prompt.returned;
            (line.thinking_equal, line.thinking_altered, line.thinking_missing) =
                (returned.equal, returned.altered, returned.missing);
            (line.input_tokens, line.cached_tokens, line.cache_write_tokens) =
                (counts.input, counts.cached, counts.written);
        }
    }

    pub(super) fn head(&mut self, status: u16, provider_id: String) {
        if let Some(line) = &mut self.line {
            (line.status, line.provider_id) = (status, provider_id);
        }
    }

    /// Notes that the request breaks a rule of the provider.
    pub(super) fn set_refusal(&mut self, message: &str) {
        if let Some(line) = &mut self.line {
            line.refusal = Some(message.to_owned());
        }
    }

    pub(super) fn set_retry_after(&mut self, seconds: Option<u64>) {
        if let Some(line) = &mut self.line {
            line.retry_after = seconds;
        }
    }

    /// Adds sent tokens, of which `reasoning` were reasoning.
    pub(super) fn sent(&mut self, tokens: u64, reasoning: u64) {
        let now = micros(self.began.elapsed());
        if let Some(line) = &mut self.line {
            line.output_tokens += tokens;
            line.reasoning_tokens += reasoning;
            if tokens > reasoning && line.first_us.is_none() {
                line.first_us = Some(now);
            }
        }
    }

    /// Writes the line, once.
    pub(super) fn end(&mut self, end: RequestEnd) {
        if let Some(mut line) = self.line.take() {
            (line.end, line.end_us) = (end, micros(self.began.elapsed()));
            self.ledger.write(&line);
        }
    }
}

impl Drop for LedgerEntry {
    fn drop(&mut self) {
        self.end(RequestEnd::Aborted);
    }
}
