//! Limits, breakers and metrics of the pool, and limits that two processes share through Redis.

use std::sync::Arc;
use std::time::Duration;

use agentry_core::agent::ProviderKind;
use agentry_core::id::CallId;
use agentry_core::task::{ErrorCode, Priority};
use agentry_llm::{
    Buckets, Limit, LimitDecision, LimitRequest, LimitRule, LlmErrorKind, MemoryBuckets, Providers, RedisBuckets,
};
use prometheus_client::registry::Registry;

use crate::chat::{DOWN, Journal, Script, long_call, other_model, providers};

fn limited(script: &Arc<Script>, limit: Limit) -> Providers {
    let rules = vec![LimitRule { provider: ProviderKind::Openai, model: None, limit }];
    providers(script).with_limits(rules, Arc::new(MemoryBuckets::default()))
}

/// Returns the provider metrics of `/metrics`.
fn shown(providers: &Providers) -> String {
    let (mut registry, mut text) = (Registry::default(), String::new());
    providers.register(&mut registry);
    prometheus_client::encoding::prometheus_text::encode(&mut text, &registry).unwrap();
    text
}

#[tokio::test(start_paused = true)]
async fn calls_wait_for_the_limit_and_the_wait_is_measured() {
    let script = Script::new(&[Ok(()), Ok(())]);
    let providers = limited(&script, Limit { requests_per_minute: Some(1), ..Limit::default() });
    let mut call = long_call();
    call.timeout = Duration::from_secs(120);
    providers.chat(&call, &[], None, &Journal::default()).await.answer().unwrap();
    let second = providers.chat(&call, &[], None, &Journal::default()).await;
    assert_eq!(second.attempts[0].started_after.as_secs(), 60);
    let metrics = shown(&providers);
    let labels = "provider=\"openai\",model=\"sim-small\"";
    for line in [
        format!("agentry_llm_calls_total{{{labels}}} 2"),
        format!("agentry_llm_permit_wait_seconds_bucket{{{labels},le=\"15\"}} 1"),
        format!("agentry_llm_permit_wait_seconds_count{{{labels}}} 2"),
    ] {
        assert!(metrics.contains(&line), "{line}\n{metrics}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_without_room_goes_to_the_fallback_and_makes_no_call() {
    let script = Script::new(&[Ok(()), Ok(())]);
    let providers = limited(&script, Limit { requests_per_minute: Some(1), ..Limit::default() });
    let mut call = long_call();
    call.timeout = Duration::from_secs(10);
    providers.chat(&call, &[], None, &Journal::default()).await.answer().unwrap();
    let refused = providers.chat(&call, &[], None, &Journal::default()).await;
    let error = refused.answer().unwrap_err();
    assert_eq!((error.code, refused.attempts.len()), (ErrorCode::ProviderRateLimited, 0));
    assert!(error.message.contains("openai/sim-small") && error.message.contains("llm.limits"), "{error}");
    let elsewhere = providers.chat(&call, &[other_model()], None, &Journal::default()).await;
    assert_eq!(elsewhere.answer().unwrap().1.reply.model, "other");
}

#[tokio::test(start_paused = true)]
async fn a_model_that_stays_down_is_left_alone_then_tried_by_one_call() {
    let mut steps = vec![DOWN; 12];
    steps.push(Ok(()));
    let script = Script::new(&steps);
    let providers = providers(&script);
    for _ in 0..2 {
        let outcome = providers.chat(&long_call(), &[], None, &Journal::default()).await;
        assert_eq!(outcome.attempts.len(), 4);
    }
    // Two more failures open the breaker. The retries wait for the probe, which fails, and for the next one, which
    // succeeds.
    let outcome = providers.chat(&long_call(), &[], None, &Journal::default()).await;
    assert!(outcome.answer().is_err() && outcome.attempts.len() < 4, "{:?}", outcome.attempts);
    assert_eq!(providers.open_breakers(), ["openai/sim-small"]);
    assert!(shown(&providers).contains("agentry_llm_breakers_open{provider=\"openai\",model=\"sim-small\"} 1"));
    let asked = script.asked();
    let began = tokio::time::Instant::now();
    let elsewhere = providers.chat(&long_call(), &[other_model()], None, &Journal::default()).await;
    assert_eq!(elsewhere.attempts.last().unwrap().target.model.as_ref(), "other", "the fallback is asked at once");
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(script.asked() > asked);
}

#[tokio::test(start_paused = true)]
async fn low_priority_waits_behind_what_somebody_waits_for() {
    let script = Script::new(&[Ok(()), Ok(()), Ok(())]);
    let providers = Arc::new(limited(&script, Limit { requests_per_minute: Some(1), ..Limit::default() }));
    let made = |priority: Priority, model: &'static str| {
        let providers = Arc::clone(&providers);
        tokio::spawn(async move {
            let mut call = long_call();
            (call.priority, call.timeout) = (priority, Duration::from_secs(600));
            call.target.model = "one".into();
            call.agent = agentry_core::agent::AgentName::new(model).unwrap();
            let outcome = providers.chat(&call, &[], None, &Journal::default()).await;
            outcome.attempts[0].started_after
        })
    };
    made(Priority::Normal, "first").await.unwrap();
    let batch = made(Priority::Low, "batch");
    tokio::time::sleep(Duration::from_millis(10)).await;
    let urgent = made(Priority::High, "urgent");
    let (batch, urgent) = (batch.await.unwrap(), urgent.await.unwrap());
    assert!(urgent < batch, "{urgent:?} {batch:?}");
}

#[tokio::test]
async fn two_processes_share_a_limit_through_redis() {
    let url = std::env::var("AGENTRY_TEST_REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned());
    let prefix = format!("agentry-test-{}", uuid::Uuid::now_v7());
    let connected = || RedisBuckets::new(&url, &prefix).unwrap();
    let (one, two) = (connected(), connected());
    let limit = Limit { requests_per_minute: Some(3), tokens_per_minute: Some(600), concurrent: Some(2) };
    let lease = Duration::from_secs(60);
    let wanted = |n: u128, tokens: u64| LimitRequest {
        key: "openai/m",
        limit: &limit,
        call: CallId::from_parts(1, n << 64),
        tokens,
        lease,
    };
    assert_eq!(
        one.take(&wanted(1, 100)).await,
        LimitDecision::Granted,
        "no Redis at {url}: run `cargo xtask services`"
    );
    assert_eq!(two.take(&wanted(2, 100)).await, LimitDecision::Granted);
    assert_eq!(one.take(&wanted(3, 100)).await, LimitDecision::Busy, "two are under way, one in each process");
    two.release(&wanted(2, 100), Some(500));
    // Ends are reported in the background.
    let taken = loop {
        match one.take(&wanted(3, 100)).await {
            LimitDecision::Busy => tokio::task::yield_now().await,
            taken => break taken,
        }
    };
    // 600 - 100 - 500 remain, plus the tokens refilled meanwhile.
    let LimitDecision::RetryIn(wait) = taken else { panic!("{taken:?}") };
    assert!(wait > Duration::from_secs(5) && wait <= Duration::from_secs(10), "{wait:?}");
    one.release(&wanted(1, 100), Some(0));
    let taken = loop {
        match two.take(&wanted(4, 90)).await {
            LimitDecision::RetryIn(_) => tokio::task::yield_now().await,
            taken => break taken,
        }
    };
    assert_eq!(taken, LimitDecision::Granted);
    let LimitDecision::RetryIn(wait) = two.take(&wanted(5, 1)).await else {
        panic!("three requests in a minute were made")
    };
    assert!(wait > Duration::from_secs(10) && wait <= Duration::from_secs(20), "{wait:?}");
}

#[tokio::test]
async fn without_redis_each_process_counts_by_itself() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let buckets = RedisBuckets::new(&format!("redis://:secret@127.0.0.1:{port}"), "x").unwrap();
    let limit = Limit { concurrent: Some(1), ..Limit::default() };
    let wanted = |n: u128| LimitRequest {
        key: "k",
        limit: &limit,
        call: CallId::from_parts(1, n << 64),
        tokens: 1,
        lease: Duration::from_secs(9),
    };
    assert_eq!(buckets.take(&wanted(1)).await, LimitDecision::Granted);
    assert_eq!(buckets.take(&wanted(2)).await, LimitDecision::Busy);
    buckets.release(&wanted(1), None);
    assert_eq!(buckets.take(&wanted(2)).await, LimitDecision::Granted);
    let refused = RedisBuckets::new("http://:secret@x", "x").err().unwrap();
    assert!(!refused.to_string().contains("secret"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_measured_by_class() {
    let script = Script::new(&[Err(LlmErrorKind::Timeout), Ok(())]);
    let providers = providers(&script);
    providers.chat(&long_call(), &[], None, &Journal::default()).await.answer().unwrap();
    let metrics = shown(&providers);
    assert!(
        metrics.contains("agentry_llm_errors_total{provider=\"openai\",model=\"sim-small\",class=\"timeout\"} 1"),
        "{metrics}"
    );
    assert!(metrics.contains("agentry_llm_retries_total{provider=\"openai\",model=\"sim-small\"} 1"), "{metrics}");
}
