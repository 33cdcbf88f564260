//! The provider port.

use std::sync::Arc;
use std::time::Duration;

use agentry_core::agent::{AgentName, LlmTarget, SamplingParams};
use agentry_core::chat::{ChatReply, ChatRequest};
use agentry_core::id::CallId;
use agentry_core::models::{Thinking, Traits};
use agentry_core::task::Priority;
use agentry_core::trace::{SpanContext, SpanId};
use async_trait::async_trait;

use crate::LlmError;

/// One call to a provider.
#[derive(Debug, Clone)]
pub struct Call {
    /// Id of the call: sent along (`x-request-id` or the provider's own field) and key of its ledger row.
    pub id: CallId,
    /// Agent that makes the call.
    pub agent: AgentName,
    /// Span that the call's own span belongs to; see [`Call::place`].
    pub under: SpanContext,
    /// Provider and model.
    pub target: LlmTarget,
    /// Conversation and tools.
    pub request: ChatRequest,
    /// Parameters; before the call is made, those that the model refuses are left out.
    pub params: SamplingParams,
    /// `response_format` of the agent file; overrides the request's schema.
    pub response_format: Option<serde_json::Value>,
    /// Timeout of the whole call.
    pub timeout: Duration,
    /// What the model takes and gives; [`crate::Providers`] looks it up for each target.
    pub traits: Arc<Traits>,
    /// True if a limit of the answer must be sent, because money depends on it.
    pub must_limit: bool,
    /// Priority of the task: at a limit, low priority waits behind all others.
    pub priority: Priority,
}

/// Limit of the answers of agents that set none.
const DEFAULT_OUTPUT_TOKENS: u32 = 4_096;
/// The same for models whose thinking counts.
const DEFAULT_OUTPUT_TOKENS_WITH_THINKING: u32 = 16_384;

impl Call {
    /// Returns the limit of the answer that is sent, or, where none is, the one that is assumed.
    #[must_use]
    pub fn output_limit(&self) -> u32 {
        self.params.max_tokens.unwrap_or_else(|| {
            let thinks = self.traits.thinking != Thinking::None;
            let default = if thinks { DEFAULT_OUTPUT_TOKENS_WITH_THINKING } else { DEFAULT_OUTPUT_TOKENS };
            self.traits.output.map_or(default, |most| default.min(most))
        })
    }

    /// Returns the span context of the call, whose span id is the random half of the call id.
    #[must_use]
    pub fn place(&self) -> SpanContext {
        self.under.child(SpanId::of_id(self.id.as_bytes()))
    }
}

/// Receives an answer while it is generated.
pub trait TokenSink: Send + Sync {
    /// Receives the next piece.
    fn piece(&self, text: &str);

    /// Called when the pieces so far belong to an answer that failed: the answer begins again.
    fn restart(&self) {}
}

/// An answer and its latency.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct TimedReply {
    /// The answer.
    pub reply: ChatReply,
    /// Time from sending to the last byte.
    pub duration: Duration,
    /// Time from sending to the first content of a stream.
    pub first_token: Option<Duration>,
    /// The provider's id of the answer, for support requests and bills.
    pub provider_call_id: Option<String>,
    /// True when the provider did not count the tokens.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_uncounted: bool,
}

/// A client of one wire protocol. It makes one call without retries; [`crate::Providers`] adds those.
#[async_trait]
pub trait LlmProvider: Send + Sync + 'static {
    /// Makes a call, streaming when there is a sink. Dropping the future closes the stream at once.
    ///
    /// # Errors
    /// See [`LlmError`].
    async fn call(&self, call: &Call, sink: Option<Arc<dyn TokenSink>>) -> Result<TimedReply, LlmError>;

    /// Prepares the first call to a target: connections, credentials. The first call reports a failure.
    async fn warm(&self, _target: &LlmTarget) {}
}
