//! Validation of schedules: timing, and whether it ever fires.

use agentry_core::schedule::{ScheduleSpec, Timing, TimingError};
use serde_json::Value;

use super::check::Checker;
use super::raw::{self, ScheduleType};
use super::read::At;
use crate::problem::did_you_mean;
use crate::yaml::Span;

/// Default catch-up window, in milliseconds.
const DEFAULT_CATCHUP_MS: u64 = 60_000;
/// Default time zone.
const DEFAULT_TIMEZONE: &str = "UTC";

pub(crate) fn schedule(raw: At<raw::Schedule>, cx: &mut Checker<'_, '_, '_>) -> Option<ScheduleSpec> {
    let At { value: raw, span, .. } = raw;
    let timeout_ms = cx.some_time("timeout_seconds", raw.timeout_seconds.clone());
    let timing = timing(&raw, span, cx)?;
    if let Err(error) = timing.slots(cx.now) {
        refuse(&raw, span, &error, cx);
        return None;
    }
    Some(ScheduleSpec {
        timing,
        input: raw.task_data.unwrap_or(Value::Null),
        timeout_ms,
        enabled: raw.enabled.unwrap_or(true),
        overlap: raw.overlap.map_or_else(Default::default, |choice| choice.0),
        catchup_ms: raw.catchup_window_seconds.map_or(DEFAULT_CATCHUP_MS, |s| s.0),
        jitter_ms: raw.jitter_seconds.map_or(0, |s| s.0),
    })
}

fn timing(raw: &raw::Schedule, span: Span, cx: &mut Checker<'_, '_, '_>) -> Option<Timing> {
    let kind = raw.r#type.as_ref().map(|kind| kind.value.0);
    match (kind, &raw.cron, &raw.interval_seconds) {
        (Some(ScheduleType::Cron) | None, Some(cron), None) => {
            if cron.is_unknown() {
                return None;
            }
            let timezone = raw.timezone.as_ref().filter(|zone| !zone.is_unknown());
            let timezone = timezone.map_or(DEFAULT_TIMEZONE, |zone| &*zone.value).to_owned();
            return Some(Timing::Cron { cron: cron.value.trim().to_owned(), timezone });
        }
        (Some(ScheduleType::Interval) | None, None, Some(every)) => {
            return Some(Timing::Interval { every_ms: every.value.0 });
        }
        (_, Some(_), Some(every)) => {
            cx.wrong(every.span, "`schedule_config` has both `cron` and `interval_seconds`", "expected one of them");
        }
        _ if !cx.clean => {}
        (Some(ScheduleType::Cron), None, _) => {
            let at = raw.r#type.as_ref().map_or(span, |kind| kind.span);
            let help = "add, for example, `cron: \"0 9 * * *\"` (minute, hour, day, month, weekday)";
            cx.wrong_with_help(at, "missing key `cron`", "a cron schedule needs `cron`", help);
        }
        (Some(ScheduleType::Interval), _, None) => {
            let at = raw.r#type.as_ref().map_or(span, |kind| kind.span);
            let help = "add, for example, `interval_seconds: 300`";
            cx.wrong_with_help(at, "missing key `interval_seconds`", "an interval schedule needs it", help);
        }
        (None, None, None) => cx.wrong_with_help(
            span,
            "missing key `cron` or `interval_seconds`",
            "`schedule_config` needs one of them",
            "add, for example, `cron: \"0 9 * * *\"` or `interval_seconds: 300`",
        ),
    }
    None
}

fn refuse(raw: &raw::Schedule, span: Span, error: &TimingError, cx: &mut Checker<'_, '_, '_>) {
    let (text, is_variable) = raw.cron.as_ref().map_or_else(Default::default, |c| (c.quoted(), c.written.is_some()));
    let (text, cron) = (text.trim(), raw.cron.as_ref().map_or(span, |cron| cron.span));
    match error {
        TimingError::Cron { reason, .. } => {
            let help = "five fields: minute, hour, day of month, month, weekday, for example `0 9 * * 1-5`";
            // The parser's message is `Component error: Number out of bounds.`; the last part is the reason.
            let reason = reason.rsplit(": ").next().unwrap_or(reason).trim_end_matches('.').to_lowercase();
            let reason = if is_variable { "its variables were filled in".to_owned() } else { reason };
            cx.wrong_with_help(cron, format!("`{text}` is not a cron expression"), &reason, help);
        }
        TimingError::Never(_) => cx.wrong(cron, format!("`{text}` never fires"), "no such date will come"),
        TimingError::Timezone(zone) => {
            let at = raw.timezone.as_ref().map_or(span, |zone| zone.span);
            let quoted = raw.timezone.as_ref().map_or_else(|| zone.clone(), At::quoted);
            let message = format!("unknown time zone `{quoted}`");
            let label = "expected an IANA name such as Europe/Berlin";
            let names: Vec<String> = jiff::tz::db().available().map(|name| name.as_str().to_owned()).collect();
            // A suggestion near the value of a variable would reveal it.
            let is_variable = raw.timezone.as_ref().is_some_and(|zone| zone.written.is_some());
            match did_you_mean(zone, names.iter().map(String::as_str)).filter(|_| !is_variable) {
                Some(near) => cx.wrong_with_help(at, message, label, format!("did you mean `{near}`?")),
                None => cx.wrong(at, message, label),
            }
        }
        TimingError::TooShort => {
            let at = raw.interval_seconds.as_ref().map_or(span, |every| every.span);
            cx.wrong(at, "`interval_seconds` is too short", "expected at least 1");
        }
    }
}
