//! Records of sessions that this process got from the store, and the time for which it may rely on them.

use std::time::{Duration, Instant, SystemTime};

use agentry_core::id::TaskId;
use agentry_core::session::{SessionId, SessionRecord, SessionWrite};
use agentry_core::time::Timestamp;

use super::bounded_map::BoundedMap;
use crate::{Advance, Lease};

/// Time that a session's record proves its existence, counted from before the store was asked. A claim is followed by
/// the read of its messages within milliseconds; a busy machine may take longer.
pub const PROOF_LIFE: Duration = Duration::from_millis(250);
/// Delay between commit and acknowledgement of a deletion: twice [`PROOF_LIFE`], for clocks that run unequally.
pub const DELETE_WAIT: Duration = Duration::from_millis(500);
/// Largest number of remembered session records; further sessions are read from the store.
const MAX_PROOFS: usize = 10_000;
/// Largest number of remembered session claims, many times what a process works on at once.
const MAX_TURNS: usize = 10_000;

/// One life of a session, identified by its creation time; a session that is deleted and created again begins another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SessionLife(pub(super) Timestamp);

/// A time by both clocks: the monotonic clock stands still while a machine is suspended, the wall clock may be set.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    monotonic: Instant,
    wall: SystemTime,
}

impl Moment {
    pub(super) fn now() -> Self {
        Self { monotonic: Instant::now(), wall: SystemTime::now() }
    }

    /// Returns whether `now` is within `life` after this moment by both clocks.
    fn is_within(&self, life: Duration, now: &Self) -> bool {
        let by_wall = now.wall.duration_since(self.wall);
        now.monotonic.saturating_duration_since(self.monotonic) <= life && by_wall.is_ok_and(|age| age <= life)
    }
}

/// A session record as the store returned it.
#[derive(Clone, Copy)]
pub(super) struct Proof {
    pub(super) life: SessionLife,
    /// Number of its last message.
    pub(super) messages: u64,
    /// Time of the end of its last turn.
    pub(super) updated_at: Timestamp,
    asked: Moment,
}

/// The latest proof of each session.
pub(super) struct Proofs(BoundedMap<SessionId, Proof>);

impl Proofs {
    pub(super) fn new() -> Self {
        Self(BoundedMap::new(MAX_PROOFS))
    }

    /// Stores a record that the store returned to a call which started at `asked`.
    pub(super) fn remember(&self, record: &SessionRecord, asked: Moment) {
        let (life, messages, updated_at) = (SessionLife(record.created_at), record.messages, record.updated_at);
        self.0.update(&record.id, |known| {
            let newer = known.is_none_or(|known| known.asked.monotonic <= asked.monotonic);
            newer.then_some(Proof { life, messages, updated_at, asked })
        });
    }

    /// Returns the proof that is valid for a call which starts now.
    pub(super) fn holding(&self, session: &SessionId) -> Option<Proof> {
        let now = Moment::now();
        self.0.get(session, |proof| *proof).filter(|proof| proof.asked.is_within(PROOF_LIFE, &now))
    }

    /// Removes the proof of a deleted session.
    pub(super) fn forget(&self, session: &SessionId) {
        self.0.remove(session);
    }
}

/// A session as it was claimed.
struct ClaimedSession {
    epoch: u32,
    session: SessionId,
    fence: u64,
    life: SessionLife,
    /// Number of the last message before the turn.
    messages: u64,
    /// Writes to the session that started under this claim.
    writes: u32,
}

/// Sessions that this process has claimed, by the claimed task.
pub(super) struct ClaimedSessions(BoundedMap<TaskId, ClaimedSession>);

impl ClaimedSessions {
    pub(super) fn new() -> Self {
        Self(BoundedMap::new(MAX_TURNS))
    }

    /// Records a claim.
    pub(super) fn claimed(&self, lease: &Lease, record: &SessionRecord) {
        self.0.update(&lease.task, |_| {
            Some(ClaimedSession {
                epoch: lease.epoch,
                session: record.id.clone(),
                fence: record.fence,
                life: SessionLife(record.created_at),
                messages: record.messages,
                writes: 0,
            })
        });
    }

