//! Slack's rates: about one post per second and channel, other methods by tier, with short bursts.

use std::collections::HashMap;

/// Posts of one channel each second.
const POSTS_PER_SECOND: f64 = 1.0;
/// Posts of one channel at once, after a pause.
const POST_BURST: f64 = 3.0;
/// Calls of another method each second: those of tier 3, 50 a minute.
const CALLS_PER_SECOND: f64 = 50.0 / 60.0;
/// Calls of another method at once, after a pause.
const CALL_BURST: f64 = 50.0;
/// Buckets kept at once; more make it forget.
const MAX_BUCKETS: usize = 10_000;
/// Microseconds of a second.
const SECOND_US: f64 = 1_000_000.0;

/// How many calls everybody still has.
#[derive(Debug, Default)]
pub(super) struct Rates {
    buckets: HashMap<String, (f64, u64)>,
}

impl Rates {
    /// Takes one call of a method, or says in how many seconds it may be made.
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
