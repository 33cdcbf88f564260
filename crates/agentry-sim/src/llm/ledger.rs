//! The simulator's own ledger: one line for each request, handed to the operating system when the request has ended.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::time::Instant;

use super::ask::Tally;
use super::ids::Ids;
use crate::clock::{micros, now_us};

/// Lines kept in memory for `GET /sim/ledger`; the file has all.
const RECENT_LINES: usize = 10_000;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum End {
    /// Answered whole.
    Completed,
    /// Answered with an error.
    Failed,
    /// The client went away before the answer was whole.
    Aborted,
    /// Closed in the middle of the answer.
    Truncated,
    /// Something that is no frame, or no JSON, was sent.
    Garbled,
    /// The stream ended with a report of an error.
    Broken,
    /// A page of HTML was sent.
    Html,
    /// Never answered.
    Hung,
    /// Closed before anything was answered.
    Disconnected,
    /// The simulator ended first.
    Stopped,
}

/// One request and how it ended.
#[derive(Debug, Serialize)]
struct Line {
    /// Its number, from 1, in the order of arrival.
    n: u64,
    /// openai, anthropic, bedrock or ollama.
    protocol: &'static str,
    /// The provider's id of the call as the client was told it; empty where it was told none.
    provider_id: String,
    /// `x-request-id` or `x-client-request-id` as the client sent it.
    request_id: String,
    /// The model asked for.
    model: String,
    /// Tokens of the conversation, those of the cache included.
    input_tokens: u64,
    /// Of those, read from the cache.
    cached_tokens: u64,
    /// Of those, written to the cache.
    cache_write_tokens: u64,
    /// Tokens of the answer that were sent: all of them when it was completed.
    output_tokens: u64,
    /// Of those, reasoned.
    reasoning_tokens: u64,
    /// The HTTP status; 0 when none was ever sent.
    status: u16,
    /// When the client was told to come back, in seconds, where it was.
    retry_after: Option<u64>,
    /// How it ended.
    end: End,
    /// Whether a stream was asked for.
    stream: bool,
    /// When it arrived, in microseconds since the Unix epoch.
    t_us: u64,
    /// Microseconds from there to the first content that was sent, when there was any.
    first_us: Option<u64>,
    /// Microseconds from there to the end.
    end_us: u64,
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Stats {
    /// Requests that have ended.
    pub requests: u64,
    /// Requests answered whole.
    pub completed: u64,
    /// All others that have ended.
    pub failed: u64,
    /// Tokens of conversations that were answered whole.
    pub input_tokens: u64,
    /// Tokens of whole answers.
    pub output_tokens: u64,
}

/// The ledger: a file, the last lines in memory, and sums.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    lines: Mutex<Lines>,
    completed: AtomicU64,
    failed: AtomicU64,
    input_tokens: AtomicU64,
    output_tokens: AtomicU64,
}

#[derive(Debug, Default)]
struct Lines {
    file: Option<File>,
    recent: VecDeque<String>,
}

impl Ledger {
    /// A ledger that appends to `path`, or keeps nothing but what memory holds.
    pub(super) fn open(path: Option<&Path>) -> io::Result<Self> {
        let file = path.map(|path| {
            let file = File::options().create(true).append(true).open(path);
            file.map_err(|error| {
                io::Error::new(error.kind(), format!("cannot open the ledger {}: {error}", path.display()))
            })
        });
        Ok(Self { lines: Mutex::new(Lines { file: file.transpose()?, ..Lines::default() }), ..Self::default() })
    }

    fn write(&self, line: &Line) {
        let whole = line.end == End::Completed;
        let add = |counter: &AtomicU64, by: u64| counter.fetch_add(by, Ordering::Relaxed);
        add(if whole { &self.completed } else { &self.failed }, 1);
        if whole {
            add(&self.input_tokens, line.input_tokens);
            add(&self.output_tokens, line.output_tokens);
        }
        let mut text = match serde_json::to_string(line) {
            Ok(text) => text,
            Err(error) => return tracing::error!(%error, "a ledger line cannot be written"),
        };
        text.push('\n');
        let mut lines = self.lines();
        // One write for each line, unbuffered: what the operating system has survives a kill -9 of the simulator.
        if let Some(file) = &mut lines.file
            && let Err(error) = file.write_all(text.as_bytes())
        {
            tracing::error!(%error, "the ledger cannot be written");
        }
        if lines.recent.len() == RECENT_LINES {
            lines.recent.pop_front();
        }
        lines.recent.push_back(text);
    }

    /// The last lines, in the order in which requests ended.
    pub(super) fn recent(&self) -> String {
        self.lines().recent.iter().map(String::as_str).collect()
    }

    /// The sums.
    pub(super) fn stats(&self) -> Stats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (completed, failed) = (load(&self.completed), load(&self.failed));
        Stats {
            requests: completed + failed,
            completed,
            failed,
            input_tokens: load(&self.input_tokens),
            output_tokens: load(&self.output_tokens),
        }
    }

    /// A panic elsewhere leaves whole lines only, so the ledger goes on.
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The line of a request that has not ended yet. When it is dropped first, the client has gone away.
#[derive(Debug)]
pub(super) struct Entry {
    ledger: Arc<Ledger>,
    began: Instant,
    line: Option<Line>,
}

impl Entry {
    /// The line of a request that arrives now.
    pub(super) fn begin(ledger: Arc<Ledger>, protocol: &'static str, ids: Ids, request_id: &str) -> Self {
        let line = Line {
            n: ids.n,
            protocol,
            provider_id: String::new(),
            request_id: request_id.to_owned(),
            model: String::new(),
            input_tokens: 0,
            cached_tokens: 0,
            cache_write_tokens: 0,
            output_tokens: 0,
            reasoning_tokens: 0,
            status: 0,
            retry_after: None,
            end: End::Aborted,
            stream: false,
            t_us: now_us(),
            first_us: None,
            end_us: 0,
        };
        Self { ledger, began: Instant::now(), line: Some(line) }
    }

    /// When it arrived.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// What was asked.
    pub(super) fn asked(&mut self, model: &str, stream: bool, tally: &Tally) {
        if let Some(line) = &mut self.line {
            model.clone_into(&mut line.model);
            line.stream = stream;
            (line.input_tokens, line.cached_tokens, line.cache_write_tokens) =
                (tally.input, tally.cached, tally.written);
        }
    }

    /// The head of the response is on its way, with this status and the provider's id.
    pub(super) fn head(&mut self, status: u16, provider_id: String) {
        if let Some(line) = &mut self.line {
            (line.status, line.provider_id) = (status, provider_id);
        }
    }

    /// The client was told to come back in so many seconds.
    pub(super) fn come_back(&mut self, seconds: Option<u64>) {
        if let Some(line) = &mut self.line {
            line.retry_after = seconds;
        }
    }

    /// So many more tokens of the answer are on their way; of those, so many were reasoned.
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
    pub(super) fn end(&mut self, end: End) {
        if let Some(mut line) = self.line.take() {
            (line.end, line.end_us) = (end, micros(self.began.elapsed()));
            self.ledger.write(&line);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.end(End::Aborted);
    }
}
