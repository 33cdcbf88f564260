//! `agentry sim llm` and the libraries of OpenAI, Anthropic, AWS, Google and Ollama for Python.

use serde_json::Value;

use crate::python::script;
use crate::simulator::{end, start};

/// Completion, usage, stream, tools, structured output, stop reasons, errors and faults, each by name.
const PARTS: &str = "completion\nusage_details\nstream\ntools\nforms_and_stops\nerrors\nfaults\n";

fn speaks(file: &str, more: &[&str]) {
    let simulator = start(&["sim", "llm", "--aws-secret", "secret-of-the-simulator"]);
    let args: Vec<&str> = std::iter::once(simulator.url.as_str()).chain(more.iter().copied()).collect();
    assert_eq!(script(file, &args), PARTS);
}

#[test]
fn openai_takes_it_for_openai() {
    speaks("openai_sdk.py", &[]);
}

#[test]
fn anthropic_takes_it_for_anthropic() {
    // The version that the library asks for, and the one that most clients do.
    speaks("anthropic_sdk.py", &[]);
    speaks("anthropic_sdk.py", &["2023-06-01"]);
}

#[test]
fn aws_takes_it_for_bedrock() {
    speaks("bedrock_sdk.py", &[]);
}

#[test]
fn ollama_takes_it_for_ollama() {
    speaks("ollama_sdk.py", &[]);
}

#[test]
fn every_library_returns_the_reasoning_of_a_tool_loop_as_the_provider_wants_it() {
    let simulator = start(&["sim", "llm", "--aws-secret", "secret-of-the-simulator"]);
    let parts = "responses\nmessages\nconverse\ngenerate_content\nchat\n";
    assert_eq!(script("loops_sdk.py", &[&simulator.url]), parts);
}

#[test]
fn keys_and_limits_are_told_in_the_words_of_each() {
    let simulator = start(&["sim", "llm", "--require-key", "AKIDSIM", "--aws-secret", "right", "--rpm", "3"]);
    assert_eq!(script("keys_sdk.py", &[&simulator.url, "AKIDSIM"]), "wrong_keys\nwrong_signatures\nlimits\n");
}

#[test]
fn the_ledger_has_every_call_after_sigterm_and_after_kill_9() {
    for signal in ["-TERM", "-KILL"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        let simulator = start(&["sim", "llm", "--ledger", path.to_str().unwrap()]);
        script("calls.py", &[&simulator.url, "20"]);
        end(simulator, signal);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 20, "{signal}");
        assert!(lines.iter().all(|line| line["end"] == "completed"), "{signal}: {text}");
    }
}
