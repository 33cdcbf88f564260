//! Cron expressions, interpreted naively.

use jiff::civil::{Date, date};

use crate::calendar::DAY;

const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];

/// Six fields as written, in capitals.
pub struct Fields([String; 6]);

impl Fields {
    pub fn parse(expression: &str) -> Self {
        let written = match expression {
            "@yearly" => "0 0 0 1 1 *".to_owned(),
            "@monthly" => "0 0 0 1 * *".to_owned(),
            "@weekly" => "0 0 0 * * SUN".to_owned(),
            "@daily" => "0 0 0 * * *".to_owned(),
            "@hourly" => "0 0 * * * *".to_owned(),
            five if five.split(' ').count() == 5 => format!("0 {five}"),
            six => six.to_owned(),
        };
        let fields: Vec<String> = written.to_uppercase().replace('?', "*").split(' ').map(str::to_owned).collect();
        Self(fields.try_into().expect("six fields"))
    }

    /// Returns whether second, minute and hour are one value each, written without a step.
    pub fn is_fixed_time(&self) -> bool {
        let [second, minute, hour, ..] = &self.0;
        let one =
            |field: &str, end| !field.contains(['*', '/']) && (0..end).filter(|n| holds(field, *n, &[])).count() == 1;
        one(second, 60) && one(minute, 60) && one(hour, 24)
    }

    pub fn matcher(&self) -> Matcher<'_> {
        let [second, minute, hour, ..] = &self.0;
        let table = |field: &str, end| (0..end).map(|n| holds(field, n, &[])).collect();
        Matcher {
            fields: self,
            second: table(second, 60),
            minute: table(minute, 60),
            hour: table(hour, 24),
            day: (i64::MIN, false),
        }
    }

    fn holds_day(&self, day: Date) -> bool {
        let [_, _, _, of_month, month, of_week] = &self.0;
        if !holds(month, i64::from(day.month()), &MONTHS) {
            return false;
        }
        let (must_both, of_week) = of_week.strip_prefix('+').map_or((false, of_week.as_str()), |rest| (true, rest));
        let by_month = of_month.split(',').any(|part| holds_day_of_month(part, day));
        let by_week = of_week.split(',').any(|part| holds_day_of_week(part, day));
        match (of_month.as_str(), of_week) {
            ("*", "*") => true,
            ("*", _) => by_week,
            (_, "*") => by_month,
            _ if must_both => by_month && by_week,
            _ => by_month || by_week,
        }
    }
}

/// Matches increasing wall times; caches the result for a day.
pub struct Matcher<'a> {
    fields: &'a Fields,
    second: Vec<bool>,
    minute: Vec<bool>,
    hour: Vec<bool>,
    day: (i64, bool),
}

impl Matcher<'_> {
    /// Returns whether a wall time, in seconds since 1970, is one of the expression's.
    pub fn matches(&mut self, wall: i64) -> bool {
        let (day, time) = (wall.div_euclid(DAY), usize::try_from(wall.rem_euclid(DAY)).expect("a number"));
        if !(self.second[time % 60] && self.minute[time / 60 % 60] && self.hour[time / 3_600]) {
            return false;
        }
        if self.day.0 != day {
            let date = date(1970, 1, 1).checked_add(jiff::Span::new().days(day)).expect("a day");
            self.day = (day, self.fields.holds_day(date));
        }
        self.day.1
    }
}

/// Returns whether a list of values, ranges and steps holds a number. Names count from 0 for days, from 1 for months.
fn holds(field: &str, number: i64, names: &[&str]) -> bool {
    field.split(',').any(|part| {
        let (range, step) = part.split_once('/').unwrap_or((part, "1"));
        let step: i64 = step.parse().expect("a number");
        let first_name = i64::from(names.len() == MONTHS.len());
        let value = |text: &str| match names.iter().position(|name| *name == text) {
            Some(place) => i64::try_from(place).expect("a number") + first_name,
            None => text.parse().unwrap_or_else(|_| panic!("{text} in {field}")),
        };
        if range == "*" {
            // Days of the month and months count from 1.
            return (number - first_name) % step == 0;
        }
        let (low, high) = range.split_once('-').unwrap_or((range, range));
        let (low, high) = (value(low), value(high));
        (low..=high).contains(&number) && (number - low) % step == 0
    })
}

fn holds_day_of_month(part: &str, day: Date) -> bool {
    let is_workday =
        |day: Date| !matches!(day.weekday(), jiff::civil::Weekday::Saturday | jiff::civil::Weekday::Sunday);
    let of_this_month = || (1..=day.days_in_month()).map(|n| date(day.year(), day.month(), n));
    match part {
        "L" => day == day.last_of_month(),
        "LW" => of_this_month().rfind(|other| is_workday(*other)) == Some(day),
        _ => match (part.strip_suffix('W'), part.strip_prefix("*/")) {
            (Some(wanted), _) => {
                let wanted: i8 = wanted.parse().expect("a number");
                // Two equally near days do not exist: a weekend has two days.
                let nearest =
                    of_this_month().filter(|other| is_workday(*other)).min_by_key(|other| (other.day() - wanted).abs());
                nearest == Some(day)
            }
            (None, Some(step)) => i64::from(day.day() - 1) % step.parse::<i64>().expect("a number") == 0,
            (None, None) => holds(part, i64::from(day.day()), &[]),
        },
    }
}

fn holds_day_of_week(part: &str, day: Date) -> bool {
    let number = i64::from(day.weekday().to_sunday_zero_offset());
    let is_last_of_its_kind = day.day() + 7 > day.days_in_month();
    let (weekday, which) = match part.split_once('#') {
        Some((weekday, "L")) => (weekday, is_last_of_its_kind),
        Some((weekday, nth)) => (weekday, (day.day() - 1) / 7 + 1 == nth.parse::<i8>().expect("a number")),
        None => match part.strip_suffix('L') {
            Some(weekday) => (weekday, is_last_of_its_kind),
            None => (part, true),
        },
    };
    // A range may end on a Sunday, which is then 7.
    let weekday = weekday.strip_suffix("-SUN").map_or(weekday.to_owned(), |low| format!("{low}-7"));
    which && (holds(&weekday, number, &DAYS) || number == 0 && holds(&weekday, 7, &DAYS))
}
