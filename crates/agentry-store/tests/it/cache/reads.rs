//! Sources of answers.

use std::sync::Arc;

use agentry_core::agent::AgentSpec;
use agentry_core::task::TaskStatus;
use agentry_store::cache::{CachedStore, DELETE_WAIT, PROOF_LIFE};
use agentry_store::contract::advance::entry;
use agentry_store::contract::build::finish;
use agentry_store::{Advance, StateStore, Step};
use serde_json::json;

use super::fixtures::{self, connected, ended, memory, now, options, status, thread, turn, until, window};
use super::server::{Prefix, connection, shared_url};

/// Returns two caches over one store, as two processes have them.
async fn pair(prefix: &Prefix) -> (Arc<dyn StateStore>, [Arc<CachedStore>; 2]) {
    let inner = memory();
    let make = || Arc::new(CachedStore::connect(Arc::clone(&inner), options(&shared_url(), prefix)));
    let caches = [make(), make()];
    for cache in &caches {
        connected(cache).await;
    }
    (inner, caches)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_task_is_read_once_from_the_store() {
    let prefix = Prefix::new();
    let (inner, [one, two]) = pair(&prefix).await;
    let (first, second): (Arc<dyn StateStore>, Arc<dyn StateStore>) = (one.clone(), two.clone());
    let lease = fixtures::open(&first).await;
    let mut write = Advance::new(lease, now(), Step::Continue);
    write.journal = vec![entry(1), entry(2)];
    first.advance(write.into()).await.unwrap();
    assert_eq!(status(&second, lease.task).await, TaskStatus::Running);
    assert_eq!(second.journal(lease.task, 0, 10).await.unwrap().len(), 2);
    assert_eq!(two.stats().fills, 0, "nothing of a running task is kept");
    first.advance(finish(lease, now()).into()).await.unwrap();

    let record = second.task(lease.task).await.unwrap();
    let journal = second.journal(lease.task, 0, 10).await.unwrap();
    until(&two, "record and journal are kept", |stats| stats.fills == 2).await;
    assert_eq!(first.task(lease.task).await.unwrap(), record);
    assert_eq!(first.journal(lease.task, 0, 10).await.unwrap(), journal);
    assert_eq!((one.stats().tasks.hits, one.stats().journals.hits), (1, 1));
    assert_eq!(
        (inner.task(lease.task).await.unwrap(), inner.journal(lease.task, 0, 10).await.unwrap()),
        (record, journal)
    );
    assert!(one.stats().latency.count >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_kept_in_redis_and_in_the_process() {
    let prefix = Prefix::new();
    let (inner, [one, two]) = pair(&prefix).await;
    let (first, second): (Arc<dyn StateStore>, Arc<dyn StateStore>) = (one.clone(), two.clone());
    let spec = spec();
    assert_eq!(first.version(&spec.name, &spec.version).await.unwrap(), None);
    inner.store_version(&spec).await.unwrap();
    assert_eq!(
        first.version(&spec.name, &spec.version).await.unwrap(),
        Some(spec.clone()),
        "unknown is not remembered"
    );
    until(&one, "the version is kept", |stats| stats.fills == 1).await;
    for hits in 1..=2 {
        assert_eq!(second.version(&spec.name, &spec.version).await.unwrap(), Some(spec.clone()));
        assert_eq!(two.stats().versions.hits, hits);
    }
    assert_eq!(two.stats().latency.count, 1, "the second time it was in the process");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_moves_between_workers_without_the_store() {
    let prefix = Prefix::new();
    let (inner, [one, two]) = pair(&prefix).await;
    let (first, second): (Arc<dyn StateStore>, Arc<dyn StateStore>) = (one.clone(), two.clone());
    let session = thread("moves");
    // More than one hash: the window crosses from one to the next.
    for n in 0..75 {
        turn(&first, &session, &[&format!("question {n}"), &format!("answer {n}")]).await;
    }
    until(&one, "all turns are kept", |stats| stats.fills == 150).await;
    let (_, record) = fixtures::begin_turn(&second, &session).await;
    assert_eq!(record.messages, 150);
    let kept = second.messages(&session, 100, 50).await.unwrap();
    assert_eq!(two.stats().messages.hits, 1, "{:?}", two.stats());
    assert_eq!(kept, inner.messages(&session, 100, 50).await.unwrap());
    assert_eq!(second.messages(&session, 0, 200).await.unwrap().len(), 150, "a range that may have grown");
    assert_eq!(two.stats().messages.bypasses, 1);
    tokio::time::sleep(PROOF_LIFE * 2).await;
    assert_eq!(second.messages(&session, 100, 50).await.unwrap(), kept);
    assert_eq!(two.stats().messages.bypasses, 2, "the proof has run out");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_fills_a_window_that_no_owner_left() {
    let prefix = Prefix::new();
    let (inner, [one, two]) = pair(&prefix).await;
    let (first, second): (Arc<dyn StateStore>, Arc<dyn StateStore>) = (one.clone(), two.clone());
    let session = thread("filled");
    turn(&inner, &session, &["a", "b", "c"]).await;
    assert_eq!(window(&first, &session).await, ["a", "b", "c"]);
    until(&one, "the window is kept", |stats| stats.fills == 3).await;
    assert_eq!(window(&second, &session).await, ["a", "b", "c"]);
    assert_eq!((one.stats().messages.misses, two.stats().messages.hits), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_session_leaves_redis_and_begins_anew() {
    let prefix = Prefix::new();
    let (_inner, [one, two]) = pair(&prefix).await;
    let (first, second): (Arc<dyn StateStore>, Arc<dyn StateStore>) = (one.clone(), two.clone());
    let session = thread("deleted");
    turn(&first, &session, &["old"]).await;
    until(&one, "the turn is kept", |stats| stats.fills == 1).await;
    assert_eq!(window(&second, &session).await, ["old"]);
    let before = std::time::Instant::now();
    assert!(second.delete_session(&session).await.unwrap());
    assert!(before.elapsed() >= DELETE_WAIT, "proofs of other processes run out first");
    assert!(!second.delete_session(&session).await.unwrap());
    until(&two, "its entries are removed", |stats| stats.invalidations == 1).await;
    let left = prefix.keys(&mut connection(&shared_url()));
    assert!(left.iter().all(|key| !key.contains(":messages:")), "{left:?}");
    turn(&first, &session, &["new"]).await;
    assert_eq!(window(&second, &session).await, ["new"]);
    assert_eq!(window(&first, &session).await, ["new"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_entries_are_ignored() {
    let prefix = Prefix::new();
    let (inner, [one, two]) = pair(&prefix).await;
    let second: Arc<dyn StateStore> = two.clone();
    let (task, other) = (ended(&inner).await, ended(&inner).await);
    let first: Arc<dyn StateStore> = one.clone();
    first.task(task).await.unwrap();
    first.task(other).await.unwrap();
    until(&one, "both are kept", |stats| stats.fills == 2).await;
    let mut redis = connection(&shared_url());
    let keys = prefix.keys(&mut redis);
    let key_of = |id: agentry_core::id::TaskId| keys.iter().find(|key| key.ends_with(&id.to_string())).unwrap();
    // Another task's record under this task's key, and a value that is no record at all.
    redis::cmd("COPY").arg(key_of(other)).arg(key_of(task)).arg("REPLACE").exec(&mut redis).unwrap();
    redis::cmd("SET").arg(key_of(other)).arg("{").exec(&mut redis).unwrap();
    for id in [task, other] {
        assert_eq!(second.task(id).await.unwrap(), inner.task(id).await.unwrap());
    }
    assert_eq!((two.stats().tasks.hits, two.stats().tasks.misses, two.stats().errors), (0, 2, 1));
    until(&two, "both are kept anew", |stats| stats.fills == 2).await;
    assert_eq!(first.task(task).await.unwrap(), inner.task(task).await.unwrap());
    assert_eq!(one.stats().tasks.hits, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_has_a_ttl() {
    let prefix = Prefix::new();
    let (inner, [one, _]) = pair(&prefix).await;
    let first: Arc<dyn StateStore> = one.clone();
    first.task(ended(&inner).await).await.unwrap();
    turn(&first, &thread("ttl"), &["a"]).await;
    until(&one, "both are kept", |stats| stats.fills == 2).await;
    let mut redis = connection(&shared_url());
    let keys = prefix.keys(&mut redis);
    assert_eq!(keys.len(), 2, "{keys:?}");
    for key in keys {
        let left: i64 = redis::cmd("PTTL").arg(&key).query(&mut redis).unwrap();
        assert!((1..=600_000).contains(&left), "{key}: {left} ms");
    }
}

fn spec() -> AgentSpec {
    serde_json::from_value(json!({
        "name": "writer", "version": "0123456789ab", "mode": "autonomous", "agent_type": null, "description": null,
        "enabled": true, "tags": ["a"], "metadata": {"weight": 0.1}, "system_prompt": "Write.", "instructions": null,
        "subscriptions": [], "llm": {
            "target": {"provider": "simulated", "model": "echo", "base_url": null, "region": null, "api_key": null},
            "fallback": [], "params": {"temperature": 0.1, "max_tokens": null, "top_p": null, "top_k": null,
                "stop_sequences": [], "frequency_penalty": null, "presence_penalty": null, "seed": null},
            "timeout_ms": 1000, "response_format": null
        }, "tools": [], "retry": {
            "max_retries": 2, "delay_ms": 1, "exponential": true, "multiplier_percent": 200, "max_delay_ms": 9
        }, "continuous": null,
        "collaborative": null, "schedule": null, "budget": {"per_task": null, "per_day": null, "max_llm_calls": null}, "output_schema": null
    }))
    .unwrap()
}
