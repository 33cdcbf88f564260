//! Retries, fallbacks and hooks of `Providers::chat`, with fakes under a paused clock and over sockets.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::{Sim, call};
use agentry_core::agent::{LlmTarget, ProviderKind};
use agentry_core::chat::{ChatReply, StopReason, Usage};
use agentry_core::id::CallId;
use agentry_core::task::{ErrorCode, TaskError};
use agentry_llm::{
    Abort, Call, ChatError, Endpoints, Hooks, LlmError, LlmErrorKind, LlmProvider, Providers, TimedReply, TokenSink,
};
use async_trait::async_trait;

#[derive(Default)]
pub struct Journal {
    announced: Mutex<Vec<CallId>>,
    stop_at: Option<usize>,
    made: Mutex<u128>,
}

#[async_trait]
impl Hooks for Journal {
    async fn before(&self, call: &Call) -> Result<(), Abort> {
        let mut announced = self.announced.lock().unwrap();
        if self.stop_at == Some(announced.len()) {
            return Err(Abort(TaskError::new(ErrorCode::BudgetExhausted, "spent")));
        }
        announced.push(call.id);
        Ok(())
    }

    fn failed(&self, _: &agentry_llm::Attempt) {}

    fn new_call_id(&self) -> CallId {
        let mut made = self.made.lock().unwrap();
        *made += 1;
        CallId::from_parts(100, *made << 64)
    }

    fn jitter(&self) -> f64 {
        1.0
    }
}

/// Answers or fails as configured, and records the calls.
#[derive(Default)]
pub struct Script {
    steps: Mutex<Vec<Result<(), LlmErrorKind>>>,
    asked: Mutex<Vec<(CallId, String)>>,
}

impl Script {
    pub fn new(steps: &[Result<(), LlmErrorKind>]) -> Arc<Self> {
        Arc::new(Self { steps: Mutex::new(steps.iter().rev().copied().collect()), asked: Mutex::default() })
    }

