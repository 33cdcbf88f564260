//! The port.

use std::sync::Arc;
use std::time::Duration;

use agentry_core::agent::{AgentName, LlmTarget, SamplingParams};
use agentry_core::chat::{ChatReply, ChatRequest};
use agentry_core::id::CallId;
use agentry_core::task::Priority;
use agentry_core::trace::{Place, SpanId};
use async_trait::async_trait;

use crate::LlmError;

/// One call to a provider.
#[derive(Debug, Clone)]
pub struct Call {
    /// Its id: sent along (`x-request-id` or the provider's own field) and the key of its ledger row.
    pub id: CallId,
    /// Who asks.
    pub agent: AgentName,
    /// Where in a trace it is asked; the call itself is under that, see [`Call::place`].
    pub under: Place,
    /// The model.
    pub target: LlmTarget,
    /// The conversation and tools.
    pub request: ChatRequest,
    /// Sampling and limits.
    pub params: SamplingParams,
    /// `response_format` from the agent's file; wins over the request's schema.
    pub response_format: Option<serde_json::Value>,
    /// Time for the whole call.
    pub timeout: Duration,
    /// Of its task: where a limit makes calls wait, low priority waits behind all others.
    pub priority: Priority,
}

impl Call {
    /// The call in its trace: its span is named by the random half of its id.
    #[must_use]
    pub fn place(&self) -> Place {
        self.under.child(SpanId::of_id(self.id.as_bytes()))
    }
}

/// Takes the pieces of an answer while it is written.
pub trait TokenSink: Send + Sync {
    /// The next piece.
    fn piece(&self, text: &str);
}

/// An answer and how long it took.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Timed {
    /// The answer.
    pub reply: ChatReply,
    /// From sending to the last byte.
    pub duration: Duration,
    /// From sending to the first content, when it streamed.
    pub first_token: Option<Duration>,
    /// What the provider calls the answer, for questions to its support and for its bills.
    pub provider_call_id: Option<String>,
}

/// A provider: one wire protocol. One call, no retries; see [`crate::Providers`] for those.
#[async_trait]
pub trait LlmProvider: Send + Sync + 'static {
    /// Makes a call. Streams when somebody listens. Dropping the future closes the stream at once.
    ///
    /// # Errors
    /// Typed; see [`LlmError`].
    async fn call(&self, call: &Call, sink: Option<Arc<dyn TokenSink>>) -> Result<Timed, LlmError>;

    /// Does what the first call to a target would have to wait for: connections, credentials. It may fail, which the
    /// first call then tells.
    async fn warm(&self, _target: &LlmTarget) {}
}
