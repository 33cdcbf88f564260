//! The call of this crate's unit tests.

use std::time::Duration;

use agentry_core::agent::{AgentName, LlmTarget, ProviderKind, SamplingParams};
use agentry_core::chat::{ChatRequest, Message};
use agentry_core::id::CallId;
use agentry_core::models::ModelTable;
use agentry_core::task::Priority;
use agentry_core::trace::{Sampling, SpanContext, SpanId, Trace};

use crate::Call;

/// Returns a call that asks a model at `base_url` one question.
pub(crate) fn call(base_url: &str) -> Call {
    Call {
        id: CallId::from_parts(1, 2),
        agent: AgentName::new("tester").unwrap(),
        under: SpanContext::of(Sampling::ALL, Trace::begin(0xabc), SpanId::new(1)),
        target: LlmTarget {
            provider: ProviderKind::Openai,
            model: "sim-small".into(),
            base_url: (!base_url.is_empty()).then(|| base_url.into()),
            region: None,
        },
        request: ChatRequest {
            messages: vec![Message::User { content: "hi".into() }],
            tools: Vec::new(),
            output_schema: None,
        },
        params: SamplingParams::default(),
        response_format: None,
        timeout: Duration::from_secs(5),
        must_limit: false,
        priority: Priority::Normal,
        traits: ModelTable::builtin().of(ProviderKind::Openai, "sim-small"),
    }
}

/// Returns the call to this model of the same provider, with its traits.
pub(crate) fn modern(call: Call, model: &str) -> Call {
    let traits = ModelTable::builtin().of(call.target.provider, model);
    Call { target: LlmTarget { model: model.into(), ..call.target }, traits, ..call }
}
