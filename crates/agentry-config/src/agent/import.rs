//! Rewrites older agent files: other names of keys and words become the documented ones. Everything else, comments and
//! layout included, stays as it is.
//!
//! Older files load without this; it is for folders that should use one spelling.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::file::{parse_text, process_environment};
use crate::problem::{Position, Problem, Severity};
use crate::yaml::{Key, Kind, MAX_FILE_BYTES, Node, Source, Span, parse};

/// A mapping of the file, by the keys that lead to it; `*` is every item of a list.
type Path = &'static [&'static str];

const LLM: Path = &["llm_config"];
const FALLBACK: Path = &["llm_config", "fallback", "*"];
const PLANNER: Path = &["collaborative_config", "planning_agent"];
const TOOL: Path = &["tools", "*"];
const SESSIONS: Path = &["continuous_config"];

/// Former names of keys: mapping, former name, current name.
const KEYS: &[(Path, &str, &str)] = &[
    (LLM, "model_id", "model"),
    (LLM, "aws_region", "region"),
    (LLM, "host", "base_url"),
    (LLM, "api_base", "base_url"),
    (LLM, "endpoint_url", "base_url"),
    (LLM, "reasoning_effort", "reasoning"),
    (FALLBACK, "model_id", "model"),
    (FALLBACK, "aws_region", "region"),
    (FALLBACK, "host", "base_url"),
    (FALLBACK, "api_base", "base_url"),
    (FALLBACK, "endpoint_url", "base_url"),
    (PLANNER, "model_id", "model"),
];

/// Former names of words: mapping, key, former word, current word.
const WORDS: &[(Path, &str, &str, &str)] = &[
    (LLM, "provider", "aws_bedrock", "bedrock"),
    (FALLBACK, "provider", "aws_bedrock", "bedrock"),
    (TOOL, "type", "function", "http"),
    (TOOL, "type", "api", "http"),
];

/// Keys without effect: mapping, key, reason.
const WITHOUT_EFFECT: &[(Path, &str, &str)] = &[
    (SESSIONS, "save_interval_seconds", "every step is saved at once"),
    (SESSIONS, "auto_save_on_shutdown", "every step is saved at once"),
    (SESSIONS, "restore_on_startup", "conversations are always restored"),
];

/// The result of importing an older file.
#[derive(Debug, Clone, Default)]
pub struct ImportResult {
    /// The current spelling of the file; unchanged if nothing had to change. `None` if it cannot be read.
    pub text: Option<String>,
    /// Changes, with their locations in the original file.
    pub changes: Vec<(Position, String)>,
    /// Problems of the new text, or the ones that keep the old one from being read; warnings included.
    pub problems: Vec<Problem>,
}

impl ImportResult {
    /// Returns whether the file cannot be used.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        self.problems.iter().any(Problem::is_error)
    }
}

/// Rewrites the text of an agent file that is called `name` in messages.
#[must_use]
pub fn import_text(name: &str, text: &str) -> ImportResult {
    let file: Arc<str> = name.into();
    if text.len() > MAX_FILE_BYTES {
        let problem = Problem::of_file(file, "the file is larger than 1 MiB");
        return ImportResult { problems: vec![problem], ..ImportResult::default() };
    }
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    let source = Source { file: file.clone(), text: body };
    let parsed = match parse(&source) {
        Ok(parsed) => parsed,
        Err(problem) => return ImportResult { problems: vec![problem], ..ImportResult::default() },
    };
    let mut rewriter = Rewriter { source: &source, edits: BTreeMap::new(), changes: Vec::new() };
    rewriter.walk(&parsed.root, &mut Vec::new());
    let (text, mut changes) = (rewriter.text(), rewriter.changes);
    changes.sort_by_key(|(place, _)| (place.line, place.column));
    let checked = parse_text(&text, file, &process_environment(), &mut HashSet::new());
    let mut problems = checked.problems;
    problems.extend(checked.warnings);
    problems.sort_by_key(|problem| (problem.severity == Severity::Warning, problem.line, problem.column));
    ImportResult { text: Some(text), changes, problems }
}

struct Rewriter<'s, 'a> {
    source: &'s Source<'a>,
    /// Replacements, by their start; a value repeated by an anchor is replaced once.
    edits: BTreeMap<u32, (Span, String)>,
    changes: Vec<(Position, String)>,
}

impl Rewriter<'_, '_> {
    fn walk(&mut self, node: &Node<'_>, path: &mut Vec<String>) {
        match &node.kind {
            Kind::Scalar { .. } => {}
            Kind::List(items) => {
                path.push("*".to_owned());
                items.iter().for_each(|item| self.walk(item, path));
                path.pop();
            }
            Kind::Map(entries) => {
                for (key, value) in entries {
                    self.entry(key, value, path, entries);
                    path.push(key.text.to_string());
                    self.walk(value, path);
                    path.pop();
                }
            }
        }
    }

