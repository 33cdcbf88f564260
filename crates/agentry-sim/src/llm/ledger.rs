//! The simulator's own ledger: one line per request, written before it is answered.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// Lines kept in memory for `GET /sim/ledger`; the file has all.
const RECENT_LINES: usize = 10_000;
/// Bytes collected before they are written to the file.
const BUFFER_BYTES: usize = 256 * 1024;

/// One request and how it ended.
#[derive(Debug, Serialize)]
pub(super) struct Line<'a> {
    /// Its number, from 1, in the order of arrival.
    pub(super) n: u64,
    /// `x-request-id` as the client sent it.
    pub(super) request_id: &'a str,
    /// The model asked for.
    pub(super) model: &'a str,
    /// Tokens of the conversation.
    pub(super) input_tokens: u64,
    /// Tokens of the whole answer; none when there was no whole answer.
    pub(super) output_tokens: u64,
    /// The HTTP status; 0 when none is ever sent.
    pub(super) status: u16,
    /// completed, failed, truncated, html or hung.
    pub(super) end: &'a str,
    /// When it arrived, in microseconds since the Unix epoch.
    pub(super) t_us: u64,
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Stats {
    /// Requests that arrived.
    pub requests: u64,
    /// Requests answered whole.
    pub completed: u64,
    /// All others.
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
    file: Option<BufWriter<File>>,
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
        let file = file.transpose()?.map(|file| BufWriter::with_capacity(BUFFER_BYTES, file));
        Ok(Self { lines: Mutex::new(Lines { file, ..Lines::default() }), ..Self::default() })
    }

    /// Writes a line.
    pub(super) fn write(&self, line: &Line<'_>) {
        let whole = line.end == "completed";
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

    /// Hands everything to the operating system.
    pub(super) fn flush(&self) {
        if let Some(file) = &mut self.lines().file
            && let Err(error) = file.flush()
        {
            tracing::error!(%error, "the ledger cannot be written");
        }
    }

    /// The last lines, oldest first.
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
