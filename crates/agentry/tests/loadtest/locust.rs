//! Locust's file.

use std::collections::BTreeMap;

use crate::loaded_server::{AGENTS, LoadedServer, SIGNING_SECRET};
use crate::tools::{NOWHERE, found, report, repository, run, words};

/// What Locust counted.
struct Counted {
    code: Option<i32>,
    /// Requests by name.
    sent: BTreeMap<String, u64>,
    /// Failed requests by name.
    failed: BTreeMap<String, u64>,
    said: String,
}

impl Counted {
    fn total(&self) -> u64 {
        self.sent.values().sum()
    }

    /// Every one of these was sent, nothing else, and none failed.
    fn is_clean(&self, names: &[&str]) {
        assert_eq!(self.code, Some(0), "{}", self.said);
        assert!(self.failed.values().all(|failed| *failed == 0), "{:?}\n{}", self.failed, self.said);
        let mut names = names.to_vec();
        names.sort_unstable();
        assert_eq!(self.sent.keys().collect::<Vec<_>>(), names, "{}", self.said);
        assert!(self.sent.values().all(|sent| *sent > 0), "{:?}", self.sent);
    }
}

/// Some seconds of one kind of users, who end what they began. So many users that rare kinds of requests come too.
fn locust(server: &LoadedServer, url: &str, class: &str, users: &str, env: &[(&str, &str)]) -> Counted {
    let script = repository("loadtest/locust/locustfile.py").display().to_string();
    let file = server.folder().join("locust.json");
    let name = file.with_extension("").display().to_string();
    let mut args = words(&["-f", &script, class, "--headless", "--users", users, "--spawn-rate", users]);
    args.extend(words(&["--run-time", "4s", "--stop-timeout", "60", "--host", url, "--json-file", &name]));
    // Nothing is written beside the script.
    let env = [&[("PYTHONDONTWRITEBYTECODE", "1")], env].concat();
    let ended = run(&found("AGENTRY_TEST_LOCUST", "loadtest/venv/bin/locust"), server.folder(), &args, &env);
    let rows = report(&file, &ended.said);
    let by_name = |field: &str| -> BTreeMap<String, u64> {
        let rows = rows.as_array().unwrap().iter();
        rows.map(|row| (row["name"].as_str().unwrap().to_owned(), row[field].as_u64().unwrap())).collect()
    };
    Counted { code: ended.code, sent: by_name("num_requests"), failed: by_name("num_failures"), said: ended.said }
}

#[test]
fn locust_asks_agents_of_three_modes() {
    let server = LoadedServer::new();
    let counted = locust(&server, &server.url, "TaskMix", "20", &[]);
    counted.is_clean(&AGENTS);
    for agent in AGENTS {
        assert_eq!(server.completed(agent), counted.sent[agent], "{agent}");
    }
    assert_eq!(server.answered("/v1/tasks", 200), counted.total());
}

#[test]
fn locust_publishes_events_of_four_kinds() {
    let server = LoadedServer::new();
    let counted = locust(&server, &server.url, "EventBurst", "100", &[]);
    counted.is_clean(&["agent.result.done", "schedule.task.due", "slack.event.message", "task.submission.new"]);
    assert_eq!(server.answered("/v1/events", 202), counted.total());
    assert_eq!(server.events("locust", counted.total()), counted.sent);
}

#[test]
fn locust_sends_what_slack_would_and_every_mention_is_answered() {
    let server = LoadedServer::with_slack();
    let counted = locust(&server, &server.url, "SlackEvents", "5", &[("SLACK_SIGNING_SECRET", SIGNING_SECRET)]);
    counted.is_clean(&["slack event"]);
    server.mentions_were_answered(counted.total());
}

#[test]
fn locust_fails_without_a_server() {
    let server = LoadedServer::new();
    let counted = locust(&server, NOWHERE, "TaskMix", "5", &[]);
    assert_eq!(counted.code, Some(1), "{}", counted.said);
    assert!(counted.total() > 0 && counted.failed == counted.sent, "{}", counted.said);
}

#[test]
fn locust_fails_when_an_agent_does_not_exist() {
    let server = LoadedServer::new();
    let counted = locust(&server, &server.url, "TaskMix", "20", &[("AUTONOMOUS", "nobody")]);
    assert_eq!(counted.code, Some(1), "{}", counted.said);
    assert!(counted.sent["nobody"] > 0 && counted.failed["nobody"] == counted.sent["nobody"], "{}", counted.said);
    assert_eq!((counted.failed["support"], server.completed("triage")), (0, 0), "{}", counted.said);
    assert_eq!(server.answered("/v1/tasks", 404), counted.sent["nobody"]);
}

#[test]
fn locust_fails_when_the_secret_is_another() {
    let server = LoadedServer::with_slack();
    let counted = locust(&server, &server.url, "SlackEvents", "2", &[("SLACK_SIGNING_SECRET", "another")]);
    assert_eq!(counted.code, Some(1), "{}", counted.said);
    assert!(counted.total() > 0 && counted.failed == counted.sent, "{}", counted.said);
    assert_eq!((server.heard("unverified"), server.heard("accepted")), (counted.total(), 0));
}
