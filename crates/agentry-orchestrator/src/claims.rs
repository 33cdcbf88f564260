//! Leases of this process, compared with the leases that the store attributes to it.
//!
//! A claim may be executed although its answer is lost, or arrives after its caller has given up. Such a task would be
//! `running` under a live worker that does not run it, and recovery only takes tasks of dead workers. So every lease is
//! entered here before its claim counts as answered, and the store's leases of this worker are compared with it
//! ([`reconcile`]): tasks that are missing here are released to the queue.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentry_store::{Advance, Lease, Step, StoreError};
use tokio::time::Instant;

use crate::context::{Context, lock};

/// Maximum number of leases compared at once; further ones are compared once these are settled.
const MAX_LEASES: usize = 100_000;
/// A comparison is due at every tick, but takes at most this fraction of the time: 1 / 200. A store without an index of
/// owners reads all open tasks for it.
const SHARE: u32 = 200;
/// Maximum time between two comparisons, because a slow answer may have been an exception.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The leases of this process.
#[derive(Default)]
pub(crate) struct Claims {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Number of the next claim.
    next: u64,
    /// Unanswered claims.
    in_flight: BTreeSet<u64>,
    /// Number of holders of each lease in this process: a store that lost a claim in a power failure may grant the same
    /// lease again.
    held: HashMap<Lease, u32>,
    /// Leases that only the store knows, each with the number of the first claim that cannot have granted it.
    suspects: HashMap<Lease, u64>,
    /// Leases whose end the store refuses permanently.
    stranded: HashSet<Lease>,
    /// Time of the next comparison.
    not_before: Option<Instant>,
}

/// An unanswered claim, until this is dropped.
pub(crate) struct ClaimInFlight<'a> {
    claims: &'a Claims,
    number: u64,
}

/// A lease held by this process, until this is dropped.
pub(crate) struct HeldLease {
    ctx: Arc<Context>,
    lease: Lease,
}

impl Claims {
    /// Registers a claim that is about to be sent. The guard must be kept until every lease of its answer is held.
    pub fn begin(&self) -> ClaimInFlight<'_> {
        let mut state = lock(&self.state);
        let number = state.next;
        state.next += 1;
        state.in_flight.insert(number);
        ClaimInFlight { claims: self, number }
    }

    /// Excludes a lease that cannot be ended: its task stays as it is until this process ends.
    pub fn strand(&self, lease: Lease) {
        lock(&self.state).stranded.insert(lease);
    }

    /// Returns the leases that the store attributes to this worker, that no unanswered claim can have granted, and that
    /// are not held here.
    fn orphans(&self, owned: &[Lease]) -> Vec<Lease> {
        let State { next, in_flight, held, suspects, stranded, .. } = &mut *lock(&self.state);
        let lost: HashSet<Lease> =
            owned.iter().filter(|lease| !held.contains_key(lease) && !stranded.contains(lease)).copied().collect();
        suspects.retain(|lease, _| lost.contains(lease));
        for lease in lost {
            suspects.entry(lease).or_insert(*next);
        }
        let oldest = in_flight.first().copied().unwrap_or(u64::MAX);
        suspects.iter().filter(|(_, after)| **after <= oldest).map(|(lease, _)| *lease).collect()
    }
}

impl HeldLease {
    pub fn new(ctx: &Arc<Context>, lease: Lease) -> Self {
        *lock(&ctx.claims.state).held.entry(lease).or_default() += 1;
        Self { ctx: Arc::clone(ctx), lease }
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        let held = &mut lock(&self.ctx.claims.state).held;
        if let Some(count) = held.get_mut(&self.lease) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.lease);
            }
        }
    }
}

impl Drop for ClaimInFlight<'_> {
    fn drop(&mut self) {
        lock(&self.claims.state).in_flight.remove(&self.number);
    }
}

/// Releases tasks that the store attributes to this worker and that do not run here.
pub(crate) async fn reconcile(ctx: &Arc<Context>) {
    let began = Instant::now();
    if lock(&ctx.claims.state).not_before.is_some_and(|at| began < at) {
        return;
    }
    let owned = match ctx.store.leases_of(ctx.worker, MAX_LEASES).await {
        Ok(owned) => owned,
        Err(error) => {
            tracing::warn!(%error, "comparing this worker's leases with the store failed");
            return;
        }
    };
    let pause = began.elapsed().saturating_mul(SHARE).min(LONGEST_PAUSE);
    lock(&ctx.claims.state).not_before = Some(Instant::now() + pause);
    let orphans = ctx.claims.orphans(&owned);
    let mut requeued = 0_u64;
    for lease in orphans {
        match ctx.store.advance(Arc::new(Advance::new(lease, ctx.now(), Step::Release))).await {
            Ok(_) => requeued += 1,
            // The task has ended or has another owner by now.
            Err(StoreError::Fenced) => {}
            Err(error) => tracing::warn!(task = %lease.task, %error, "releasing a task failed; retrying"),
        }
    }
    if requeued > 0 {
        tracing::warn!(tasks = requeued, "released tasks that this worker owned and did not run");
        ctx.metrics.orphaned.inc_by(requeued);
        ctx.due.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use agentry_core::id::{TaskId, WorkerId};

    use super::*;

    fn lease(task: u128) -> Lease {
        Lease { task: TaskId::from_parts(1, task << 64), epoch: 1, worker: WorkerId::from_parts(1, 2) }
    }

    #[test]
    fn a_lease_is_lost_once_every_claim_that_may_bring_it_is_answered() {
        let claims = Claims::default();
        assert_eq!(claims.orphans(&[lease(1)]), [lease(1)], "no claim is out");
        let slow = claims.begin();
        assert!(claims.orphans(&[lease(2)]).is_empty(), "the claim that is out may bring it");
        let later = claims.begin();
        drop(slow);
        assert_eq!(claims.orphans(&[lease(2)]), [lease(2)], "a later claim cannot");
        drop(later);
        claims.strand(lease(2));
        assert!(claims.orphans(&[lease(2)]).is_empty(), "its end is refused for good");
    }
}
