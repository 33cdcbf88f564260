//! Timings that were parsed, kept because many schedules share a few.

use std::collections::HashMap;
use std::sync::Arc;

use agentry_core::schedule::{Slots, Timing, TimingError};
use agentry_core::time::Timestamp;

/// Timings kept at most: a parsed cron expression takes about 6 kB. With more, they are parsed again when they are due.
const MAX_PARSED: usize = 4_096;

#[derive(Default)]
pub(super) struct Parsed(HashMap<Timing, Arc<Slots>>);

impl Parsed {
    /// The slots of a timing.
    pub fn slots(&mut self, timing: &Timing, now: Timestamp) -> Result<Arc<Slots>, TimingError> {
        if let Some(slots) = self.0.get(timing) {
            return Ok(Arc::clone(slots));
        }
        let slots = Arc::new(timing.slots(now)?);
        if self.0.len() >= MAX_PARSED {
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
        let mut parsed = Parsed::default();
        let every = |every_ms| Timing::Interval { every_ms };
        let first = parsed.slots(&every(1_000), Timestamp(0)).unwrap();
        assert!(Arc::ptr_eq(&first, &parsed.slots(&every(1_000), Timestamp(5)).unwrap()));
        for number in 0..2 * MAX_PARSED as u64 {
            parsed.slots(&every(2_000 + number), Timestamp(0)).unwrap();
            assert!(parsed.0.len() <= MAX_PARSED);
        }
        assert_eq!(parsed.slots(&every(0), Timestamp(0)).unwrap_err(), TimingError::TooShort);
    }
}
