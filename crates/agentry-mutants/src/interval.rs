//! Intervals counted from the last run, as a naive scheduler counts them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agentry_core::schedule::{ScheduleRecord, Timing};
use agentry_core::task::TaskSource;
use agentry_core::time::Timestamp;
use agentry_store::Firing;

/// Intervals of schedules, and the time of each one's last run.
#[derive(Debug, Default)]
pub struct LastRuns(Mutex<HashMap<String, (Duration, Option<Timestamp>)>>);

impl LastRuns {
    /// Records the intervals of schedules.
    pub fn learn<'a>(&self, records: impl IntoIterator<Item = &'a ScheduleRecord>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for record in records {
            if let Timing::Interval { every_ms } = record.spec.timing {
                known.entry(record.name.clone()).or_insert((Duration::from_millis(every_ms), None));
            }
        }
    }

    /// Moves a slot to an interval after the last run, and records this run.
    pub fn shift(&self, firing: &mut Firing, now: Timestamp) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((every, last)) = known.get_mut(&firing.schedule) else { return };
        if let Some(last) = *last {
            firing.slot = last.after(*every);
        }
        *last = Some(now);
        if let Some(task) = &mut firing.task {
            let schedule = firing.schedule.clone();
            Arc::make_mut(task).source = TaskSource::Schedule { schedule, slot: firing.slot };
        }
    }
}
