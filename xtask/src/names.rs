//! One name, one type: lists the type names that the workspace defines more than once.
//!
//! A reader who greps for a name should find one thing. Test code may repeat names, and so may modules that spell the
//! protocol of another program, whose words are not ours to choose.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::say;
use crate::workspace::Workspace;

/// Names that a reader expects in more than one module.
const REPEATABLE: &[&str] = &["Args", "Client", "Config", "Error", "Inner", "Metrics", "Options", "Request", "State"];
/// Folders whose types have the names of a provider's protocol.
const PROTOCOLS: &[&str] = &[
    "crates/agentry-llm/src/anthropic",
    "crates/agentry-llm/src/bedrock",
    "crates/agentry-llm/src/ollama",
    "crates/agentry-llm/src/openai",
    "crates/agentry-sim/src/llm/wire",
];
/// Test code outside of `tests` folders and `mod tests`.
const TEST_CODE: &[&str] = &["crates/agentry-testkit"];
/// Names that are still defined more than once. The list may only shrink: the check fails when a name on it is not
/// repeated any more.
const TO_RENAME: &str = "\
    AgentFile Agents Answer Answers App Arrivals Attempt Backlog Batch Bucket Call Click Command Connection \
    Context Counters Counts Db Delivery Deployment Engine Entry Event Exchange Failure Fault Frame Gate Head \
    Histograms Id IncomingEvent InvalidEvent InvalidRedisUrl Key Kind Known Lease Ledger Limits Line Lines List \
    Live Llm LoadError Member Message Next Outcome Params Parsed Part Path Plan Planner Process Profile Program \
    Progress Published Queue Reader Refusal Report ResponseUrl Role Run Running Sampler Schedule Scope Seconds \
    Server SessionView Shape Shared Signal Simulator Slot Source Step Stop Submission Table Target ToolCall \
    Variables Versions Waiting Window Writer";

/// The files that define each name, relative to the workspace.
type Definitions = BTreeMap<String, Vec<String>>;

/// Fails when a type name is defined more than once and not on a list of this file.
pub fn check() -> Result<()> {
    let root = Workspace::find()?.root;
    let mut definitions = Definitions::new();
    for folder in ["crates", "xtask"] {
        read_folder(&root, &root.join(folder), &mut definitions)?;
    }
    let to_rename: Vec<&str> = TO_RENAME.split_whitespace().collect();
    let problems = problems(&definitions, &to_rename);
    if !problems.is_empty() {
        bail!("type names (see xtask/src/names.rs):\n  {}", problems.join("\n  "));
    }
    say(&format!("names: no type name is new twice, {} are still to be renamed\n", to_rename.len()));
    Ok(())
}

/// Adds the definitions of every source file below `folder`.
fn read_folder(root: &Path, folder: &Path, definitions: &mut Definitions) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        if path.is_dir() {
            read_folder(root, &path, definitions)?;
        } else if is_checked(&name) {
            let source = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            for defined in defined_types(&source) {
                definitions.entry(defined.to_owned()).or_default().push(name.clone());
            }
        }
    }
    Ok(())
}

/// Returns whether a file holds code that is not test code and not another program's protocol.
fn is_checked(file: &str) -> bool {
    let is_below = |folder: &str| file.starts_with(&format!("{folder}/"));
    let is_source = file.ends_with(".rs") && file.contains("/src/");
    is_source && !file.ends_with("tests.rs") && !PROTOCOLS.iter().chain(TEST_CODE).any(|folder| is_below(folder))
}

/// Returns the structs, enums, traits and type aliases of a source file, without its test module.
fn defined_types(source: &str) -> impl Iterator<Item = &str> {
    let shipped = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or(source);
    shipped.lines().filter_map(|line| {
        let item = line.trim_start();
        let item = match item.strip_prefix("pub") {
            Some(rest) if rest.starts_with('(') => rest.split_once(") ")?.1,
            Some(rest) => rest.strip_prefix(' ')?,
            None => item,
        };
        let (keyword, rest) = item.split_once(' ')?;
        // An indented `type` belongs to a trait or its implementation.
        let is_definition = match keyword {
            "struct" | "enum" | "trait" => true,
            "type" => !line.starts_with(' '),
            _ => false,
        };
        let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
        (is_definition && name.starts_with(char::is_uppercase)).then_some(name)
    })
}

/// Returns what is wrong: names that are repeated and on no list, and names that need not be on the list any more.
fn problems(definitions: &Definitions, to_rename: &[&str]) -> Vec<String> {
    let repeated = |name: &str| definitions.get(name).is_some_and(|files| files.len() > 1);
    let doubled = definitions.iter().filter(|(name, _)| {
        repeated(name) && !REPEATABLE.contains(&name.as_str()) && !to_rename.contains(&name.as_str())
    });
    let mut problems: Vec<String> =
        doubled.map(|(name, files)| format!("`{name}` is defined more than once: {}", files.join(", "))).collect();
    let settled = to_rename.iter().filter(|name| !repeated(name));
    problems.extend(settled.map(|name| format!("`{name}` is defined once: remove it from TO_RENAME")));
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_found_without_tests_and_associated_types() {
        let source = "pub struct A<T>(T);\n    enum B {\npub(crate) trait C: Sized {\n    type Item;\npub(super) type D = u8;\n\
                      // struct E\npub fn struct_f() {}\n#[cfg(test)]\nmod tests {\n    struct G;\n";
        assert_eq!(defined_types(source).collect::<Vec<_>>(), ["A", "B", "C", "D"]);
        for (file, expected) in [
            ("crates/agentry-core/src/task.rs", true),
            ("crates/agentry-core/tests/it/task.rs", false),
            ("crates/agentry-bench/src/load/engine_tests.rs", false),
            ("crates/agentry-testkit/src/model.rs", false),
            ("crates/agentry-llm/src/openai/reply.rs", false),
            ("crates/agentry-llm/src/openai.md", false),
        ] {
            assert_eq!(is_checked(file), expected, "{file}");
        }
    }

    #[test]
    fn a_repeated_name_must_be_on_a_list_that_only_shrinks() {
        let files = |count: usize| (0..count).map(|n| format!("{n}.rs")).collect::<Vec<_>>();
        let definitions = Definitions::from(
            [("Door", 2), ("Options", 3), ("Task", 1)].map(|(name, count)| (name.into(), files(count))),
        );
        assert_eq!(problems(&definitions, &[]), ["`Door` is defined more than once: 0.rs, 1.rs"]);
        assert_eq!(problems(&definitions, &["Door"]), Vec::<String>::new());
        assert_eq!(problems(&definitions, &["Door", "Task"]), ["`Task` is defined once: remove it from TO_RENAME"]);
        assert_eq!(problems(&definitions, &["Door", "Gone"]), ["`Gone` is defined once: remove it from TO_RENAME"]);
    }
}
