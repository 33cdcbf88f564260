//! Processes that outlive this one, and commands with a limit.

use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use agentry_lab::{Process, ProcessGroup, ProcessIdentity, Signal};
use anyhow::{Context, Result, bail};

/// Poll interval: short compared with the start of the fastest server (Redis, some 10 ms).
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Timeout of the end of a killed process; the kernel needs milliseconds unless it waits for a disk.
const KILLED_IS_GONE: Duration = Duration::from_secs(10);
/// Output of a finished command that is kept, in bytes: enough for an error, little enough for a terminal.
const KEPT_OUTPUT: usize = 4_096;

/// Starts a command that goes on when we end, its output added to `log`: the log of a process that died is what
/// explains it.
pub fn start(command: &mut Command, log: &Path) -> Result<ProcessIdentity> {
    let shown = crate::show(command);
    ProcessGroup::Own.apply(command);
    let process = Process::start(&shown, command, log)?;
    let identity = ProcessIdentity::of(process.pid());
    process.detach();
    identity.with_context(|| format!("`{shown}` ended at once; see {}", log.display()))
}

/// Asks a process to end and, when it has not within the grace period, makes it. True when asking was enough.
pub fn end(process: &ProcessIdentity, ask: Signal, grace: Duration) -> bool {
    process.signal(ask);
    if wait_until(grace, || !process.runs()) {
        return true;
    }
    process.signal(Signal::KILL);
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

/// The end of a text, for an error message.
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
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_process_that_is_asked_ends() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = ProcessIdentity::of(child.id()).unwrap();
        assert!(end(&process, Signal::TERM, Duration::from_secs(10)));
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
        let process = ProcessIdentity::of(child.id()).unwrap();
        assert!(!end(&process, Signal::TERM, Duration::from_millis(100)));
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
