//! A model that answers by script, with latency and random failures, and keeps a ledger of its own: every call that it
//! received, and its end.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agentry_core::chat::Usage;
use agentry_core::id::CallId;
use agentry_llm::{Call, LlmError, LlmErrorKind, LlmProvider, TimedReply, TokenSink};
use async_trait::async_trait;

use crate::{SeededRng, script};

/// Largest latency of a slow call, as a multiple of `max_latency`.
const SLOW: u32 = 20;

/// Probabilities of the faults of a model, per call.
#[derive(Debug, Clone, Copy, Default)]
pub struct ModelFaults {
    /// The provider is unavailable; nothing is counted.
    pub unavailable: f64,
    /// The answer is cut off after the provider has counted tokens: the call fails and is paid for.
    pub cut_off: f64,
    /// The provider takes up to twenty times `max_latency`, or until the call times out.
    pub slow: f64,
    /// Largest latency of an answer.
    pub max_latency: Duration,
}

/// End of a call as the provider knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallEnd {
    /// It has not ended.
    InFlight,
    /// The caller hung up before the answer.
    Abandoned,
    /// It was answered.
    Answered(Usage),
    /// It failed, with the usage counted until then.
    Failed(Usage),
}

/// A call that the model received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallRecord {
    /// Id of the call.
    pub id: CallId,
    /// End of the call.
    pub end: CallEnd,
}

/// The model; see the module. Its answers are defined in `script`.
pub struct ScriptedModel {
    dice: SeededRng,
    faults: ModelFaults,
    active: AtomicBool,
    calls: Mutex<Calls>,
}

#[derive(Default)]
struct Calls {
    records: Vec<CallRecord>,
    index: HashMap<CallId, usize>,
}

impl ScriptedModel {
    /// Creates a model.
    pub fn new(dice: SeededRng, faults: ModelFaults) -> Arc<Self> {
        Arc::new(Self { dice, faults, active: AtomicBool::new(true), calls: Mutex::default() })
    }

    /// Switches faults on or off; latency stays.
    pub fn set_faulty(&self, faulty: bool) {
        self.active.store(faulty, Ordering::SeqCst);
    }

    /// Returns all received calls, in order.
    pub fn calls(&self) -> Vec<CallRecord> {
        self.lock().records.clone()
    }

    /// Returns all answered calls.
    pub fn answered(&self) -> Vec<CallId> {
        let answered = |record: &&CallRecord| matches!(record.end, CallEnd::Answered(_));
        self.lock().records.iter().filter(answered).map(|record| record.id).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn happens(&self, probability: f64) -> bool {
        self.active.load(Ordering::SeqCst) && self.dice.happens(probability)
    }

    fn usage(&self) -> Usage {
        Usage { input_tokens: 10 + self.dice.below(90), output_tokens: 5 + self.dice.below(45), ..Usage::default() }
    }
}

/// A call in flight, which counts as abandoned when it is dropped before its end.
struct InFlight<'a> {
    model: &'a ScriptedModel,
    index: usize,
}

impl<'a> InFlight<'a> {
    /// # Panics
    /// A call of this id was received before: an id names one call.
    fn begin(model: &'a ScriptedModel, id: CallId) -> Self {
        let mut calls = model.lock();
        let index = calls.records.len();
        calls.records.push(CallRecord { id, end: CallEnd::InFlight });
        let earlier = calls.index.insert(id, index);
        drop(calls);
        assert!(earlier.is_none(), "call {id} was sent twice");
        Self { model, index }
    }

    fn end(&self, end: CallEnd) {
        self.model.lock().records[self.index].end = end;
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let mut calls = self.model.lock();
        let record = &mut calls.records[self.index];
        if record.end == CallEnd::InFlight {
            record.end = CallEnd::Abandoned;
        }
    }
}

#[async_trait]
impl LlmProvider for ScriptedModel {
    async fn call(&self, call: &Call, _sink: Option<Arc<dyn TokenSink>>) -> Result<TimedReply, LlmError> {
        let in_flight = InFlight::begin(self, call.id);
        let slow = if self.happens(self.faults.slow) { SLOW } else { 1 };
        let most = u64::try_from((self.faults.max_latency * slow).as_micros()).unwrap_or(u64::MAX);
        let duration = Duration::from_micros(self.dice.below(most));
        let error = |kind, usage| LlmError {
            kind,
            provider: "scripted",
            model: call.target.model.to_string(),
            message: "injected".to_owned(),
            usage,
            is_uncounted: false,
        };
        if duration > call.timeout {
            tokio::time::sleep(call.timeout).await;
            in_flight.end(CallEnd::Failed(Usage::default()));
            return Err(error(LlmErrorKind::Timeout, Usage::default()));
        }
        tokio::time::sleep(duration).await;
        if self.happens(self.faults.unavailable) {
            in_flight.end(CallEnd::Failed(Usage::default()));
            return Err(error(LlmErrorKind::Unavailable, Usage::default()));
        }
        let usage = self.usage();
        if self.happens(self.faults.cut_off) {
            in_flight.end(CallEnd::Failed(usage));
            return Err(error(LlmErrorKind::Unavailable, usage));
        }
        in_flight.end(CallEnd::Answered(usage));
        let reply = script::reply(call, usage);
        Ok(TimedReply { reply, duration, first_token: None, provider_call_id: None, is_uncounted: false })
    }
}
