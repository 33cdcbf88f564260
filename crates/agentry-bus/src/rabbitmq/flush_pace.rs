//! Pacing of hints: they leave at once when there are few, and in batches when there are many.

use std::time::Duration;

use tokio::time::Instant;

/// Flushes that may follow one another without a wait.
const BURST: u32 = 4;

/// A rate limit of one flush per `every` with bursts of [`BURST`] (generic cell rate algorithm). Written by hand
/// because the waits must be in tokio's clock: `governor` waits on a timer thread of its own.
#[derive(Debug)]
pub(super) struct FlushPace {
    every: Duration,
    /// Theoretical time of the last flush if all had been evenly spaced.
    spaced: Instant,
}

impl FlushPace {
    pub fn new(every: Duration) -> Self {
        Self { every, spaced: Instant::now() }
    }

    /// Waits until the next flush may start.
    pub async fn wait(&mut self) {
        let at = self.next(Instant::now());
        tokio::time::sleep_until(at).await;
    }

    fn next(&mut self, now: Instant) -> Instant {
        self.spaced = self.spaced.max(now) + self.every;
        (self.spaced - self.every * BURST).max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn few_leave_at_once_and_many_are_spaced() {
        let every = Duration::from_millis(1);
        let mut pace = FlushPace::new(every);
        let start = Instant::now();
        let waits: Vec<_> = (0..8).map(|_| pace.next(start) - start).collect();
        let millis: Vec<_> = waits.iter().map(Duration::as_millis).collect();
        assert_eq!(millis, [0, 0, 0, 0, 1, 2, 3, 4]);
        let later = start + Duration::from_secs(1);
        assert_eq!(pace.next(later), later, "a pause earns the burst again");
    }
}
