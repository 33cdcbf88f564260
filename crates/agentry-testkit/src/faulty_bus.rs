//! A bus that loses hints, as the port allows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use agentry_bus::{BusError, EventBus, Inbound, Signal, Signals, Wake, Wakes};
use agentry_core::agent::ModeSet;
use agentry_core::event::Event;
use agentry_core::id::TaskId;
use async_trait::async_trait;

use crate::Dice;

/// A bus that loses some wakes and signals while it is told to.
pub struct FaultyBus {
    inner: Arc<dyn EventBus>,
    dice: Dice,
    loss: f64,
    active: AtomicBool,
    lost: AtomicU64,
}

impl FaultyBus {
    /// Loses wakes and signals with probability `loss`.
    #[must_use]
    pub fn new(inner: Arc<dyn EventBus>, dice: Dice, loss: f64) -> Arc<Self> {
        Arc::new(Self { inner, dice, loss, active: AtomicBool::new(true), lost: AtomicU64::new(0) })
    }

    /// Loses nothing from here on.
    pub fn heal(&self) {
        self.active.store(false, Ordering::SeqCst);
    }

    /// How many hints were lost: the proof that the fault bit.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::SeqCst)
    }

    fn loses(&self) -> bool {
        let loses = self.active.load(Ordering::SeqCst) && self.dice.happens(self.loss);
        if loses {
            self.lost.fetch_add(1, Ordering::SeqCst);
        }
        loses
    }
}

#[async_trait]
impl EventBus for FaultyBus {
    fn wake(&self, wakes: Vec<Wake>) {
        self.inner.wake(wakes.into_iter().filter(|_| !self.loses()).collect());
    }

    fn wakes(&self, modes: ModeSet) -> Box<dyn Wakes> {
        self.inner.wakes(modes)
    }

    fn signal(&self, signal: Signal) {
        if !self.loses() {
            self.inner.signal(signal);
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
        if self.loses() {
            return Err(BusError::Unavailable("injected".to_owned()));
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
