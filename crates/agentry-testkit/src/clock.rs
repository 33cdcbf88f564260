//! Time and randomness under a seed.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use agentry_core::time::{Clock, Timestamp};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

/// A wall clock over tokio's (paused) time. It outlives runtimes: a new one continues where the last one stopped.
#[derive(Debug)]
pub struct SimClock {
    base: AtomicI64,
    started: Mutex<Option<Instant>>,
}

impl SimClock {
    /// Creates a clock that shows `start` now.
    pub fn new(start: Timestamp) -> Arc<Self> {
        Arc::new(Self { base: AtomicI64::new(start.0), started: Mutex::new(None) })
    }

    /// Joins the current runtime; time continues from what the clock shows.
    pub fn enter(&self) {
        let now = self.now();
        self.base.store(now.0, Ordering::SeqCst);
        *self.started.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Leaves the runtime before it is dropped: the clock stands still.
    pub fn leave(&self) {
        let now = self.now();
        *self.started.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.base.store(now.0, Ordering::SeqCst);
    }

    /// Steps the wall clock, as a time server would.
    pub fn step(&self, micros: i64) {
        self.base.fetch_add(micros, Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let started = *self.started.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = started.map_or(0, |started| i64::try_from(started.elapsed().as_micros()).unwrap_or(0));
        Timestamp(self.base.load(Ordering::SeqCst) + elapsed)
    }
}

/// Random numbers of one seed, shared by everything in a simulation.
#[derive(Debug, Clone)]
pub struct SeededRng(Arc<Mutex<StdRng>>);

impl SeededRng {
    /// Creates the generator of a seed.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// Returns the next 64 bits.
    pub fn bits(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).random()
    }

    /// Returns true with this probability.
    pub fn happens(&self, probability: f64) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).random_bool(probability.clamp(0.0, 1.0))
    }

    /// Returns a number below `bound`.
    pub fn below(&self, bound: u64) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).random_range(0..bound.max(1))
    }
}
