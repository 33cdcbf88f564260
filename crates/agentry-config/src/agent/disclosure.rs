//! Tests that no message reveals the value of a variable, at any key.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write as _;

use agentry_core::time::Timestamp;
use serde_json::Value;

use super::agent_file_schema;
use super::file::{Environment, parse_text};
use crate::problem::Problem;
use crate::yaml::{Source, Variables, parse, to_json};

/// Files that contain every key together.
const FILES: [&str; 4] = [include_str!("../../tests/good/full.yml"), COLLABORATIVE, CONTINUOUS, INTERVAL];

const COLLABORATIVE: &str = "
name: team
execution_mode: collaborative
llm_config: {provider: aws_bedrock, model_id: m, reasoning_effort: low, aws_region: eu, host: 'http://x', fallback: [{model: m, region: eu, host: 'http://x'}, {model: m, aws_region: eu, api_base: 'http://x'}, {model: m, endpoint_url: 'http://x'}]}
system_prompt: You plan.
tools:
  - {name: files, type: mcp, command: [srv, x], env: {TOKEN: t}, allowed_tools: [read]}
  - {name: shell, type: mcp, command: srv x}
collaborative_config:
  preferred_collaborators: [one, two]
  planning_agent: {model: m, temperature: 0.5}
  max_plan_steps: 5
  min_collaborators: 1
  max_collaborators: 3
  planning_strategy: consensus
  allow_human_clarification: true
  clarification_timeout_seconds: 60
  clarification_default: none
  timeout_seconds: 10
";

const CONTINUOUS: &str = "
name: chat
execution_mode: continuous
llm_config: {provider: ollama, model: m, api_base: 'http://x'}
system_prompt: You chat.
collaborative_config: {planning_agent: {model_id: m}}
continuous_config:
  idle_timeout_seconds: 60
  save_interval_seconds: 5
  max_conversation_history: 10
  conversation_pruning_strategy: summarize
  auto_save_on_shutdown: true
  restore_on_startup: true
";

const INTERVAL: &str = "
name: tick
execution_mode: scheduled
llm_config: {provider: simulated, model: m, endpoint_url: 'http://x'}
system_prompt: You tick.
schedule_config: {type: interval, interval_seconds: 5}
";

/// Location of a value in a file.
type Path = Vec<String>;

fn tree(text: &str) -> Value {
    let source = Source { file: "f.yml".into(), text };
    to_json(&parse(&source).unwrap().root)
}

/// Collects the paths of all values of a tree, containers included; not the root.
fn paths(value: &Value, at: &Path, found: &mut Vec<Path>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Array(items) => items.iter().enumerate().map(|(i, item)| (i.to_string(), item)).collect(),
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), value)).collect(),
        _ => Vec::new(),
    };
    for (step, child) in children {
        let path: Path = at.iter().cloned().chain([step]).collect();
        found.push(path.clone());
        paths(child, &path, found);
    }
}

/// Writes the tree as YAML in block style, with `instead` in place of the value at `path`.
fn emit(value: &Value, at: &Path, path: &Path, instead: &str, out: &mut String) {
    if at == path {
        out.push_str(instead);
        return;
    }
    let indent = "  ".repeat(at.len());
    let step = |step: &str| at.iter().cloned().chain([step.to_owned()]).collect::<Path>();
    match value {
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                write!(out, "\n{indent}- ").unwrap();
                emit(item, &step(&i.to_string()), path, instead, out);
            }
        }
        Value::Object(fields) => {
            for (key, field) in fields {
                write!(out, "\n{indent}{}: ", Value::from(key.as_str())).unwrap();
                emit(field, &step(key), path, instead, out);
            }
        }
        leaf => out.push_str(&leaf.to_string()),
    }
}

fn changed(tree: &Value, path: &Path, instead: &str) -> String {
    let mut text = String::new();
    emit(tree, &Path::new(), path, instead, &mut text);
    text
}

/// Returns the problems of a text in which the variable `SECRET` has this value and no other variable is set.
fn problems(text: &str, secret: &str) -> Vec<Problem> {
    let lookup = |name: &str| (name == "SECRET").then(|| secret.to_owned());
    checked(text, Variables::Resolved(&lookup))
}

fn checked(text: &str, variables: Variables<'_>) -> Vec<Problem> {
    let tables = crate::tables::Tables::shipped();
    let environment = Environment { variables, now: Timestamp(1_795_000_000_000_000), tables };
    let file = parse_text(text, "f.yml".into(), &environment, &mut HashSet::new());
    file.problems.into_iter().chain(file.warnings).collect()
}

fn each_value(mut check: impl FnMut(&Value, &Path)) {
    for file in FILES {
        let tree = tree(file);
        let mut all = Vec::new();
        paths(&tree, &Path::new(), &mut all);
        all.iter().for_each(|path| check(&tree, path));
    }
}

