//! Processes: started, signalled by their own id, waited for, killed when dropped.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::LabError;

/// Time between two looks of a wait: short against the start of the quickest server.
const POLL: Duration = Duration::from_millis(2);
/// The end of a log that an error shows, in bytes.
const TAIL: u64 = 4_096;
/// Line that `serve` and `sim` print when they are ready.
const READY: &str = "listening on http://";

/// The process group of what is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessGroup {
    /// The caller's group: ending it, as a test runner does, ends the process too.
    Callers,
    /// A group of its own: Ctrl-C of a terminal is for the caller only.
    Own,
}

impl ProcessGroup {
    /// Has a command start in this group.
    pub fn apply(self, command: &mut Command) {
        if self == Self::Own {
            command.process_group(0);
        }
    }
}

/// A process that was started here; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: std::process::Child,
    name: String,
    log: PathBuf,
    /// Time of the start.
    pub started: Instant,
}

/// Exit of a process.
#[derive(Debug, Clone, Copy)]
pub struct Exit {
    /// Its status.
    pub status: ExitStatus,
    /// Time from the request to the end.
    pub took: Duration,
}

impl Process {
    /// Starts a command without input whose output is added to `log`.
    ///
    /// # Errors
    /// There is no such program, or the log cannot be written.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self, LabError> {
        let out = File::options().create(true).append(true).open(log).map_err(LabError::file(log))?;
        let err = out.try_clone().map_err(LabError::file(log))?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let started = Instant::now();
        let child = command.spawn().map_err(|error| {
            let program = command.get_program().to_string_lossy().into_owned();
            LabError::Start { program, error }
        })?;
        Ok(Self { child, name: name.to_owned(), log: log.to_owned(), started })
    }

    /// Waits for the line that names its address; returns `host:port`.
    ///
    /// # Errors
    /// It ends, or says nothing within `limit`.
    pub async fn address(&mut self, limit: Duration) -> Result<String, LabError> {
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
            sleep(POLL).await;
        }
    }

    /// Returns its id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns its name among those of its caller.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends a signal to this process only.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<(), LabError> {
        self.must_run()?;
        send(self.pid(), signal).map_err(|error| self.not_ready(&format!("cannot be signalled: {error}")))
    }

    /// Kills it with SIGKILL; it is gone when this returns.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Returns its status, when it has ended.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Checks that it has not ended.
    ///
    /// # Errors
    /// It has; with its status and the end of its log.
    pub fn must_run(&mut self) -> Result<(), LabError> {
        match self.exit_status() {
            Some(status) => Err(self.not_ready(&format!("ended by itself ({status})"))),
            None => Ok(()),
        }
    }

    /// Sends SIGTERM, then SIGKILL when it has not ended within `limit`; `None` when it had to be killed.
    pub async fn stop(&mut self, limit: Duration) -> Option<Exit> {
        // It may have ended already.
        let _ = self.signal(Signal::TERM);
        let exit = self.wait(limit).await;
        if exit.is_none() {
            self.kill();
        }
        exit
    }

    /// Waits for its end, up to `limit`.
    pub async fn wait(&mut self, limit: Duration) -> Option<Exit> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.exit_status() {
                return Some(Exit { status, took: began.elapsed() });
            }
            if began.elapsed() > limit {
                return None;
            }
            sleep(POLL).await;
        }
    }

    /// Lets it go on when this value is dropped, and when the caller ends.
    pub fn detach(self) {
        std::mem::forget(self);
    }

    /// Returns the end of its log.
    #[must_use]
    pub fn tail(&self) -> String {
        tail(&self.log)
    }

    /// Returns an error that names it and shows its log.
    #[must_use]
    pub fn not_ready(&self, what: &str) -> LabError {
        LabError::NotReady { what: format!("{} (process {}) {what}", self.name, self.child.id()), log: self.tail() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn send(pid: u32, signal: Signal) -> rustix::io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.map_or(Err(rustix::io::Errno::SRCH), |pid| kill_process(pid, signal))
}

/// A process known by its id and start time. An id alone may be given to another process later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// Its id.
    pub id: u32,
    /// Its start, in clock ticks since the machine's, as text.
    pub started: String,
}