    /// Starts a write to the session. Returns its life and the number of its first message, as the store will assign it
    /// if the write is accepted and remains the only one of its claim.
    pub(super) fn begin(&self, lease: &Lease, write: &SessionWrite) -> Option<(SessionLife, u64)> {
        let begun = self.0.change(&lease.task, |turn| {
            turn.writes += 1;
            let same = turn.epoch == lease.epoch && turn.session == write.session && turn.fence == write.fence;
            (same && turn.writes == 1).then_some((turn.life, turn.messages + 1))
        });
        begun.flatten()
    }

    /// Ends a claim whose last write was acknowledged. Returns true when that write was the only one to the session.
    pub(super) fn end(&self, advance: &Lease) -> bool {
        self.0.remove(&advance.task).is_some_and(|turn| turn.epoch == advance.epoch && turn.writes == 1)
    }
}

/// Returns whether a write ends its claim.
pub(super) fn ends(advance: &Advance) -> bool {
    !matches!(advance.step, crate::Step::Continue)
}

#[cfg(test)]
mod tests {
    use agentry_core::agent::AgentName;
    use agentry_core::id::WorkerId;

    use super::*;

    fn record(created: i64, messages: u64) -> SessionRecord {
        SessionRecord {
            id: SessionId::new(&AgentName::new("writer").unwrap(), "thread"),
            fence: 1,
            messages,
            turns: 0,
            summary: None,
            created_at: Timestamp(created),
            updated_at: Timestamp(created),
        }
    }

    #[test]
    fn a_proof_runs_out_by_either_clock() {
        let then = Moment::now();
        let later = |monotonic_ms, wall_ms: i64| {
            let shift = Duration::from_millis(wall_ms.unsigned_abs());
            let wall = if wall_ms < 0 { then.wall - shift } else { then.wall + shift };
            Moment { monotonic: then.monotonic + Duration::from_millis(monotonic_ms), wall }
        };
        assert!(then.is_within(PROOF_LIFE, &later(250, 250)));
        assert!(!then.is_within(PROOF_LIFE, &later(251, 0)), "it is old");
        assert!(!then.is_within(PROOF_LIFE, &later(0, 10_000)), "the machine was suspended");
        assert!(!then.is_within(PROOF_LIFE, &later(1, -1)), "the clock was set back: nobody knows how old it is");
        assert!(DELETE_WAIT >= PROOF_LIFE * 2);
    }

    #[test]
    fn a_late_answer_does_not_replace_a_newer_proof() {
        let (proofs, first) = (Proofs::new(), Moment::now());
        let second = Moment { monotonic: first.monotonic + Duration::from_millis(1), wall: first.wall };
        proofs.remember(&record(2, 1), second);
        proofs.remember(&record(1, 9), first);
        let known = proofs.0.get(&record(1, 9).id, |proof| proof.life);
        assert_eq!(known, Some(SessionLife(Timestamp(2))));
    }

    #[test]
    fn numbers_are_known_only_to_the_single_write_of_a_claim() {
        let turns = ClaimedSessions::new();
        let lease = Lease { task: TaskId::generate(), epoch: 1, worker: WorkerId::generate() };
        let session = record(7, 4);
        let write = SessionWrite { session: session.id.clone(), fence: 1, messages: Vec::new(), summary: None };
        turns.claimed(&lease, &session);
        assert_eq!(turns.begin(&lease, &write), Some((SessionLife(Timestamp(7)), 5)));
        assert!(turns.end(&lease));
        assert!(!turns.end(&lease), "the claim is over");
        turns.claimed(&lease, &session);
        turns.begin(&lease, &write);
        assert_eq!(turns.begin(&lease, &write), None, "a second write may have come first");
        assert!(!turns.end(&lease));
        turns.claimed(&lease, &session);
        assert_eq!(turns.begin(&lease, &SessionWrite { fence: 2, ..write }), None, "of another owner");
    }
}
