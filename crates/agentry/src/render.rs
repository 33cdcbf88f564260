//! Output for people and programs: tables, JSON, YAML, and formats of numbers.

use std::fmt::Write;

use agentry_core::money::NanoUsd;
use agentry_core::time::Timestamp;
use clap::ValueEnum;
use serde::Serialize;
use serde_json::Value;

use crate::failure::Failure;
use crate::out;
use crate::yaml::to_yaml;

/// The output format of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum OutputFormat {
    /// Aligned columns, for people.
    #[default]
    Table,
    /// JSON as the API returns it.
    Json,
    /// The same as YAML.
    Yaml,
}

/// The widest a cell of text may be, in characters: longer text ends in `…`.
const MAX_CELL: usize = 60;

/// A column of a table.
pub struct TableColumn<T = Value> {
    heading: &'static str,
    right: bool,
    cell: fn(&T) -> String,
}

/// Returns a left-aligned column.
pub const fn text<T>(heading: &'static str, cell: fn(&T) -> String) -> TableColumn<T> {
    TableColumn { heading, right: false, cell }
}

/// Returns a right-aligned column.
pub const fn number<T>(heading: &'static str, cell: fn(&T) -> String) -> TableColumn<T> {
    TableColumn { heading, right: true, cell }
}

/// Prints rows as a table, or `empty` if there are none.
pub fn rows<T>(rows: &[T], columns: &[TableColumn<T>], empty: &str) -> Result<(), Failure> {
    if rows.is_empty() { out::line(empty) } else { out::print(&table(rows, columns)) }
}

/// Prints a value as JSON or YAML; as a table, one field per line.
pub fn document(format: OutputFormat, value: &impl Serialize) -> Result<(), Failure> {
    // Through a `Value`, which sorts the fields.
    let value = serde_json::to_value(value).unwrap_or_default();
    match format {
        OutputFormat::Json => out::line(&serde_json::to_string_pretty(&value).unwrap_or_default()),
        OutputFormat::Yaml => out::print(&to_yaml(&value)),
        OutputFormat::Table => out::print(&fields(&value)),
    }
}

/// Returns the fields of an object, one per line; nested fields have their path.
fn fields(value: &Value) -> String {
    let mut pairs = Vec::new();
    flatten("", value, &mut pairs);
    let width = pairs.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, shown) in pairs {
        let _ = writeln!(text, "{name:width$}  {shown}");
    }
    text
}

fn flatten(path: &str, value: &Value, pairs: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&path, value, pairs);
            }
        }
        Value::Null => {}
        Value::Array(items) if items.is_empty() => {}
        other => pairs.push((path.to_owned(), plain(other))),
    }
}

fn table<T>(rows: &[T], columns: &[TableColumn<T>]) -> String {
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| columns.iter().map(|column| shorten(&(column.cell)(row))).collect()).collect();
    let width = |index: usize| {
        let body = cells.iter().map(|row| row[index].chars().count()).max().unwrap_or(0);
        body.max(columns[index].heading.chars().count())
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let headings: Vec<String> = columns.iter().map(|column| column.heading.to_owned()).collect();
    let mut text = String::new();
    for row in std::iter::once(&headings).chain(&cells) {
        let mut line = String::new();
        for ((cell, column), &width) in row.iter().zip(columns).zip(&widths) {
            let _ = if column.right { write!(line, "{cell:>width$}  ") } else { write!(line, "{cell:<width$}  ") };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn shorten(text: &str) -> String {
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if one_line.chars().count() <= MAX_CELL {
        return one_line;
    }
    one_line.chars().take(MAX_CELL - 1).chain(['…']).collect()
}

/// Returns a value as plain text; `–` for null.
pub fn plain(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// Returns the value at a JSON pointer as plain text.
pub fn at(row: &Value, pointer: &str) -> String {
    plain(row.pointer(pointer).unwrap_or(&Value::Null))
}

/// Returns a serializable value as plain text.
pub fn shown(value: &impl Serialize) -> String {
    plain(&serde_json::to_value(value).unwrap_or_default())
}

/// Returns a time to the second, or `–`.
pub fn moment(moment: impl Into<Option<Timestamp>>) -> String {
    let Some(moment) = moment.into() else { return plain(&Value::Null) };
    let text = moment.to_string().replace('T', " ");
    text.split_once('.').map_or(text.clone(), |(seconds, _)| format!("{seconds}Z"))
}

/// Returns nano-dollars as dollars, with the digits that small amounts need.
pub fn dollars(nanos: u64) -> String {
    let whole = nanos / 1_000_000_000;
    let micros = nanos % 1_000_000_000 / 1_000;
    if whole > 0 { format!("${whole}.{:02}", micros / 10_000) } else { format!("$0.{micros:06}") }
}

/// Returns an amount in dollars.
pub fn cost(amount: NanoUsd) -> String {
    dollars(u64::try_from(amount.0).unwrap_or(0))
}

/// Returns a duration in milliseconds, or in seconds from 6 s on.
pub fn duration(duration: std::time::Duration) -> String {
    let millis = duration.as_secs_f64() * 1_000.0;
    match millis {
        m if m < 10.0 => format!("{m:.1} ms"),
        m if m < 6_000.0 => format!("{m:.0} ms"),
        m => format!("{:.1} s", m / 1_000.0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_line_up_and_long_text_is_cut() {
        let rows = [json!({"agent": "support", "n": 7}), json!({"agent": "x".repeat(80), "n": 12_345})];
        let columns = [text("agent", |row| at(row, "/agent")), number("tasks", |row| at(row, "/n"))];
        let shown = table(&rows, &columns);
        let ends: Vec<usize> = shown.lines().map(|line| line.chars().count()).collect();
        assert_eq!(ends, [MAX_CELL + 7; 3], "{shown}");
        assert!(shown.contains('…'), "{shown}");
    }

    #[test]
    fn amounts_have_the_digits_they_need() {
        assert_eq!(dollars(41_000), "$0.000041");
        assert_eq!(dollars(4_180_000_000), "$4.18");
        assert_eq!(duration(std::time::Duration::from_micros(600)), "0.6 ms");
        assert_eq!(duration(std::time::Duration::from_millis(12_340)), "12.3 s");
    }
}
