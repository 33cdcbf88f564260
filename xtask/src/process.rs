//! Processes that outlive this one: started by themselves, known by id and start time, ended by exactly that.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// How often a wait looks again: short against the start of the quickest server (Redis, some 10 ms).
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long a killed process may take to be gone; the kernel needs milliseconds unless it waits for a disk.
const KILLED_IS_GONE: Duration = Duration::from_secs(10);
/// Output of a finished command that is kept, in bytes: enough for an error, little enough for a terminal.
const KEPT_OUTPUT: usize = 4_096;

/// A process that we started. An id alone may be given to a stranger later; with the start time it is never mistaken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub id: u32,
    pub started: String,
}

impl Process {
    /// The process with this id as it is now, if there is one.
    pub fn of(id: u32) -> Option<Self> {
        look(id).map(|(started, _)| Self { id, started })
    }

    /// Whether it still runs; one that has ended and was not yet collected by its parent does not.
    pub fn runs(&self) -> bool {
        look(self.id).is_some_and(|(started, ended)| started == self.started && !ended)
    }

    /// Sends a signal by name, to this process only.
    pub fn signal(&self, name: &str) {
        if self.runs() {
            // The shell's own `kill` exists where no other does. It may have ended between; then there is nothing to do.
            let _ = Command::new("sh")
                .args(["-c", "kill -\"$1\" \"$2\"", "sh", name, &self.id.to_string()])
                .stderr(Stdio::null())
                .status();
        }
    }

    pub fn to_json(&self) -> Value {
        json!({"id": self.id, "started": self.started})
    }

    pub fn from_json(value: &Value) -> Option<Self> {
        let id = u32::try_from(value["id"].as_u64()?).ok()?;
        Some(Self { id, started: value["started"].as_str()?.to_owned() })
    }
}

/// Start time and whether it has ended, from `/proc` where there is one, else from `ps`.
fn look(id: u32) -> Option<(String, bool)> {
    if Path::new("/proc/self/stat").exists() {
        return parse_stat(&std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?);
    }
    let output = Command::new("ps").args(["-o", "stat=,lstart=", "-p", &id.to_string()]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let (state, started) = text.split_once(' ')?;
    Some((started.trim().to_owned(), state.starts_with('Z')))
}

/// `/proc/PID/stat`: the name stands in brackets and may hold anything; state is the first word after it and the
/// start time (clock ticks since boot) the twentieth.
fn parse_stat(stat: &str) -> Option<(String, bool)> {
    let words: Vec<&str> = stat.get(stat.rfind(')')? + 1..)?.split_whitespace().collect();
    Some(((*words.get(19)?).to_owned(), matches!(*words.first()?, "Z" | "X")))
}

/// Starts a command that goes on when we end: no terminal, a group of its own, all output added to `log`.
pub fn start(command: &mut Command, log: &Path) -> Result<Process> {
    use std::os::unix::process::CommandExt as _;
    // Added to what is there: the log of a process that died is what explains it.
    let out = File::options()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("cannot write {}", log.display()))?;
    let err = out.try_clone().with_context(|| format!("cannot write {}", log.display()))?;
    let child = command
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start `{}`", crate::show(command)))?;
    Process::of(child.id()).with_context(|| format!("`{}` ended at once; see {}", crate::show(command), log.display()))
}

/// Asks a process to end and, when it has not within the grace period, makes it. True when asking was enough.
pub fn end(process: &Process, ask: &str, grace: Duration) -> bool {
    process.signal(ask);
    if wait_until(grace, || !process.runs()) {
        return true;
    }
    process.signal("KILL");
    wait_until(KILLED_IS_GONE, || !process.runs());
    false
}

/// Waits for a condition, up to a limit. Whether it came true.
pub fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    loop {
        if condition() {
            return true;
        }
        if begin.elapsed() >= limit {
            return false;
        }
        pause();
    }
}

