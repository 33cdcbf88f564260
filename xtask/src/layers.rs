//! The layer rule as a test: which crate may use which, held against `cargo metadata`.
//!
//! The table is the architecture: a crate that is not in it, or uses more than its row says, fails the check.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{cargo, say};

/// A crate and the crates of this workspace that its shipped code may use.
struct Row {
    name: &'static str,
    uses: &'static [&'static str],
}

const CORE: &[&str] = &["agentry-core"];
/// Crates that use HTTP clients.
const CORE_AND_HTTP: &[&str] = &["agentry-core", "agentry-http"];
/// MCP has a crate of its own because its SDK compiles longer than any other: only tools see it.
const TOOLS: &[&str] = &["agentry-core", "agentry-http", "agentry-mcp"];
/// The crate that creates and changes work: above the ports, below its callers.
const INTAKE: &[&str] = &["agentry-core", "agentry-config", "agentry-store", "agentry-bus"];
/// Crates that the third layer may use: all lower layers, but not each other.
const BELOW_L3: &[&str] = &[
    "agentry-core",
    "agentry-http",
    "agentry-api",
    "agentry-config",
    "agentry-store",
    "agentry-bus",
    "agentry-llm",
    "agentry-tools",
    "agentry-slack",
    "agentry-intake",
];

/// The crates of ARCHITECTURE.md, from the bottom up.
const TABLE: &[Row] = &[
    Row { name: "agentry-core", uses: &[] },
    Row { name: "agentry-http", uses: &[] },
    // The types that server and callers speak, and the client: no axum, no store.
    Row { name: "agentry-api", uses: CORE_AND_HTTP },
    // What runs the platform from outside: it knows its command line and its metrics, and no crate of it.
    Row { name: "agentry-lab", uses: &[] },
    Row { name: "agentry-config", uses: CORE },
    Row { name: "agentry-store", uses: CORE },
    Row { name: "agentry-bus", uses: CORE },
    Row { name: "agentry-llm", uses: CORE_AND_HTTP },
    Row { name: "agentry-mcp", uses: &["agentry-http"] },
    Row { name: "agentry-tools", uses: TOOLS },
    Row { name: "agentry-slack", uses: CORE_AND_HTTP },
    Row { name: "agentry-intake", uses: INTAKE },
    Row { name: "agentry-orchestrator", uses: BELOW_L3 },
    Row { name: "agentry-server", uses: BELOW_L3 },
    // The validation suite starts the shipped binary and talks to it over sockets: it sees what a user sees.
    Row {
        name: "agentry-bench",
        uses: &["agentry-core", "agentry-http", "agentry-api", "agentry-config", "agentry-lab"],
    },
    Row {
        name: "agentry",
        uses: &[
            "agentry-core",
            "agentry-http",
            "agentry-api",
            "agentry-config",
            "agentry-store",
            "agentry-bus",
            "agentry-llm",
            "agentry-tools",
            "agentry-slack",
            "agentry-intake",
            "agentry-orchestrator",
            "agentry-server",
            "agentry-sim",
            "agentry-bench",
            "agentry-lab",
        ],
    },
    Row { name: "agentry-sim", uses: CORE },
    Row { name: "agentry-testkit", uses: BELOW_L3 },
    // The whole program with a broken store before its own: to check the validation suite with. Never shipped.
    Row { name: "agentry-mutants", uses: &["agentry", "agentry-core", "agentry-store"] },
    Row { name: "xtask", uses: &["agentry-lab"] },
];

/// Crates that all tests may use in addition: the test kit, the harness, and the simulators (through sockets).
const IN_TESTS: &[&str] = &["agentry-testkit", "agentry-lab", "agentry-sim"];
/// Crates whose tests may use every crate, because they test the integration.
const WHOLE_IN_TESTS: &[&str] =
    &["agentry", "agentry-mutants", "agentry-orchestrator", "agentry-server", "agentry-testkit"];

/// Compares the workspace with the table.
pub fn check() -> Result<()> {
    let output = cargo().args(["metadata", "--no-deps", "--format-version", "1"]).output().context("cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata is not JSON")?;
    let problems = problems(&metadata)?;
    if !problems.is_empty() {
        bail!("the layer table (xtask/src/layers.rs) does not hold:\n  {}", problems.join("\n  "));
    }
    say("layers: every crate uses only what its row allows\n");
    Ok(())
}

fn problems(metadata: &Value) -> Result<Vec<String>> {
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    let name_of = |package: &Value| package["name"].as_str().unwrap_or_default().to_owned();
    let members: BTreeSet<String> = packages.iter().map(name_of).collect();
    let mut problems = Vec::new();
    for row in TABLE {
        if !members.contains(row.name) {
            problems.push(format!("{} is in the table but not in the workspace", row.name));
        }
    }
    for package in packages {
        let name = name_of(package);
        let Some(row) = TABLE.iter().find(|row| row.name == name) else {
            problems.push(format!("{name} has no row: add one and say why it earns a crate"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = dependency["name"].as_str().unwrap_or_default();
            let dev = dependency["kind"].as_str() == Some("dev");
            if members.contains(used) && !may_use(row, used, dev) {
                let kind = if dev { " in tests" } else { "" };
                problems.push(format!("{name} uses {used}{kind}; its row allows: {}", list(row.uses)));
            }
        }
    }
    Ok(problems)
}

fn may_use(row: &Row, used: &str, dev: bool) -> bool {
    // A crate's tests may ask for a feature of the crate itself, such as its contract suite.
    row.uses.contains(&used)
        || (dev && (used == row.name || IN_TESTS.contains(&used) || WHOLE_IN_TESTS.contains(&row.name)))
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn workspace(of: &str, kind: Value, uses: &str) -> Value {
        let package = |row: &Row| {
            let dependencies = if row.name == of { json!([{"name": uses, "kind": kind}]) } else { json!([]) };
            json!({"name": row.name, "dependencies": dependencies})
        };
        json!({"packages": TABLE.iter().map(package).collect::<Vec<_>>()})
    }

    #[test]
    fn siblings_may_not_see_each_other() {
        for (name, uses) in [("agentry-store", "agentry-bus"), ("agentry-server", "agentry-orchestrator")] {
            let problems = problems(&workspace(name, Value::Null, uses)).unwrap();
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].contains(uses), "{problems:?}");
        }
    }

    #[test]
    fn rows_and_tests_are_allowed_what_they_say() {
        for (name, kind, uses) in [
            ("agentry-server", Value::Null, "agentry-store"),
            ("agentry-store", json!("dev"), "agentry-testkit"),
            ("agentry-orchestrator", json!("dev"), "agentry-server"),
        ] {
            assert_eq!(problems(&workspace(name, kind, uses)).unwrap(), Vec::<String>::new());
        }
    }

    #[test]
    fn a_crate_without_a_row_is_refused() {
        let mut metadata = workspace("xtask", Value::Null, "anyhow");
        metadata["packages"].as_array_mut().unwrap().push(json!({"name": "agentry-new", "dependencies": []}));
        assert!(problems(&metadata).unwrap()[0].contains("agentry-new has no row"));
    }
}
