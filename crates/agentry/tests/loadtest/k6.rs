//! k6's scripts: by k6 where it is on the path, else by Node with k6's modules made of its own parts.

use crate::loaded_server::{AGENTS, LoadedServer, SIGNING_SECRET};
use crate::tools::{NOWHERE, on_path, report, repository, run, words};

/// Checks of a script's that held, and that did not.
struct Counted {
    passes: u64,
    fails: u64,
    said: String,
}

impl Counted {
    /// Something was checked, and all of it held; how much.
    fn is_clean(&self) -> u64 {
        assert!(self.passes > 0 && self.fails == 0, "{} passed, {} failed: {}", self.passes, self.fails, self.said);
        self.passes
    }
}

fn k6(server: &LoadedServer, url: &str, script: &str) -> Counted {
    let (summary, said) = match on_path("k6") {
        Some(tool) => {
            let file = server.folder().join("k6.json");
            let (to, url) = (file.display().to_string(), format!("URL={url}"));
            let mut args = words(&["run", "--quiet", "--no-usage-report", "--no-thresholds", "--summary-export", &to]);
            let secret = format!("SLACK_SIGNING_SECRET={SIGNING_SECRET}");
            for setting in [url.as_str(), secret.as_str(), "DURATION=2s", "PEAK=2s", "BURST=1s"] {
                args.extend(words(&["-e", setting]));
            }
            args.push(repository("loadtest/k6").join(script).display().to_string());
            let ended = run(&tool, server.folder(), &args, &[]);
            (report(&file, &ended.said), ended.said)
        }
        None => {
            eprintln!(
                "NOTE: there is no k6 on the path. Node plays {script}: its requests, not its rates and thresholds."
            );
            let node = on_path("node").unwrap_or_else(|| panic!("neither k6 nor node is on the path: install one"));
            let player = repository("crates/agentry/tests/loadtest/k6_play.mjs").display().to_string();
            let scripts = repository("loadtest/k6").display().to_string();
            let folder = tempfile::tempdir_in(server.folder()).unwrap();
            let args = words(&[&player, &scripts, script, &folder.path().display().to_string()]);
            let env = [("URL", url), ("SLACK_SIGNING_SECRET", SIGNING_SECRET)];
            let ended = run(&node, server.folder(), &args, &env);
            assert_eq!(ended.code, Some(0), "{}", ended.said);
            (serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}\n{}", ended.said)), ended.said)
        }
    };
    let checks = &summary["metrics"]["checks"];
    let count = |field: &str| checks[field].as_u64().unwrap_or_else(|| panic!("no {field}: {summary}\n{said}"));
    Counted { passes: count("passes"), fails: count("fails"), said: said.clone() }
}

#[test]
fn k6_asks_agents_of_three_modes() {
    let server = LoadedServer::new();
    let passed = k6(&server, &server.url, "task-mix.js").is_clean();
    let completed = AGENTS.map(|agent| server.completed(agent));
    assert!(completed.iter().all(|count| *count > 0), "{completed:?}");
    assert_eq!(completed.iter().sum::<u64>(), passed, "{completed:?}");
}

#[test]
fn k6_publishes_events() {
    let server = LoadedServer::new();
    let passed = k6(&server, &server.url, "burst.js").is_clean();
    assert_eq!(server.answered("/v1/events", 202), passed);
    assert_eq!(server.events("k6", passed).values().sum::<u64>(), passed);
}

#[test]
fn k6_sends_what_slack_would_and_every_mention_is_answered() {
    let server = LoadedServer::with_slack();
    let passed = k6(&server, &server.url, "slack.js").is_clean();
    server.mentions_were_answered(passed);
}

#[test]
fn k6_sees_that_there_is_no_server() {
    let server = LoadedServer::new();
    let counted = k6(&server, NOWHERE, "task-mix.js");
    assert!(counted.passes == 0 && counted.fails > 0, "{}", counted.said);
}
