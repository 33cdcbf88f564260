//! Providers on tape: one that records what another answers, and one that answers from a recording.

use std::sync::Arc;
use std::time::Duration;

use agentry_core::chat::Usage;
use agentry_core::tape::{Kind, Player, Recorder};
use async_trait::async_trait;
use serde_json::{Value, json};

use crate::{Call, LlmError, LlmErrorKind, LlmProvider, Timed, TokenSink};

/// Records every call that goes to another provider.
pub struct Recorded {
    /// The provider that answers.
    pub provider: Arc<dyn LlmProvider>,
    /// Where to.
    pub tape: Arc<Recorder>,
}

/// Answers from a recording; nothing leaves the process.
pub struct Replayed {
    /// The recording.
    pub tape: Arc<Player>,
}

/// What a call asks, in the form that is the same for all providers: without ids and times, and without where the
/// provider is.
fn request(call: &Call) -> Value {
    json!({
        "agent": call.agent,
        "provider": call.target.provider,
        "model": call.target.model,
        "messages": call.request.messages,
        "tools": call.request.tools,
        "output_schema": call.request.output_schema,
        "response_format": call.response_format,
        "params": call.params,
    })
}

#[async_trait]
impl LlmProvider for Recorded {
    async fn call(&self, call: &Call, sink: Option<Arc<dyn TokenSink>>) -> Result<Timed, LlmError> {
        let began = tokio::time::Instant::now();
        let result = self.provider.call(call, sink).await;
        let (outcome, took) = match &result {
            Ok(timed) => (json!({ "ok": timed }), timed.duration),
            Err(error) => (
                json!({"error": {"kind": error.kind, "message": error.message, "usage": error.usage}}),
                began.elapsed(),
            ),
        };
        self.tape.keep(Kind::Model, &request(call), &outcome, micros(took));
        result
    }
}

#[async_trait]
impl LlmProvider for Replayed {
    async fn call(&self, call: &Call, sink: Option<Arc<dyn TokenSink>>) -> Result<Timed, LlmError> {
        let outcome = self
            .tape
            .answer(Kind::Model, &request(call))
            .map_err(|difference| failed(call, LlmErrorKind::InvalidRequest, difference.0, Usage::default()))?;
        if let Some(error) = outcome.get("error") {
            return Err(failed(
                call,
                part(call, error, "kind")?,
                part(call, error, "message")?,
                part(call, error, "usage")?,
            ));
        }
        let timed: Timed = part(call, &outcome, "ok")?;
        if let Some(sink) = sink
            && !timed.reply.content.is_empty()
        {
            sink.piece(&timed.reply.content);
        }
        Ok(timed)
    }
}

fn part<T: serde::de::DeserializeOwned>(call: &Call, value: &Value, key: &str) -> Result<T, LlmError> {
    serde_json::from_value(value[key].clone()).map_err(|error| {
        let message = format!("the recording has no good `{key}`: {error}");
        failed(call, LlmErrorKind::InvalidRequest, message, Usage::default())
    })
}

fn failed(call: &Call, kind: LlmErrorKind, message: String, usage: Usage) -> LlmError {
    LlmError { kind, provider: call.target.provider.as_str(), model: call.target.model.to_string(), message, usage }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
