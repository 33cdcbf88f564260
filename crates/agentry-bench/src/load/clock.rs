//! One clock for every process of this machine: CLOCK_MONOTONIC, in nanoseconds.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

pub const SECOND: u64 = 1_000_000_000;

/// Returns this moment in nanoseconds.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    // The monotonic clock is never negative.
    time.tv_sec.unsigned_abs() * SECOND + time.tv_nsec.unsigned_abs()
}

/// Returns the wall clock in microseconds since the Unix epoch, for comparisons with time stamps of the platform.
pub fn wall_micros() -> i64 {
    let time = clock_gettime(ClockId::Realtime);
    time.tv_sec * 1_000_000 + time.tv_nsec / 1_000
}

/// Converts a duration to nanoseconds; more than 584 years do not fit and are cut.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Converts nanoseconds to the kernel's form.
pub(crate) fn timespec(nanos: u64) -> Timespec {
    let seconds = i64::try_from(nanos / SECOND).unwrap_or(i64::MAX);
    let rest = i64::try_from(nanos % SECOND).unwrap_or_default();
    Timespec { tv_sec: seconds, tv_nsec: rest }
}

/// Nice value of threads that must be on time.
const FIRST: i32 = -10;

/// Raises the priority of the calling thread above everything else on the machine. Without the right to it the priority
/// stays as it is, and the measured lag shows that.
pub(crate) fn go_first() {
    let _ = rustix::process::setpriority_process(None, FIRST);
}
