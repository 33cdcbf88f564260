//! A small fleet with every mode.

use std::collections::HashMap;
use std::sync::Arc;

use agentry_core::agent::*;
use agentry_core::fleet::{AgentEntry, Fleet};
use agentry_core::retry::RetryPolicy;
use agentry_core::schedule::{Overlap, ScheduleSpec, Timing};
use agentry_core::topic::TopicPattern;
use serde_json::json;

pub fn name(text: &str) -> AgentName {
    AgentName::new(text).expect("a good name")
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
            target: LlmTarget {
                provider: ProviderKind::Openai,
                model: "scripted".into(),
                base_url: None,
                region: None,
            },
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

/// solo: autonomous · chat: continuous · helper: a collaborator · team: collaborative over solo and helper · tick: every
/// five seconds · listener: hears how team's tasks end.
pub fn fleet() -> Fleet {
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
    let agents = [
        spec("solo", ExecutionMode::Autonomous),
        spec("helper", ExecutionMode::Autonomous),
        chat,
        team,
        tick,
        listener,
    ];
    let entry = |spec: AgentSpec| AgentEntry {
        spec: Some(Arc::new(spec)),
        file: "sim".into(),
        error: None,
        warnings: Vec::new(),
    };
    Fleet::new(agents.into_iter().map(|spec| (spec.name.clone(), entry(spec))).collect::<HashMap<_, _>>())
}
