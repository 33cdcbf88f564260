//! Recording and replay of provider calls.

use std::sync::Arc;
use std::time::Duration;

use agentry_core::tape::{Kind, Player, Recorder};
use async_trait::async_trait;
use serde_json::{Value, json};

use crate::wire::failure::error;
use crate::{Call, LlmError, LlmErrorKind, LlmProvider, TimedReply, TokenSink};

/// Records every call to another provider.
pub struct RecordingProvider {
    /// The recorded provider.
    pub provider: Arc<dyn LlmProvider>,
    /// Destination of the recording.
    pub tape: Arc<Recorder>,
}

/// Answers from a recording; nothing leaves the process.
pub struct ReplayProvider {
    /// The recording.
    pub tape: Arc<Player>,
}

/// Returns the part of a call that is the same for all providers: no ids, times or addresses.
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
impl LlmProvider for RecordingProvider {
    async fn call(&self, call: &Call, sink: Option<Arc<dyn TokenSink>>) -> Result<TimedReply, LlmError> {
        let began = tokio::time::Instant::now();
        let result = self.provider.call(call, sink).await;
        let (outcome, took) = match &result {
            Ok(timed) => (json!({ "ok": timed }), timed.duration),
            Err(error) => (
                json!({"error": {"kind": error.kind, "message": error.message, "usage": error.usage, "is_uncounted": error.is_uncounted}}),
                began.elapsed(),
            ),
        };
        self.tape.keep(Kind::Model, &request(call), &outcome, micros(took));
        result
    }
}

#[async_trait]
impl LlmProvider for ReplayProvider {
    async fn call(&self, call: &Call, sink: Option<Arc<dyn TokenSink>>) -> Result<TimedReply, LlmError> {
        let outcome = self
            .tape
            .answer(Kind::Model, &request(call))
            .map_err(|difference| error(call, LlmErrorKind::InvalidRequest, difference.0))?;
        if let Some(recorded) = outcome.get("error") {
            let message: String = part(call, recorded, "message")?;
            let usage = part(call, recorded, "usage")?;
            let is_uncounted = recorded["is_uncounted"].as_bool().unwrap_or_default();
            return Err(LlmError { usage, is_uncounted, ..error(call, part(call, recorded, "kind")?, message) });
        }
        let timed: TimedReply = part(call, &outcome, "ok")?;
        if let Some(sink) = sink
            && !timed.reply.content.is_empty()
        {
            sink.piece(&timed.reply.content);
        }
        Ok(timed)
    }
}

fn part<T: serde::de::DeserializeOwned>(call: &Call, value: &Value, key: &str) -> Result<T, LlmError> {
    serde_json::from_value(value[key].clone()).map_err(|problem| {
        let message = format!("the recording has no valid `{key}`: {problem}");
        error(call, LlmErrorKind::InvalidRequest, message)
    })
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
