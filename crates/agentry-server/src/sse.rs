//! Server-sent events: the stream of a task, the tail of all events, and the overview.
//!
//! Streams are limited in number and end on shutdown, because a graceful shutdown waits for open ones. Signals of the bus
//! may be lost, so a stream reads the store when one arrives, and periodically without one.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use agentry_api::{Overview, TaskView};
use agentry_bus::{ReceiveOutcome, Signal, Signals};
use agentry_core::event::Event as FleetEvent;
use agentry_core::id::TaskId;
use agentry_core::journal::JournalEntry;
use agentry_core::task::TaskStatus;
use agentry_core::topic::TopicPattern;
use agentry_store::StoreError;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{Stream, StreamExt as _, unfold};
use tokio::sync::OwnedSemaphorePermit;

use crate::api::overview::{FRESH, overview_snapshot};
use crate::state::AppState;

/// Interval of comments, which keep proxies from closing an idle stream.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Interval of reads without a signal; doubles up to [`MAX_RECHECK`].
pub(crate) const RECHECK: Duration = Duration::from_secs(1);
/// The longest interval of reads: the delay that a lost signal can cause.
pub(crate) const MAX_RECHECK: Duration = Duration::from_secs(5);
/// Consecutive failed reads after which a stream ends; the client can resume it without loss.
const MAX_FAILED_READS: u32 = 20;
/// Journal entries per read.
const JOURNAL_PAGE: usize = 256;

fn respond(state: &AppState, stream: impl Stream<Item = Event> + Send + 'static) -> Response {
    let until_shutdown = stream.take_until(state.shutdown.clone().cancelled_owned());
    Sse::new(until_shutdown.map(Ok::<_, Infallible>)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

/// Returns the stream of a task: journal entries after `after`, live events, then `end` with the task.
pub(crate) fn task_stream(state: &AppState, task: TaskId, after: u32, permit: OwnedSemaphorePermit) -> Response {
    let stream = TaskStream {
        signals: state.bus().watch(task),
        state: state.clone(),
        task,
        last: after,
        status: None,
        ready: VecDeque::new(),
        ended: false,
        stale: true,
        recheck: RECHECK,
        failed: 0,
        _permit: permit,
    };
    respond(state, unfold(stream, |mut stream| async move { stream.next().await.map(|event| (event, stream)) }))
}

struct TaskStream {
    state: AppState,
    task: TaskId,
    signals: Box<dyn Signals>,
    /// The number of the last sent journal entry.
    last: u32,
    /// The last sent status.
    status: Option<TaskStatus>,
    ready: VecDeque<Event>,
    ended: bool,
    /// True if the store may have unsent data.
    stale: bool,
    /// The interval until the next read without a signal.
    recheck: Duration,
    /// Consecutive failed reads.
    failed: u32,
    _permit: OwnedSemaphorePermit,
}

impl TaskStream {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            if self.stale {
                match self.read().await {
                    Ok(()) => self.failed = 0,
                    Err(error) if error.is_transient() && self.failed < MAX_FAILED_READS => {
                        self.failed += 1;
                        tokio::time::sleep(RECHECK).await;
                    }
                    Err(error) => {
                        tracing::warn!(%error, "event stream aborted: the store failed");
                        return None;
                    }
                }
            } else {
                self.listen().await;
            }
        }
    }

    /// Reads unsent data. The record is read before the journal: if the task has ended, the journal is complete.
    async fn read(&mut self) -> Result<(), StoreError> {
        let Some(record) = self.state.store().task(self.task).await? else {
            self.ended = true;
            return Ok(());
        };
        let entries = self.state.store().journal(self.task, self.last, JOURNAL_PAGE).await?;
        let whole = entries.len() < JOURNAL_PAGE;
        for entry in entries {
            self.last = entry.seq;
            self.ready.push_back(journal_event(&entry));
        }
        if !whole {
            return Ok(());
        }
        self.stale = false;
        if record.status.is_terminal() {
            self.ended = true;
            self.ready.push_back(json_event("end", &TaskView::from(&record)));
        } else if self.status.replace(record.status) != Some(record.status) {
            self.ready.push_back(json_event("status", &serde_json::json!({"status": record.status})));
        }
        Ok(())
    }

    async fn listen(&mut self) {
        let heard = tokio::time::timeout(self.recheck, self.signals.next()).await;
        self.recheck = if heard.is_ok() { RECHECK } else { (self.recheck * 2).min(MAX_RECHECK) };
        match heard {
            Ok(ReceiveOutcome::Signal(Signal::Delta { text, .. })) => {
                self.ready.push_back(json_event("delta", &serde_json::json!({"text": &*text})));
            }
            Ok(ReceiveOutcome::Signal(Signal::Restart { .. })) => {
                self.ready.push_back(json_event("restart", &serde_json::json!({})));
            }
            Ok(ReceiveOutcome::Closed) => {
                // Without the bus the stream goes on by polling the store.
                tokio::time::sleep(RECHECK).await;
                self.stale = true;
            }
            Ok(ReceiveOutcome::Signal(_) | ReceiveOutcome::Missed) | Err(_) => self.stale = true,
        }
    }
}