    fn entry(&mut self, key: &Key<'_>, value: &Node<'_>, path: &[String], all: &[(Key<'_>, Node<'_>)]) {
        let text: &str = &key.text;
        if let Some((_, old, new)) = KEYS.iter().find(|(at, old, _)| is_at(path, at) && *old == text) {
            // A key set under both names is reported by the check; a rename would hide which is meant.
            if !all.iter().any(|(other, _)| other.text == *new) {
                self.replace(key.span, old, new, format!("`{old}` is `{new}`"));
            }
        }
        if let Kind::Scalar { text: word, .. } = &value.kind
            && let Some((_, _, old, new)) =
                WORDS.iter().find(|(at, of, old, _)| is_at(path, at) && *of == text && *old == word.as_ref())
        {
            self.replace(value.span, old, new, format!("{text} `{old}` is `{new}`"));
        }
        if let Some((_, _, why)) = WITHOUT_EFFECT.iter().find(|(at, name, _)| is_at(path, at) && *name == text) {
            let place = self.source.place(key.span);
            self.changes.push((place, format!("`{text}` has no effect: {why}; it was left and may be removed")));
        }
    }

    /// Replaces a key or word; quotes around it stay.
    fn replace(&mut self, span: Span, old: &str, new: &str, said: String) {
        let range = usize::try_from(span.start).unwrap_or(0)..usize::try_from(span.end).unwrap_or(0);
        let Some(written) = self.source.text.get(range).filter(|written| written.contains(old)) else { return };
        let edit = (span, written.replacen(old, new, 1));
        if self.edits.insert(span.start, edit).is_none() {
            self.changes.push((self.source.place(span), said));
        }
    }

    fn text(&self) -> String {
        let mut text = self.source.text.to_owned();
        for (span, new) in self.edits.values().rev() {
            let range = usize::try_from(span.start).unwrap_or(0)..usize::try_from(span.end).unwrap_or(0);
            text.replace_range(range, new);
        }
        text
    }
}

fn is_at(path: &[String], at: Path) -> bool {
    path.len() == at.len() && path.iter().zip(at).all(|(step, wanted)| step == wanted)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const OLD: &str = "\
# An older file.
name: old   # keep me
execution_mode: continuous
llm_config: {provider: aws_bedrock, \"model_id\": 'claude', aws_region: eu-central-1, fallback: [{model_id: b, host: 'http://x'}]}
system_prompt: |
  model_id: this is prose
tools:
  - name: a
    type: function
    url: https://x
continuous_config:
  restore_on_startup: true
";

    #[test]
    fn names_become_todays_and_the_rest_stays() {
        let imported = import_text("old.yml", OLD);
        assert!(imported.problems.is_empty(), "{:?}", imported.problems);
        let expected = OLD
            .replace("provider: aws_bedrock, \"model_id\"", "provider: bedrock, \"model\"")
            .replace("aws_region", "region")
            .replace("{model_id: b, host", "{model: b, base_url")
            .replace("type: function", "type: http");
        assert_eq!(imported.text.as_deref(), Some(expected.as_str()));
        let changes: Vec<String> =
            imported.changes.iter().map(|(at, said)| format!("{}:{} {said}", at.line, at.column)).collect();
        assert_eq!(changes[0], "4:24 provider `aws_bedrock` is `bedrock`");
        assert_eq!(changes.len(), 7, "{changes:?}");
        assert!(changes[6].starts_with("12:3 `restore_on_startup` has no effect"), "{changes:?}");
        let again = import_text("new.yml", &expected);
        assert_eq!((again.text.as_deref(), again.changes.len()), (Some(expected.as_str()), 1));
    }

    #[test]
    fn what_cannot_be_used_is_told_with_its_place() {
        let unknown = import_text("x.yml", &OLD.replace("# keep me", "\nagent_kind: x"));
        assert!(unknown.is_bad() && unknown.problems[0].to_string().contains("x.yml:3:1"), "{:?}", unknown.problems);
        let broken = import_text("x.yml", "a: [");
        assert!(broken.is_bad() && broken.text.is_none());
        let both = import_text("x.yml", &OLD.replace("{provider", "{model: c, provider"));
        assert!(both.problems.iter().any(|problem| problem.message.contains("another name of `model`")));
    }

    #[test]
    fn every_other_name_is_known_here() {
        fn others(schema: &Value, found: &mut Vec<(String, String)>) {
            if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
                for (key, property) in properties {
                    if let Some(of) = property["description"].as_str().and_then(|d| d.strip_prefix("Another name of `"))
                    {
                        found.push((key.clone(), of.trim_end_matches("`.").to_owned()));
                    }
                }
            }
            match schema {
                Value::Object(fields) => fields.values().for_each(|value| others(value, found)),
                Value::Array(items) => items.iter().for_each(|value| others(value, found)),
                _ => {}
            }
        }
        let mut found = Vec::new();
        others(&super::super::agent_file_schema(), &mut found);
        assert_eq!(found.len(), KEYS.len(), "{found:?}");
        for (other, of) in found {
            assert!(KEYS.iter().any(|(_, old, new)| *old == other && *new == of), "{other} is {of}");
        }
    }
}
