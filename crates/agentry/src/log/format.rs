//! The format of log lines: text or JSON, with trace ids.

use std::fmt;

use agentry_config::LogFormat;
use serde::ser::{SerializeMap as _, Serializer as _};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use super::throttle::{SuppressedWarnings, WINDOW};
use crate::out;
use crate::traces::TraceIds;

/// The format of log lines.
#[derive(Debug, Clone, Copy)]
pub struct LineFormat {
    format: LogFormat,
    ansi: bool,
}

impl LineFormat {
    /// Returns a format, with colour if standard error supports it.
    pub fn new(format: LogFormat) -> Self {
        Self { format, ansi: format == LogFormat::Text && out::colour_err() }
    }

    /// Returns the line about suppressed warnings.
    pub fn suppressed(self, suppressed: &SuppressedWarnings) -> String {
        let (file, line) = (suppressed.metadata.file().unwrap_or("?"), suppressed.metadata.line().unwrap_or(0));
        let SuppressedWarnings { text, count, metadata } = suppressed;
        let level = metadata.level();
        match self.format {
            LogFormat::Text => {
                let (time, level) = (now(), self.level(level));
                let seconds = WINDOW.as_secs();
                format!(
                    "{time} {level} {text} (repeated {} times within {seconds} s, {file}:{line})\n",
                    grouped(*count)
                )
            }
            LogFormat::Json => {
                let line = serde_json::json!({
                    "timestamp": now(), "level": level.as_str(), "message": text, "repeated": count,
                    "target": metadata.target(), "at": format!("{file}:{line}"),
                });
                format!("{line}\n")
            }
        }
    }

    fn level(self, level: &Level) -> String {
        let colour = match *level {
            Level::ERROR => 31,
            Level::WARN => 33,
            Level::INFO => 32,
            Level::DEBUG => 34,
            Level::TRACE => 35,
        };
        if self.ansi { format!("\x1b[{colour}m{level:>5}\x1b[0m") } else { format!("{level:>5}") }
    }

    fn dim(self, text: &str) -> String {
        if self.ansi { format!("\x1b[2m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn text(self, mut writer: Writer<'_>, event: &Event<'_>, ids: Option<TraceIds>) -> fmt::Result {
        write!(writer, "{} {} ", self.dim(&now()), self.level(event.metadata().level()))?;
        DefaultFields::new().format_fields(writer.by_ref(), event)?;
        if let Some(ids) = ids {
            write!(writer, "{}", self.dim(&format!(" trace_id={}", ids.trace)))?;
            if let Some(span) = ids.span {
                write!(writer, "{}", self.dim(&format!(" span_id={span}")))?;
            }
        }
        writeln!(writer)
    }
}

impl<S, N> FormatEvent<S, N> for LineFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut spans = ctx.event_scope().into_iter().flatten();
        let ids = spans.find_map(|span| span.extensions().get::<TraceIds>().copied());
        match self.format {
            LogFormat::Text => self.text(writer, event, ids),
            LogFormat::Json => {
                let line = json(event, ids).map_err(|_| fmt::Error)?;
                writer.write_str(&line)?;
                writeln!(writer)
            }
        }
    }
}

/// Returns an event as a JSON object: time, level, message with fields, target and ids.
fn json(event: &Event<'_>, ids: Option<TraceIds>) -> Result<String, serde_json::Error> {
    let mut bytes = Vec::with_capacity(256);
    let mut serializer = serde_json::Serializer::new(&mut bytes);
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("timestamp", &now())?;
    map.serialize_entry("level", event.metadata().level().as_str())?;
    let mut fields = JsonFields { map, failed: None };
    event.record(&mut fields);
    if let Some(error) = fields.failed {
        return Err(error);
    }
    let mut map = fields.map;
    map.serialize_entry("target", event.metadata().target())?;
    if let Some(ids) = ids {
        map.serialize_entry("trace_id", &ids.trace)?;
        if let Some(span) = ids.span {
            map.serialize_entry("span_id", &format_args!("{span}"))?;
        }
    }
    map.end()?;
    Ok(String::from_utf8(bytes).unwrap_or_default())
}

/// The fields of an event as members of an object.
struct JsonFields<M> {
    map: M,
    failed: Option<serde_json::Error>,
}

impl<M: serde::ser::SerializeMap<Error = serde_json::Error>> JsonFields<M> {
    fn member<T: serde::Serialize + ?Sized>(&mut self, field: &Field, value: &T) {
        if self.failed.is_none() {
            self.failed = self.map.serialize_entry(field.name(), value).err();
        }
    }
}

impl<M: serde::ser::SerializeMap<Error = serde_json::Error>> Visit for JsonFields<M> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.member(field, &value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.member(field, &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.member(field, &value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.member(field, &value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.member(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.member(field, &format_args!("{value:?}"));
    }
}

/// Omits the fields of spans: lines have their ids only.
pub struct NoFields;

impl<'writer> FormatFields<'writer> for NoFields {
    fn format_fields<R: RecordFields>(&self, _: Writer<'writer>, _: R) -> fmt::Result {
        Ok(())
    }

    fn add_fields(&self, _: &'writer mut FormattedFields<Self>, _: &tracing::span::Record<'_>) -> fmt::Result {
        Ok(())
    }
}

/// Returns the time as RFC 3339 in UTC.
fn now() -> String {
    let mut text = String::with_capacity(32);
    // Writing into a string does not fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

/// Returns a number with thousands separators.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (4_312, "4,312"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
