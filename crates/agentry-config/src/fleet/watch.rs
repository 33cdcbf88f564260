//! Watches a directory of agent files and swaps the fleet when something in it changed.
//!
//! Editors and deployments write in bursts, so a reload waits until the directory has been quiet for a moment. If
//! watching does not work, or the directory goes away, the watcher polls once a second instead.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use agentry_core::fleet::Fleet;
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::load::{FleetLoader, LoadedFleet};
use crate::handle::FleetHandle;
use crate::problem::Problem;

/// Maximum number of pending changes; one is enough for a reload, so others are dropped.
const MAX_WAITING_SIGNALS: usize = 64;
/// Quiet time before a reload.
const QUIET: Duration = Duration::from_millis(200);
/// Maximum time to wait for the end of a burst, so that a saved file is live within a second.
const MAX_BURST: Duration = Duration::from_millis(600);
/// Poll interval without a working watcher.
const POLL: Duration = Duration::from_secs(1);

/// Watches a directory until it is dropped.
#[derive(Debug)]
pub struct FleetWatcher {
    tell: SyncSender<Signal>,
    thread: Option<JoinHandle<()>>,
}

/// The reason why a watcher cannot start.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the thread that watches {dir}: {source}")]
pub struct WatchError {
    dir: String,
    source: std::io::Error,
}

#[derive(Debug)]
enum Signal {
    Changed,
    Stop,
}

impl FleetWatcher {
    /// Watches `dir` and replaces the fleet of `handle` whenever a file in it changes, appears or disappears. Reads the
    /// directory once at the start, so that no change since the caller's own reading is missed.
    ///
    /// # Errors
    /// Fails when the thread cannot be started.
    pub fn start(dir: &Path, handle: FleetHandle) -> Result<Self, WatchError> {
        Self::resume(FleetLoader::new(dir), handle)
    }

    /// As [`FleetWatcher::start`] with the loader that filled `handle`, so that nothing is parsed twice.
    ///
    /// # Errors
    /// Fails when the thread cannot be started.
    pub fn resume(loader: FleetLoader, handle: FleetHandle) -> Result<Self, WatchError> {
        let (tell, told) = sync_channel(MAX_WAITING_SIGNALS);
        let dir = loader.dir().to_owned();
        let mut work = Work { tell: tell.clone(), loader, handle, watcher: None, dir: dir.clone(), failed: None };
        let thread = std::thread::Builder::new().name("fleet-watcher".to_owned()).spawn(move || work.run(&told));
        let thread = thread.map_err(|source| WatchError { dir: dir.display().to_string(), source })?;
        Ok(Self { tell, thread: Some(thread) })
    }
}

impl Drop for FleetWatcher {
    fn drop(&mut self) {
        // A thread that has ended already needs no signal.
        let _ = self.tell.send(Signal::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Work {
    tell: SyncSender<Signal>,
    loader: FleetLoader,
    handle: FleetHandle,
    watcher: Option<(RecommendedWatcher, Identity)>,
    dir: PathBuf,
    /// The last error of reading the directory, so that it is logged once.
    failed: Option<Problem>,
}

/// The identity of the directory behind a path: it changes when the directory is deleted and created again.
type Identity = Option<u64>;

impl Work {
    fn run(&mut self, told: &Receiver<Signal>) {
        self.watch();
        self.reload();
        loop {
            let signal = match &self.watcher {
                Some(_) => told.recv().map_err(|_| RecvTimeoutError::Disconnected),
                None => told.recv_timeout(POLL),
            };
            match signal {
                Ok(Signal::Changed) if !quiet(told) => return,
                Ok(Signal::Changed) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.watcher.as_ref().is_none_or(|(_, watched)| *watched != identity(&self.dir)) {
                self.watch();
            }
            self.reload();
        }
    }

    fn watch(&mut self) {
        self.watcher = None;
        let tell = self.tell.clone();
        let on_event = move |event: notify::Result<notify::Event>| {
            if event.is_err() || event.is_ok_and(|event| matters(&event.kind)) {
                // A full queue causes a reload anyway, and the receiver ends with the watcher.
                let _ = tell.try_send(Signal::Changed);
            }
        };
        let started = notify::recommended_watcher(on_event).and_then(|mut watcher| {
            watcher.watch(&self.dir, RecursiveMode::Recursive)?;
            Ok(watcher)
        });
        match started {
            Ok(watcher) => self.watcher = Some((watcher, identity(&self.dir))),
            Err(error) => {
                tracing::debug!(dir = %self.dir.display(), %error, "watching the agent files failed; polling once a second");
            }
        }
    }

    fn reload(&mut self) {
        let previous = self.handle.current();
        match self.loader.load(&previous) {
            Ok(loaded) => {
                self.failed = None;
                if !previous.same_entries(&loaded.fleet) {
                    log(&previous, &loaded);
                    self.handle.replace(loaded.fleet);
                }
            }
            Err(problem) => {
                self.watcher = None;
                if self.failed.as_ref() != Some(&problem) {
                    tracing::error!(problem = %problem.one_line(), "reloading the agent files failed; the agents stay as they are");
                    self.failed = Some(problem);
                }
            }
        }
    }
}

/// Waits until nothing changes any more; returns false if the watcher must stop.
fn quiet(told: &Receiver<Signal>) -> bool {
    let end = Instant::now() + MAX_BURST;
    loop {
        let left = end.saturating_duration_since(Instant::now()).min(QUIET);
        match told.recv_timeout(left) {
            Ok(Signal::Changed) if Instant::now() < end => {}
            Ok(Signal::Changed) | Err(RecvTimeoutError::Timeout) => return true,
            Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
}

/// Returns whether an event is a change: reading a file is an event too, and must not cause another reading.
fn matters(kind: &EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if *access != AccessKind::Close(AccessMode::Write))
}

fn identity(dir: &Path) -> Identity {
    let metadata = std::fs::metadata(dir).ok()?;
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let inode = u64::from(metadata.is_dir());
    Some(inode)
}

/// Logs the agents that changed.
fn log(previous: &Fleet, loaded: &LoadedFleet) {
    for (name, entry) in loaded.fleet.iter() {
        let before = previous.entry(name.as_str());
        if before.is_some_and(|before| before.is_same(entry)) {
            continue;
        }
        match (&entry.error, &entry.spec) {
            (Some(error), spec) => {
                let live = spec.as_ref().map_or("none", |spec| &*spec.version);
                tracing::warn!(agent = %name, %error, live, "the file of an agent is invalid");
            }
            (None, Some(spec)) => {
                tracing::info!(agent = %name, version = %spec.version, file = %entry.file, "agent file loaded")
            }
            (None, None) => {}
        }
    }
    for (name, entry) in previous.iter().filter(|(name, _)| loaded.fleet.entry(name.as_str()).is_none()) {
        tracing::info!(agent = %name, file = %entry.file, "agent file removed");
    }
}