impl ProcessIdentity {
    /// Returns the process that has this id now, if there is one.
    #[must_use]
    pub fn of(id: u32) -> Option<Self> {
        stat(id).map(|stat| Self { id, started: stat.starttime.to_string() })
    }

    /// Returns whether it still runs; one that has ended and was not yet collected by its parent does not.
    #[must_use]
    pub fn runs(&self) -> bool {
        stat(self.id).is_some_and(|stat| stat.starttime.to_string() == self.started && !matches!(stat.state, 'Z' | 'X'))
    }

    /// Sends a signal to this process only; nothing happens when it has ended.
    pub fn signal(&self, signal: Signal) {
        if self.runs() {
            // It may end in between.
            let _ = send(self.id, signal);
        }
    }

    /// Returns the processes that it has started and that are still there.
    #[must_use]
    pub fn children(&self) -> Vec<Self> {
        let parent = i32::try_from(self.id).unwrap_or(-1);
        let all = procfs::process::all_processes().into_iter().flatten().flatten();
        let children = all.filter(|process| process.stat().is_ok_and(|stat| stat.ppid == parent));
        children.filter_map(|process| Self::of(u32::try_from(process.pid).ok()?)).collect()
    }
}

fn stat(id: u32) -> Option<procfs::process::Stat> {
    procfs::process::Process::new(i32::try_from(id).ok()?).ok()?.stat().ok()
}

/// Returns the end of a log.
#[must_use]
pub fn tail(log: &Path) -> String {
    let mut bytes = Vec::new();
    let read = File::open(log).and_then(|mut file| {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        file.read_to_end(&mut bytes)
    });
    match read {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => format!("(no log: {error})"),
    }
}

/// Waits until `look` finds something, up to a limit.
///
/// # Errors
/// It found nothing.
pub async fn until<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> Result<T, LabError> {
    let began = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return Ok(seen);
        }
        if began.elapsed() > limit {
            return Err(LabError::TooLate { what: what.to_owned(), seconds: limit.as_secs_f64() });
        }
        sleep(POLL).await;
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
        let mut process = Process::start("sleeper", Command::new("sh").args(["-c", script]), &log).unwrap();
        assert_eq!(process.address(Duration::from_secs(10)).await.unwrap(), "127.0.0.1:99");
        assert!(process.stop(Duration::from_secs(10)).await.is_some());
        assert!(process.signal(Signal::TERM).is_err());
    }

    #[tokio::test]
    async fn one_that_ends_early_shows_what_it_said() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut command = Command::new("sh");
        let mut process = Process::start("broken", command.args(["-c", "echo no port; exit 3"]), &log).unwrap();
        let error = process.address(Duration::from_secs(10)).await.unwrap_err().to_string();
        assert!(error.contains("broken") && error.contains("exit status: 3") && error.contains("no port"), "{error}");
        assert!(Process::start("x", &mut Command::new("/no/such/program"), &log).is_err());
    }

    #[test]
    fn a_process_is_known_by_its_start_time_too() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = ProcessIdentity::of(child.id()).unwrap();
        assert!(process.runs());
        assert!(ProcessIdentity::of(std::process::id()).unwrap().children().contains(&process));
        let stranger = ProcessIdentity { started: "another time".to_owned(), ..process.clone() };
        assert!(!stranger.runs());
        stranger.signal(Signal::KILL);
        assert!(process.runs(), "a stranger's signal must not reach it");
        process.signal(Signal::KILL);
        let began = Instant::now();
        while process.runs() {
            assert!(began.elapsed() < Duration::from_secs(10), "it ended, though nobody has collected it yet");
        }
        child.wait().unwrap();
    }
}
