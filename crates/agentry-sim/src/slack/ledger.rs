//! The Slack simulator's ledger: every call and every delivery attempt, as JSON Lines with times.

use std::io;
use std::path::Path;
use std::sync::Mutex;

use serde::Serialize;
use serde_json::Value;

use crate::ledger::LineLog;
use crate::server::lock;

/// Lines kept in memory for `GET /sim/ledger`; the file has all of them.
const RECENT_LINES: usize = 20_000;

/// Counters since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct SlackStats {
    /// Calls of the Web API and of `response_url`s.
    pub calls: u64,
    /// Calls answered `ok`.
    pub ok: u64,
    /// Calls answered 429.
    pub rate_limited: u64,
    /// Messages that the app has posted, including ephemeral ones.
    pub posts: u64,
    /// Delivery attempts.
    pub attempts: u64,
    /// Deliveries.
    pub deliveries: u64,
    /// Deliveries that the target acknowledged with 2xx in time.
    pub delivered: u64,
    /// Deliveries that failed after all attempts.
    pub given_up: u64,
}

#[derive(Debug)]
pub(super) struct Ledger {
    lines: Mutex<Lines>,
}

#[derive(Debug)]
struct Lines {
    log: LineLog,
    stats: SlackStats,
    n: u64,
}

impl Ledger {
    pub(super) fn open(path: Option<&Path>) -> io::Result<Self> {
        let log = LineLog::open(path, RECENT_LINES)?;
        Ok(Self { lines: Mutex::new(Lines { log, stats: SlackStats::default(), n: 0 }) })
    }

    /// Writes a line, which is an object, and updates the counters. The operating system has the line when this returns.
    pub(super) fn write(&self, mut line: Value, count: impl FnOnce(&mut SlackStats)) {
        let mut lines = lock(&self.lines);
        lines.n += 1;
        line["n"] = lines.n.into();
        count(&mut lines.stats);
        lines.log.append(format!("{line}\n"));
    }

    pub(super) fn count(&self, count: impl FnOnce(&mut SlackStats)) {
        count(&mut lock(&self.lines).stats);
    }

    pub(super) fn recent(&self) -> String {
        lock(&self.lines).log.recent()
    }

    pub(super) fn stats(&self) -> SlackStats {
        lock(&self.lines).stats
    }
}
