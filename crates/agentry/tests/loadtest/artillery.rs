//! Artillery's scenarios.

use std::collections::BTreeMap;

use serde_json::json;

use crate::loaded_server::{AGENTS, LoadedServer};
use crate::tools::{NOWHERE, found, report, repository, run, words};

/// What Artillery counted.
struct Counted {
    code: Option<i32>,
    counters: BTreeMap<String, u64>,
    said: String,
}

impl Counted {
    fn of(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or_default()
    }

    /// Users of a scenario.
    fn users(&self, scenario: &str) -> u64 {
        self.of(&format!("vusers.created_by_name.{scenario}"))
    }

    /// Every user did what it was made for, and was answered with this status.
    fn is_clean(&self, status: u16) {
        assert_eq!(self.code, Some(0), "{}", self.said);
        let bad = |name: &&String| {
            ["errors.", "plugins.expect.failed", "http.codes.4", "http.codes.5"]
                .iter()
                .any(|start| name.starts_with(start))
        };
        assert_eq!(self.counters.keys().find(bad), None, "{}", self.said);
        let all = self.of("vusers.created");
        assert!(all > 0, "{}", self.said);
        let done = (self.of("vusers.completed"), self.of("vusers.failed"), self.of(&format!("http.codes.{status}")));
        assert_eq!(done, (all, 0, all), "{}", self.said);
    }
}

/// Three seconds, at a rate at which rare kinds of requests come too. Latencies of a busy machine are no matter here:
/// the threshold is looked at, and is far away.
fn artillery(server: &LoadedServer, url: &str, script: &str, rate: u32, more: &[&str]) -> Counted {
    let phases = json!([{"name": "test", "duration": 3, "arrivalRate": rate}]);
    let slow = json!([{"http.response_time.p95": 60_000}]);
    let shorter = json!({"config": {"phases": phases, "ensure": {"thresholds": slow}}}).to_string();
    let (script, file) = (repository("loadtest/artillery").join(script), server.folder().join("artillery.json"));
    let (script, to) = (script.display().to_string(), file.display().to_string());
    let mut args = words(&["run", "--quiet", "--target", url, "--overrides", &shorter, "--output", &to]);
    args.extend(words(more));
    args.push(script);
    let tool = found("AGENTRY_TEST_ARTILLERY", "loadtest/node_modules/.bin/artillery");
    let ended = run(&tool, server.folder(), &args, &[("ARTILLERY_DISABLE_TELEMETRY", "true")]);
    let counters = report(&file, &ended.said)["aggregate"]["counters"].clone();
    let counters = serde_json::from_value(counters).unwrap_or_else(|error| panic!("{error}\n{}", ended.said));
    Counted { code: ended.code, counters, said: ended.said }
}

#[test]
fn artillery_asks_agents_of_three_modes() {
    let server = LoadedServer::new();
    let counted = artillery(&server, &server.url, "task-mix.yml", 35, &[]);
    counted.is_clean(200);
    for (scenario, agent) in ["autonomous", "continuous", "collaborative"].into_iter().zip(AGENTS) {
        assert!(counted.users(scenario) > 0, "{scenario}: {}", counted.said);
        assert_eq!(server.completed(agent), counted.users(scenario), "{agent}");
    }
    assert_eq!(server.answered("/v1/tasks", 200), counted.of("vusers.created"));
}

#[test]
fn artillery_publishes_events_of_four_kinds() {
    let server = LoadedServer::new();
    let counted = artillery(&server, &server.url, "burst.yml", 100, &[]);
    counted.is_clean(202);
    let all = counted.of("vusers.created");
    assert_eq!(server.answered("/v1/events", 202), all);
    let topics = server.events("artillery", all);
    assert_eq!(topics.len(), 4, "{topics:?}");
    for (topic, count) in topics {
        assert_eq!(count, counted.users(&topic), "{topic}");
    }
}

#[test]
fn artillery_fails_without_a_server() {
    let server = LoadedServer::new();
    for script in ["task-mix.yml", "burst.yml"] {
        let counted = artillery(&server, NOWHERE, script, 5, &[]);
        assert_eq!(counted.code, Some(1), "{script}: {}", counted.said);
        assert!(counted.of("errors.ECONNREFUSED") > 0, "{script}: {}", counted.said);
    }
}

#[test]
fn artillery_fails_when_an_agent_does_not_exist() {
    let server = LoadedServer::new();
    let named = ["--variables", r#"{"autonomous": "nobody"}"#];
    let counted = artillery(&server, &server.url, "task-mix.yml", 35, &named);
    // The code of expectations that were not met.
    assert_eq!(counted.code, Some(21), "{}", counted.said);
    let asked = counted.users("autonomous");
    assert!(asked > 0, "{}", counted.said);
    assert_eq!((counted.of("http.codes.404"), server.answered("/v1/tasks", 404)), (asked, asked), "{}", counted.said);
    assert_eq!(server.completed("triage"), 0);
}
