//! Delays between retries.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Delays between deliveries of events, callbacks and replies before they become dead letters
/// (PLATFORM: "retries back off 1, 2, 4, 8, 16 s").
pub const DELIVERY: RetryPolicy =
    RetryPolicy { max_retries: 5, delay_ms: 1_000, exponential: true, multiplier_percent: 200, max_delay_ms: 16_000 };

/// The number and spacing of retries (`retry_config`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Maximum number of retries.
    pub max_retries: u32,
    /// Delay before the first retry, in milliseconds.
    pub delay_ms: u64,
    /// True if the delay grows with every retry.
    pub exponential: bool,
    /// Growth of the delay, in percent of the previous one (200 doubles it).
    pub multiplier_percent: u32,
    /// The longest delay, in milliseconds.
    pub max_delay_ms: u64,
}

impl Default for RetryPolicy {
    /// Two retries with fresh context, 1 s and 2 s apart.
    fn default() -> Self {
        Self { max_retries: 2, delay_ms: 1_000, exponential: true, multiplier_percent: 200, max_delay_ms: 60_000 }
    }
}

impl RetryPolicy {
    /// Returns the delay before retry number `retry` (from 1), or `None` if there are no more retries.
    #[must_use]
    pub fn delay_before(&self, retry: u32) -> Option<Duration> {
        if retry == 0 || retry > self.max_retries {
            return None;
        }
        let mut delay = u128::from(self.delay_ms);
        if self.exponential {
            for _ in 1..retry {
                delay = (delay * u128::from(self.multiplier_percent) / 100).min(u128::from(self.max_delay_ms));
            }
        }
        let bounded = delay.min(u128::from(self.max_delay_ms));
        Some(Duration::from_millis(u64::try_from(bounded).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_back_off_1_2_4_8_16_then_give_up() {
        let seconds: Vec<_> = (1..=6).map(|retry| DELIVERY.delay_before(retry).map(|d| d.as_secs())).collect();
        assert_eq!(seconds, [Some(1), Some(2), Some(4), Some(8), Some(16), None]);
    }
}
