//! An agent with an MCP server, from its file to the model's answer, on the real binary.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::http::Http;
use crate::support::{Server, agentry, json};

fn folder(command: &str, on_unknown: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("agents")).unwrap();
    let text = format!(
        "name: worker\nexecution_mode: autonomous\nllm_config: {{provider: openai, model: gpt-4.1-mini}}\n\
         system_prompt: You help.\nretry_config: {{max_retries: 0}}\n\
         tools:\n  - {{name: srv, type: mcp, command: {command}, on_unknown: {on_unknown}}}\n"
    );
    std::fs::write(folder.path().join("agents/worker.yml"), text).unwrap();
    folder
}

fn hostile() -> String {
    format!("[python3, '{}/../agentry-tools/tests/mcp/hostile.py']", env!("CARGO_MANIFEST_DIR"))
}

fn task(folder: &Path, input: &str) -> Value {
    let output = agentry(folder).args(["run", "worker", input, "--sim", "-o", "json"]).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn a_model_calls_the_tools_of_a_server() {
    let folder = folder(&hostile(), "fail");
    let task = task(folder.path(), r#"Try it. [[tool:srv__echo {"n":7}]]"#);
    assert_eq!(task["status"], "completed", "{task}");
    assert!(task["output"].as_str().unwrap().contains(r#"echo {"n": 7}"#), "{task}");
}

#[test]
fn an_agent_works_on_while_its_server_is_away_and_people_are_told() {
    let folder = folder("[no-such-program-anywhere]", "fail");
    let done = task(folder.path(), "Say hello. [[tool:srv {}]]");
    assert_eq!(done["status"], "completed", "{done}");
    assert!(done["output"].as_str().unwrap().contains("`srv` is unavailable"), "{done}");
    let server = Server::start(folder.path());
    let run = agentry(folder.path()).args(["run", "worker", "hello", "--url", &server.url, "--wait"]).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let agents = Http::new(&server.url).until("`agents` to tell that the tools are unavailable", || {
        let agents = json(folder.path(), &["agents", "worker", "--url", &server.url, "-o", "json"]).to_string();
        agents.contains("the tools of `srv` are unavailable").then_some(agents)
    });
    assert!(agents.contains("no-such-program-anywhere") && agents.contains("healthy"), "{agents}");
}

#[test]
fn an_outcome_that_is_unknown_goes_by_the_files_policy() {
    let folder = folder(&hostile(), "fail");
    let failed = task(folder.path(), "Try it. [[tool:srv__die {}]]");
    assert_eq!(failed["status"], "failed", "{failed}");
    assert_eq!(failed["error"]["code"], "tool_outcome_unknown", "{failed}");
    assert!(failed["error"]["message"].as_str().unwrap().contains("srv__die"), "{failed}");
}
