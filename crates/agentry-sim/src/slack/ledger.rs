//! The Slack simulator's ledger: every call that came, every attempt to deliver, as JSON Lines with times.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::Value;

/// Lines kept in memory for `GET /sim/ledger`; the file has all.
const RECENT_LINES: usize = 20_000;

/// Counters since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct SlackStats {
    /// Calls of the Web API and of `response_url`s.
    pub calls: u64,
    /// Of those, answered `ok`.
    pub ok: u64,
    /// Of those, answered 429.
    pub rate_limited: u64,
    /// Messages that the app has posted, ephemeral ones included.
    pub posts: u64,
    /// Attempts to deliver something.
    pub attempts: u64,
    /// Things to deliver.
    pub deliveries: u64,
    /// Of those, taken by the target with 2xx in time.
    pub delivered: u64,
    /// Of those, given up.
    pub given_up: u64,
}

/// The ledger.
#[derive(Debug)]
pub(super) struct Ledger {
    lines: Mutex<Lines>,
}

#[derive(Debug)]
struct Lines {
    file: Option<File>,
    recent: VecDeque<String>,
    stats: SlackStats,
    n: u64,
}

impl Ledger {
    /// A ledger that appends to `path`, or keeps nothing but what memory holds.
    pub(super) fn open(path: Option<&Path>) -> io::Result<Self> {
        let open = |path: &Path| {
            let file = File::options().create(true).append(true).open(path);
            file.map_err(|error| {
                io::Error::new(error.kind(), format!("cannot open the ledger {}: {error}", path.display()))
            })
        };
        let lines =
            Lines { file: path.map(open).transpose()?, recent: VecDeque::new(), stats: SlackStats::default(), n: 0 };
        Ok(Self { lines: Mutex::new(lines) })
    }

    /// Writes a line, which is an object, and counts what it tells. The operating system has it when this returns.
    pub(super) fn write(&self, mut line: Value, count: impl FnOnce(&mut SlackStats)) {
        let mut lines = self.lines();
        lines.n += 1;
        line["n"] = lines.n.into();
        count(&mut lines.stats);
        let text = format!("{line}\n");
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

    /// Counts what has no line of its own.
    pub(super) fn count(&self, count: impl FnOnce(&mut SlackStats)) {
        count(&mut self.lines().stats);
    }

    /// The last lines, oldest first.
    pub(super) fn recent(&self) -> String {
        self.lines().recent.iter().map(String::as_str).collect()
    }

    /// The sums.
    pub(super) fn stats(&self) -> SlackStats {
        self.lines().stats
    }

    /// A panic elsewhere leaves whole lines only, so the ledger goes on.
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
