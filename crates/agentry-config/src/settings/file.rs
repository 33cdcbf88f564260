//! `agentry.toml`: tables of settings, with the locations of mistakes.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::table::{KEYS, Key};
use crate::problem::{Problem, did_you_mean};
use crate::yaml::{Source, Span};

/// A setting of a file.
pub(super) struct Given {
    pub key: &'static Key,
    pub text: String,
    pub span: Span,
}

/// Returns the settings of a file, and its problems.
pub(super) fn read(source: &Source<'_>) -> (Vec<Given>, Vec<Problem>) {
    let table = match DeTable::parse(source.text) {
        Ok(table) => table,
        Err(error) => {
            let problem = source.problem(span(error.span().unwrap_or_default()), "this is not TOML");
            return (Vec::new(), vec![problem.label(error.message().to_owned())]);
        }
    };
    let (mut given, mut problems) = (Vec::new(), Vec::new());
    for (name, value) in table.get_ref() {
        let section: &str = name.get_ref();
        let DeValue::Table(entries) = value.get_ref() else {
            problems.push(unknown(source, section, span(name.span()), true));
            continue;
        };
        if !KEYS.iter().any(|key| key.toml.split_once('.').is_some_and(|(table, _)| table == section)) {
            problems.push(unknown(source, section, span(name.span()), true));
            continue;
        }
        for (name, value) in entries {
            let path = format!("{section}.{}", name.get_ref());
            let Some(key) = KEYS.iter().find(|key| key.toml == path) else {
                problems.push(unknown(source, &path, span(name.span()), false));
                continue;
            };
            let at = span(value.span());
            match text(value.get_ref()) {
                Some(text) => given.push(Given { key, text, span: at }),
                None => problems.push(
                    source
                        .problem(at, format!("`{path}` has a value of the wrong type"))
                        .label("expected text, a number, a boolean or a list of text"),
                ),
            }
        }
    }
    (given, problems)
}

fn span(range: Range<usize>) -> Span {
    let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    Span { start: offset(range.start), end: offset(range.end) }
}

fn text(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Array(items) => {
            let words: Option<Vec<String>> =
                items.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect();
            words.map(|words| words.join(","))
        }
        _ => None,
    }
}

fn unknown(source: &Source<'_>, name: &str, at: Span, is_table: bool) -> Problem {
    let known: Vec<&str> = if is_table {
        KEYS.iter().filter_map(|key| key.toml.split_once('.').map(|(table, _)| table)).collect()
    } else {
        KEYS.iter().map(|key| key.toml).filter(|path| !path.is_empty()).collect()
    };
    let what = if is_table { "table" } else { "key" };
    let problem = source.problem(at, format!("unknown {what} `{name}`")).label("not a setting");
    let last = name.rsplit('.').next().unwrap_or(name);
    let near = did_you_mean(name, known.iter().copied())
        .or_else(|| KEYS.iter().map(|key| key.toml).find(|path| path.rsplit('.').next() == Some(last)));
    match near {
        Some(near) if is_table && near.contains('.') => {
            problem.help(format!("did you mean `{near}`? write it under its [table]"))
        }
        Some(near) => problem.help(format!("did you mean `{near}`?")),
        None => {
            let mut names = known;
            names.dedup();
            problem.help(format!("there are {}", names.join(", ")))
        }
    }
}
