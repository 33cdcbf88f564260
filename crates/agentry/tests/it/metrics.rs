//! `/metrics` of a server that has worked, and profiles of one that works.

use std::collections::{HashMap, HashSet};
use std::process::Stdio;

use serde_json::json;
use tempfile::TempDir;

use crate::http::Http;
use crate::support::{Server, agentry, empty_folder, run, write_agent};

const TASKS: usize = 20;

fn serve() -> (TempDir, Server, Http) {
    let folder = empty_folder();
    write_agent(folder.path(), "clerk", "autonomous", "");
    let mut command = agentry(folder.path());
    command.args(["serve", "--sim", "--listen", "127.0.0.1:0", "--slots", "64"]);
    let server = Server::spawn(command.stderr(Stdio::null()));
    let http = Http::new(&server.url);
    (folder, server, http)
}

fn scrape(http: &Http) -> String {
    let reply = http.send("GET", "/metrics", &[], Vec::new());
    assert_eq!((reply.status, reply.header("content-type")), (200, "text/plain; version=0.0.4; charset=utf-8"));
    String::from_utf8(reply.body).unwrap()
}

/// The samples by name and labels.
fn samples(text: &str) -> HashMap<&str, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.map(|line| line.rsplit_once(' ').unwrap_or_else(|| panic!("not a sample: {line}")));
    pairs
        .map(|(name, value)| (name, value.parse().unwrap_or_else(|_| panic!("not a number: {name} {value}"))))
        .collect()
}

#[test]
fn a_server_that_has_worked_shows_it() {
    let (_folder, _server, http) = serve();
    for n in 0..TASKS {
        http.submit("clerk", &n.to_string());
    }
    let ended = "agentry_tasks_ended_total{mode=\"autonomous\",status=\"completed\"}";
    http.until("every task to be counted and its place to be free", || {
        let text = scrape(&http);
        let seen = samples(&text);
        (seen.get(ended) == Some(&(TASKS as f64)) && seen.get("agentry_worker_slots_busy") == Some(&0.0)).then_some(())
    });
    // The store is asked before the process: only the next answer is all of one moment after the end.
    let text = scrape(&http);
    let seen = samples(&text);
    let at = |name: &str| *seen.get(name).unwrap_or_else(|| panic!("no {name}:\n{text}"));
    for (name, value) in [
        ("agentry_task_duration_seconds_count{mode=\"autonomous\"}", TASKS as f64),
        ("agentry_task_wait_seconds_count{mode=\"autonomous\"}", TASKS as f64),
        ("agentry_llm_calls_total{provider=\"openai\",model=\"gpt-4.1-mini\"}", TASKS as f64),
        ("agentry_queue_depth{mode=\"autonomous\"}", 0.0),
        ("agentry_queue_oldest_seconds{mode=\"autonomous\"}", 0.0),
        ("agentry_tasks{status=\"running\"}", 0.0),
        ("agentry_worker_slots", 64.0),
        ("agentry_worker_slots_busy", 0.0),
        ("agentry_outbox_depth", 0.0),
        ("agentry_dead_letters", 0.0),
        ("agentry_agents{state=\"healthy\"}", 1.0),
        ("agentry_dependency_up{dependency=\"store\"}", 1.0),
        ("agentry_tasks_recovered_total", 0.0),
        ("agentry_tasks_orphaned_total", 0.0),
        ("agentry_build_info{version=\"0.1.0\",engine=\"embedded\"}", 1.0),
    ] {
        assert!((at(name) - value).abs() < f64::EPSILON, "{name} is {}", at(name));
    }
    for name in [
        "agentry_llm_cost_dollars_total{provider=\"openai\",model=\"gpt-4.1-mini\"}",
        "agentry_store_write_seconds_count{write=\"claim\"}",
        "agentry_store_write_seconds_count{write=\"advance\"}",
        "agentry_executor_delay_seconds_count",
        "agentry_executor_busy_seconds_total",
        "agentry_process_cpu_seconds_total",
        "agentry_process_resident_memory_bytes",
        "agentry_process_open_files",
    ] {
        assert!(at(name) > 0.0, "{name} is {}", at(name));
    }
    well_formed(&text);
}

/// Every family is described once, before its samples, and belongs to us.
fn well_formed(text: &str) {
    let mut described = HashSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let name = rest.split(' ').next().unwrap();
            assert!(described.insert(name.to_owned()), "{name} is described twice");
            continue;
        }
        if line.starts_with('#') {
            continue;
        }
        let name = line.split(['{', ' ']).next().unwrap();
        let of = ["", "_bucket", "_sum", "_count"].iter().filter_map(|suffix| name.strip_suffix(suffix));
        assert!(of.into_iter().any(|family| described.contains(family)), "{name} is not described");
        assert!(name.starts_with("agentry_"), "{name}");
    }
}

#[test]
fn a_profile_shows_what_a_working_server_does_one_at_a_time() {
    let (folder, server, http) = serve();
    let batch: Vec<_> = (0..1_000).map(|n| json!({"agent": "clerk", "input": n.to_string()})).collect();
    for _ in 0..4 {
        assert_eq!(http.post("/v1/tasks/batch", &[], &json!({"tasks": batch})).status, 200);
    }
    let said = run(folder.path(), &["profile", "--seconds", "1", "--out", "p.svg", "--url", &server.url]);
    assert!(said.starts_with("exit code: 0\n") && said.contains("p.svg: open it in a browser"), "{said}");
    let picture = std::fs::read_to_string(folder.path().join("p.svg")).unwrap();
    assert!(picture.contains("<svg") && picture.contains("agentry"), "{}", &picture[..picture.len().min(500)]);

    // Two at the same time: whichever comes second is refused.
    let ask = || Http::new(&server.url).send("GET", "/debug/pprof/profile?seconds=5", &[], Vec::new());
    let mut replies =
        std::thread::scope(|scope| [scope.spawn(ask), scope.spawn(ask)].map(|asked| asked.join().unwrap()));
    replies.sort_by_key(|reply| reply.status);
    let [taken, refused] = replies;
    assert_eq!((taken.status, taken.header("content-type")), (200, "application/octet-stream"));
    assert_eq!((refused.status, &refused.json()["code"]), (409, &json!("profile_under_way")));
    for wrong in ["seconds=0", "seconds=61", "seconds=x", "format=text", "second=1"] {
        let reply = http.send("GET", &format!("/debug/pprof/profile?{wrong}"), &[], Vec::new());
        assert_eq!((reply.status, &reply.json()["code"]), (422, &json!("invalid_query")), "{wrong}");
    }
    // A heap profile needs a binary of its own, and this one says which.
    let reply = http.send("GET", "/debug/pprof/heap", &[], Vec::new());
    assert_eq!((reply.status, &reply.json()["code"]), (501, &json!("not_built")));
    let said = run(folder.path(), &["profile", "--heap", "--out", "h.svg", "--url", &server.url]);
    assert!(said.contains("--features heap-profile") && !folder.path().join("h.svg").exists(), "{said}");
    let said = run(folder.path(), &["profile", "--out", "no/such/folder.svg", "--url", &server.url]);
    assert!(said.contains("cannot write no/such/folder.svg"), "{said}");
}
