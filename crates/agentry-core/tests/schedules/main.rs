//! Compares our slots with a second, naive implementation: every UTC minute of 400 days, and every second around the
//! days on which clocks change, in zones with different habits.
//!
//! The days are virtual: nothing here reads a clock.

mod calendar;
mod fields;
mod naive;

use agentry_core::schedule::{Slots, Timing};
use agentry_core::time::Timestamp;
use calendar::{Calendar, DAY};
use fields::Fields;
use naive::slots as naive_slots;

/// 2024-01-10T00:00:00Z: a leap year, and one whose changes of the clock are history that no law will alter.
const START: i64 = 1_704_844_800;
const DAYS: i64 = 400;

/// Without seconds: compared over all days.
const BY_MINUTE: &[&str] = &[
    "*/7 * * * *",
    "*/15 * * * *",
    "0 */24 * * *",
    "10,40 0-3 * * *",
    "30 0 * * *",
    "30 1 * * *",
    "30 2 * * *",
    "45 1 * * *",
    "15-15 2 * * *",
    "59 23 * * ?",
    "15 2 * * SUN",
    "30 23 * * SAT",
    "0 2 * * 7",
    "0 9 * * MON-FRI",
    "0 2 * OCT,nov sat-sun",
    "0 9-17/2 * JAN,MAR-MAY *",
    "30 2 * * 0#2",
    "0 0 * 3,11 SUN#1,SUN#2",
    "30 1 * * SUN#L",
    "45 23 * * 5L",
    "0 12 L * *",
    "0 0 LW * *",
    "20 10 15W * *",
    "0 6 1,15 * MON",
    "5 4 */10 * TUE",
    "0 8 1-7 * +MON",
    "0 0 29 2 *",
    "@hourly",
    "@daily",
    "@weekly",
    "@monthly",
    "@yearly",
];

/// With seconds: compared around changes of the clock.
const BY_SECOND: &[&str] = &[
    "* * * * * *",
    "*/20 * * * * *",
    "10-14 0 * * * MON-SUN",
    "0,30 */10 1-2 * * *",
    "5 */5 2 * * *",
    "30 30 2 * * *",
    "15 30 1 * * *",
    "0 0 0 * * *",
    "59 59 0 * * *",
    "59 59 23 * JAN-DEC SUN",
];

#[test]
fn new_york() {
    compare("America/New_York", 2);
}

#[test]
fn london() {
    compare("Europe/London", 2);
}

/// Changes by half an hour.
#[test]
fn lord_howe() {
    compare("Australia/Lord_Howe", 2);
}

/// Changes at midnight, so that a day starts at one o'clock.
#[test]
fn havana() {
    compare("America/Havana", 2);
}

/// Leaps from Saturday 23:00 to Sunday 00:00, so that the skipped hour has another date than the next one.
#[test]
fn nuuk() {
    compare("America/Nuuk", 2);
}

/// Changes around Ramadan, backwards first.
#[test]
fn casablanca() {
    compare("Africa/Casablanca", 2);
}

/// Never changes, and is half an hour off.
#[test]
fn kolkata() {
    compare("Asia/Kolkata", 0);
}

/// Intervals are independent of zones: the slots are the multiples of the interval since 1970.
#[test]
fn intervals_are_the_multiples_of_their_length() {
    let (start, end) = (START, START + DAYS * DAY);
    for every in [60, 420, 3_600, 5_400, DAY, 7 * DAY] {
        let slots = Timing::Interval { every_ms: every.unsigned_abs() * 1_000 }.slots(at(start)).unwrap();
        let expected: Vec<i64> = (start..=end).step_by(60).filter(|second| second % every == 0).collect();
        same(&format!("every {every} s"), &expected, &between(&slots, start, end));
        for moment in (start..end).step_by(100_003) {
            let next = expected.iter().copied().find(|slot| *slot > moment);
            let found = slots.next_after(at(moment)).filter(|slot| *slot <= at(end));
            assert_eq!(found, next.map(at), "every {every} s, asked at {moment}");
        }
    }
}

fn compare(zone: &str, expected_changes: usize) {
    let zone_rules = jiff::tz::TimeZone::get(zone).expect("a zone");
    let end = START + DAYS * DAY;
    let minutes = Calendar::new(&zone_rules, START, end, 60);
    let changes = minutes.changes();
    assert_eq!(changes.len(), expected_changes, "{zone} changes its clock");
    // Noon to noon around each change, or any day if there is none.
    let days: Vec<i64> = if changes.is_empty() { vec![START + 150 * DAY] } else { changes };

    for expression in BY_MINUTE {
        let ours = timing(expression, zone);
        let expected = naive_slots(&Fields::parse(expression), &minutes);
        same(&format!("`{expression}` in {zone}"), &expected, &between(&ours, START, end));
        for day in &days {
            same_from_anywhere(&format!("`{expression}` in {zone}"), &ours, &expected, *day, end);
        }
    }
    for day in days {
        let (from, to) = (day - DAY / 2, day + DAY / 2);
        let seconds = Calendar::new(&zone_rules, from, to, 1);
        for expression in BY_SECOND {
            let ours = timing(expression, zone);
            let expected = naive_slots(&Fields::parse(expression), &seconds);
            same(&format!("`{expression}` in {zone}"), &expected, &between(&ours, from, to));
            same_from_anywhere(&format!("`{expression}` in {zone}"), &ours, &expected, day, to);
        }
    }
}

/// Compares the next slot at odd moments around a change, also within a second and within both passes of an hour.
fn same_from_anywhere(what: &str, ours: &Slots, expected: &[i64], change: i64, end: i64) {
    for micros in (-4 * 3_600_000_000_i64..4 * 3_600_000_000).step_by(433_500_000) {
        let moment = Timestamp(change * 1_000_000 + micros);
        let next = expected.iter().map(|slot| at(*slot)).find(|slot| *slot > moment);
        let found = ours.next_after(moment).filter(|slot| *slot <= at(end));
        assert_eq!(found, next, "{what}, asked at {moment}");
    }
}

fn timing(expression: &str, zone: &str) -> Slots {
    Timing::Cron { cron: expression.to_owned(), timezone: zone.to_owned() }
        .slots(at(START))
        .unwrap_or_else(|error| panic!("{expression}: {error}"))
}

fn between(slots: &Slots, from: i64, to: i64) -> Vec<i64> {
    let just_before = Timestamp(from * 1_000_000 - 1);
    slots.between(just_before, at(to), usize::MAX).iter().map(|slot| slot.0 / 1_000_000).collect()
}

fn same(what: &str, expected: &[i64], ours: &[i64]) {
    let first = expected.iter().zip(ours).position(|(a, b)| a != b).unwrap_or(expected.len().min(ours.len()));
    let show = |slot: Option<&i64>| slot.map_or("none".to_owned(), |slot| at(*slot).to_string());
    assert!(
        expected == ours,
        "{what}: slot {first} is {} and should be {}; {} slots instead of {}",
        show(ours.get(first)),
        show(expected.get(first)),
        ours.len(),
        expected.len()
    );
}

fn at(second: i64) -> Timestamp {
    Timestamp(second * 1_000_000)
}
