//! A small fleet with every mode.

use std::collections::HashMap;
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
/// What the agents with a budget may spend in a day: some twenty calls may be reserved at once, as a call is reserved with
/// 4,096 tokens of answer at $0.60 for a million.
pub const PER_DAY: NanoUsd = NanoUsd(50_000_000);
/// What one task of `clerk` and of `hasty` may cost: all branches of a plan at once.
const PER_TASK: NanoUsd = NanoUsd(20_000_000);
/// The agents with a budget of a day.
pub const BUDGETED: [&str; 2] = ["solo", "clerk"];

fn tool(name: &str, on_unknown: OnUnknown) -> ToolSpec {
    ToolSpec {
        name: name.into(),
        kind: ToolKind::Http { url: "http://tools.test/".into() },
        description: None,
        parameters: None,
        allowed_tools: Vec::new(),
        auth: None,
        timeout_ms: 2_000,
        on_unknown,
    }
}

fn spec(text: &str, mode: ExecutionMode) -> AgentSpec {
    AgentSpec {
        name: name(text),
        version: "v1".into(),
        mode,
        agent_type: None,
        description: None,
        enabled: true,
        tags: Vec::new(),
        metadata: None,
        system_prompt: "You are a test.".into(),
        instructions: None,
        subscriptions: Vec::new(),
        llm: LlmConfig {
            target: LlmTarget { provider: ProviderKind::Openai, model: MODEL.into(), base_url: None, region: None },
            fallback: Vec::new(),
            params: SamplingParams::default(),
            timeout_ms: 20_000,
            response_format: None,
        },
        tools: Vec::new(),
        retry: RetryPolicy::default(),
        continuous: None,
        collaborative: None,
        schedule: None,
        budget: BudgetConfig::default(),
        output_schema: None,
    }
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
    clerk.budget = BudgetConfig { per_task: Some(PER_TASK), per_day: Some(PER_DAY), max_llm_calls: None };
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
    let agents = [solo, helper, clerk, chat, team, hasty, tick, listener];
    let entry = |spec: AgentSpec| AgentEntry {
        spec: Some(Arc::new(spec)),
        file: "sim".into(),
        error: None,
        warnings: Vec::new(),
    };
    Fleet::new(agents.into_iter().map(|spec| (spec.name.clone(), entry(spec))).collect::<HashMap<_, _>>())
}
