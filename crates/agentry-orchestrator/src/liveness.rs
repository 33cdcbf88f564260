//! Freshness of this worker's own heartbeats.
//!
//! Other workers declare a worker without heartbeats dead, and its tasks run elsewhere. It must notice this by itself:
//! it may have been frozen, or cut off from the store. While its last heartbeat is old, it declares no worker dead and
//! begins no paid call.

use agentry_core::worker::{HEARTBEAT, MISSED_HEARTBEATS};
use tokio::sync::watch;
use tokio::time::{Duration, Instant};

/// Age at which the last heartbeat is stale: others count this worker as dead then. The age is measured from the moment
/// before the heartbeat was sent, which is before the store stamped it, so this worker notices first.
const STALE_AFTER: Duration = HEARTBEAT.saturating_mul(MISSED_HEARTBEATS);

/// The last successful heartbeat of this worker, by the monotonic clock.
pub(crate) struct HeartbeatFreshness {
    sent: watch::Sender<Option<Instant>>,
}

impl Default for HeartbeatFreshness {
    fn default() -> Self {
        Self { sent: watch::Sender::new(None) }
    }
}

impl HeartbeatFreshness {
    /// Records a successful heartbeat. `sent` is the moment before it was sent: a process that is frozen while it waits
    /// for the answer must not take an old heartbeat for a new one.
    pub fn record(&self, sent: Instant) {
        self.sent.send_replace(Some(sent));
    }

    /// Returns whether the last heartbeat is so recent that no worker can have declared this one dead.
    pub fn is_fresh(&self) -> bool {
        is_fresh(*self.sent.borrow())
    }

    /// Waits until [`HeartbeatFreshness::is_fresh`]; returns whether it had to wait. If so, this worker may have been declared
    /// dead meanwhile, and its leases must be checked with the store. Cancel-safe.
    pub async fn wait_fresh(&self) -> bool {
        if self.is_fresh() {
            return false;
        }
        // The sender lives as long as `self`.
        let _ = self.sent.subscribe().wait_for(|sent| is_fresh(*sent)).await;
        true
    }
}

fn is_fresh(sent: Option<Instant>) -> bool {
    sent.is_some_and(|sent| sent.elapsed() < STALE_AFTER)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_heartbeat_is_fresh_for_as_long_as_nobody_can_count_its_worker_as_dead() {
        let liveness = HeartbeatFreshness::default();
        assert!(!liveness.is_fresh(), "there was none yet");
        liveness.record(Instant::now());
        assert!(liveness.is_fresh() && !liveness.wait_fresh().await);
        tokio::time::advance(STALE_AFTER - Duration::from_millis(1)).await;
        assert!(liveness.is_fresh());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!liveness.is_fresh());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_goes_on_with_the_next_heartbeat_that_was_sent_lately() {
        let liveness = Arc::new(HeartbeatFreshness::default());
        let before = Instant::now();
        tokio::time::advance(STALE_AFTER).await;
        let waiting = {
            let liveness = Arc::clone(&liveness);
            tokio::spawn(async move { liveness.wait_fresh().await })
        };
        tokio::task::yield_now().await;
        // The answer was late, because the process or the store was frozen.
        liveness.record(before);
        tokio::time::sleep(HEARTBEAT).await;
        assert!(!waiting.is_finished());
        liveness.record(Instant::now());
        assert!(waiting.await.unwrap(), "it had to wait");
    }
}
