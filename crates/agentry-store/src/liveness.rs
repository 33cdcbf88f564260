//! The decision which workers count as dead, shared by all backends.
//!
//! It is made in one place, [`crate::TaskStore::recover`], by a registered worker, the *judge*, and releases claims and
//! reservations. All times here are microseconds of the store's own clock.
//!
//! An old heartbeat has two causes: its worker fell silent, or the store stalled and executed no heartbeats. The judge
//! tells them apart by its own:
//!
//! - it judges only while its heartbeats have arrived without a gap for [`GRACE`], so that after a stall every worker
//!   has that long to send the next one;
//! - it measures the age of another heartbeat at the time of its own last one, so that a stall that has just ended, or
//!   one in the middle of its query, ages nobody.

use agentry_core::worker::{HEARTBEAT, MISSED_HEARTBEATS};

/// Age of a heartbeat from which its worker counts as dead.
const DEAD_AFTER: i64 = HEARTBEAT.as_micros() as i64 * MISSED_HEARTBEATS as i64;
/// Age from which a heartbeat is late, and distance of two heartbeats that is a gap.
pub(crate) const LATE: i64 = HEARTBEAT.as_micros() as i64 * 2;
/// Time for which a judge's heartbeats must have arrived without a gap.
pub(crate) const GRACE: i64 = DEAD_AFTER;
/// Age of a heartbeat from which a worker without a held lock counts as dead. A process that lost only the connection
/// of its lock takes it again with its next heartbeat, within [`HEARTBEAT`].
const UNLOCKED_AFTER: i64 = HEARTBEAT.as_micros() as i64 * 3 / 2;

/// The heartbeats of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heartbeats {
    /// Time of the last one.
    pub(crate) last: i64,
    /// Time of the first one after the last gap.
    pub(crate) steady_since: i64,
}

impl Heartbeats {
    /// Returns the heartbeats with one more. A clock that was set back makes no gap.
    #[must_use]
    pub(crate) fn with(before: Option<Self>, at: i64) -> Self {
        let steady_since =
            before.filter(|before| at - before.last < LATE).map_or(at, |before| before.steady_since.min(at));
        Self { last: at, steady_since }
    }
}

/// Verdict on a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Liveness {
    /// The worker counts as alive.
    Alive,
    /// The worker counts as dead if it had a lock that nobody holds now.
    DeadIfUnlocked,
    /// The worker counts as dead.
    Dead,
}

/// A worker that may judge others now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Judge {
    /// Time of its last heartbeat.
    last: i64,
    now: i64,
}

impl Judge {
    /// Creates a judge from its own heartbeats; `None` when it may not judge now.
    #[must_use]
    pub(crate) fn new(own: Heartbeats, now: i64) -> Option<Self> {
        let is_late = now.saturating_sub(own.last) >= LATE;
        let is_steady = own.last.saturating_sub(own.steady_since) >= GRACE;
        (is_steady && !is_late).then_some(Self { last: own.last, now })
    }

    /// Judges a worker by its last heartbeat.
    ///
    /// Locks survive a stall, so a free lock is judged by the current age.
    #[must_use]
    pub(crate) fn liveness(&self, last: i64) -> Liveness {
        if self.last.saturating_sub(last) >= DEAD_AFTER {
            Liveness::Dead
        } else if self.now.saturating_sub(last) >= UNLOCKED_AFTER {
            Liveness::DeadIfUnlocked
        } else {
            Liveness::Alive
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    fn beats(times: &[i64]) -> Heartbeats {
        times.iter().fold(None, |before, &at| Some(Heartbeats::with(before, at))).unwrap()
    }

    #[test]
    fn a_judge_needs_steady_heartbeats() {
        let steady = beats(&[0, SECOND, 2 * SECOND, 3 * SECOND]);
        assert!(Judge::new(steady, 3 * SECOND).is_some());
        assert!(Judge::new(steady, 5 * SECOND - 1).is_some());
        assert!(Judge::new(steady, 5 * SECOND).is_none(), "its own heartbeat is late");
        assert!(Judge::new(beats(&[0, SECOND, 2 * SECOND]), 2 * SECOND).is_none(), "it is new");
        let stalled = beats(&[0, SECOND, 2 * SECOND, 3 * SECOND, 7 * SECOND, 8 * SECOND, 9 * SECOND]);
        assert!(Judge::new(stalled, 9 * SECOND).is_none(), "the grace after a stall");
        assert!(Judge::new(Heartbeats::with(Some(stalled), 10 * SECOND), 10 * SECOND).is_some());
    }

    #[test]
    fn a_clock_that_is_set_back_silences_no_judge() {
        let back = beats(&[100 * SECOND, 101 * SECOND, 0, SECOND, 2 * SECOND, 3 * SECOND]);
        assert_eq!(back, Heartbeats { last: 3 * SECOND, steady_since: 0 });
    }

    /// Whatever the length of a stall and the phases of two workers: when the judge sends its first heartbeats after
    /// it, the other one, whose next heartbeat is in flight, has at least half a second to deliver it.
    #[test]
    fn a_stall_of_any_length_counts_as_no_death() {
        for stall in (0..12 * SECOND).step_by(50_000) {
            for (own, other) in [(0, 0), (0, 999_000), (999_000, 0), (500_000, 999_000), (1, 500_000)] {
                // Both sent heartbeats at their phase of every second until the stall began at 60 s; the judge's next
                // one is executed when it ends, and then one a second.
                let begin = 60 * SECOND;
                let end = begin + stall;
                let mut judge = beats(&(0..60).map(|n| own + n * SECOND).collect::<Vec<_>>());
                let last = other + 59 * SECOND;
                for look in [begin, end, end + 1] {
                    let found = Judge::new(judge, look).map(|judge| judge.liveness(last));
                    assert_ne!(found, Some(Liveness::Dead), "{stall} {own} {other} before the judge's heartbeat");
                }
                judge = Heartbeats::with(Some(judge), end.max(own + begin));
                let look = judge.last + SECOND / 2;
                let found = Judge::new(judge, look).map(|judge| judge.liveness(last));
                assert_ne!(found, Some(Liveness::Dead), "{stall} {own} {other} after the judge's heartbeat");
            }
        }
    }

    #[test]
    fn the_silent_are_dead_after_three_heartbeats() {
        let judge = Judge::new(beats(&[0, SECOND, 2 * SECOND, 3 * SECOND]), 3 * SECOND).unwrap();
        assert_eq!(judge.liveness(0), Liveness::Dead);
        assert_eq!(judge.liveness(1), Liveness::DeadIfUnlocked);
        assert_eq!(judge.liveness(2 * SECOND), Liveness::Alive);
        assert_eq!(judge.liveness(9 * SECOND), Liveness::Alive, "its heartbeat came after the judge's");
    }
}
