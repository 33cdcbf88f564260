//! Hints on their way out: bounded buffers that never block the caller, and the pumps that empty them.

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
use super::options::Names;
use super::pace::Pace;
use super::session::Session;
use super::topology::{TO_ALL, TO_WATCHERS};
use super::wire;
use super::wire::signals::{Note, Process};
use crate::listeners::lock;
use crate::port::{Signal, Wake};

/// Wakes that wait for the broker at most; further ones are dropped and found by recovery in the store.
const MAX_WAKES: usize = 100_000;
/// Notes that wait for the broker at most; then receivers are told that they missed some.
const MAX_NOTES: usize = 65_536;
/// Wakes taken at once at most, so that one flush has an end.
const MAX_FLUSH: usize = 4_096;
/// Flushes of wakes are this far apart under load: at 10,000 a second ten share a flush.
const WAKES_EVERY: Duration = Duration::from_millis(1);
/// Flushes of signals are this far apart under load. Every process gets each of them, so there are fewer.
const SIGNALS_EVERY: Duration = Duration::from_millis(2);
/// How often a blocked connection is looked at.
const BLOCKED_POLL: Duration = Duration::from_millis(20);

/// What waits to leave.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
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

/// One message of hints.
struct Parcel {
    exchange: ShortString,
    key: ShortString,
    priority: u8,
    body: Vec<u8>,
}

impl Outgoing {
    /// Takes wakes over. Whether all fitted.
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

    /// Takes a note over; the last one that fits says that some did not.
    pub fn note(&self, note: Note) {
        let mut notes = lock(&self.notes);
        let about_one = matches!(&note, Note::Signal(Signal::Progress { .. } | Signal::Delta { .. }));
        let queue = if about_one { &mut notes.to_watchers } else { &mut notes.to_all };
        match queue.len() {
            MAX_NOTES.. => return,
            len if len + 1 == MAX_NOTES => queue.push(Note::Missed),
            _ => queue.push(note),
        }
        drop(notes);
        self.notes_bell.notify_one();
    }

    /// Wakes that wait.
    pub fn depth(&self) -> usize {
        lock(&self.wakes).len()
    }

    /// Wakes that were dropped because too many waited.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub fn is_empty(&self) -> bool {
        let notes = lock(&self.notes);
        notes.to_all.is_empty() && notes.to_watchers.is_empty() && self.depth() == 0
    }

    fn take_wakes(&self, names: &Names, turn: &mut u16) -> Vec<Parcel> {
        let wakes: Vec<Wake> = {
            let mut waiting = lock(&self.wakes);
            let count = waiting.len().min(MAX_FLUSH);
            waiting.drain(..count).collect()
        };
        let parcel = |batch: Batch| Parcel {
            exchange: "".into(),
            key: names.wakes(batch.mode, batch.shard),
            priority: batch.priority(),
            body: wire::wakes::encode(&batch.wakes),
        };
        split(wakes, names.shards(), turn).into_iter().map(parcel).collect()
    }

    fn take_notes(&self, names: &Names, process: Process) -> Vec<Parcel> {
        let Notes { to_all, to_watchers } = std::mem::take(&mut *lock(&self.notes));
        let mut parcels = Vec::new();
        for (key, notes) in [(TO_ALL, to_all), (TO_WATCHERS, to_watchers)] {
            let batches = wire::signals::encode(process, &notes).into_iter();
            let parcel = |body| Parcel { exchange: names.signals(), key: key.into(), priority: 0, body };
            parcels.extend(batches.map(parcel));
        }
        parcels
    }

    /// Sends wakes until something fails.
    pub async fn pump_wakes(&self, session: &Session, names: &Names) -> Result<(), Fault> {
        let channel = session.publishing().channel().await?;
        let mut pace = Pace::new(WAKES_EVERY);
        let mut turn = 0;
        loop {
            let parcels = self.take_wakes(names, &mut turn);
            if parcels.is_empty() {
                self.wakes_bell.notified().await;
            } else {
                send(session, &channel, parcels).await?;
            }
            pace.wait().await;
        }
    }

    /// Sends notes until something fails.
    pub async fn pump_notes(&self, session: &Session, names: &Names, process: Process) -> Result<(), Fault> {
        let channel = session.publishing().channel().await?;
        let mut pace = Pace::new(SIGNALS_EVERY);
        loop {
            let parcels = self.take_notes(names, process);
            if parcels.is_empty() {
                self.notes_bell.notified().await;
            } else {
                send(session, &channel, parcels).await?;
            }
            pace.wait().await;
        }
    }
}

/// Sends transient messages. While the broker blocks the connection, they wait, and the buffers behind them fill.
async fn send(session: &Session, channel: &Channel, parcels: Vec<Parcel>) -> Result<(), Fault> {
    let sending = parcels.into_iter().map(|parcel| async move {
        let properties = BasicProperties::default().with_priority(parcel.priority);
        let options = BasicPublishOptions::default();
        channel.basic_publish(parcel.exchange, parcel.key, options, &parcel.body, properties).await
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
        let outgoing = Outgoing::default();
        let wake = |n| {
            let task = TaskId::from_parts(n, 0);
            Wake { task, mode: ExecutionMode::Autonomous, session: None, priority: Priority::Normal, body: None }
        };
        assert!(outgoing.wake((0..100_000).map(wake).collect()));
        assert!(!outgoing.wake(vec![wake(1), wake(2)]));
        assert_eq!((outgoing.depth(), outgoing.dropped()), (100_000, 2));
    }

    #[test]
    fn a_full_buffer_of_notes_ends_with_the_news_that_some_are_missing() {
        let outgoing = Outgoing::default();
        for _ in 0..70_000 {
            outgoing.note(Note::Signal(Signal::Schedules));
        }
        let notes = lock(&outgoing.notes);
        assert_eq!(notes.to_all.len(), 65_536);
        assert!(matches!(notes.to_all.last(), Some(Note::Missed)));
    }
}
