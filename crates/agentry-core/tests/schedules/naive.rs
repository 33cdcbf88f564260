//! The rule of docs/schedules.md by brute force: test the wall time at every tick.

use crate::calendar::Calendar;
use crate::fields::Fields;

/// Returns the times at which an expression fires.
///
/// Jobs with one time of day fire at the first pass of a wall time; a wall time that the clock skips fires at the first
/// tick after. All others fire whenever the wall time matches.
pub fn slots(fields: &Fields, calendar: &Calendar) -> Vec<i64> {
    let is_fixed = fields.is_fixed_time();
    let mut matcher = fields.matcher();
    let mut slots = Vec::new();
    let mut furthest = calendar.ticks[0].wall - calendar.step;
    for tick in &calendar.ticks {
        let is_due = if is_fixed {
            // Wall times that were skipped since the last tick: one, none, or those of a gap.
            let mut unseen =
                (furthest + calendar.step..=tick.wall).step_by(usize::try_from(calendar.step).expect("a small step"));
            unseen.any(|wall| matcher.matches(wall))
        } else {
            matcher.matches(tick.wall)
        };
        if is_due {
            slots.push(tick.utc);
        }
        furthest = furthest.max(tick.wall);
    }
    slots
}
