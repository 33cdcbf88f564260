//! Slack's rate limits: about one post per second and channel, other methods by tier, with short bursts.

use std::collections::HashMap;

const POSTS_PER_SECOND: f64 = 1.0;
const POST_BURST: f64 = 3.0;
/// Calls per second of another method: tier 3, 50 a minute.
const CALLS_PER_SECOND: f64 = 50.0 / 60.0;
const CALL_BURST: f64 = 50.0;
/// Buckets that are kept; one more clears all of them.
const MAX_BUCKETS: usize = 10_000;
const SECOND_US: f64 = 1_000_000.0;

/// Token buckets by workspace, method and channel.
#[derive(Debug, Default)]
pub(super) struct Rates {
    buckets: HashMap<String, (f64, u64)>,
}

impl Rates {
    /// Takes one call of a method, or returns the seconds until it may be made.
    pub(super) fn take(&mut self, team: &str, method: &str, channel: &str, now_us: u64) -> Result<(), u64> {
        let is_post = method == "chat.postMessage";
        let (rate, burst) = if is_post { (POSTS_PER_SECOND, POST_BURST) } else { (CALLS_PER_SECOND, CALL_BURST) };
        let key = format!("{team} {method} {}", if is_post { channel } else { "" });
        if self.buckets.len() >= MAX_BUCKETS && !self.buckets.contains_key(&key) {
            self.buckets.clear();
        }
        let (left, at) = self.buckets.entry(key).or_insert((burst, now_us));
        let filled = now_us.saturating_sub(*at) as f64 / SECOND_US * rate;
        (*left, *at) = ((*left + filled).min(burst), now_us);
        if *left >= 1.0 {
            *left -= 1.0;
            return Ok(());
        }
        Err((((1.0 - *left) / rate).ceil() as u64).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn posts_are_counted_by_channel_and_other_calls_by_method() {
        let mut rates = Rates::default();
        let mut post = |channel, at| rates.take("T", "chat.postMessage", channel, at);
        assert!((0..3).all(|_| post("C1", 0).is_ok()));
        assert_eq!(post("C1", 0), Err(1));
        assert_eq!(post("C2", 0), Ok(()));
        assert_eq!(post("C1", 1_000_000), Ok(()));
        assert!((0..50).all(|_| rates.take("T", "chat.update", "C1", 0).is_ok()));
        assert_eq!(rates.take("T", "chat.update", "C2", 0), Err(2));
    }
}
