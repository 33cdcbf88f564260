//! The output of the demo: a line per scene, and a summary object.

use std::time::Duration;

use serde_json::{Value, json};

use super::TaskSummary;
use super::crash::CrashSummary;
use super::scenes::{MentionSummary, QuestionSummary, SlotSummary};
use crate::failure::Failure;
use crate::out;
use crate::render::{cost, duration};

/// Characters before the column of durations.
const STORY_WIDTH: usize = 82;

/// The report of the demo.
pub struct DemoReport {
    live: bool,
    agents: usize,
    startup: Duration,
    tasks: Vec<Value>,
    schedule: Value,
    slack: Value,
    clarification: Value,
    crash: Value,
}

impl DemoReport {
    /// Returns an empty report; `live` prints each line at once.
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

    /// Reports engine and address.
    pub fn heading(&self, engine: &str, url: &str) -> Result<(), Failure> {
        let version = env!("CARGO_PKG_VERSION");
        self.say(&format!("  agentry {version} · {engine} engine · simulated providers · {url}\n"))
    }

    /// Reports that all agents are healthy.
    pub fn healthy(&mut self, agents: usize, startup: Duration) -> Result<(), Failure> {
        (self.agents, self.startup) = (agents, startup);
        let line = format!("{:STORY_WIDTH$} {:>9}", format!("{agents} agents healthy"), duration(startup));
        self.done(&line)
    }

    /// Reports a completed task.
    pub fn task(&mut self, played: &TaskSummary) -> Result<(), Failure> {
        self.tasks.push(played.json());
        let story = format!("{:<15} {:<15} {}", played.mode, played.agent, played.story);
        let calls = if played.llm_calls == 1 { "1 call".to_owned() } else { format!("{} calls", played.llm_calls) };
        let numbers = format!("{:>9}  {calls:>8}  {}", duration(played.duration), cost(played.cost));
        self.done(&format!("{story:<STORY_WIDTH$} {numbers}"))
    }

    /// Reports a question that was answered.
    pub fn clarification(&mut self, asked: &QuestionSummary) -> Result<(), Failure> {
        self.clarification = json!({
            "questions": asked.questions,
            "question": asked.question,
            "answer": asked.answer,
            "waited_ms": asked.waited.as_secs_f64() * 1_000.0,
            "status": asked.status,
        });
        let QuestionSummary { questions, question, answer, waited, .. } = asked;
        let times = if *questions == 1 { String::new() } else { format!(" {questions} times") };
        let waited = duration(*waited);
        self.done(&format!(
            "clarification   \"{question}\" asked{times} · answered \"{answer}\" in Slack after {waited} · resumed"
        ))
    }

    /// Reports fired slots.
    pub fn schedule(&mut self, fired: &SlotSummary) -> Result<(), Failure> {
        let lateness = fired.lateness.as_secs_f64() * 1_000.0;
        self.schedule = json!({"slots": fired.slots, "lateness_ms": lateness});
        if let Ok(played) = TaskSummary::of("health-check", "scheduled", String::new(), &fired.tasks) {
            self.tasks.push(played.json());
        }
        let lateness = duration(fired.lateness);
        self.done(&format!(
            "{:<15} {:<15} {} slots fired, lateness {lateness}",
            "scheduled", "health-check", fired.slots
        ))
    }

    /// Reports an answered mention.
    pub fn slack(&mut self, mentioned: &MentionSummary) -> Result<(), Failure> {
        let MentionSummary { took, posts } = mentioned;
        self.slack = json!({"posts": posts, "took_ms": took.as_secs_f64() * 1_000.0});
        let story = format!("{:<15} {:<15} mention, told three times → one answer in its thread", "slack", "support");
        self.done(&format!("{story:<STORY_WIDTH$} {:>9}", duration(*took)))
    }

    /// Reports the crash and the recovery.
    pub fn crash(&mut self, crash: &CrashSummary) -> Result<(), Failure> {
        let CrashSummary { accepted, ended_before, ended_once, bought_twice, recovery } = crash;
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

    /// Prints suggestions.
    pub fn next_steps(&self) -> Result<(), Failure> {
        self.say("\n  Next:  agentry run support \"Where is my order?\" --sim        agentry serve --sim")
    }

    /// Returns the summary.
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
