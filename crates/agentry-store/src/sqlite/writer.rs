//! The writer: one thread, group commit.
//!
//! It takes all waiting commands, runs them in one transaction, commits, and only then answers. A batch runs without
//! savepoints; when a command fails, the batch is rolled back and run again with a savepoint around each, so that the
//! command fails alone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use super::db::Db;
use super::failure::Failure;
use crate::StoreError;

/// Largest number of waiting commands; further ones fail with [`StoreError::Full`].
pub const MAX_WAITING_COMMANDS: usize = 16_384;
/// Weight (about rows) at which a transaction is closed, so that the first caller of a batch does not wait for too
/// long.
const MAX_BATCH_WEIGHT: usize = 4_000;
/// Pages of the write-ahead log (4 KiB each) after which it is checkpointed, between two batches. 32 MiB keeps the
/// checkpoint short and copies pages that change often only once.
const CHECKPOINT_PAGES: u64 = 8_000;
/// Retry delay for callers beyond [`MAX_WAITING_COMMANDS`]: the queue is empty well within it.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Time by which a command's writes must have reached the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// Before its caller is answered.
    Now,
    /// With the next durable command. Its caller is answered on commit: it survives the death of the process, and a
    /// loss of power loses it only together with everything that followed from it.
    WithNext,
}

/// A command to run in a transaction.
pub(super) trait Command: Send {
    /// Returns the approximate number of rows that it writes.
    fn weight(&self) -> usize;
    fn durability(&self) -> Durability;
    /// Runs the command; called again after a rollback.
    fn run(&mut self, db: &mut Db) -> Result<(), Failure>;
    /// Answers the caller with the result of `run`, or with the reason for which nothing happened.
    fn answer(self: Box<Self>, end: Result<(), StoreError>);
}

/// A command made of a closure.
struct Call<T, F> {
    weight: usize,
    durability: Durability,
    run: F,
    found: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T: Send, F: Fn(&mut Db) -> Result<T, Failure> + Send> Command for Call<T, F> {
    fn weight(&self) -> usize {
        self.weight
    }

    fn durability(&self) -> Durability {
        self.durability
    }

    fn run(&mut self, db: &mut Db) -> Result<(), Failure> {
        self.found = match (self.run)(db) {
            Ok(value) => Some(Ok(value)),
            Err(Failure::Refused(error)) => Some(Err(error)),
            Err(failure) => return Err(failure),
        };
        Ok(())
    }

    fn answer(self: Box<Self>, end: Result<(), StoreError>) {
        let lost = || Err(StoreError::Broken("a command was answered before it ran".to_owned()));
        let Self { found, reply, .. } = *self;
        // A caller that has gone does not change the outcome.
        let _ = reply.send(end.and_then(|()| found.unwrap_or_else(lost)));
    }
}

/// The callers' end of the writer thread.
pub(super) struct Writer {
    commands: Option<SyncSender<Box<dyn Command>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(mut db: Db) -> std::io::Result<Self> {
        let (commands, waiting) = sync_channel(MAX_WAITING_COMMANDS);
        let thread = std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || {
            let log_pages = watch_log(&mut db);
            while serve(&mut db, &waiting) {
                checkpoint(&db, &log_pages);
            }
        })?;
        Ok(Self { commands: Some(commands), thread: Mutex::new(Some(thread)) })
    }

    /// Runs a closure in the next transaction; returns once it is committed. The closure may run twice, so it must not
    /// consume its captures, and it must refuse ([`Failure::Refused`]) before it writes.
    pub(super) async fn call<T, F>(&self, weight: usize, durability: Durability, run: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut Db) -> Result<T, Failure> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let command = Box::new(Call { weight, durability, run, found: None, reply });
        let Some(commands) = &self.commands else { return Err(stopped()) };
        commands.try_send(command).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Full {
                what: "the store's write queue",
                bound: MAX_WAITING_COMMANDS as u64,
                retry_after: RETRY_AFTER,
            },
            TrySendError::Disconnected(_) => stopped(),
        })?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }
}

