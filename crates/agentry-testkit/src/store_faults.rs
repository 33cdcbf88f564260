//! The faults of a [`FaultyStore`](crate::FaultyStore): refused, late or hanging calls, and lost answers.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agentry_store::StoreError;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::outage::Outages;
use crate::{FaultCounts, Outage, SeededRng};

/// Longest time over which the calls that an outage held up are executed after its end.
const THAW: Duration = Duration::from_millis(50);
/// Timeout of a probe of the dispatcher: a claim that hangs for longer keeps a probe from being answered.
const PROBE_PATIENCE: Duration = Duration::from_secs(4);

/// Probabilities and sizes of the faults of a store, per call.
#[derive(Debug, Clone, Copy, Default)]
pub struct StoreFaults {
    /// The call is not executed and fails with `Unavailable`.
    pub refuse: f64,
    /// The call is executed, and fails with `Unavailable` all the same: its outcome is unknown to the caller.
    pub lose_answer: f64,
    /// The call is late.
    pub delay: f64,
    /// Longest delay.
    pub max_delay: Duration,
    /// The call hangs, and is executed even when its caller gives up.
    pub hang: f64,
    /// Longest hang.
    pub max_hang: Duration,
}

/// Treatment of a call.
#[derive(Debug)]
enum Fate {
    Pass,
    Refuse(&'static str),
    Late { by: Duration, answer_lost: bool },
    AnswerLost,
    Hang { until: Instant, made_first: bool, answer_lost: bool },
}

/// A call that the server has and has not executed.
type Pending = Arc<Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>>;

/// Decides the fate of calls and carries it out.
pub(crate) struct Faults {
    dice: SeededRng,
    odds: StoreFaults,
    active: AtomicBool,
    pub(crate) outages: Outages,
    pub(crate) counts: Arc<FaultCounts>,
    pending: Mutex<Vec<Pending>>,
}

impl Faults {
    pub(crate) fn new(dice: SeededRng, odds: StoreFaults) -> Self {
        Self {
            dice,
            odds,
            active: AtomicBool::new(true),
            outages: Outages::default(),
            counts: Arc::default(),
            pending: Mutex::default(),
        }
    }

    pub(crate) fn set_active(&self, active: bool) {
        self.outages.end();
        self.active.store(active, Ordering::SeqCst);
    }

    /// Executes a call, or applies the fault that the random numbers select.
    pub(crate) async fn around<T: Send + 'static>(
        &self,
        method: &'static str,
        call: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let fate = self.fate();
        if !matches!(fate, Fate::Pass) {
            tracing::debug!(method, ?fate, "a fault of the store");
        }
        match fate {
            Fate::Pass => call.await,
            Fate::Refuse(why) => Err(self.refused(why)),
            Fate::Late { by, answer_lost } => {
                tokio::time::sleep(by).await;
                let answer = call.await;
                if answer_lost { Err(self.answer_lost()) } else { answer }
            }
            Fate::AnswerLost => {
                // The caller does not get its result.
                let _ = call.await;
                Err(self.answer_lost())
            }
            Fate::Hang { until, made_first, answer_lost } => {
                let answer = self.hang(method, until, made_first, call).await;
                if answer_lost { Err(self.answer_lost()) } else { answer }
            }
        }
    }

    fn fate(&self) -> Fate {
        if !self.active.load(Ordering::SeqCst) {
            return Fate::Pass;
        }
        match self.outages.current() {
            Some((Outage::Refusing, _)) => return Fate::Refuse("outage"),
            Some((Outage::Frozen, end)) => {
                return Fate::Hang { until: end + self.up_to(THAW), made_first: false, answer_lost: false };
            }
            None => {}
        }
        let (dice, odds) = (&self.dice, &self.odds);
        if dice.happens(odds.hang) {
            let until = Instant::now() + self.up_to(odds.max_hang);
            return Fate::Hang { until, made_first: dice.happens(0.5), answer_lost: dice.happens(odds.lose_answer) };
        }
        let late = dice.happens(odds.delay).then(|| self.up_to(odds.max_delay));
        if dice.happens(odds.refuse) {
            return Fate::Refuse("refused");
        }
        match (late, dice.happens(odds.lose_answer)) {
            (Some(by), answer_lost) => Fate::Late { by, answer_lost },
            (None, true) => Fate::AnswerLost,
            (None, false) => Fate::Pass,
        }
    }

    /// Executes the call in a task of its own, as a server continues a statement whose client is gone.
    async fn hang<T: Send + 'static>(
        &self,
        method: &'static str,
        until: Instant,
        made_first: bool,
        call: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.counts.add("store.hung");
        if method == "claim" && until.saturating_duration_since(Instant::now()) > PROBE_PATIENCE {
            self.counts.add("store.claim_hung_past_a_probe");
        }
        let (reply, answer) = oneshot::channel();
        let counts = Arc::clone(&self.counts);
        let answered = move |result| {
            if reply.send(result).is_err() {
                tracing::debug!(method, "a call was carried out after its caller had gone");
                counts.add(format!("store.orphaned.{method}"));
            }
        };
        if made_first {
            tokio::spawn(async move {
                let result = call.await;
                tokio::time::sleep_until(until).await;
                answered(result);
            });
        } else {
            let pending = self.pend(async move { answered(call.await) });
            tokio::spawn(async move {
                tokio::time::sleep_until(until).await;
                let call = take(&pending);
                if let Some(call) = call {
                    call.await;
                }
            });
        }
        answer.await.unwrap_or_else(|_| Err(StoreError::Unavailable("injected: the store is gone".to_owned())))
    }

    fn pend(&self, call: impl Future<Output = ()> + Send + 'static) -> Pending {
        let call: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(call);
        let pending: Pending = Arc::new(Mutex::new(Some(call)));
        let mut all = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|other| other.lock().unwrap_or_else(PoisonError::into_inner).is_some());
        all.push(Arc::clone(&pending));
        pending
    }

    /// Executes some of the calls that the server has after the process of the callers was killed.
    pub(crate) async fn carry_out_orphans(&self) {
        let pending = std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        for call in pending.iter().filter_map(take) {
            if self.dice.happens(0.5) {
                self.counts.add("store.carried_out_after_a_kill");
                call.await;
            }
        }
    }

    fn up_to(&self, most: Duration) -> Duration {
        Duration::from_micros(self.dice.below(u64::try_from(most.as_micros()).unwrap_or(u64::MAX)))
    }

    fn refused(&self, why: &str) -> StoreError {
        self.counts.add(format!("store.{why}"));
        StoreError::Unavailable(format!("injected: {why}"))
    }

    fn answer_lost(&self) -> StoreError {
        self.counts.add("store.answer_lost");
        StoreError::Unavailable("injected: the answer was lost".to_owned())
    }
}

fn take(pending: &Pending) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
    pending.lock().unwrap_or_else(PoisonError::into_inner).take()
}
