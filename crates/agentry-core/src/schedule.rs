//! Schedules: pure arithmetic over slots, anchored to the wall clock, never to the last run.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agent::AgentName;
use crate::time::Timestamp;

/// Maximum number of slots that one catch-up fires, so that a long outage does not flood the fleet.
pub const MAX_CATCHUP_SLOTS: usize = 1_000;

/// `schedule_config`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduleSpec {
    /// Times of the slots.
    pub timing: Timing,
    /// Input of each task.
    pub input: Value,
    /// Running time of each task, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// False to fire no slots.
    pub enabled: bool,
    /// Policy for a slot that is due while the previous task still runs.
    pub overlap: Overlap,
    /// Slots missed by at most this much are fired late, in milliseconds; older ones are counted as missed.
    pub catchup_ms: u64,
    /// A task starts up to this much after its slot, in milliseconds; fixed for each slot.
    pub jitter_ms: u64,
}

/// The times at which a schedule fires.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum Timing {
    /// At the times of a cron expression in a time zone.
    Cron {
        /// Five fields, six with seconds first, seven with a year last, or a nickname such as `@daily`.
        cron: String,
        /// IANA name.
        timezone: String,
    },
    /// At multiples of an interval since the Unix epoch, so that every replica and every restart agree on the slots.
    Interval {
        /// Distance between two slots, in milliseconds.
        every_ms: u64,
    },
}

/// The policy for a slot that is due while the previous task still runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// The slot is skipped.
    #[default]
    Skip,
    /// One slot is buffered; further ones are skipped.
    BufferOne,
    /// Tasks run concurrently.
    AllowAll,
}

/// A schedule as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduleRecord {
    /// Name: the agent's for a file's own schedule.
    pub name: String,
    /// The agent that runs.
    pub agent: AgentName,
    /// True for the schedule of an agent file, false for one from the API.
    pub from_file: bool,
    /// Definition.
    pub spec: ScheduleSpec,
    /// True if it was paused manually.
    pub paused: bool,
    /// The last slot that was decided (fired, skipped or missed); slots up to here never fire again.
    pub last_slot: Option<Timestamp>,
    /// Slots counted as missed.
    pub missed: u64,
    /// Slots skipped by the overlap policy.
    pub skipped: u64,
    /// Time of creation: no slot before it exists.
    pub created_at: Timestamp,
}

/// The reason why a timing is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// The cron expression does not parse.
    #[error("`{cron}` is not a cron expression: {reason}")]
    Cron {
        /// The expression.
        cron: String,
        /// Message of the parser.
        reason: String,
    },
    /// The expression never fires.
    #[error("`{0}` never fires")]
    Never(String),
    /// The time zone does not exist.
    #[error("unknown time zone `{0}`: use an IANA name such as Europe/Berlin")]
    Timezone(String),
    /// An interval below one second.
    #[error("an interval must be at least 1 second")]
    TooShort,
}

/// A checked timing, ready to ask for slots.
#[derive(Debug, Clone)]
pub enum Slots {
    /// See [`Timing::Cron`].
    Cron {
        /// The parsed expression.
        cron: Box<croner::Cron>,
        /// The zone.
        zone: jiff::tz::TimeZone,
    },
    /// See [`Timing::Interval`].
    Interval {
        /// Microseconds.
        every_us: i64,
    },
}

impl Timing {
    /// Parses and validates the timing.
    ///
    /// # Errors
    /// Fails when the expression, the zone or the interval is invalid, or the expression never fires after `now`.
    pub fn slots(&self, now: Timestamp) -> Result<Slots, TimingError> {
        match self {
            Self::Interval { every_ms } if *every_ms < 1_000 => Err(TimingError::TooShort),
            Self::Interval { every_ms } => Ok(Slots::Interval {
                every_us: i64::try_from(*every_ms).unwrap_or(i64::MAX / 1_000).saturating_mul(1_000),
            }),
            Self::Cron { cron, timezone } => {
                let zone = jiff::tz::TimeZone::get(timezone).map_err(|_| TimingError::Timezone(timezone.clone()))?;
                let parsed = cron
                    .parse::<croner::Cron>()
                    .map_err(|error| TimingError::Cron { cron: cron.clone(), reason: error.to_string() })?;
                let slots = Slots::Cron { cron: Box::new(parsed), zone };
                slots.next_after(now).map(|_| slots).ok_or_else(|| TimingError::Never(cron.clone()))
            }
        }
    }
}