fn stopped() -> StoreError {
    StoreError::Unavailable("the store's writer has stopped; restart Agentry".to_owned())
}

impl Drop for Writer {
    /// Lets the thread finish waiting commands and close the file.
    fn drop(&mut self) {
        self.commands = None;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the store's writer panicked");
        }
    }
}

/// Serves one batch. Returns false when the queue is closed.
fn serve(db: &mut Db, waiting: &Receiver<Box<dyn Command>>) -> bool {
    let Ok(first) = waiting.recv() else { return false };
    let mut weight = first.weight();
    let mut batch = vec![first];
    while weight < MAX_BATCH_WEIGHT
        && let Ok(next) = waiting.try_recv()
    {
        weight += next.weight();
        batch.push(next);
    }
    run_batch(db, batch);
    true
}

/// Runs a batch and answers it.
pub(super) fn run_batch(db: &mut Db, mut batch: Vec<Box<dyn Command>>) {
    let durable = batch.iter().any(|command| command.durability() == Durability::Now);
    match db.sync_commits(durable).map_err(Failure::from).and_then(|()| together(db, &mut batch)) {
        Ok(()) => batch.into_iter().for_each(|command| command.answer(Ok(()))),
        Err(failure) => {
            db.rollback();
            if failure.is_environment() || batch.len() == 1 {
                fail_all(batch, &failure);
            } else {
                one_by_one(db, batch);
            }
        }
    }
}

fn together(db: &mut Db, batch: &mut [Box<dyn Command>]) -> Result<(), Failure> {
    db.begin()?;
    for command in batch {
        command.run(db)?;
    }
    Ok(db.commit()?)
}

fn one_by_one(db: &mut Db, mut batch: Vec<Box<dyn Command>>) {
    let mut ends = Vec::with_capacity(batch.len());
    let committed = (|| {
        db.begin()?;
        for command in &mut batch {
            let end = db.isolated(|db| command.run(db));
            match end {
                Err(failure) if failure.is_environment() => return Err(failure),
                end => ends.push(end),
            }
        }
        Ok(db.commit()?)
    })();
    if let Err(failure) = committed {
        db.rollback();
        return fail_all(batch, &failure);
    }
    for (command, end) in batch.into_iter().zip(ends) {
        command.answer(end.map_err(|failure| {
            tracing::error!(?failure, "a command of the store failed");
            failure.to_store_error()
        }));
    }
}

fn fail_all(batch: Vec<Box<dyn Command>>, failure: &Failure) {
    tracing::error!(?failure, commands = batch.len(), "the store could not write");
    let error = failure.to_store_error();
    batch.into_iter().for_each(|command| command.answer(Err(error.clone())));
}

/// Tracks the size of the write-ahead log. This replaces SQLite's own checkpoint, which would run before the callers of
/// a batch are answered.
fn watch_log(db: &mut Db) -> Arc<AtomicU64> {
    let pages = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&pages);
    let hook = move |_: &mut rusqlite::hooks::Wal, now: std::ffi::c_int| {
        seen.store(u64::try_from(now).unwrap_or(0), Ordering::Relaxed);
        Ok(())
    };
    if let Err(error) = db.conn.wal_hook(Some(hook)) {
        tracing::error!(%error, "the store cannot track the size of its write-ahead log; SQLite's own checkpoint stays on");
    }
    pages
}

fn checkpoint(db: &Db, log_pages: &AtomicU64) {
    if log_pages.load(Ordering::Relaxed) < CHECKPOINT_PAGES {
        return;
    }
    let copied = db.conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
    match copied {
        // The log starts again with the next write; until then the hook would repeat the old number.
        Ok(()) => log_pages.store(0, Ordering::Relaxed),
        Err(error) => {
            tracing::warn!(%error, "checkpoint failed: the write-ahead log of the store grows until one succeeds")
        }
    }
}
