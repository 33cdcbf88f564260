//! Contract tests of keys, the audit log and the list of the newest tasks.

use std::sync::Arc;

use agentry_core::access::{ApiKey, AuditEntry, BrowserSession, KeyHash, Scope};
use agentry_core::id::{AuditId, KeyId, WorkerId};
use agentry_core::task::TaskStatus;
use agentry_core::time::Timestamp;

use super::build::{T0, agent, at, finish, running};
use crate::{AUDIT_KEPT, MAX_BROWSER_SESSIONS_PER_KEY, StateStore};

fn key(number: u8, expires_at: Option<Timestamp>) -> ApiKey {
    ApiKey {
        id: KeyId::from_parts(1_000 + u64::from(number), 0),
        name: format!("key {number} ü\0"),
        hash: KeyHash([number; 32]),
        scope: Scope::ALL[usize::from(number) % 3],
        created_at: T0,
        expires_at,
        last_used_at: None,
        revoked_at: None,
    }
}

/// A key is found by its hash and by its id, unchanged, and no other key is.
pub async fn keys_are_stored_and_found(store: Arc<dyn StateStore>) {
    assert!(!store.has_active_keys(T0).await.unwrap());
    let (first, second) = (key(1, None), key(2, Some(at(60))));
    store.add_key(&second).await.unwrap();
    store.add_key(&first).await.unwrap();
    assert_eq!(store.keys().await.unwrap(), [first.clone(), second.clone()]);
    assert_eq!(store.key_by_hash(second.hash).await.unwrap(), Some(second.clone()));
    assert_eq!(store.key(first.id).await.unwrap(), Some(first.clone()));
    assert_eq!(store.key_by_hash(KeyHash([9; 32])).await.unwrap(), None);
    store.record_key_use(first.id, at(7)).await.unwrap();
    store.record_key_use(first.id, at(5)).await.unwrap();
    assert_eq!(store.key(first.id).await.unwrap().unwrap().last_used_at, Some(at(7)), "the latest use counts");
}

/// Revoked and expired keys do not count as valid; the first revocation stands.
pub async fn revoked_and_expired_keys_count_as_none(store: Arc<dyn StateStore>) {
    let (lasting, expiring) = (key(1, None), key(2, Some(at(60))));
    store.add_key(&lasting).await.unwrap();
    store.add_key(&expiring).await.unwrap();
    assert!(store.revoke_key(lasting.id, at(10)).await.unwrap());
    assert!(store.revoke_key(lasting.id, at(20)).await.unwrap());
    assert_eq!(store.key(lasting.id).await.unwrap().unwrap().revoked_at, Some(at(10)));
    assert!(!store.revoke_key(KeyId::generate(), at(10)).await.unwrap(), "unknown");
    assert!(store.has_active_keys(at(59)).await.unwrap());
    assert!(!store.has_active_keys(at(60)).await.unwrap());
}

fn session(number: u8, key: KeyId, opened: i64, ends: i64) -> BrowserSession {
    BrowserSession { hash: KeyHash([number; 32]), key, created_at: at(opened), ends_at: at(ends) }
}

/// A session is found by the hash of its token until it is deleted; opening another one deletes those that ended.
pub async fn browser_sessions_are_stored_until_they_end(store: Arc<dyn StateStore>) {
    let key = key(1, None);
    store.add_key(&key).await.unwrap();
    let (first, second) = (session(11, key.id, 1, 50), session(12, key.id, 2, 90));
    assert!(store.add_browser_session(&first).await.unwrap());
    assert!(store.add_browser_session(&second).await.unwrap());
    assert_eq!(store.browser_session(first.hash).await.unwrap(), Some(first.clone()));
    assert_eq!(store.browser_session(key.hash).await.unwrap(), None, "a key's hash is no session's");
    assert!(store.end_browser_session(second.hash).await.unwrap());
    assert!(!store.end_browser_session(second.hash).await.unwrap(), "it is forgotten");
    assert_eq!(store.browser_session(second.hash).await.unwrap(), None);
    assert!(store.add_browser_session(&session(13, key.id, 50, 90)).await.unwrap());
    assert_eq!(store.browser_session(first.hash).await.unwrap(), None, "it had ended");
}

