//! A server to be loaded, and what it says that it did.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use tempfile::TempDir;

use crate::http::Http;
use crate::support::{Server, agentry, folder_with_fleet};

/// What signs the events of the Slack simulator's app.
pub const SIGNING_SECRET: &str = "sim-signing-secret";
/// The agents that the task mix asks when it is not told others.
pub const AGENTS: [&str; 3] = ["triage", "support", "research-team"];

/// A server with the example fleet; with Slack beside it where that is loaded.
pub struct LoadedServer {
    /// Asks the server.
    pub http: Http,
    /// Where the server listens.
    pub url: String,
    slack: Option<Http>,
    // Servers end before their folder.
    _servers: Vec<Server>,
    folder: TempDir,
}

/// The example fleet without its schedules, which would add work of their own.
fn folder() -> TempDir {
    let folder = folder_with_fleet();
    for agent in ["health-check.yml", "daily-report.yml"] {
        std::fs::remove_file(folder.path().join("agents").join(agent)).unwrap();
    }
    folder
}

impl LoadedServer {
    /// `agentry serve --sim`.
    pub fn new() -> Self {
        let folder = folder();
        let server = Server::start(folder.path());
        Self { http: Http::new(&server.url), url: server.url.clone(), slack: None, _servers: vec![server], folder }
    }

    /// The same with an `agentry sim slack` that takes answers to events which it did not send.
    pub fn with_slack() -> Self {
        let folder = folder();
        let mut sim = agentry(folder.path());
        sim.args(["sim", "slack", "--listen", "127.0.0.1:0", "--team", "T0001", "--any-thread", "--no-rate-limits"]);
        let sim = Server::spawn(sim.stderr(Stdio::null()));
        let mut server = agentry(folder.path());
        server.args(["serve", "--sim", "--listen", "127.0.0.1:0"]).stderr(Stdio::null());
        server.env("AGENTRY_SLACK_SIGNING_SECRET", SIGNING_SECRET).env("AGENTRY_SLACK_BOT_TOKEN", "xoxb-sim");
        let server = Server::spawn(server.env("AGENTRY_SLACK_API_URL", format!("{}/api", sim.url)));
        let slack = Some(Http::new(&sim.url));
        Self { http: Http::new(&server.url), url: server.url.clone(), slack, _servers: vec![server, sim], folder }
    }

    /// Where tools may write.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A counter of `/metrics`; 0 when it was never counted.
    pub fn metric(&self, name: &str) -> u64 {
        let body = self.http.send("GET", "/metrics", &[], Vec::new()).body;
        let text = String::from_utf8(body).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse::<f64>().unwrap() as u64)
    }

    /// How many posts to this route were answered with this status.
    pub fn answered(&self, route: &str, status: u16) -> u64 {
        let labels = format!(r#"method="POST",route="{route}",status="{status}""#);
        self.metric(&format!("agentry_http_requests_total{{{labels}}}"))
    }

    /// How many events of Slack became of this.
    pub fn heard(&self, outcome: &str) -> u64 {
        self.metric(&format!(r#"agentry_slack_requests_total{{kind="event",outcome="{outcome}"}}"#))
    }

    /// How many tasks of an agent have completed.
    pub fn completed(&self, agent: &str) -> u64 {
        let page = self.http.get(&format!("/v1/tasks?agent={agent}&status=completed&brief=true&limit=1000"));
        page["items"].as_array().unwrap().len() as u64
    }

    /// Events of a source by topic, once there are so many.
    pub fn events(&self, source: &str, count: u64) -> BTreeMap<String, u64> {
        let mut left = count;
        let seen = self.http.stream("/v1/events?recent=1000", None, |sent| {
            left -= u64::from(sent.data["source"] == source);
            left == 0
        });
        let ours = seen.iter().filter(|sent| sent.data["source"] == source);
        let mut topics = BTreeMap::new();
        for sent in ours {
            *topics.entry(sent.data["topic"].as_str().unwrap().to_owned()).or_insert(0) += 1;
        }
        topics
    }

    /// Every mention was taken, is a task that has completed, and was answered in Slack.
    pub fn mentions_were_answered(&self, count: u64) {
        assert_eq!(self.answered("/slack/events", 200), count);
        assert_eq!(self.heard("accepted"), count);
        let slack = self.slack.as_ref().unwrap();
        // Answers come at about one a second and channel.
        let posts = slack.get(&format!("/sim/messages?by=bot&count={count}&wait=50"));
        assert_eq!(posts["messages"].as_array().unwrap().len() as u64, count);
        assert_eq!(self.completed("support"), count);
        assert_eq!(self.metric("agentry_dead_letters"), 0);
    }
}
