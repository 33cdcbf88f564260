//! Without a server: help, usage errors, agent files, a server that is not there, a pipe that closes.

use std::io::Read;
use std::process::Stdio;

use crate::support::{agentry, run};

#[test]
fn every_flag_of_the_reference_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let help = run(folder.path(), &["serve", "--help"]);
    // Secrets have no flag; the address of a server is for those who ask one.
    for key in agentry_config::KEYS.iter().filter(|key| !key.is_secret() && key.name != "url") {
        assert!(
            help.contains(&format!("--{} ", key.name)) || help.contains(&format!("--{}\n", key.name)),
            "{}",
            key.name
        );
    }
}

#[test]
fn help_of_every_verb() {
    const VERBS: &str = "serve, run, demo, validate, schema, import, doctor, migrate, agents, tasks, tasks list, \
        tasks show, tasks cancel, tasks events, sessions, sessions show, sessions delete, schedules, \
        schedules show, schedules next, schedules trigger, schedules backfill, schedules pause, \
        schedules resume, clarifications, clarifications answer, dead-letters, dead-letters show, \
        dead-letters replay, dead-letters edit, dead-letters drop, events, events publish, \
        events tail, workers, usage, keys, keys create, keys init, keys rotate, keys revoke, top, \
        bench, bench list, bench report, bench compare, bench estimate, bench generate, \
        bench generate agents, bench generate workload, sim, sim llm, sim slack, sim send";
    let folder = tempfile::tempdir().unwrap();
    for verb in VERBS.split(", ").chain([""]) {
        let args: Vec<&str> = verb.split_whitespace().chain(["--help"]).collect();
        let name = format!("help {verb}").trim().replace([' ', '-'], "_");
        insta::assert_snapshot!(name, run(folder.path(), &args));
    }
}

#[test]
fn mistakes_are_named_with_advice() {
    let cases: [(&str, &[&str]); 9] = [
        ("an_unknown_verb_is_a_usage_error", &["tasx"]),
        ("an_unknown_flag_is_a_usage_error", &["serve", "--agent", "x"]),
        ("a_bad_setting_is_a_usage_error", &["serve", "--listen", "8080"]),
        // Port 1 is reserved and nobody listens on it.
        ("a_server_that_is_not_there", &["agents", "--url", "http://127.0.0.1:1"]),
        ("an_address_that_is_none", &["tasks", "--url", "localhost:8080"]),
        ("a_public_address_is_refused", &["serve", "--listen", "0.0.0.0:0"]),
        ("the_cluster_engine_needs_its_servers", &["serve", "--engine", "cluster", "--role", "worker"]),
        ("the_embedded_engine_needs_the_role_api", &["serve", "--role", "worker"]),
        ("a_folder_of_agents_that_is_missing", &["serve", "--listen", "127.0.0.1:0"]),
    ];
    for (name, args) in cases {
        let folder = tempfile::tempdir().unwrap();
        insta::assert_snapshot!(name, run(folder.path(), args));
    }
}

#[test]
fn an_agent_file_with_a_typing_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let text = "name: triage\nexecution_mode: autonomos\nllm_config:\n  provider: openai\n  model: gpt-6-sol\nsystem_prompt: Sort.\n";
    std::fs::write(folder.path().join("triage.yml"), text).unwrap();
    insta::assert_snapshot!(run(folder.path(), &["validate", "triage.yml"]));
}

/// A variable may be a secret, and messages end in logs and build servers.
#[test]
fn the_value_of_a_variable_is_not_in_a_message() {
    let folder = tempfile::tempdir().unwrap();
    let text = "name: ${SECRET}\nexecution_mode: ${SECRET}\nenabled: ${SECRET}\nllm_config:\n  provider: openai\n  model: gpt-6-sol\n  max_tokens: ${SECRET}\n  base_url: ${SECRET}\nsystem_prompt: Sort.\n";
    std::fs::write(folder.path().join("triage.yml"), text).unwrap();
    for verb in [&["validate", "triage.yml"][..], &["import", "triage.yml"], &["doctor", "--agents", "."]] {
        let output =
            crate::support::agentry(folder.path()).args(verb).env("SECRET", "sk-/very/secret").output().unwrap();
        let shown = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(!shown.contains("very"), "{shown}");
        assert!(shown.contains("unknown execution_mode `${SECRET}`") || verb[0] == "doctor", "{shown}");
    }
}

#[test]
fn a_good_agent_file_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let text = "name: triage\nexecution_mode: autonomous\nllm_config:\n  provider: simulated\n  model: any\nsystem_prompt: Sort.\n";
    std::fs::write(folder.path().join("triage.yml"), text).unwrap();
    insta::assert_snapshot!(run(folder.path(), &["validate", "triage.yml"]));
}

#[test]
fn the_schema_is_json() {
    let folder = tempfile::tempdir().unwrap();
    let schema = crate::support::json(folder.path(), &["schema"]);
    assert!(schema["properties"]["execution_mode"].is_object(), "{schema}");
}

#[test]
fn a_pipe_that_closes_ends_quietly() {
    let folder = tempfile::tempdir().unwrap();
    let mut child =
        agentry(folder.path()).args(["schema"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let status = child.wait().unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
}