#[test]
fn the_files_have_every_key() {
    fn keys(schema: &Value, found: &mut BTreeSet<String>) {
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            found.extend(properties.keys().cloned());
        }
        match schema {
            Value::Object(fields) => fields.values().for_each(|value| keys(value, found)),
            Value::Array(items) => items.iter().for_each(|value| keys(value, found)),
            _ => {}
        }
    }
    let mut all = BTreeSet::new();
    keys(&agent_file_schema(), &mut all);
    let mut had = Vec::new();
    FILES.iter().for_each(|file| paths(&tree(file), &Path::new(), &mut had));
    let had: BTreeSet<String> = had.into_iter().flatten().collect();
    let missing: Vec<&String> = all.difference(&had).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn no_message_repeats_a_value() {
    const VALUES: [&str; 14] = [
        "zq7-secret",
        "zq7 zq7",
        "https://zq7",
        "ftp://zq7",
        "zq7..zq7",
        "zq7.*x.zq7",
        "zq7\nzq7",
        "zq7 'zq7' \"zq7\"",
        "zq7 * * * *",
        "* * * * zq7",
        "771234771",
        "-771234771",
        "771234.7712341",
        "77123477123477123477123477123477123477123477",
    ];
    const WRITTEN: [&str; 9] = [
        "${SECRET}",
        "\"${SECRET}\"",
        "'a ${SECRET} b'",
        "!!str ${SECRET}",
        "${SECRET:-x}",
        "-${SECRET}",
        "[\"${SECRET}\", '${SECRET}']",
        "{\"k\": \"${SECRET}\"}",
        "http://${SECRET} x",
    ];
    each_value(|tree, path| {
        for written in WRITTEN {
            let text = changed(tree, path, written);
            for value in VALUES {
                for problem in problems(&text, value) {
                    let shown = format!("{problem}\n{}\n{problem:?}", problem.one_line());
                    let repeats = shown.contains("zq7") || shown.contains("771234");
                    assert!(!repeats, "{path:?} as {written} with {value:?}:\n{shown}");
                }
            }
        }
    });
}

#[test]
fn nothing_is_meant_by_a_value() {
    const NEAR: [&str; 16] = [
        "autonomos",
        "colaborative",
        "openia",
        "antropic",
        "htp",
        "mpc",
        "bearer_tokn",
        "api_kye",
        "rety",
        "summarise",
        "consensis",
        "intervall",
        "crn",
        "skp",
        "Europe/Berln",
        "onn",
    ];
    each_value(|tree, path| {
        for written in ["${SECRET}", "\"${SECRET}\""] {
            let text = changed(tree, path, written);
            for near in NEAR {
                let far = near.replace(|c: char| c.is_ascii_alphabetic(), "q");
                assert_eq!(problems(&text, near), problems(&text, &far), "{path:?} is {near}");
            }
        }
    });
}

#[test]
fn an_unresolved_value_is_no_mistake() {
    each_value(|tree, path| {
        let is_leaf = !matches!(at(tree, path), Value::Array(_) | Value::Object(_));
        if !is_leaf {
            return;
        }
        for written in ["${SECRET}", "${SECRET:-}"] {
            let found = checked(&changed(tree, path, written), Variables::Unresolved);
            let found: Vec<&Problem> = found.iter().filter(|problem| problem.is_error()).collect();
            assert!(found.is_empty(), "{path:?}: {found:?}");
        }
    });
}

fn at<'v>(tree: &'v Value, path: &Path) -> &'v Value {
    path.iter().fold(tree, |value, step| match value {
        Value::Array(items) => &items[step.parse::<usize>().unwrap()],
        other => &other[step.as_str()],
    })
}

#[test]
fn an_unresolved_file_is_checked_as_far_as_it_can_be() {
    let unresolved = |text: &str| {
        let found = checked(text, Variables::Unresolved);
        found.iter().map(|problem| format!("{}: {}", problem.line, problem.message)).collect::<Vec<String>>()
    };
    let head = "name: a\nexecution_mode: ${MODE}\nllm_config: {provider: '${P}', model: '${M}'}\nsystem_prompt: ${S}\n";
    assert_eq!(unresolved(head), [""; 0]);
    let most = format!("{head}collaborative_config:\n  min_collaborators: 20\n  max_collaborators: ${{M}}\n");
    assert_eq!(unresolved(&most), [""; 0], "the most may be more than 20");
    let cases = [
        ("enabled: \"${E}\"", "5: `enabled` must be true or false"),
        ("tags: ${T}", "5: `tags` must be a list"),
        ("budget: ${B}", "5: `budget` must be a mapping of keys to values"),
        ("output_schema: ${O}", "5: `output_schema` must be a JSON Schema"),
        ("enabled: ${E:-maybe}", "5: `enabled` must be true or false"),
        ("retry_config: {max_retries: 101, backoff_multiplier: '${X}'}", "5: `backoff_multiplier` must be a number"),
        ("retry_config:\n  backoff_multiplier: ${X}\n  max_retries: 101", "7: `max_retries` is out of range"),
        ("tools:\n  - {name: t, type: '${T}', url: 'ftp://${H}'}", "6: `url` is not a web address"),
        ("tools:\n  - {name: t, type: http, url: 'http://a b${H}'}", "6: `url` is not a web address"),
        ("tools:\n  - {name: '${N}', type: http, url: x}\n  - {name: '${N}', type: http, url: '${U}'}", "7: two tools"),
        ("schedule_config: {cron: 'x', timezone: '${Z}'}", "5: `x` is not a cron expression"),
        ("schedule_config:\n  cron: ${C}\n  interval_seconds: 5", "7: `schedule_config` has both"),
        ("colour: ${C}", "5: unknown key `colour`"),
        ("description: ${D}\ndescription: ${D}", "6: the key `description` appears twice"),
    ];
    for (more, expected) in cases {
        let found = unresolved(&format!("{head}{more}\n"));
        assert!(found.iter().any(|problem| problem.starts_with(expected)), "{more}: {found:?}");
    }
}