/// A session ends when its key is revoked or expires, and an invalid key opens none.
pub async fn browser_sessions_end_with_their_key(store: Arc<dyn StateStore>) {
    let (lasting, expiring) = (key(1, None), key(2, Some(at(60))));
    store.add_key(&lasting).await.unwrap();
    store.add_key(&expiring).await.unwrap();
    let ends = async |hash| store.browser_session(hash).await.unwrap().map(|session: BrowserSession| session.ends_at);
    let (first, second) = (session(11, lasting.id, 1, 90), session(12, expiring.id, 1, 90));
    assert!(store.add_browser_session(&first).await.unwrap());
    assert!(store.add_browser_session(&second).await.unwrap());
    assert_eq!((ends(first.hash).await, ends(second.hash).await), (Some(at(90)), Some(at(60))));
    store.revoke_key(lasting.id, at(20)).await.unwrap();
    assert_eq!((ends(first.hash).await, ends(second.hash).await), (Some(at(20)), Some(at(60))));
    store.revoke_key(lasting.id, at(30)).await.unwrap();
    assert_eq!(ends(first.hash).await, Some(at(20)), "the first end stands");
    let late = session(13, lasting.id, 10, 90);
    assert!(store.add_browser_session(&late).await.unwrap(), "the key goes on until its end");
    assert_eq!(ends(late.hash).await, Some(at(20)));
    assert!(!store.add_browser_session(&session(14, lasting.id, 20, 90)).await.unwrap());
    assert!(!store.add_browser_session(&session(15, expiring.id, 60, 90)).await.unwrap());
    assert!(!store.add_browser_session(&session(16, KeyId::generate(), 1, 90)).await.unwrap(), "an unknown key");
    assert_eq!(store.browser_session(KeyHash([16; 32])).await.unwrap(), None);
}

/// The number of sessions per key is bounded: one more ends its oldest, and no other key's.
pub async fn browser_sessions_of_a_key_are_bounded(store: Arc<dyn StateStore>) {
    let (one, other) = (key(1, None), key(2, None));
    store.add_key(&one).await.unwrap();
    store.add_key(&other).await.unwrap();
    let most = u8::try_from(MAX_BROWSER_SESSIONS_PER_KEY).unwrap();
    assert!(store.add_browser_session(&session(200, other.id, 1, 900)).await.unwrap());
    for number in 1..=most + 1 {
        assert!(store.add_browser_session(&session(number, one.id, i64::from(number), 900)).await.unwrap());
    }
    let kept = async |number| store.browser_session(KeyHash([number; 32])).await.unwrap().is_some();
    assert!(!kept(1).await && kept(2).await && kept(most + 1).await && kept(200).await);
}

/// The log is read backwards in pages, and drops entries that are too old.
pub async fn the_audit_log_is_paged_and_bounded(store: Arc<dyn StateStore>) {
    let entry = |second: i64, random: u128| AuditEntry {
        id: AuditId::from_parts(u64::try_from(at(second).0 / 1_000).unwrap(), random),
        at: at(second),
        who: "ops".to_owned(),
        key: Some(KeyId::from_parts(1, 1)),
        action: "POST /v1/schedules/{name}/trigger".to_owned(),
        target: "/v1/schedules/daily/trigger".to_owned(),
        status: 202,
        trace_id: "0af7651916cd43dd8448eb211c80319c".to_owned(),
    };
    let entries = [entry(1, 1 << 64), entry(2, 2 << 64), entry(3, 3 << 64)];
    for one in &entries {
        store.audit(one).await.unwrap();
    }
    let page = store.audit_log(None, 2).await.unwrap();
    assert_eq!((page.items, page.more), (vec![entries[2].clone(), entries[1].clone()], true));
    let rest = store.audit_log(Some(entries[1].id), 2).await.unwrap();
    assert_eq!((rest.items, rest.more), (vec![entries[0].clone()], false));
    let late = entry(i64::try_from(AUDIT_KEPT.as_secs()).unwrap() + 3, 4 << 64);
    store.audit(&late).await.unwrap();
    assert_eq!(store.audit_log(None, 10).await.unwrap().items, [late, entries[2].clone()]);
}

/// The newest tasks come first, with their status; tasks from before the requested time are left out.
pub async fn recent_tasks_are_the_newest(store: Arc<dyn StateStore>) {
    let ended = running(&store, WorkerId::generate()).await;
    store.advance(finish(ended.lease, at(2)).into()).await.unwrap();
    running(&store, WorkerId::generate()).await;
    let recent = store.recent_tasks(Timestamp(0), 10).await.unwrap();
    assert_eq!(recent.iter().map(|one| one.status).collect::<Vec<_>>(), [TaskStatus::Running, TaskStatus::Completed]);
    assert_eq!((&recent[1].agent, recent[1].finished_at, recent[0].finished_at), (&agent(), Some(at(2)), None));
    assert_eq!(store.recent_tasks(Timestamp(0), 1).await.unwrap(), recent[..1]);
    assert_eq!(store.recent_tasks(Timestamp(i64::MAX / 2), 10).await.unwrap(), []);
}
