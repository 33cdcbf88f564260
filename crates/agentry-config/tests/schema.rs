//! The published JSON Schema: current, and consistent with the reader.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs;
use std::path::Path;

use agentry_config::agent_file_schema;

fn repository() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn the_checked_in_schema_is_current() {
    let path = repository().join("schema/agent.schema.json");
    let current = format!("{:#}\n", agent_file_schema());
    if std::env::var_os("UPDATE_REFERENCES").is_some() {
        fs::write(&path, &current).unwrap();
    }
    let saved = fs::read_to_string(&path).unwrap_or_default();
    assert!(saved == current, "schema/agent.schema.json is old: run the tests with UPDATE_REFERENCES=1");
}

#[test]
fn every_key_of_the_interface_and_its_other_names_are_in_the_schema() {
    let schema = agent_file_schema();
    let names = |schema: &serde_json::Value| -> Vec<String> {
        schema["properties"].as_object().unwrap().keys().cloned().collect()
    };
    let top = names(&schema);
    for key in
        ["name", "execution_mode", "llm_config", "system_prompt", "event_subscriptions", "output_schema", "budget"]
    {
        assert!(top.iter().any(|name| name == key), "{key}");
    }
    let llm = names(&schema["$defs"]["Llm"]);
    for key in ["model", "model_id", "aws_region", "host", "api_base", "endpoint_url", "base_url", "fallback"] {
        assert!(llm.iter().any(|name| name == key), "{key}");
    }
    assert_eq!(schema["$defs"]["Llm"]["additionalProperties"], false);
    assert_eq!(schema["$defs"]["Llm"]["required"], serde_json::json!(["provider"]));
}
