use std::sync::Arc;

use agentry_core::agent::{
    AgentName, AgentSpec, ExecutionMode, LlmConfig, LlmTarget, OnUnknown, ProviderKind, SamplingParams, ToolAuth,
    ToolKind, ToolSpec,
};
use agentry_core::chat::ToolCall;
use agentry_core::id::TaskId;
use agentry_core::trace::{Sampling, SpanContext, SpanId, Trace};
use agentry_tools::{Invocation, ToolBox, ToolError, ToolOutput, Tools};
use serde_json::Value;

pub fn tools() -> Tools {
    Tools::with_environment(Arc::new(|name| (name == "TOKEN").then(|| "t0ken-of-this-machine".to_owned())))
}

/// Returns a server over stdio with the name `srv`.
pub fn stdio(command: &[&str]) -> ToolSpec {
    let command = command.iter().map(|word| (*word).into()).collect();
    server(ToolKind::McpStdio { command, env: Vec::new() })
}

pub fn hostile(how: &[&str]) -> ToolSpec {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mcp/hostile.py");
    stdio(&[&["python3", script], how].concat())
}

pub fn server(kind: ToolKind) -> ToolSpec {
    ToolSpec {
        name: "srv".into(),
        kind,
        description: None,
        parameters: None,
        allowed_tools: Vec::new(),
        auth: None,
        timeout_ms: 60_000,
        on_unknown: OnUnknown::Fail,
    }
}

pub fn with_auth(tool: ToolSpec, kind: agentry_core::agent::ToolAuthKind) -> ToolSpec {
    ToolSpec { auth: Some(ToolAuth { kind, token: "${TOKEN}".into() }), ..tool }
}

pub fn agent(tools: Vec<ToolSpec>) -> AgentSpec {
    AgentSpec {
        name: AgentName::new("a").unwrap(),
        version: "1".into(),
        mode: ExecutionMode::Autonomous,
        agent_type: None,
        description: None,
        enabled: true,
        tags: Vec::new(),
        metadata: None,
        system_prompt: "x".into(),
        instructions: None,
        subscriptions: Vec::new(),
        llm: LlmConfig {
            target: LlmTarget { provider: ProviderKind::Openai, model: "m".into(), base_url: None, region: None },
            fallback: Vec::new(),
            params: SamplingParams::default(),
            timeout_ms: 1_000,
            response_format: None,
        },
        tools,
        retry: agentry_core::retry::RetryPolicy::default(),
        continuous: None,
        collaborative: None,
        schedule: None,
        budget: agentry_core::agent::BudgetConfig::default(),
        output_schema: None,
    }
}

/// Calls `srv__{tool}`.
pub async fn call(tools: &Tools, spec: &ToolSpec, tool: &str, arguments: &str) -> Result<ToolOutput, ToolError> {
    let name = if tool.is_empty() { "srv".to_owned() } else { format!("srv__{tool}") };
    let call = ToolCall { id: "c1".into(), name, arguments: arguments.into() };
    tools
        .invoke(Invocation {
            tool: spec,
            call: &call,
            task: TaskId::from_parts(1, 2),
            idempotency_key: "key-1".into(),
            place: SpanContext::of(Sampling::ALL, Trace::begin(0xabc), SpanId::new(0xdef)),
        })
        .await
}

pub async fn text(tools: &Tools, spec: &ToolSpec, tool: &str) -> String {
    let output = call(tools, spec, tool, "{}").await.unwrap();
    assert!(!output.is_error, "{}", output.text);
    output.text
}

pub async fn json(tools: &Tools, spec: &ToolSpec, tool: &str) -> Value {
    serde_json::from_str(&text(tools, spec, tool).await).unwrap()
}

/// Returns the names of the tools that the model sees.
pub async fn names(tools: &Tools, spec: &ToolSpec) -> Vec<String> {
    let definitions = tools.definitions(&agent(vec![spec.clone()])).await;
    definitions.into_iter().map(|definition| definition.name).collect()
}

/// Returns the peak memory of this process, in bytes.
pub fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}
