//! One clock for every process of this machine: CLOCK_MONOTONIC, in nanoseconds.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;

/// This moment.
#[must_use]
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    // The monotonic clock is never negative.
    time.tv_sec.unsigned_abs() * SECOND + time.tv_nsec.unsigned_abs()
}

/// This moment by the wall clock, in microseconds since the Unix epoch: only to compare with stamps of the platform.
#[must_use]
pub fn wall_micros() -> i64 {
    let time = clock_gettime(ClockId::Realtime);
    time.tv_sec * 1_000_000 + time.tv_nsec / 1_000
}

/// Nanoseconds of a duration; more than 584 years do not fit and are cut.
#[must_use]
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// For the kernel.
#[must_use]
pub(crate) fn timespec(nanos: u64) -> Timespec {
    let seconds = i64::try_from(nanos / SECOND).unwrap_or(i64::MAX);
    let rest = i64::try_from(nanos % SECOND).unwrap_or_default();
    Timespec { tv_sec: seconds, tv_nsec: rest }
}

/// The nice value of threads that must be on time.
const FIRST: i32 = -10;

/// From now on the calling thread comes before whatever else waits for a processor, as if it ran on another machine. Without the
/// right to it, it stays where it is, and what it measures shows that.
pub(crate) fn go_first() {
    let _ = rustix::process::setpriority_process(None, FIRST);
}
