//! Keys, the audit log, and the look at the newest tasks.

use std::sync::Arc;

use agentry_core::access::{ApiKey, AuditEntry, KeyHash, Scope};
use agentry_core::id::{AuditId, KeyId, WorkerId};
use agentry_core::task::TaskStatus;
use agentry_core::time::Timestamp;

use super::build::{T0, agent, at, finish, running};
use crate::{AUDIT_KEPT, StateStore};

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

/// A key is found by its hash and by its id, as it was made, and only its own.
pub async fn keys_are_kept_and_found(store: Arc<dyn StateStore>) {
    assert!(!store.has_keys(T0).await.unwrap());
    let (first, second) = (key(1, None), key(2, Some(at(60))));
    store.add_key(&second).await.unwrap();
    store.add_key(&first).await.unwrap();
    assert_eq!(store.keys().await.unwrap(), [first.clone(), second.clone()]);
    assert_eq!(store.key_by_hash(second.hash).await.unwrap(), Some(second.clone()));
    assert_eq!(store.key(first.id).await.unwrap(), Some(first.clone()));
    assert_eq!(store.key_by_hash(KeyHash([9; 32])).await.unwrap(), None);
    store.key_used(first.id, at(7)).await.unwrap();
    store.key_used(first.id, at(5)).await.unwrap();
    assert_eq!(store.key(first.id).await.unwrap().unwrap().last_used_at, Some(at(7)), "the latest use counts");
}

/// A key that was revoked or has expired no longer demands one; the first end stands.
pub async fn revoked_and_expired_keys_count_as_none(store: Arc<dyn StateStore>) {
    let (lasting, expiring) = (key(1, None), key(2, Some(at(60))));
    store.add_key(&lasting).await.unwrap();
    store.add_key(&expiring).await.unwrap();
    assert!(store.revoke_key(lasting.id, at(10)).await.unwrap());
    assert!(store.revoke_key(lasting.id, at(20)).await.unwrap());
    assert_eq!(store.key(lasting.id).await.unwrap().unwrap().revoked_at, Some(at(10)));
    assert!(!store.revoke_key(KeyId::generate(), at(10)).await.unwrap(), "unknown");
    assert!(store.has_keys(at(59)).await.unwrap());
    assert!(!store.has_keys(at(60)).await.unwrap());
}

/// The log is read backwards in pages, and forgets what is too old.
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

/// The newest tasks come first, with where they stand, and older ones than asked for not at all.
pub async fn the_pulse_is_the_newest_tasks(store: Arc<dyn StateStore>) {
    let ended = running(&store, WorkerId::generate()).await;
    store.advance(finish(ended.lease, at(2)).into()).await.unwrap();
    running(&store, WorkerId::generate()).await;
    let pulse = store.pulse(Timestamp(0), 10).await.unwrap();
    assert_eq!(pulse.iter().map(|one| one.status).collect::<Vec<_>>(), [TaskStatus::Running, TaskStatus::Completed]);
    assert_eq!((&pulse[1].agent, pulse[1].finished_at, pulse[0].finished_at), (&agent(), Some(at(2)), None));
    assert_eq!(store.pulse(Timestamp(0), 1).await.unwrap(), pulse[..1]);
    assert_eq!(store.pulse(Timestamp(i64::MAX / 2), 10).await.unwrap(), []);
}