impl Slots {
    /// Returns the first slot strictly after `moment`; `None` when there is none.
    #[must_use]
    pub fn next_after(&self, moment: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Interval { every_us } => {
                moment.0.div_euclid(*every_us).checked_add(1)?.checked_mul(*every_us).map(Timestamp)
            }
            Self::Cron { cron, zone } => {
                let start = moment.to_jiff().to_zoned(zone.clone());
                if cron.determine_job_type() == croner::JobType::FixedTime
                    && let Some(end) = end_of_gap(cron, &start)
                {
                    return Some(Timestamp::from_jiff(end));
                }
                // With gaps handled, the search fails only if there is no next slot.
                let next = cron.find_next_occurrence(&start, false).ok()?;
                Some(Timestamp::from_jiff(next.timestamp()))
            }
        }
    }

    /// Returns the slots in `(after, through]`, oldest first, at most `limit`.
    #[must_use]
    pub fn between(&self, after: Timestamp, through: Timestamp, limit: usize) -> Vec<Timestamp> {
        let mut slots = Vec::new();
        let mut at = after;
        while slots.len() < limit {
            match self.next_after(at) {
                Some(next) if next <= through => {
                    slots.push(next);
                    at = next;
                }
                _ => break,
            }
        }
        slots
    }
}

/// Returns the end of the gap that the next wall time of an expression falls into; `None` when it exists.
///
/// The library's own search gives up on gaps of more than two hours, such as the day that Samoa left out in 2011, and
/// passes over gaps that end on a day that is not the expression's, such as Greenland's at midnight.
fn end_of_gap(cron: &croner::Cron, start: &jiff::Zoned) -> Option<jiff::Timestamp> {
    let wall = cron.find_next_occurrence(&start.datetime(), false).ok()?;
    let moment = start.time_zone().to_ambiguous_timestamp(wall);
    if !matches!(moment.offset(), jiff::tz::AmbiguousOffset::Gap { .. }) {
        return None;
    }
    // This is as long after the change of the clock as the wall time is after the beginning of the gap.
    let just_after = moment.compatible().ok()?.checked_add(jiff::SignedDuration::from_nanos(1)).ok()?;
    start.time_zone().preceding(just_after).next().map(|change| change.timestamp())
}

