//! Delay between two calls to the same provider.

use std::time::Duration;

use crate::{LlmError, LlmErrorKind};

pub(crate) const MAX_RETRIES: u32 = 3;
/// Upper bound of the first delay; it doubles with every retry.
const BASE: Duration = Duration::from_millis(250);
/// Upper bound of all delays, unless the provider asks for a longer one.
const CAP: Duration = Duration::from_secs(8);

/// Returns the delay before retry number `retry` (from 1) after `error`, or `None` when the error is final or the delay
/// does not fit into `remaining`.
///
/// Full jitter (a uniform share of the exponential bound) spreads callers that failed together; a provider's
/// `Retry-After` is a lower bound, and the jitter is added to it. An open breaker is waited for only when there is no
/// fallback model. The caller provides the jitter, so that a simulation owns all randomness: an exponential builder of
/// a crate draws its own and knows neither `Retry-After` nor a deadline.
pub(crate) fn wait_before(
    retry: u32,
    error: &LlmError,
    remaining: Duration,
    jitter: f64,
    has_fallback: bool,
) -> Option<Duration> {
    let is_cut_off = matches!(error.kind, LlmErrorKind::CircuitOpen { .. });
    if retry > MAX_RETRIES || !error.is_retryable() || (is_cut_off && has_fallback) {
        return None;
    }
    let bound = BASE.saturating_mul(1 << (retry - 1).min(16)).min(CAP);
    let jitter = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 1.0 };
    let wait = match error.kind.retry_after() {
        Some(delay) => delay.saturating_add(BASE.mul_f64(jitter)),
        None => bound.mul_f64(jitter),
    };
    (wait < remaining).then_some(wait)
}

#[cfg(test)]
mod tests {
    use agentry_core::chat::Usage;

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    fn error(kind: LlmErrorKind) -> LlmError {
        LlmError {
            kind,
            provider: "openai",
            model: "m".into(),
            message: String::new(),
            usage: Usage::default(),
            is_uncounted: false,
        }
    }

    fn wait(retry: u32, kind: LlmErrorKind, remaining: Duration, jitter: f64) -> Option<Duration> {
        wait_before(retry, &error(kind), remaining, jitter, false)
    }

    #[test]
    fn waits_double_and_are_a_share_of_the_bound() {
        let down = LlmErrorKind::Unavailable;
        let waits: Vec<_> = (1..=4).map(|retry| wait(retry, down, LONG, 1.0)).collect();
        let expected = [250, 500, 1_000].map(|ms| Some(Duration::from_millis(ms)));
        assert_eq!(waits[..3], expected);
        assert_eq!(waits[3], None, "three retries at most");
        assert_eq!(wait(2, down, LONG, 0.5), Some(Duration::from_millis(250)));
        assert_eq!(wait(1, down, LONG, 0.0), Some(Duration::ZERO));
    }

    #[test]
    fn retry_after_is_honoured_only_while_time_is_left() {
        let delay = Some(Duration::from_secs(20));
        for kind in [LlmErrorKind::RateLimited { retry_after: delay }, LlmErrorKind::Overloaded { retry_after: delay }]
        {
            assert_eq!(wait(1, kind, LONG, 0.0), delay);
            assert_eq!(wait(1, kind, Duration::from_secs(10), 0.0), None);
        }
    }

    #[test]
    fn a_breaker_is_waited_for_only_without_a_fallback() {
        let cut_off = LlmErrorKind::CircuitOpen { retry_after: Duration::from_secs(4) };
        assert_eq!(wait(1, cut_off, LONG, 0.0), Some(Duration::from_secs(4)));
        assert_eq!(wait_before(1, &error(cut_off), LONG, 0.0, true), None);
    }

    #[test]
    fn what_cannot_get_better_is_not_retried() {
        for kind in [LlmErrorKind::Authentication, LlmErrorKind::InvalidRequest, LlmErrorKind::QuotaExhausted] {
            assert_eq!(wait(1, kind, LONG, 0.0), None);
        }
    }
}