    pub fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

#[async_trait]
impl LlmProvider for Script {
    async fn call(&self, call: &Call, _sink: Option<Arc<dyn TokenSink>>) -> Result<TimedReply, LlmError> {
        let model = call.target.model.to_string();
        self.asked.lock().unwrap().push((call.id, model.clone()));
        match self.steps.lock().unwrap().pop().expect("asked more often than expected") {
            Ok(()) => {
                let usage = Usage::default();
                let reply = ChatReply {
                    content: "yes".into(),
                    tool_calls: Vec::new(),
                    stop: StopReason::End,
                    usage,
                    model,
                    native: None,
                };
                Ok(TimedReply {
                    reply,
                    duration: Duration::from_millis(1),
                    first_token: None,
                    provider_call_id: None,
                    is_uncounted: false,
                })
            }
            Err(kind) => Err(LlmError {
                kind,
                provider: "openai",
                model,
                message: "no".into(),
                usage: Usage::default(),
                is_uncounted: false,
            }),
        }
    }
}

pub fn providers(script: &Arc<Script>) -> Providers {
    let provider: Arc<dyn LlmProvider> = script.clone();
    Providers::with_providers(HashMap::from([(ProviderKind::Openai, provider)]))
}

pub fn long_call() -> Call {
    Call { timeout: Duration::from_secs(60), ..call("http://unused", "hi") }
}

pub fn other_model() -> LlmTarget {
    LlmTarget { model: "other".into(), ..long_call().target }
}

pub const DOWN: Result<(), LlmErrorKind> = Err(LlmErrorKind::Unavailable);

#[tokio::test(start_paused = true)]
async fn retries_back_off_and_every_call_is_announced_and_recorded() {
    let script = Script::new(&[DOWN, DOWN, DOWN, Ok(())]);
    let journal = Journal::default();
    let outcome = providers(&script).chat(&long_call(), &[], None, &journal).await;
    assert_eq!(outcome.answer().unwrap().1.reply.content, "yes");
    let starts: Vec<_> = outcome.attempts.iter().map(|attempt| attempt.started_after.as_millis()).collect();
    assert_eq!(starts, [0, 250, 750, 1_750]);
    let recorded: Vec<_> = outcome.attempts.iter().map(|attempt| attempt.call).collect();
    let asked: Vec<_> = script.asked.lock().unwrap().iter().map(|(id, _)| *id).collect();
    assert_eq!(recorded, asked);
    assert_eq!(recorded, *journal.announced.lock().unwrap());
    assert_eq!(recorded[0], long_call().id, "the first call has the id it was given");
}

#[tokio::test(start_paused = true)]
async fn the_fallback_is_asked_after_the_first_model_stayed_down() {
    let script = Script::new(&[DOWN, DOWN, DOWN, DOWN, Ok(())]);
    let outcome = providers(&script).chat(&long_call(), &[other_model()], None, &Journal::default()).await;
    let (attempt, timed) = outcome.answer().unwrap();
    assert_eq!((timed.reply.model.as_str(), &*attempt.target.model), ("other", "other"));
    assert_eq!(outcome.attempts.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_wait_longer_than_the_time_left_goes_to_the_fallback_at_once() {
    let limited = Err(LlmErrorKind::RateLimited { retry_after: Some(Duration::from_secs(3_600)) });
    let script = Script::new(&[limited, Ok(())]);
    let outcome = providers(&script).chat(&long_call(), &[other_model()], None, &Journal::default()).await;
    assert!(outcome.answer().is_ok());
    assert_eq!(outcome.attempts[1].started_after, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_waited_for() {
    let limited = Err(LlmErrorKind::RateLimited { retry_after: Some(Duration::from_secs(9)) });
    let script = Script::new(&[limited, Ok(())]);
    let outcome = providers(&script).chat(&long_call(), &[], None, &Journal::default()).await;
    assert_eq!(outcome.attempts[1].started_after, Duration::from_millis(9_250));
}

#[tokio::test]
async fn a_refused_request_is_not_repeated_but_the_fallback_is_asked() {
    for kind in [
        LlmErrorKind::InvalidRequest,
        LlmErrorKind::ModelGone,
        LlmErrorKind::Refused,
        LlmErrorKind::ContextExceeded,
        LlmErrorKind::QuotaExhausted,
    ] {
        let script = Script::new(&[Err(kind), Ok(())]);
        let outcome = providers(&script).chat(&long_call(), &[other_model()], None, &Journal::default()).await;
        assert!(outcome.answer().is_ok(), "{kind:?}");
        assert_eq!(outcome.attempts.len(), 2, "{kind:?}");
    }
}

#[test]
fn what_is_sent_fits_the_model_and_has_a_limit_when_money_depends_on_it() {
    let providers = Providers::with_providers(HashMap::new());
    let mut call = long_call();
    call.target.model = "gpt-6-luna".into();
    call.params.temperature = Some(0.2);
    let sent = providers.fitted(&call).unwrap().params;
    assert_eq!((sent.temperature, sent.max_tokens), (None, None));
    call.must_limit = true;
    assert_eq!(providers.fitted(&call).unwrap().params.max_tokens, Some(16_384));
    call.params.strict_parameters = true;
    assert!(providers.fitted(&call).unwrap_err().message.contains("`temperature` cannot be sent"));
}

#[tokio::test]
async fn a_refused_key_ends_the_chat() {
    let script = Script::new(&[Err(LlmErrorKind::Authentication)]);
    let outcome = providers(&script).chat(&long_call(), &[other_model()], None, &Journal::default()).await;
    assert_eq!(outcome.answer().unwrap_err().code, ErrorCode::ProviderAuthentication);
    assert_eq!(outcome.attempts.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_stopped_is_not_sent() {
    let script = Script::new(&[DOWN]);
    let journal = Journal { stop_at: Some(1), ..Journal::default() };
    let outcome = providers(&script).chat(&long_call(), &[other_model()], None, &journal).await;
    assert!(matches!(outcome.error, Some(ChatError::Aborted(_))));
    assert_eq!(outcome.answer().unwrap_err().code, ErrorCode::BudgetExhausted);
    assert_eq!((outcome.attempts.len(), script.asked.lock().unwrap().len()), (1, 1));
}

#[tokio::test]
async fn answers_from_within_the_process_are_not_announced() {
    let mut inside = long_call();
    inside.target.provider = ProviderKind::Simulated;
    let journal = Journal::default();
    let outcome = Providers::new(&Endpoints::default()).chat(&inside, &[], None, &journal).await;
    assert!(outcome.answer().is_ok());
    assert!(journal.announced.lock().unwrap().is_empty());
}

#[tokio::test]
async fn over_sockets_a_limited_call_waits_as_it_was_told() {
    let sim = Sim::start().await;
    let call = call(&sim.base_url(), "[[fail:429:1]] hi");
    let outcome = Providers::new(&Endpoints::default()).chat(&call, &[], None, &Journal::default()).await;
    assert!(outcome.answer().is_ok());
    assert!(outcome.attempts[1].started_after >= Duration::from_secs(1));
    assert_eq!(sim.stats().requests, 2);
}

#[tokio::test]
async fn over_sockets_a_server_error_is_retried_and_both_ledgers_agree() {
    let sim = Sim::start().await;
    let call = call(&sim.base_url(), "[[fail:500:2]] hi");
    let outcome = Providers::new(&Endpoints::default()).chat(&call, &[], None, &Journal::default()).await;
    assert!(outcome.answer().is_ok());
    let seen: Vec<String> = sim
        .ledger()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["request_id"].as_str().unwrap().to_owned())
        .collect();
    let made: Vec<String> = outcome.attempts.iter().map(|attempt| attempt.call.to_string()).collect();
    assert_eq!(seen, made);
    assert_eq!(made.len(), 3);
}
