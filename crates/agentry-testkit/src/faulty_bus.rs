//! A bus that loses hints, as the port allows, and has outages.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agentry_bus::{BusError, EventBus, Inbound, Signal, Signals, Wake, Wakes};
use agentry_core::agent::ModeSet;
use agentry_core::event::Event;
use agentry_core::id::TaskId;
use async_trait::async_trait;
use tokio::time::Instant;

use crate::outage::Outages;
use crate::{FaultCounts, Outage, SeededRng};

/// A bus that loses some wakes and signals. While it refuses, it loses all of them and publishes nothing; while it is
/// frozen, all of them arrive when that is over.
pub struct FaultyBus {
    inner: Arc<dyn EventBus>,
    dice: SeededRng,
    loss: f64,
    active: AtomicBool,
    outages: Outages,
    counts: FaultCounts,
}

/// Treatment of a hint or an event.
enum Fate {
    Pass,
    Lost,
    Late(Instant),
}

impl FaultyBus {
    /// Creates a bus that loses wakes and signals with probability `loss`.
    pub fn new(inner: Arc<dyn EventBus>, dice: SeededRng, loss: f64) -> Arc<Self> {
        Arc::new(Self {
            inner,
            dice,
            loss,
            active: AtomicBool::new(true),
            outages: Outages::default(),
            counts: FaultCounts::default(),
        })
    }

    /// Stops injecting faults. Delayed messages still arrive in their time.
    pub fn heal(&self) {
        self.outages.end();
        self.active.store(false, Ordering::SeqCst);
    }

    /// Starts an outage of this length, in the current runtime.
    pub fn begin_outage(&self, outage: Outage, length: Duration) {
        self.outages.begin(outage, length);
    }

    /// Returns the number of injections of each fault.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.counts.all()
    }

    fn fate(&self, what: &str) -> Fate {
        if !self.active.load(Ordering::SeqCst) {
            return Fate::Pass;
        }
        match self.outages.current() {
            Some((Outage::Frozen, end)) => {
                self.counts.add(format!("bus.{what}_late"));
                Fate::Late(end)
            }
            Some((Outage::Refusing, _)) => {
                self.counts.add(format!("bus.{what}_in_outage"));
                Fate::Lost
            }
            None if self.dice.happens(self.loss) => {
                self.counts.add(format!("bus.{what}_lost"));
                Fate::Lost
            }
            None => Fate::Pass,
        }
    }
}

#[async_trait]
impl EventBus for FaultyBus {
    fn wake(&self, wakes: Vec<Wake>) {
        let mut now = Vec::with_capacity(wakes.len());
        for wake in wakes {
            match self.fate("wake") {
                Fate::Pass => now.push(wake),
                Fate::Lost => {}
                Fate::Late(until) => {
                    let inner = Arc::clone(&self.inner);
                    tokio::spawn(async move {
                        tokio::time::sleep_until(until).await;
                        inner.wake(vec![wake]);
                    });
                }
            }
        }
        self.inner.wake(now);
    }

    fn wakes(&self, modes: ModeSet) -> Box<dyn Wakes> {
        self.inner.wakes(modes)
    }

    fn signal(&self, signal: Signal) {
        match self.fate("signal") {
            Fate::Pass => self.inner.signal(signal),
            Fate::Lost => {}
            Fate::Late(until) => {
                let inner = Arc::clone(&self.inner);
                tokio::spawn(async move {
                    tokio::time::sleep_until(until).await;
                    inner.signal(signal);
                });
            }
        }
    }

    fn signals(&self) -> Box<dyn Signals> {
        self.inner.signals()
    }

    fn tail(&self) -> Box<dyn Signals> {
        self.inner.tail()
    }

    fn is_watched(&self, task: TaskId) -> bool {
        self.inner.is_watched(task)
    }

    fn watch(&self, task: TaskId) -> Box<dyn Signals> {
        self.inner.watch(task)
    }

    async fn publish(&self, event: &Event) -> Result<(), BusError> {
        match self.fate("publish") {
            Fate::Pass => {}
            Fate::Lost => return Err(BusError::Unavailable("injected".to_owned())),
            Fate::Late(until) => tokio::time::sleep_until(until).await,
        }
        self.inner.publish(event).await
    }

    fn is_heard_outside(&self, topic: &str) -> bool {
        self.inner.is_heard_outside(topic)
    }

    fn inbound(&self) -> Option<Box<dyn Inbound>> {
        self.inner.inbound()
    }

    fn depth(&self) -> usize {
        self.inner.depth()
    }
}
