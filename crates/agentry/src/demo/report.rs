//! What the demo says: a line as each scene ends, and the whole as one object.

use std::time::Duration;

use serde_json::{Value, json};

use super::Played;
use super::crash::Crash;
use super::scenes::{Asked, Fired, Mentioned};
use crate::failure::Failure;
use crate::out;
use crate::render::{dollars, duration};

/// Characters before the column of durations.
const STORY_WIDTH: usize = 82;

/// The lines printed so far and what they say.
pub struct Report {
    live: bool,
    agents: usize,
    startup: Duration,
    tasks: Vec<Value>,
    schedule: Value,
    slack: Value,
    clarification: Value,
    crash: Value,
}

impl Report {
    /// A report; `live` prints its lines as they come.
    pub fn new(live: bool) -> Self {
        Self {
            live,
            agents: 0,
            startup: Duration::ZERO,
            tasks: Vec::new(),
            schedule: Value::Null,
            slack: Value::Null,
            clarification: Value::Null,
            crash: Value::Null,
        }
    }

    fn say(&self, text: &str) -> Result<(), Failure> {
        if self.live { out::line(text) } else { Ok(()) }
    }

    fn done(&self, text: &str) -> Result<(), Failure> {
        let mark = if out::colour_out() { "\u{1b}[32m✓\u{1b}[0m" } else { "✓" };
        self.say(format!("  {mark} {text}").trim_end())
    }

    /// What runs, and where.
    pub fn heading(&self, engine: &str, url: &str) -> Result<(), Failure> {
        let version = env!("CARGO_PKG_VERSION");
        self.say(&format!("  agentry {version} · {engine} engine · simulated providers · {url}\n"))
    }

    /// All agents are healthy.
    pub fn healthy(&mut self, agents: usize, startup: Duration) -> Result<(), Failure> {
        (self.agents, self.startup) = (agents, startup);
        let line = format!("{:STORY_WIDTH$} {:>9}", format!("{agents} agents healthy"), duration(startup));
        self.done(&line)
    }

    /// A task of a mode ended well.
    pub fn task(&mut self, played: &Played) -> Result<(), Failure> {
        self.tasks.push(played.json());
        let story = format!("{:<15} {:<15} {}", played.mode, played.agent, played.story);
        let calls = if played.llm_calls == 1 { "1 call".to_owned() } else { format!("{} calls", played.llm_calls) };
        let numbers = format!("{:>9}  {calls:>8}  {}", duration(played.duration), dollars(played.cost_nanos));
        self.done(&format!("{story:<STORY_WIDTH$} {numbers}"))
    }

    /// A question was asked, answered, and its task went on.
    pub fn clarification(&mut self, asked: &Asked) -> Result<(), Failure> {
        self.clarification = json!({
            "questions": asked.questions,
            "question": asked.question,
            "answer": asked.answer,
            "waited_ms": asked.waited.as_secs_f64() * 1_000.0,
            "status": asked.status,
        });
        let Asked { questions, question, answer, waited, .. } = asked;
        let times = if *questions == 1 { String::new() } else { format!(" {questions} times") };
        let waited = duration(*waited);
        self.done(&format!(
            "clarification   \"{question}\" asked{times} · answered \"{answer}\" in Slack after {waited} · resumed"
        ))
    }

    /// The schedule fired.
    pub fn schedule(&mut self, fired: &Fired) -> Result<(), Failure> {
        let lateness = fired.lateness.as_secs_f64() * 1_000.0;
        self.schedule = json!({"slots": fired.slots, "lateness_ms": lateness});
        if let Ok(played) = Played::of("health-check", "scheduled", String::new(), &fired.tasks) {
            self.tasks.push(played.json());
        }
        let lateness = duration(fired.lateness);
        self.done(&format!(
            "{:<15} {:<15} {} slots fired, lateness {lateness}",
            "scheduled", "health-check", fired.slots
        ))
    }

    /// A mention was answered.
    pub fn slack(&mut self, mentioned: &Mentioned) -> Result<(), Failure> {
        let Mentioned { took, posts } = mentioned;
        self.slack = json!({"posts": posts, "took_ms": took.as_secs_f64() * 1_000.0});
        let story = format!("{:<15} {:<15} mention, told three times → one answer in its thread", "slack", "support");
        self.done(&format!("{story:<STORY_WIDTH$} {:>9}", duration(*took)))
    }

    /// The server was killed and came back.
    pub fn crash(&mut self, crash: &Crash) -> Result<(), Failure> {
        let Crash { accepted, ended_before, ended_once, bought_twice, recovery } = crash;
        self.crash = json!({
            "accepted": accepted,
            "ended_before_kill": ended_before,
            "ended_once": ended_once,
            "calls_bought_twice": bought_twice,
            "recovery_ms": recovery.as_secs_f64() * 1_000.0,
        });
        self.done(&format!(
            "kill -9 in mid-task ({ended_before} had ended), restarted: {ended_once} of {accepted} accepted tasks ended \
             once, {bought_twice} calls bought twice, after {}",
            duration(*recovery)
        ))
    }

    /// What to do next.
    pub fn next_steps(&self) -> Result<(), Failure> {
        self.say("\n  Next:  agentry run support \"Where is my order?\" --sim        agentry serve --sim")
    }

    /// The whole as one object.
    pub fn summary(&self) -> Value {
        json!({
            "ok": true,
            "agents": self.agents,
            "startup_ms": self.startup.as_secs_f64() * 1_000.0,
            "tasks": self.tasks,
            "slack": self.slack,
            "schedule": self.schedule,
            "clarification": self.clarification,
            "crash": self.crash,
        })
    }
}
