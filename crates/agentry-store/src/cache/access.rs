//! What the cache passes on: keys (a server keeps its own, for seconds) and what happens now.

use agentry_core::access::{ApiKey, AuditEntry, KeyHash};
use agentry_core::id::{AuditId, KeyId};
use agentry_core::time::Timestamp;
use async_trait::async_trait;

use super::CachedStore;
use crate::{AccessStore, Page, PulseStore, StoreError, TaskPulse};

#[async_trait]
impl PulseStore for CachedStore {
    async fn pulse(&self, since: Timestamp, limit: usize) -> Result<Vec<TaskPulse>, StoreError> {
        self.inner.pulse(since, limit).await
    }
}

#[async_trait]
impl AccessStore for CachedStore {
    async fn add_key(&self, key: &ApiKey) -> Result<(), StoreError> {
        self.inner.add_key(key).await
    }

    async fn keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        self.inner.keys().await
    }

    async fn revoke_key(&self, key: KeyId, at: Timestamp) -> Result<bool, StoreError> {
        self.inner.revoke_key(key, at).await
    }

    async fn key_by_hash(&self, hash: KeyHash) -> Result<Option<ApiKey>, StoreError> {
        self.inner.key_by_hash(hash).await
    }

    async fn key(&self, key: KeyId) -> Result<Option<ApiKey>, StoreError> {
        self.inner.key(key).await
    }

    async fn has_keys(&self, now: Timestamp) -> Result<bool, StoreError> {
        self.inner.has_keys(now).await
    }

    async fn key_used(&self, key: KeyId, at: Timestamp) -> Result<(), StoreError> {
        self.inner.key_used(key, at).await
    }

    async fn audit(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        self.inner.audit(entry).await
    }

    async fn audit_log(&self, before: Option<AuditId>, limit: usize) -> Result<Page<AuditEntry>, StoreError> {
        self.inner.audit_log(before, limit).await
    }
}