impl ScheduleSpec {
    /// Returns when the task of a slot starts: the slot plus its jitter, the same on every replica.
    #[must_use]
    pub fn start_of(&self, schedule: &str, slot: Timestamp) -> Timestamp {
        if self.jitter_ms == 0 {
            return slot;
        }
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325; // FNV-1a: stable over versions and machines.
        for byte in schedule.bytes().chain(slot.0.to_be_bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        slot.after(Duration::from_micros(hash % (self.jitter_ms * 1_000)))
    }

    /// Returns whether a slot that is handled at `now` is still within the catch-up window. Lateness below one second
    /// is not an outage and always passes.
    #[must_use]
    pub fn is_in_time(&self, slot: Timestamp, now: Timestamp) -> bool {
        now.since(slot) <= Duration::from_millis(self.catchup_ms.max(1_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::from_jiff(text.parse().unwrap())
    }

    fn cron(expression: &str, zone: &str) -> Slots {
        Timing::Cron { cron: expression.to_owned(), timezone: zone.to_owned() }
            .slots(at("2026-01-01T00:00:00Z"))
            .unwrap()
    }

    #[test]
    fn intervals_are_anchored_to_the_clock_and_not_to_the_last_run() {
        let slots = Timing::Interval { every_ms: 5_000 }.slots(Timestamp(0)).unwrap();
        assert_eq!(slots.next_after(Timestamp(12_345_678)), Some(Timestamp(15_000_000)));
        assert_eq!(slots.next_after(Timestamp(15_000_000)), Some(Timestamp(20_000_000)));
        assert_eq!(slots.between(Timestamp(0), Timestamp(15_000_000), 10).len(), 3);
    }

    #[test]
    fn a_gap_fires_at_the_first_instant_after_and_an_overlap_fires_once() {
        let slots = cron("30 2 * * *", "Europe/Berlin");
        // 2026-03-29 02:30 does not exist in Berlin: clocks go from 02:00 to 03:00 (01:00 UTC).
        assert_eq!(slots.next_after(at("2026-03-28T12:00:00Z")), Some(at("2026-03-29T01:00:00Z")));
        // 2026-10-25 02:30 exists twice (00:30 and 01:30 UTC).
        let twice = slots.between(at("2026-10-24T12:00:00Z"), at("2026-10-25T12:00:00Z"), 10);
        assert_eq!(twice.len(), 1, "{twice:?}");
    }

    #[test]
    fn a_day_that_a_zone_leaps_over_does_not_end_a_schedule() {
        // Samoa went from 2011-12-29 24:00 to 2011-12-31 00:00 (2011-12-30T10:00:00Z).
        let moments = |cron: &str| {
            let timing = Timing::Cron { cron: cron.to_owned(), timezone: "Pacific/Apia".to_owned() };
            let slots = timing.slots(at("2011-12-28T00:00:00Z")).unwrap();
            slots.between(at("2011-12-29T00:00:00Z"), at("2012-01-01T00:00:00Z"), 10)
        };
        let (before, leap, after) =
            (at("2011-12-29T12:30:00Z"), at("2011-12-30T10:00:00Z"), at("2011-12-30T12:30:00Z"));
        assert_eq!(moments("30 2 * * *"), [before, leap, after, at("2011-12-31T12:30:00Z")]);
        assert_eq!(moments("30 2,3 * * *").len(), 6);
        assert_eq!(moments("30 2 30 12 *"), [leap]);
    }

    #[test]
    fn a_seventh_field_is_the_year_after_which_nothing_fires() {
        let slots = cron("0 0 9 1 1 * 2027", "UTC");
        assert_eq!(slots.next_after(at("2026-01-01T00:00:00Z")), Some(at("2027-01-01T09:00:00Z")));
        assert_eq!(slots.next_after(at("2027-01-01T09:00:00Z")), None);
    }

    #[test]
    fn nonsense_is_refused_with_its_reason() {
        let bad = |cron: &str, zone: &str| {
            Timing::Cron { cron: cron.to_owned(), timezone: zone.to_owned() }.slots(Timestamp(0)).unwrap_err()
        };
        assert!(matches!(bad("61 * * * *", "UTC"), TimingError::Cron { .. }));
        assert!(matches!(bad("5/10 * * * *", "UTC"), TimingError::Cron { .. }));
        assert!(matches!(bad("0 0 30 2 *", "UTC"), TimingError::Never(_)));
        assert!(matches!(bad("0 9 * * *", "Mars/Olympus"), TimingError::Timezone(_)));
        assert_eq!(Timing::Interval { every_ms: 0 }.slots(Timestamp(0)).unwrap_err(), TimingError::TooShort);
    }

    #[test]
    fn jitter_is_bounded_and_the_same_everywhere() {
        let spec = ScheduleSpec {
            timing: Timing::Interval { every_ms: 60_000 },
            input: Value::Null,
            timeout_ms: None,
            enabled: true,
            overlap: Overlap::Skip,
            catchup_ms: 0,
            jitter_ms: 500,
        };
        let slot = Timestamp(60_000_000);
        assert_eq!(spec.start_of("a", slot), spec.start_of("a", slot));
        assert!(spec.start_of("a", slot).since(slot) < Duration::from_millis(500));
    }
}
