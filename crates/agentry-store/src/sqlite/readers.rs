//! Readers: a few threads with read-only connections. A read that starts after a commit sees it.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::failure::Failure;
use super::open;
use crate::StoreError;

/// Reader threads: enough that one long list does not hold up the rest.
const READERS: usize = 2;
/// Largest number of waiting reads; further ones fail with [`StoreError::Full`].
pub const MAX_WAITING_READS: usize = 4_096;

type Read = Box<dyn FnOnce(&Connection) + Send>;

/// The callers' end of the reader threads.
pub(super) struct Readers {
    reads: Option<SyncSender<Read>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Readers {
    /// Opens the connections and starts the threads.
    pub(super) fn start(file: &Path) -> Result<Self, open::OpenError> {
        let (reads, waiting) = sync_channel(MAX_WAITING_READS);
        let waiting = Arc::new(Mutex::new(waiting));
        let mut threads = Vec::with_capacity(READERS);
        for number in 0..READERS {
            let conn = open::reader(file)?;
            let waiting = Arc::clone(&waiting);
            let thread = std::thread::Builder::new()
                .name(format!("store-reader-{number}"))
                .spawn(move || while serve(&conn, &waiting) {})
                .map_err(|source| open::OpenError::Folder { path: file.to_owned(), source })?;
            threads.push(thread);
        }
        Ok(Self { reads: Some(reads), threads: Mutex::new(threads) })
    }

    /// Runs a closure on a read-only connection.
    pub(super) async fn call<T, F>(&self, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job: Read = Box::new(move |conn| {
            // A caller that has gone is ignored: nothing depends on a read.
            let _ = reply.send(read(conn).map_err(|failure| failure.to_store_error()));
        });
        let stopped = || StoreError::Unavailable("the store's readers have stopped; restart Agentry".to_owned());
        let Some(reads) = &self.reads else { return Err(stopped()) };
        reads.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Full {
                what: "the store's read queue",
                bound: MAX_WAITING_READS as u64,
                retry_after: Duration::from_secs(1),
            },
            TrySendError::Disconnected(_) => stopped(),
        })?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.reads = None;
        for thread in self.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            if thread.join().is_err() {
                tracing::error!("a reader of the store panicked");
            }
        }
    }
}

/// Serves one read. Returns false when the queue is closed.
fn serve(conn: &Connection, waiting: &Mutex<Receiver<Read>>) -> bool {
    let read = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
    match read {
        Ok(read) => {
            read(conn);
            true
        }
        Err(_) => false,
    }
}