fn journal_event(entry: &JournalEntry) -> Event {
    let value = serde_json::to_value(entry).unwrap_or_default();
    let kind = value.pointer("/body/kind").and_then(serde_json::Value::as_str).unwrap_or("entry").to_owned();
    json_event(&kind, &value).id(entry.seq.to_string())
}

fn json_event(name: &str, data: &impl serde::Serialize) -> Event {
    // Compact JSON has no line break, so it is one `data:` line.
    Event::default().event(name).data(serde_json::to_string(data).unwrap_or_default())
}

/// Returns the tail of events: `recent` ones (oldest first), then live ones.
pub(crate) fn event_tail(
    state: &AppState,
    signals: Box<dyn Signals>,
    recent: Vec<FleetEvent>,
    pattern: Option<TopicPattern>,
    permit: OwnedSemaphorePermit,
) -> Response {
    let start = (signals, pattern, permit, VecDeque::from(recent));
    let stream = unfold(start, |(mut signals, pattern, permit, mut recent)| async move {
        loop {
            let event = match recent.pop_front() {
                Some(event) => std::sync::Arc::new(event),
                None => match signals.next().await {
                    ReceiveOutcome::Signal(Signal::Event(event)) => event,
                    ReceiveOutcome::Signal(_) => continue,
                    ReceiveOutcome::Missed => {
                        let missed = Event::default().event("missed").data("{}");
                        return Some((missed, (signals, pattern, permit, recent)));
                    }
                    ReceiveOutcome::Closed => return None,
                },
            };
            if pattern.as_ref().is_none_or(|pattern| pattern.matches(&event.topic)) {
                return Some((json_event("event", &*event), (signals, pattern, permit, recent)));
            }
        }
    });
    respond(state, stream)
}

/// Returns the stream of overviews: one on each change, at most one per second.
pub(crate) fn overview_stream(state: &AppState, permit: OwnedSemaphorePermit) -> Response {
    let start = (state.clone(), permit, None::<Overview>, 0);
    let stream = unfold(start, |(state, permit, mut last, mut failed)| async move {
        loop {
            if last.is_some() || failed > 0 {
                tokio::time::sleep(FRESH).await;
            }
            match overview_snapshot(&state).await {
                Ok(now) if last.as_ref() != Some(&now.overview) => {
                    let event = json_event("overview", &now.overview);
                    last = Some(now.overview.clone());
                    return Some((event, (state, permit, last, 0)));
                }
                Ok(_) => failed = 0,
                Err(_) if failed < MAX_FAILED_READS => failed += 1,
                Err(_) => return None,
            }
        }
    });
    respond(state, stream)
}
