//! A process of ours: signalled by its id, killed when dropped.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

use super::SutError;
use crate::load::clock;

/// How often a wait looks again.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// The end of a log that an error shows, in bytes.
const TAIL: u64 = 2_000;
/// What `serve` and `sim` print when they are ready.
const READY: &str = "listening on http://";

/// A process.
#[derive(Debug)]
pub struct Child {
    child: std::process::Child,
    name: String,
    log: PathBuf,
    /// When it was started, on the monotonic clock in nanoseconds.
    pub spawned: u64,
    /// The same moment by the wall clock, in microseconds since the Unix epoch.
    pub spawned_at: i64,
}

/// How a process ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// Its status.
    pub status: ExitStatus,
    /// How long it took from the request.
    pub took: Duration,
}

impl Child {
    /// Starts a command whose output is added to `log`.
    ///
    /// # Errors
    /// When there is no such program, or no place for its log.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self, SutError> {
        let out = File::options().create(true).append(true).open(log).map_err(SutError::file(log))?;
        let err = out.try_clone().map_err(SutError::file(log))?;
        // A group of its own: Ctrl-C of a terminal is for us, and we end it.
        command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        let (spawned, spawned_at) = (clock::now(), clock::wall_micros());
        let child = command.spawn().map_err(|error| {
            let program = command.get_program().to_string_lossy().into_owned();
            SutError::Start { program, error }
        })?;
        Ok(Self { child, name: name.to_owned(), log: log.to_owned(), spawned, spawned_at })
    }

    /// Waits for the line that names its address; `host:port`.
    ///
    /// # Errors
    /// When it ends or says nothing within `limit`.
    pub async fn address(&mut self, limit: Duration) -> Result<String, SutError> {
        let began = Instant::now();
        loop {
            let text = std::fs::read_to_string(&self.log).unwrap_or_default();
            let line = text.split_once(READY).and_then(|(_, rest)| rest.split_once('\n'));
            if let Some((address, _)) = line {
                return Ok(address.trim().to_owned());
            }
            self.must_run()?;
            if began.elapsed() > limit {
                return Err(self.not_ready(&format!("did not say where it listens within {} s", limit.as_secs())));
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Its id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its name among the processes of a run.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends a signal to this process only.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<(), SutError> {
        self.must_run()?;
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        let sent = pid.map_or(Err(rustix::io::Errno::SRCH), |pid| kill_process(pid, signal));
        sent.map_err(|error| self.not_ready(&format!("cannot be signalled: {error}")))
    }

    /// kill -9, and gone when this returns.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Its status, when it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// An error when it has ended.
    ///
    /// # Errors
    /// With its status and its log.
    pub fn must_run(&mut self) -> Result<(), SutError> {
        match self.ended() {
            Some(status) => Err(self.not_ready(&format!("ended by itself ({status})"))),
            None => Ok(()),
        }
    }

    /// SIGTERM, then kill -9 when that is not enough.
    pub async fn stop(&mut self, limit: Duration) -> Option<Ended> {
        // It may have ended already.
        let _ = self.signal(Signal::TERM);
        let ended = self.wait(limit).await;
        if ended.is_none() {
            self.kill();
        }
        ended
    }

    /// Waits for its end.
    pub async fn wait(&mut self, limit: Duration) -> Option<Ended> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return Some(Ended { status, took: began.elapsed() });
            }
            if began.elapsed() > limit {
                return None;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// The end of its log.
    #[must_use]
    pub fn tail(&self) -> String {
        let mut bytes = Vec::new();
        let read = File::open(&self.log).and_then(|mut file| {
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
            file.read_to_end(&mut bytes)
        });
        match read {
            Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => format!("(no log: {error})"),
        }
    }

    /// An error that names it and shows its log.
    #[must_use]
    pub fn not_ready(&self, what: &str) -> SutError {
        SutError::NotReady { what: format!("{} (process {}) {what}", self.name, self.child.id()), log: self.tail() }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits for something, up to a limit.
///
/// # Errors
/// When it did not come.
pub async fn until<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> Result<T, SutError> {
    let began = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return Ok(seen);
        }
        if began.elapsed() > limit {
            return Err(SutError::TooLate { what: what.to_owned(), seconds: limit.as_secs_f64() });
        }
        sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_says_where_it_listens_and_ends_when_told() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let script = "echo listening on http://127.0.0.1:99; exec sleep 30";
        let mut child = Child::start("sleeper", Command::new("sh").args(["-c", script]), &log).unwrap();
        assert_eq!(child.address(Duration::from_secs(10)).await.unwrap(), "127.0.0.1:99");
        assert!(child.stop(Duration::from_secs(10)).await.is_some());
        assert!(child.signal(Signal::TERM).is_err());
    }

    #[tokio::test]
    async fn one_that_ends_early_shows_what_it_said() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut child = Child::start("broken", Command::new("sh").args(["-c", "echo no port; exit 3"]), &log).unwrap();
        let error = child.address(Duration::from_secs(10)).await.unwrap_err().to_string();
        assert!(error.contains("broken") && error.contains("exit status: 3") && error.contains("no port"), "{error}");
        assert!(Child::start("x", &mut Command::new("/no/such/program"), &log).is_err());
    }
}
