//! Cache of cache timings: many schedules share a few.

use std::collections::HashMap;
use std::sync::Arc;

use agentry_core::schedule::{Slots, Timing, TimingError};
use agentry_core::time::Timestamp;

/// Maximum number of cached timings: a cache cron expression takes about 6 kB. Others are cache again when they are
/// due.
const MAX_TIMINGS: usize = 4_096;

#[derive(Default)]
pub(super) struct TimingCache(HashMap<Timing, Arc<Slots>>);

impl TimingCache {
    /// Returns the slots of a timing.
    pub fn slots(&mut self, timing: &Timing, now: Timestamp) -> Result<Arc<Slots>, TimingError> {
        if let Some(slots) = self.0.get(timing) {
            return Ok(Arc::clone(slots));
        }
        let slots = Arc::new(timing.slots(now)?);
        if self.0.len() >= MAX_TIMINGS {
            self.0.clear();
        }
        self.0.insert(timing.clone(), Arc::clone(&slots));
        Ok(slots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_is_parsed_once_and_the_number_is_bounded() {
        let mut cache = TimingCache::default();
        let every = |every_ms| Timing::Interval { every_ms };
        let first = cache.slots(&every(1_000), Timestamp(0)).unwrap();
        assert!(Arc::ptr_eq(&first, &cache.slots(&every(1_000), Timestamp(5)).unwrap()));
        for number in 0..2 * MAX_TIMINGS as u64 {
            cache.slots(&every(2_000 + number), Timestamp(0)).unwrap();
            assert!(cache.0.len() <= MAX_TIMINGS);
        }
        assert_eq!(cache.slots(&every(0), Timestamp(0)).unwrap_err(), TimingError::TooShort);
    }
}