#[allow(clippy::disallowed_methods, reason = "other processes give no event to wait for, and there is no runtime here")]
fn pause() {
    std::thread::sleep(LOOK_AGAIN);
}

/// Runs a command without input, up to a limit. Its standard output, or an error with the end of its complaints.
pub fn output_within(command: &mut Command, limit: Duration) -> Result<String> {
    let shown = crate::show(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{shown}`"))?;
    // Both pipes are emptied by threads of their own: a full one would stop the command.
    let (out, err) = (drain(child.stdout.take()), drain(child.stderr.take()));
    let mut status: Option<ExitStatus> = None;
    let ended = wait_until(limit, || {
        status = child.try_wait().ok().flatten();
        status.is_some()
    });
    let Some(status) = status.filter(|_| ended) else {
        let _ = child.kill();
        let _ = child.wait();
        bail!("`{shown}` took longer than {} s", limit.as_secs());
    };
    let (out, err) = (out.join().unwrap_or_default(), err.join().unwrap_or_default());
    if !status.success() {
        let said = if err.trim().is_empty() { &out } else { &err };
        bail!("`{shown}` failed ({status}): {}", tail_of(said));
    }
    Ok(out)
}

fn drain(pipe: Option<impl std::io::Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read before an error is what there is to show.
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The end of a log file, for an error message.
pub fn tail(log: &Path) -> String {
    let mut text = String::new();
    let read = File::open(log).and_then(|mut file| {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(())
    });
    if read.is_err() { String::new() } else { tail_of(&text).to_owned() }
}

fn tail_of(text: &str) -> &str {
    let text = text.trim();
    let mut from = text.len().saturating_sub(KEPT_OUTPUT);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let rest = (4..=52).map(|field| field.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(parse_stat(&format!("7 (a) b (c)) S {rest}")), Some(("22".to_owned(), false)));
        assert_eq!(parse_stat(&format!("7 (x) Z {rest}")), Some(("22".to_owned(), true)));
        assert_eq!(parse_stat("7 (x) S 1"), None);
    }

    #[test]
    fn a_process_is_known_by_its_start_time_too() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::of(child.id()).unwrap();
        assert!(process.runs());
        assert_eq!(Process::from_json(&process.to_json()), Some(process.clone()));
        let stranger = Process { started: "another time".to_owned(), ..process.clone() };
        assert!(!stranger.runs());
        stranger.signal("KILL");
        assert!(process.runs(), "a stranger's signal must not reach it");
        assert!(end(&process, "TERM", Duration::from_secs(10)));
        assert!(!process.runs(), "ended though nobody has collected it yet");
        child.wait().unwrap();
    }

    #[test]
    fn what_ignores_the_question_is_killed_after_the_grace_period() {
        // It says when it ignores the signal: before that, the signal would end it.
        let mut child = Command::new("sh")
            .args(["-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        child.stdout.take().unwrap().read_exact(&mut ready).unwrap();
        let process = Process::of(child.id()).unwrap();
        assert!(!end(&process, "TERM", Duration::from_millis(100)));
        assert!(!process.runs());
        child.wait().unwrap();
    }

    #[test]
    fn a_command_that_hangs_or_fails_is_an_error_that_says_so() {
        let slow = output_within(Command::new("sleep").arg("60"), Duration::from_millis(50)).unwrap_err();
        assert!(slow.to_string().contains("`sleep 60` took longer"), "{slow}");
        let failed = output_within(Command::new("sh").args(["-c", "echo why >&2; exit 3"]), Duration::from_secs(10));
        assert!(failed.unwrap_err().to_string().ends_with("why"));
        assert_eq!(output_within(Command::new("echo").arg("x"), Duration::from_secs(10)).unwrap(), "x\n");
    }

    #[test]
    fn the_tail_keeps_whole_characters() {
        let text = "é".repeat(KEPT_OUTPUT);
        assert!(tail_of(&text).len() <= KEPT_OUTPUT);
        assert!(tail_of(&text).chars().all(|letter| letter == 'é'));
    }
}
