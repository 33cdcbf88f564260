//! A wall clock, sampled at every tick of UTC.

use jiff::tz::TimeZone;

pub const DAY: i64 = 86_400;

/// A tick and the wall time, as seconds since 1970 of a calendar without zones.
pub struct Tick {
    pub utc: i64,
    pub wall: i64,
}

pub struct Calendar {
    pub step: i64,
    pub ticks: Vec<Tick>,
}

impl Calendar {
    /// Returns the ticks from `start` through `end`, every `step` seconds.
    pub fn new(zone: &TimeZone, start: i64, end: i64, step: i64) -> Self {
        let tick = |utc: i64| {
            let moment = jiff::Timestamp::from_second(utc).expect("a moment");
            Tick { utc, wall: utc + i64::from(zone.to_offset(moment).seconds()) }
        };
        let step_by = usize::try_from(step).expect("a small step");
        Self { step, ticks: (start..=end).step_by(step_by).map(tick).collect() }
    }

    /// Returns the moments at which the clock was changed.
    pub fn changes(&self) -> Vec<i64> {
        let jumps = self.ticks.windows(2).filter(|pair| pair[1].wall - pair[0].wall != self.step);
        jumps.map(|pair| pair[1].utc).collect()
    }
}
