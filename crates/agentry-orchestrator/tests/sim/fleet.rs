//! A small fleet with every mode.

use std::sync::Arc;

use agentry_core::agent::*;
use agentry_core::fleet::{AgentEntry, Fleet};
use agentry_core::money::NanoUsd;
use agentry_core::retry::RetryPolicy;
use agentry_core::schedule::{Overlap, ScheduleSpec, Timing};
use agentry_core::topic::TopicPattern;
use serde_json::json;

pub fn name(text: &str) -> AgentName {
    AgentName::new(text).expect("a good name")
}

/// A model that has a price, so that budgets count.
pub const MODEL: &str = "gpt-4o-mini";
/// Daily budget of the agents that have one: about twenty calls fit at once, as a call is reserved with 4,096 tokens of
/// answer at $0.60 for a million.
pub const PER_DAY: NanoUsd = NanoUsd(50_000_000);
/// Budget of one task of `clerk` and of `hasty`: all branches of a plan together.
const PER_TASK: NanoUsd = NanoUsd(20_000_000);
/// Agents with a daily budget.
pub const BUDGETED: [&str; 2] = ["solo", "clerk"];

pub fn tool(name: &str, on_unknown: OnUnknown) -> ToolSpec {
    let json = json!({
        "name": name, "kind": {"http": {"url": "http://tools.test/"}}, "timeout_ms": 2_000, "on_unknown": on_unknown,
    });
    serde_json::from_value(json).expect("a tool")
}

pub fn spec(name: &str, mode: ExecutionMode) -> AgentSpec {
    let json = json!({
        "name": name, "version": "v1", "mode": mode, "enabled": true, "tags": [], "system_prompt": "You are a test.",
        "subscriptions": [], "tools": [], "retry": RetryPolicy::default(), "budget": BudgetConfig::default(),
        "llm": {
            "target": {"provider": "openai", "model": MODEL}, "fallback": [], "timeout_ms": 20_000,
            "params": SamplingParams::default(),
        },
    });
    serde_json::from_value(json).expect("an agent")
}

/// Returns a fleet of these agents, each with a good file.
pub fn fleet_of(specs: impl IntoIterator<Item = AgentSpec>) -> Fleet {
    let entry = |spec: AgentSpec| AgentEntry {
        spec: Some(Arc::new(spec)),
        file: "sim".into(),
        error: None,
        warnings: Vec::new(),
        has_unset_variables: false,
    };
    Fleet::new(specs.into_iter().map(|spec| (spec.name.clone(), entry(spec))).collect())
}

/// Returns an agent of [`fleet`].
pub fn spec_of(agent: &str) -> AgentSpec {
    fleet().live(&name(agent)).expect("an agent of the fleet").as_ref().clone()
}

/// | agent | what it is |
/// |---|---|
/// | solo | autonomous, with a budget of the day |
/// | helper | autonomous, with a tool that asks a human when its outcome is unknown |
/// | clerk | autonomous, with tools that are tried again or fail, and budgets of day and task |
/// | chat | continuous |
/// | team | collaborative over solo and helper, may ask humans |
/// | hasty | collaborative over clerk and solo, with little time for a step |
/// | tick | every five seconds |
/// | listener | hears how the tasks of team end |
pub fn fleet() -> Fleet {
    let mut solo = spec("solo", ExecutionMode::Autonomous);
    solo.budget.per_day = Some(PER_DAY);
    let mut helper = spec("helper", ExecutionMode::Autonomous);
    helper.tools = vec![tool("phone", OnUnknown::Ask)];
    let mut clerk = spec("clerk", ExecutionMode::Autonomous);
    clerk.tools = vec![tool("book", OnUnknown::Retry), tool("wire", OnUnknown::Retry), tool("mail", OnUnknown::Fail)];
    clerk.budget = BudgetConfig {
        per_task: Some(PER_TASK),
        per_day: Some(PER_DAY),
        max_llm_calls: None,
        ..BudgetConfig::default()
    };
    let mut chat = spec("chat", ExecutionMode::Continuous);
    chat.continuous = Some(Box::new(ContinuousConfig { max_history: 4, ..ContinuousConfig::default() }));
    let mut team = spec("team", ExecutionMode::Collaborative);
    team.collaborative = Some(Box::new(CollaborativeConfig {
        preferred_collaborators: vec![name("solo"), name("helper")],
        allow_clarification: true,
        clarification_timeout_ms: 30_000,
        clarification_default: Some("EU".into()),
        ..CollaborativeConfig::default()
    }));
    let mut hasty = spec("hasty", ExecutionMode::Collaborative);
    hasty.budget.per_task = Some(PER_TASK);
    hasty.collaborative = Some(Box::new(CollaborativeConfig {
        preferred_collaborators: vec![name("clerk"), name("solo")],
        step_timeout_ms: 1_800,
        ..CollaborativeConfig::default()
    }));
    let mut tick = spec("tick", ExecutionMode::Scheduled);
    tick.schedule = Some(Box::new(ScheduleSpec {
        timing: Timing::Interval { every_ms: 5_000 },
        input: json!("tick"),
        timeout_ms: None,
        enabled: true,
        overlap: Overlap::AllowAll,
        catchup_ms: 60_000,
        jitter_ms: 0,
    }));
    let mut listener = spec("listener", ExecutionMode::Autonomous);
    listener.subscriptions = vec![TopicPattern::new("agent.output.team").expect("a good pattern")];
    fleet_of([solo, helper, clerk, chat, team, hasty, tick, listener])
}
