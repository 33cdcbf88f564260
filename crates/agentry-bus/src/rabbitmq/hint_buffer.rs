//! Outgoing hints: bounded buffers that never block the caller, and the pumps that empty them.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::try_join_all;
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel};
use tokio::sync::Notify;

use super::batches::{Batch, split};
use super::fault::{CALL_TIMEOUT, Fault};
use super::flush_pace::FlushPace;
use super::options::Names;
use super::session::Session;
use super::topology::{TO_ALL, TO_WATCHERS};
use super::wire;
use super::wire::signals::{Note, Process};
use crate::listeners::lock;
use crate::port::{Signal, Wake};

/// Largest number of buffered wakes; further ones are dropped, and recovery finds their tasks in the store.
const MAX_WAKES: usize = 100_000;
/// Largest number of buffered notes; beyond it receivers are notified that they missed some.
const MAX_NOTES: usize = 65_536;
const MAX_FLUSH: usize = 4_096;
/// Shortest time between flushes of wakes under load: at 10,000 wakes a second ten share a flush.
const WAKES_EVERY: Duration = Duration::from_millis(1);
/// Shortest time between flushes of signals under load. Every process receives each of them, so there are fewer.
const SIGNALS_EVERY: Duration = Duration::from_millis(2);
const BLOCKED_POLL: Duration = Duration::from_millis(20);

#[derive(Debug, Default)]
pub(super) struct HintBuffer {
    wakes: Mutex<VecDeque<Wake>>,
    notes: Mutex<Notes>,
    wakes_bell: Notify,
    notes_bell: Notify,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Notes {
    to_all: Vec<Note>,
    to_watchers: Vec<Note>,
}

struct HintMessage {
    exchange: ShortString,
    key: ShortString,
    priority: u8,
    body: Vec<u8>,
}

impl HintBuffer {
    /// Buffers wakes; returns false when some were dropped.
    pub fn wake(&self, wakes: Vec<Wake>) -> bool {
        let mut waiting = lock(&self.wakes);
        let fits = MAX_WAKES.saturating_sub(waiting.len()).min(wakes.len());
        let dropped = wakes.len() - fits;
        waiting.extend(wakes.into_iter().take(fits));
        drop(waiting);
        self.wakes_bell.notify_one();
        self.dropped.fetch_add(dropped as u64, Ordering::Relaxed);
        dropped == 0
    }

    /// Buffers a note. When the buffer fills up, its last note reports that some are missing.
    pub fn note(&self, note: Note) {
        let mut notes = lock(&self.notes);
        let about_one =
            matches!(&note, Note::Signal(Signal::Progress { .. } | Signal::Delta { .. } | Signal::Restart { .. }));
        let queue = if about_one { &mut notes.to_watchers } else { &mut notes.to_all };
        match queue.len() {
            MAX_NOTES.. => return,
            len if len + 1 == MAX_NOTES => queue.push(Note::Missed),
            _ => queue.push(note),
        }
        drop(notes);
        self.notes_bell.notify_one();
    }

    pub fn depth(&self) -> usize {
        lock(&self.wakes).len()
    }

    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub fn is_empty(&self) -> bool {
        let notes = lock(&self.notes);
        notes.to_all.is_empty() && notes.to_watchers.is_empty() && self.depth() == 0
    }

    fn take_wakes(&self, names: &Names, turn: &mut u16) -> Vec<HintMessage> {
        let wakes: Vec<Wake> = {
            let mut waiting = lock(&self.wakes);
            let count = waiting.len().min(MAX_FLUSH);
            waiting.drain(..count).collect()
        };
        let message = |batch: Batch| HintMessage {
            exchange: "".into(),
            key: names.wakes(batch.mode, batch.shard),
            priority: batch.priority(),
            body: wire::wakes::encode(&batch.wakes),
        };
        split(wakes, names.shards(), turn).into_iter().map(message).collect()
    }

    fn take_notes(&self, names: &Names, process: Process) -> Vec<HintMessage> {
        let Notes { to_all, to_watchers } = std::mem::take(&mut *lock(&self.notes));
        let mut messages = Vec::new();
        for (key, notes) in [(TO_ALL, to_all), (TO_WATCHERS, to_watchers)] {
            let batches = wire::signals::encode(process, &notes).into_iter();
            let message = |body| HintMessage { exchange: names.signals(), key: key.into(), priority: 0, body };
            messages.extend(batches.map(message));
        }
        messages
    }

    /// Sends wakes until something fails.
    pub async fn pump_wakes(&self, session: &Session, names: &Names) -> Result<(), Fault> {
        let channel = session.publishing().channel().await?;
        let mut pace = FlushPace::new(WAKES_EVERY);
        let mut turn = 0;
        loop {
            let messages = self.take_wakes(names, &mut turn);
            if messages.is_empty() {
                self.wakes_bell.notified().await;
            } else {
                send(session, &channel, messages).await?;
            }
            pace.wait().await;
        }
    }

    pub async fn pump_notes(&self, session: &Session, names: &Names, process: Process) -> Result<(), Fault> {
        let channel = session.publishing().channel().await?;
        let mut pace = FlushPace::new(SIGNALS_EVERY);
        loop {
            let messages = self.take_notes(names, process);
            if messages.is_empty() {
                self.notes_bell.notified().await;
            } else {
                send(session, &channel, messages).await?;
            }
            pace.wait().await;
        }
    }
}

/// Sends transient messages. They wait while the broker blocks the connection, and the buffers fill.
async fn send(session: &Session, channel: &Channel, messages: Vec<HintMessage>) -> Result<(), Fault> {
    let sending = messages.into_iter().map(|message| async move {
        let properties = BasicProperties::default().with_priority(message.priority);
        let options = BasicPublishOptions::default();
        channel.basic_publish(message.exchange, message.key, options, &message.body, properties).await
    });
    let sending = try_join_all(sending);
    tokio::pin!(sending);
    loop {
        while session.is_blocked() {
            tokio::time::sleep(BLOCKED_POLL).await;
        }
        match tokio::time::timeout(CALL_TIMEOUT, &mut sending).await {
            Ok(Ok(_sent)) => return Ok(()),
            Ok(Err(error)) => return Err(Fault::new(format!("sending hints: {error}"))),
            Err(_) if session.is_blocked() => {}
            Err(_) => return Err(Fault::new(format!("sending hints: stuck for {} s", CALL_TIMEOUT.as_secs()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use agentry_core::agent::ExecutionMode;
    use agentry_core::id::TaskId;
    use agentry_core::task::Priority;

    use super::*;

    #[test]
    fn a_full_buffer_drops_wakes_and_says_so() {
        let hints = HintBuffer::default();
        let wake = |n| {
            let task = TaskId::from_parts(n, 0);
            Wake { task, mode: ExecutionMode::Autonomous, session: None, priority: Priority::Normal, body: None }
        };
        assert!(hints.wake((0..100_000).map(wake).collect()));
        assert!(!hints.wake(vec![wake(1), wake(2)]));
        assert_eq!((hints.depth(), hints.dropped()), (100_000, 2));
    }

    #[test]
    fn a_full_buffer_of_notes_ends_with_the_news_that_some_are_missing() {
        let hints = HintBuffer::default();
        for _ in 0..70_000 {
            hints.note(Note::Signal(Signal::Schedules));
        }
        let notes = lock(&hints.notes);
        assert_eq!(notes.to_all.len(), 65_536);
        assert!(matches!(notes.to_all.last(), Some(Note::Missed)));
    }
}
