//! The fleet of a deployment on one machine: what is removed, brought back, broken, and served after a restart.

use std::path::Path;

use serde_json::{Value, json};

use crate::http::Http;
use crate::support::{Server, empty_folder, json, run, write_agent};

fn folder_of(agents: &[&str]) -> tempfile::TempDir {
    let folder = empty_folder();
    agents.iter().for_each(|agent| write_agent(folder.path(), agent, "autonomous", ""));
    folder
}

fn version(folder: &Path, url: &str) -> Value {
    json(folder, &["agents", "clerk", "--url", url, "-o", "json"])["version"].take()
}

#[test]
fn an_agent_is_removed_and_brought_back_by_a_verb() {
    let folder = folder_of(&["clerk", "other"]);
    let path = folder.path();
    let server = Server::start(path);
    let http = Http::new(&server.url);
    let first = version(path, &server.url);
    let said = run(path, &["agents", "remove", "clerk", "--url", &server.url]);
    assert!(said.contains("clerk is removed; what was accepted for it still runs"), "{said}");
    let refused = http.post("/v1/tasks", &[], &json!({"agent": "clerk", "input": "hi"}));
    assert_eq!((refused.status, &refused.json()["code"]), (404, &json!("unknown_agent")));
    let again = run(path, &["agents", "remove", "clerk", "--url", &server.url]);
    let hint = format!("`agentry agents activate clerk` brings back version {}", first.as_str().unwrap());
    assert!(again.contains(&hint), "{again}");
    for verb in [&["agents", "clerk"][..], &["run", "clerk", "hi"]] {
        let refused = run(path, &[verb, &["--url", &server.url]].concat());
        assert!(refused.contains(&hint), "{refused}");
    }
    let unknown = run(path, &["agents", "activate", "clerk", "0123456789ab", "--url", &server.url]);
    assert!(unknown.contains("never had a version `0123456789ab`"), "{unknown}");
    run(path, &["agents", "activate", "clerk", first.as_str().unwrap(), "--url", &server.url]);
    assert_eq!(version(path, &server.url), first);
    let running = run(path, &["agents", "activate", "clerk", "--url", &server.url]);
    assert!(running.contains("say which version it is to run"), "{running}");
    run(path, &["agents", "remove", "clerk", "--url", &server.url]);
    let back = run(path, &["agents", "activate", "clerk", "--url", &server.url]);
    assert!(back.contains(&format!("clerk runs version {}", first.as_str().unwrap())), "{back}");
    assert_eq!(http.post("/v1/tasks", &[], &json!({"agent": "clerk", "input": "hi"})).status, 202);
}

#[test]
fn a_file_that_is_broken_while_the_server_is_stopped_keeps_its_last_good_version() {
    let folder = folder_of(&["clerk"]);
    let path = folder.path();
    let server = Server::start(path);
    let good = version(path, &server.url);
    // Versions are written before the first work; the server is killed as soon as the task is accepted.
    Http::new(&server.url).submit("clerk", "hello");
    drop(server);
    let file = path.join("agents/clerk.yml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("autonomous", "autonomus")).unwrap();
    let server = Server::start(path);
    let agent = json(path, &["agents", "clerk", "--url", &server.url, "-o", "json"]);
    assert_eq!(agent["version"], good, "{agent}");
    assert!(agent["error"].as_str().unwrap().contains("autonomus"), "{agent}");
    let http = Http::new(&server.url);
    let id = http.submit("clerk", "hello");
    assert_eq!(http.task_in(&id, &["completed", "failed"])["status"], "completed");
}

#[test]
fn what_was_accepted_for_an_agent_whose_file_is_deleted_still_runs() {
    let folder = folder_of(&["clerk", "other"]);
    let path = folder.path();
    let server = Server::start(path);
    let http = Http::new(&server.url);
    let tasks: Vec<String> = (0..20).map(|_| http.submit("clerk", "hello [[sleep:500]]")).collect();
    std::fs::remove_file(path.join("agents/clerk.yml")).unwrap();
    http.until("the agent to be gone", || {
        (http.post("/v1/tasks", &[], &json!({"agent": "clerk", "input": "hi"})).status == 404).then_some(())
    });
    for id in tasks {
        assert_eq!(http.task_in(&id, &["completed", "failed"])["status"], "completed");
    }
}
