//! The queue of a limit: one call at a time asks the buckets, interactive calls before others, otherwise in order of
//! arrival.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, timeout_at};

use super::{Buckets, Limit, LimitDecision, LimitRequest};

const MAX_WAITING: usize = 20_000;
/// Poll interval while other processes have too many calls in flight.
const BUSY_POLL: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(crate) struct Gate {
    /// Bucket key, `provider/model`.
    pub key: String,
    pub limit: Limit,
    queue: Mutex<Queue>,
    freed: Notify,
    /// An interactive call has arrived.
    urgent: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    is_busy: bool,
    interactive: VecDeque<oneshot::Sender<GateTurn>>,
    batch: VecDeque<oneshot::Sender<GateTurn>>,
}

/// The right to ask the buckets. Dropping it passes it on.
#[derive(Debug)]
struct GateTurn(Option<Arc<Gate>>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GateError {
    #[error("the limit of {key} leaves no room for {wait:?}, longer than the call may take")]
    TooLong { key: String, wait: Duration },
    #[error("the limit of {key} left no room within the call's time")]
    Late { key: String },
    #[error("{MAX_WAITING} calls wait for the limit of {key} already")]
    Full { key: String },
}

impl Gate {
    pub fn new(key: String, limit: Limit) -> Self {
        Self { key, limit, queue: Mutex::default(), freed: Notify::new(), urgent: Notify::new() }
    }

    pub fn notify_end(&self) {
        self.freed.notify_one();
    }

    pub async fn pass(
        self: &Arc<Self>,
        buckets: &dyn Buckets,
        request: &LimitRequest<'_>,
        interactive: bool,
        deadline: Instant,
    ) -> Result<(), GateError> {
        let passed = timeout_at(deadline, self.pass_queue(buckets, request, interactive, deadline)).await;
        passed.unwrap_or_else(|_| Err(GateError::Late { key: self.key.clone() }))
    }

    async fn pass_queue(
        self: &Arc<Self>,
        buckets: &dyn Buckets,
        request: &LimitRequest<'_>,
        interactive: bool,
        deadline: Instant,
    ) -> Result<(), GateError> {
        let mut turn = self.turn(interactive, false).await?;
        loop {
            let wait = match buckets.take(request).await {
                LimitDecision::Granted => return Ok(()),
                LimitDecision::RetryIn(wait) if Instant::now() + wait > deadline => {
                    return Err(GateError::TooLong { key: self.key.clone(), wait });
                }
                LimitDecision::RetryIn(wait) => wait,
                LimitDecision::Busy => BUSY_POLL,
            };
            tokio::select! {
                () = sleep(wait) => {}
                () = self.freed.notified() => {}
                () = self.urgent.notified(), if !interactive => {
                    if !self.lock().interactive.is_empty() {
                        drop(turn);
                        turn = self.turn(interactive, true).await?;
                    }
                }
            }
        }
    }

    /// Waits for the turn; a call that gave its turn up goes to the front of its queue.
    async fn turn(self: &Arc<Self>, interactive: bool, again: bool) -> Result<GateTurn, GateError> {
        let waiting = {
            let mut queue = self.lock();
            if !queue.is_busy {
                queue.is_busy = true;
                return Ok(GateTurn(Some(Arc::clone(self))));
            }
            if queue.interactive.len() + queue.batch.len() >= MAX_WAITING {
                return Err(GateError::Full { key: self.key.clone() });
            }
            let (sender, waiting) = oneshot::channel();
            let waiters = if interactive { &mut queue.interactive } else { &mut queue.batch };
            if again {
                waiters.push_front(sender)
            } else {
                waiters.push_back(sender)
            }
            waiting
        };
        if interactive {
            self.urgent.notify_one();
        }
        // The sender stays in the queue until it sends.
        waiting.await.map_err(|_| GateError::Late { key: self.key.clone() })
    }

    /// Passes the turn to the next call that still waits.
    fn pass_on(self: &Arc<Self>) {
        loop {
            let next = {
                let mut queue = self.lock();
                let next = queue.interactive.pop_front().or_else(|| queue.batch.pop_front());
                queue.is_busy = next.is_some();
                next
            };
            let Some(next) = next else { return };
            match next.send(GateTurn(Some(Arc::clone(self)))) {
                Ok(()) => return,
                // This call was dropped. Its turn goes to the next one here, and not through the drop of the turn.
                Err(mut turn) => turn.0 = None,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for GateTurn {
    fn drop(&mut self) {
        if let Some(gate) = self.0.take() {
            gate.pass_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use agentry_core::id::CallId;

    use super::super::MemoryBuckets;
    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    fn gate(limit: Limit) -> Arc<Gate> {
        Arc::new(Gate::new("openai/m".to_owned(), limit))
    }

    fn request(gate: &Gate, n: u128, tokens: u64) -> LimitRequest<'_> {
        LimitRequest { key: &gate.key, limit: &gate.limit, call: CallId::from_parts(1, n << 64), tokens, lease: LONG }
    }

    /// Passes the gate in a task of its own, then records its number.
    fn passing(
        gate: &Arc<Gate>,
        buckets: &Arc<MemoryBuckets>,
        n: u128,
        interactive: bool,
        order: &Arc<Mutex<Vec<u128>>>,
    ) -> tokio::task::JoinHandle<()> {
        let (gate, buckets, order) = (Arc::clone(gate), Arc::clone(buckets), Arc::clone(order));
        tokio::spawn(async move {
            gate.pass(&*buckets, &request(&gate, n, 1), interactive, Instant::now() + LONG).await.unwrap();
            order.lock().unwrap().push(n);
        })
    }

    async fn settle() {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn interactive_calls_go_before_batch_that_waits_already() {
        let gate = gate(Limit { concurrent: Some(1), ..Limit::default() });
        let (buckets, order) = (Arc::new(MemoryBuckets::default()), Arc::new(Mutex::new(Vec::new())));
        let mut tasks = vec![passing(&gate, &buckets, 1, true, &order)];
        settle().await;
        for (n, interactive) in [(2, false), (3, false), (4, true), (5, true)] {
            tasks.push(passing(&gate, &buckets, n, interactive, &order));
            settle().await;
        }
        // Calls end in the order of their admission.
        for done in 1..=5 {
            let last = loop {
                settle().await;
                let seen = order.lock().unwrap().clone();
                if seen.len() == done {
                    break seen[done - 1];
                }
                tokio::time::advance(BUSY_POLL).await;
            };
            buckets.release(&request(&gate, last, 1), None);
            gate.notify_end();
        }
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), [1, 4, 5, 2, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_does_not_keep_the_turn() {
        let gate = gate(Limit { requests_per_minute: Some(1), ..Limit::default() });
        let (buckets, order) = (Arc::new(MemoryBuckets::default()), Arc::new(Mutex::new(Vec::new())));
        passing(&gate, &buckets, 1, true, &order).await.unwrap();
        let (asking, waiting) = (passing(&gate, &buckets, 2, true, &order), passing(&gate, &buckets, 3, true, &order));
        settle().await;
        let last = passing(&gate, &buckets, 4, true, &order);
        settle().await;
        asking.abort();
        waiting.abort();
        last.await.unwrap();
        assert_eq!(*order.lock().unwrap(), [1, 4]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_come_in_time_is_refused_at_once() {
        let gate = gate(Limit { requests_per_minute: Some(1), ..Limit::default() });
        let buckets = MemoryBuckets::default();
        let soon = || Instant::now() + Duration::from_secs(10);
        gate.pass(&buckets, &request(&gate, 1, 1), true, soon()).await.unwrap();
        let began = Instant::now();
        let gate_error = gate.pass(&buckets, &request(&gate, 2, 1), true, soon()).await.unwrap_err();
        assert_eq!(gate_error, GateError::TooLong { key: "openai/m".into(), wait: Duration::from_secs(60) });
        assert_eq!(Instant::now(), began);
    }
}
