//! The leases of this process: which it holds, and which the store says it holds and nobody here knows of.
//!
//! A claim may be carried out although its answer is lost, or comes after its caller has given up. Such a task would be
//! `running` under a live worker that does not run it, and recovery only takes from the dead. So every lease is entered
//! here before its claim counts as answered, and what the store says this worker owns is compared with it
//! ([`reconcile`]): what is missing here is handed back to the queue.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentry_store::{Advance, Lease, Step, StoreError};
use tokio::time::Instant;

use crate::context::{Context, lock};

/// Leases compared at once at most; further ones are compared once these are settled.
const MAX_LEASES: usize = 100_000;
/// A comparison is made at every tick, but takes at most this part of the time: 1 / 200. Where the store has no index of
/// owners it reads all open tasks.
const SHARE: u32 = 200;
/// The longest time between two comparisons: a store that hung for long is not slow for ever.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The leases of this process.
#[derive(Default)]
pub(crate) struct Claims {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The number of the next claim.
    next: u64,
    /// Claims without an answer.
    in_flight: BTreeSet<u64>,
    /// How often each lease is held here: a store that lost a claim with the power of its machine may give it again.
    held: HashMap<Lease, u32>,
    /// Leases that the store knows and that are not held here, each with the number of the first claim that cannot have
    /// brought it.
    suspects: HashMap<Lease, u64>,
    /// Leases whose end the store refuses for good.
    stranded: HashSet<Lease>,
    /// No comparison before this moment.
    not_before: Option<Instant>,
}

/// A claim without an answer, until this is dropped.
pub(crate) struct ClaimInFlight<'a> {
    claims: &'a Claims,
    number: u64,
}

/// A lease that is held here, until this is dropped.
pub(crate) struct HeldLease {
    ctx: Arc<Context>,
    lease: Lease,
}

impl Claims {
    /// A claim is about to be sent. To be kept until every lease that it brings is held.
    pub fn begin(&self) -> ClaimInFlight<'_> {
        let mut state = lock(&self.state);
        let number = state.next;
        state.next += 1;
        state.in_flight.insert(number);
        ClaimInFlight { claims: self, number }
    }

    /// A lease cannot be ended: it stays as it is until this process ends.
    pub fn strand(&self, lease: Lease) {
        lock(&self.state).stranded.insert(lease);
    }

    /// Of the leases that the store says are this worker's, those that no claim without an answer can have brought and
    /// that nobody here holds.
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
    /// Holds a lease.
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

/// Hands back what the store says this worker owns and nobody here runs.
pub(crate) async fn reconcile(ctx: &Arc<Context>) {
    let began = Instant::now();
    if lock(&ctx.claims.state).not_before.is_some_and(|at| began < at) {
        return;
    }
    let owned = match ctx.store.owned(ctx.worker, MAX_LEASES).await {
        Ok(owned) => owned,
        Err(error) => {
            tracing::warn!(%error, "could not compare the tasks of this worker with the store's");
            return;
        }
    };
    let pause = began.elapsed().saturating_mul(SHARE).min(LONGEST_PAUSE);
    lock(&ctx.claims.state).not_before = Some(Instant::now() + pause);
    let orphans = ctx.claims.orphans(&owned);
    let mut requeued = 0_u64;
    for lease in orphans {
        match ctx.store.advance(Arc::new(Advance::new(lease, ctx.now(), Step::HandBack))).await {
            Ok(_) => requeued += 1,
            // It has ended or has another owner since the store was asked.
            Err(StoreError::Fenced) => {}
            Err(error) => tracing::warn!(task = %lease.task, %error, "could not hand a task back; trying again"),
        }
    }
    if requeued > 0 {
        tracing::warn!(tasks = requeued, "handed back tasks that this worker owned and did not run");
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
