//! `run --record` against the simulator, then `run --replay` with it gone.

use std::path::Path;
use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Server, agentry};

const SECRET: &str = "a-secret-of-this-test";
/// The simulator answers with this call, then says what it returned.
const INPUT: &str = r#"Look it up. [[tool:find {"q":"late"}]]"#;

/// An agent with a tool that nobody serves, and a secret in its prompt and its tool's key.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("agents")).unwrap();
    write(folder.path(), "Be brief.");
    folder
}

fn write(folder: &Path, prompt: &str) {
    let text = format!(
        "name: finder\nexecution_mode: autonomous\nllm_config: {{provider: openai, model: gpt-4.1-mini}}\n\
         system_prompt: '{prompt} The password is ${{TAPE_WORD}}.'\n\
         tools:\n  - {{name: find, type: http, url: 'http://127.0.0.1:9/find', auth: {{type: api_key, token: '${{TAPE_WORD}}'}}}}\n"
    );
    std::fs::write(folder.join("agents/finder.yml"), text).unwrap();
}

fn run(folder: &Path, args: &[&str], secret: bool) -> Output {
    let mut command = agentry(folder);
    command.args(["run", "finder"]).args(args);
    if secret {
        command.env("TAPE_WORD", SECRET)
    } else {
        command.env_remove("TAPE_WORD")
    };
    command.output().unwrap()
}

fn recorded() -> TempDir {
    let folder = folder();
    let mut sim = agentry(folder.path());
    sim.args(["sim", "llm", "--listen", "127.0.0.1:0"]).stderr(std::process::Stdio::null());
    let sim = Server::spawn(&mut sim);
    let url = format!("{}/v1", sim.url.trim_end_matches("/v1"));
    let output = run(folder.path(), &[INPUT, "--record", "tape.jsonl", "--sim-url", &url], true);
    assert!(output.status.success(), "{}", stderr(&output));
    std::fs::write(folder.path().join("answer.txt"), &output.stdout).unwrap();
    folder
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_recording_answers_without_provider_tools_and_secrets() {
    let folder = recorded();
    let tape = std::fs::read_to_string(folder.path().join("tape.jsonl")).unwrap();
    assert!(!tape.contains(SECRET) && tape.contains("${TAPE_WORD}"), "{tape}");
    let kinds: Vec<Value> =
        tape.lines().skip(1).map(|line| serde_json::from_str::<Value>(line).unwrap()["kind"].clone()).collect();
    assert_eq!(kinds, ["model", "tool", "model"], "{tape}");
    for secret in [true, false] {
        let output = run(folder.path(), &[INPUT, "--replay", "tape.jsonl"], secret);
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(output.stdout, std::fs::read(folder.path().join("answer.txt")).unwrap());
    }
    assert!(!folder.path().join("data").exists(), "recordings use fresh data");
}

#[test]
fn another_prompt_or_input_is_an_error_that_shows_the_first_difference() {
    let folder = recorded();
    let output = run(folder.path(), &["Something else.", "--replay", "tape.jsonl"], true);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(
        said.contains("/messages/1/content recorded is \"Look it up") && said.contains("\"Something else.\""),
        "{said}"
    );
    write(folder.path(), "Be kind.");
    let said = stderr(&run(folder.path(), &[INPUT, "--replay", "tape.jsonl"], true));
    assert!(said.contains("/messages/0/content recorded is \"Be brief.") && said.contains("\"Be kind."), "{said}");
    assert!(said.contains("help: record it again"), "{said}");
}

#[test]
fn calls_that_are_not_made_are_told() {
    let folder = recorded();
    let path = folder.path().join("tape.jsonl");
    let mut tape = std::fs::read_to_string(&path).unwrap();
    let last = tape.lines().last().unwrap().to_owned();
    tape.push_str(&last);
    std::fs::write(&path, tape).unwrap();
    let output = run(folder.path(), &[INPUT, "--replay", "tape.jsonl"], true);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("did not make:\n  line 5: call of a model by `finder`"), "{}", stderr(&output));
}

#[test]
fn what_is_no_recording_is_refused() {
    let folder = folder();
    std::fs::write(folder.path().join("no.jsonl"), "hello\n").unwrap();
    for (args, expected) in [
        (vec!["x", "--replay", "no.jsonl"], "cannot replay no.jsonl: line 1"),
        (vec!["x", "--replay", "missing.jsonl"], "cannot replay missing.jsonl"),
        (vec!["x", "--record", "no/such/folder.jsonl", "--sim"], "cannot record to no/such/folder.jsonl"),
        (vec!["x", "--record", "a", "--replay", "b"], "cannot be used with"),
    ] {
        let output = run(folder.path(), &args, true);
        assert!(!output.status.success() && stderr(&output).contains(expected), "{}", stderr(&output));
    }
}
