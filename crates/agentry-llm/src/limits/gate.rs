//! The queue before a limit: one call at a time asks the buckets, interactive ones before the others, each in the order
//! it came.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, timeout_at};

use super::{Buckets, Limit, Taken, Wanted};

/// Calls that may wait for one model. More are refused at once.
const MAX_WAITING: usize = 20_000;
/// How often is asked again while too many calls are under way in other processes.
const BUSY_POLL: Duration = Duration::from_millis(50);

/// The queue before a limit.
#[derive(Debug)]
pub(crate) struct Gate {
    /// `provider/model`.
    pub key: String,
    pub limit: Limit,
    queue: Mutex<Queue>,
    /// A call of this process ended.
    freed: Notify,
    /// An interactive call has come.
    urgent: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    is_taken: bool,
    interactive: VecDeque<oneshot::Sender<Turn>>,
    batch: VecDeque<oneshot::Sender<Turn>>,
}

/// Whose turn it is. Passed on when this is dropped.
#[derive(Debug)]
struct Turn(Option<Arc<Gate>>);

/// Why a call may not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
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

    /// A call ended.
    pub fn released(&self) {
        self.freed.notify_one();
    }

    /// Waits until the buckets let a call through.
    pub async fn pass(
        self: &Arc<Self>,
        buckets: &dyn Buckets,
        wanted: &Wanted<'_>,
        interactive: bool,
        deadline: Instant,
    ) -> Result<(), Refused> {
        let passed = timeout_at(deadline, self.passed(buckets, wanted, interactive, deadline)).await;
        passed.unwrap_or_else(|_| Err(Refused::Late { key: self.key.clone() }))
    }

    async fn passed(
        self: &Arc<Self>,
        buckets: &dyn Buckets,
        wanted: &Wanted<'_>,
        interactive: bool,
        deadline: Instant,
    ) -> Result<(), Refused> {
        let mut turn = self.turn(interactive, false).await?;
        loop {
            let wait = match buckets.take(wanted).await {
                Taken::Now => return Ok(()),
                Taken::Later(wait) if Instant::now() + wait > deadline => {
                    return Err(Refused::TooLong { key: self.key.clone(), wait });
                }
                Taken::Later(wait) => wait,
                Taken::Busy => BUSY_POLL,
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

    /// Waits for the turn; `again` before all others of its kind.
    async fn turn(self: &Arc<Self>, interactive: bool, again: bool) -> Result<Turn, Refused> {
        let waiting = {
            let mut queue = self.lock();
            if !queue.is_taken {
                queue.is_taken = true;
                return Ok(Turn(Some(Arc::clone(self))));
            }
            if queue.interactive.len() + queue.batch.len() >= MAX_WAITING {
                return Err(Refused::Full { key: self.key.clone() });
            }
            let (sender, waiting) = oneshot::channel();
            let line = if interactive { &mut queue.interactive } else { &mut queue.batch };
            if again {
                line.push_front(sender)
            } else {
                line.push_back(sender)
            }
            waiting
        };
        if interactive {
            self.urgent.notify_one();
        }
        // The sender lives in the queue until it sends.
        waiting.await.map_err(|_| Refused::Late { key: self.key.clone() })
    }

    /// Gives the turn to the next one that still waits.
    fn pass_on(self: &Arc<Self>) {
        loop {
            let next = {
                let mut queue = self.lock();
                let next = queue.interactive.pop_front().or_else(|| queue.batch.pop_front());
                queue.is_taken = next.is_some();
                next
            };
            let Some(next) = next else { return };
            match next.send(Turn(Some(Arc::clone(self)))) {
                Ok(()) => return,
                // It has gone away; its turn goes to the one after it, here and not by being dropped.
                Err(mut turn) => turn.0 = None,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
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

    fn wanted(gate: &Gate, n: u128, tokens: u64) -> Wanted<'_> {
        Wanted { key: &gate.key, limit: &gate.limit, call: CallId::from_parts(1, n << 64), tokens, lease: LONG }
    }

    /// Passes in a task of its own and then notes its number.
    fn passing(
        gate: &Arc<Gate>,
        buckets: &Arc<MemoryBuckets>,
        n: u128,
        interactive: bool,
        order: &Arc<Mutex<Vec<u128>>>,
    ) -> tokio::task::JoinHandle<()> {
        let (gate, buckets, order) = (Arc::clone(gate), Arc::clone(buckets), Arc::clone(order));
        tokio::spawn(async move {
            gate.pass(&*buckets, &wanted(&gate, n, 1), interactive, Instant::now() + LONG).await.unwrap();
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
        // One after another ends, each when it was let through.
        for done in 1..=5 {
            let last = loop {
                settle().await;
                let seen = order.lock().unwrap().clone();
                if seen.len() == done {
                    break seen[done - 1];
                }
                tokio::time::advance(BUSY_POLL).await;
            };
            buckets.give_back(&wanted(&gate, last, 1), None);
            gate.released();
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
        gate.pass(&buckets, &wanted(&gate, 1, 1), true, soon()).await.unwrap();
        let began = Instant::now();
        let refused = gate.pass(&buckets, &wanted(&gate, 2, 1), true, soon()).await.unwrap_err();
        assert_eq!(refused, Refused::TooLong { key: "openai/m".into(), wait: Duration::from_secs(60) });
        assert_eq!(Instant::now(), began);
    }
}
